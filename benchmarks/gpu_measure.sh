#!/bin/sh
# Everything that a GPU decides, in under nine minutes; each part has its own time limit and its own file in $OUT.
#
#     OUT=results sh benchmarks/gpu_measure.sh          on one GPU
#     OUT=results sh benchmarks/gpu_measure.sh --tiny   on a CPU: the same parts at the smallest size, to try the script
#
# PYTHON names the interpreter (default: python). A part that fails or runs out of time leaves its file, and the next
# part runs; summary.txt has the exit code and the seconds of each. The script fails if a part fails.
set -u
cd "$(dirname "$0")/.." || exit 2
out=${OUT:?name the folder of the results with OUT}
python=${PYTHON:-python}
export PYTHONPATH="src:.${PYTHONPATH:+:$PYTHONPATH}" PYTHONUNBUFFERED=1
mkdir -p "$out" || exit 2
: > "$out/summary.txt"
failed=0

# part NAME SECONDS COMMAND...: writes NAME.txt
part() {
    name=$1 limit=$2
    shift 2
    began=$(date +%s)
    timeout "$limit" "$@" > "$out/$name.txt" 2>&1
    code=$?
    echo "$name: exit code $code, $(($(date +%s) - began)) of $limit s" | tee -a "$out/summary.txt"
    [ "$code" -eq 0 ] || failed=1
}

tests() {
    part tests "$1" "$python" -m pytest -q -m gpu -p no:benchmark -p no:cacheprovider --jaxtyping-packages= \
        tests/unit/layers/test_kernels.py tests/unit/train/test_gpu.py tests/unit/serve tests/unit/train/profiling
}

if [ "${1:-}" = --tiny ]; then
    tests 200
    part training 200 "$python" benchmarks/train_step_cpu.py --steps 1 --batch 1
    part kernels 60 "$python" benchmarks/kernels_gpu.py --tiny --rounds 3
    part inference 200 "$python" -m vitral bench ViT-Ti/16 --peers --batch-size 1 --seconds 1
    exit "$failed"
fi

nvidia-smi --query-gpu=name,driver_version,power.limit,clocks.max.sm --format=csv > "$out/gpu.csv"
# Most important first. The kernels on and off are two contenders of a table: `Vitral's model` and `with kernels`.
training() {
    part "training-$1" "$2" "$python" benchmarks/train_step_gpu.py --models "$1/16" --rounds 5 --steps 8 \
        --contenders timm "Vitral's model" "with kernels" "Vitral's own step"
}
training B 120
training L 120
training S 70
tests 80
part kernels 30 "$python" benchmarks/kernels_gpu.py
# also as CUDA graphs: two modes of three libraries are compiled
part inference 115 "$python" -m vitral bench ViT-B/16 --peers --batch-size 1 256 --seconds 20 --precision bfloat16
exit "$failed"
