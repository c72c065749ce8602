"""docs/launch: the scripts for clusters, run as far as one machine goes."""

import os
import random
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from photographs import write_photographs
from processes import SECONDS, SOURCES, records, steps_taken, wait_until

LAUNCH = Path(__file__).parents[2] / "docs" / "launch"

SRUN = """#!/bin/bash
# as SLURM's: a process for each task, with its number in SLURM_PROCID; the highest exit status of all
pids=()
for ((rank = 0; rank < SLURM_NTASKS; rank++)); do
    SLURM_PROCID=$rank SLURM_LOCALID=$rank "$@" &
    pids+=($!)
done
echo "${pids[@]}" > pids
code=0
for pid in "${pids[@]}"; do
    wait "$pid"
    status=$?
    if [ "$status" -gt "$code" ]; then code=$status; fi
done
exit "$code"
"""

SCONTROL = """#!/bin/bash
if [ "$1" = show ]; then
    printf 'localhost\\nelsewhere\\n'
else
    echo "$@" >> scontrol
fi
"""

VITRAL = f"""#!/bin/bash
echo "$RANK $LOCAL_RANK $WORLD_SIZE $MASTER_ADDR $*" >> typed
exec {sys.executable} -m vitral "$@" --data.workers 0 --train.steps "$STEPS" --train.batch-size 8 --train.log 1steps \\
    --model.width 16 --model.depth 1 --model.num-heads 2 --model.mlp-dim 32 --model.image-size 32 --train.track none
"""


@pytest.fixture
def cluster(tmp_path: Path) -> Path:
    """A folder with the data that the script names, and in `bin` what it calls."""
    (tmp_path / "bin").mkdir()
    for name, text in (("srun", SRUN), ("scontrol", SCONTROL), ("vitral", VITRAL)):
        (tmp_path / "bin" / name).write_text(text)
        (tmp_path / "bin" / name).chmod(0o755)
    write_photographs(tmp_path / "photos", per_class=4)
    return tmp_path


def job_number() -> int:
    """One whose port, which the script makes of it, is free, and below those that the system gives to clients."""
    while True:
        number = random.SystemRandom().randrange(12_000)
        with socket.socket() as probe:
            if probe.connect_ex(("localhost", 20_000 + number)):
                return number


def job(cluster: Path, *, number: int, steps: int) -> subprocess.Popen[str]:
    """What SLURM does with the script on two machines of one device each, both of which are this one."""
    environment = os.environ | {
        "PATH": f"{cluster / 'bin'}:{os.environ['PATH']}",
        "PYTHONPATH": str(SOURCES),
        "OMP_NUM_THREADS": "1",
        "STEPS": str(steps),
        "SLURM_JOB_ID": str(number),
        "SLURM_JOB_NODELIST": "node[1-2]",
        "SLURM_NTASKS": "2",
    }
    return subprocess.Popen(
        ["bash", str(LAUNCH / "slurm.sh")],
        cwd=cluster,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def test_the_script_is_one_for_bash_and_asks_slurm_for_what_it_needs() -> None:
    script = LAUNCH / "slurm.sh"
    subprocess.run(["bash", "-n", str(script)], check=True)
    directives = [
        line.removeprefix("#SBATCH ") for line in script.read_text().splitlines() if line.startswith("#SBATCH ")
    ]
    assert {"--requeue", "--signal=USR1@180"} <= set(directives)
    settings = dict(line.split("=", 1) for line in directives if "=" in line)
    assert settings["--ntasks-per-node"] == settings["--gpus-per-node"], "a process for each device"


@pytest.mark.slow
def test_a_slurm_job_of_two_processes_stops_and_goes_on_when_it_comes_again(cluster: Path) -> None:
    number, run, steps = job_number(), cluster / "runs" / "photos", 120
    first = job(cluster, number=number, steps=steps)
    wait_until(lambda: steps_taken(run) >= 3, first)
    for pid in (cluster / "pids").read_text().split():
        os.kill(int(pid), signal.SIGUSR1)
    stderr = first.communicate(timeout=SECONDS)[1]
    assert first.returncode == 138, stderr
    assert "8 images in all, 4 on each of 2 devices" in stderr
    assert "stopped by SIGUSR1" in stderr
    words = "train folder --data.root photos --out runs/photos --or-resume --data.workers 10"
    assert sorted((cluster / "typed").read_text().splitlines()) == [
        f"{rank} {rank} 2 localhost {words}" for rank in "01"
    ]
    assert (cluster / "scontrol").read_text() == f"requeue {number}\n"
    stopped = steps_taken(run)
    assert 3 <= stopped < steps
    second = job(cluster, number=job_number(), steps=steps)
    stderr = second.communicate(timeout=SECONDS)[1]
    assert second.returncode == 0, stderr
    assert f"steps {stopped} to {steps} of 8 images" in stderr
    losses = [record["step"] for record in records(run) if "train/loss" in record]
    assert losses == list(range(1, steps + 1)), "no step is missing, none comes twice"
    assert (run / "model.safetensors").is_file()
    assert (cluster / "scontrol").read_text() == f"requeue {number}\n", "a finished job is not put back into the queue"


@pytest.mark.slow
def test_a_slurm_job_that_fails_is_not_put_back(cluster: Path) -> None:
    (cluster / "photos").rename(cluster / "elsewhere")
    process = job(cluster, number=job_number(), steps=2)
    stderr = process.communicate(timeout=SECONDS)[1]
    assert process.returncode == 2, stderr
    assert "photos does not exist" in stderr
    assert not (cluster / "scontrol").exists()


@pytest.mark.slow
def test_the_workers_of_a_ray_cluster_train_together(tmp_path: Path) -> None:
    """On a cluster of this machine alone; ends within a minute or two, most of which Ray takes to start."""
    words = ["2", "digits", "--out", str(tmp_path / "run"), "--train.steps", "3", "--model.depth", "1"]
    process = subprocess.run(
        [sys.executable, str(LAUNCH / "ray_train.py"), *words, "--train.log", "1steps", "--train.track", "none"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(SOURCES), "OMP_NUM_THREADS": "1"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=2 * SECONDS,
    )
    assert process.returncode == 0, process.stdout
    assert "128 images in all, 64 on each of 2 devices" in process.stdout
    assert [record["step"] for record in records(tmp_path / "run") if "train/loss" in record] == [1, 2, 3]
    assert (tmp_path / "run" / "model.safetensors").is_file()
