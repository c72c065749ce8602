"""How much of the bare model's speed does `vitral predict` keep on a folder of JPEGs, and how does timm compare?

    python benchmarks/predict_folder.py --timm inference.py --models ViT-S/16 ViT-Ti/16

Whole processes, from start to exit, by turns: the bare model on as many batches in memory; `vitral predict --csv` on a
folder of JPEGs of 500x375 pixels; and timm's own `inference.py` (from its repository; left out without `--timm`) on the
same folder with its defaults, on the CPU. Prints a Markdown table: the ratios compare the runs of the same round.

On a machine that does other work too, CPU time says more than seconds.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import torch

from vitral.commands.bench.contenders import load_model
from vitral.weights.folder import save_model

ENVIRONMENT = dict(os.environ)
"""Of the processes: `loader_cpu` leaves one thread to its own."""

BARE = """
import sys, torch
from vitral.serve.predictor import Predictor

predictor = Predictor(sys.argv[1], device="cpu")
images = torch.randint(256, (64, *predictor.card.preprocessing.image_size, 3), dtype=torch.uint8)
for start in range(0, int(sys.argv[2]), 64):
    predictor.logits(images[: int(sys.argv[2]) - start])
"""
"""Loads a model and computes images in memory, with `vitral predict`'s batches; it imports nothing else."""

TIMM = {"ViT-Ti/16": "vit_tiny_patch16_224", "ViT-S/16": "vit_small_patch16_224", "ViT-B/16": "vit_base_patch16_224"}


def main() -> None:
    """Prints a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", default=["ViT-S/16", "ViT-Ti/16"], choices=list(TIMM))
    parser.add_argument("--images", type=int, default=2000, help="JPEGs in the folder (default: 2000)")
    parser.add_argument("--rounds", type=int, default=3, help="default: 3")
    parser.add_argument("--timm", type=Path, help="timm's inference.py")
    options = parser.parse_args()
    import loader_cpu

    print("| model | process | seconds | CPU seconds | time, relative to the bare model | CPU time |")
    print("|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        photographs = Path(folder) / "photographs"
        loader_cpu.write_photographs(photographs, (500, 375), count=options.images)
        for name in options.models:
            compare(name, photographs, Path(folder), options)


def compare(name: str, photographs: Path, folder: Path, options: argparse.Namespace) -> None:
    """Prints the rows of one model."""
    run, weights = folder / TIMM[name], folder / f"{TIMM[name]}.pth"
    model = load_model(name, image_size=None, reading={})
    save_model(run, model, model.card)
    commands = {
        "bare model": ["-c", BARE, str(run), str(options.images)],
        "vitral predict": ["-m", "vitral", "predict", str(run), str(photographs), "--csv"],
    }
    if options.timm:
        import timm

        torch.save(timm.create_model(TIMM[name]).state_dict(), weights)
        source = ["--data-dir", str(photographs), "--model", TIMM[name], "--checkpoint", str(weights)]
        output = ["--results-dir", str(folder), "--no-console-results", "--topk", "3"]
        commands["timm's inference.py"] = [str(options.timm), *source, "--device", "cpu", *output]
    times: dict[str, list[tuple[float, float]]] = {each: [] for each in commands}
    for number in range(options.rounds):
        for each in list(commands)[:: -1 if number % 2 else 1]:
            times[each].append(timed([sys.executable, *commands[each]]))
    for each, measured in times.items():
        seconds, cpu = (median(run[index] for run in measured) for index in (0, 1))
        ratios = [
            median(mine[index] / bare[index] for mine, bare in zip(measured, times["bare model"], strict=True))
            for index in (0, 1)
        ]
        print(f"| {name} | {each} | {seconds:.1f} | {cpu:.1f} | {ratios[0]:.3f} | {ratios[1]:.3f} |", flush=True)


def timed(command: list[str]) -> tuple[float, float]:
    """Seconds of a process, and CPU seconds of it and its children."""
    start = time.perf_counter()
    with subprocess.Popen(command, env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
        assert process.stderr is not None
        errors = process.stderr.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(errors.decode())
    return time.perf_counter() - start, usage.ru_utime + usage.ru_stime


if __name__ == "__main__":
    main()
