"""What do the moving average, the metrics and a checkpoint cost beside a training step on the CPU?

Steps of ViT-S/16 at 224 pixels, as in `vitral train`, by turns in one process: plain; with the moving average; and with
metrics read after each step instead of at the end, which is as often as a run could log. Then the state of a model and
AdamW is saved: how long the loop is blocked by each checkpoint but the first, how long Python can run nothing else at
most while it is written in the background, and how long that takes, beside one copy of as many bytes in memory.

    python benchmarks/around_step_cpu.py --save ViT-L/16

prints Markdown tables.
"""

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

from vitral.data.augment.config import AugmentConfig
from vitral.data.augment.params import sample_params
from vitral.data.batches import Batch
from vitral.data.config import DataConfig
from vitral.models import architecture
from vitral.train.checkpointing.checkpoint import Checkpoints
from vitral.train.config import ModelSetup, RunConfig, TrainConfig
from vitral.train.optimisers.optimiser import OptimConfig
from vitral.train.session import Session

CLASSES, LR = 1000, 1e-3

LABELS = {
    "blocked": "the loop is blocked",
    "pause": "longest pause of Python during writing",
    "writing": "writing",
    "copy": "a copy in memory",
}


def session(name: str, *, batch_size: int, ema: float | None = None) -> Session:
    """A run's session of a model, without its folder."""
    run = RunConfig(
        recipe="benchmark",
        model=ModelSetup(architecture=architecture(name)),
        data=DataConfig(source="digits"),
        augment=AugmentConfig(flip=True),
        optim=OptimConfig(lr=LR, weight_decay=0.1, clip=1.0),
        train=TrainConfig(batch_size=batch_size, device="cpu", precision="float32", ema=ema, compile=False),
    ).resolved(num_classes=CLASSES)
    return Session(run, classes=tuple(map(str, range(CLASSES))))


def training_batch(batch_size: int) -> Batch:
    """Random bytes with the augmentation of the session."""
    labels = torch.randint(CLASSES, (batch_size,))
    images = torch.randint(256, (batch_size, 224, 224, 3), dtype=torch.uint8)
    zeros = 0 * labels.numpy()
    draws = sample_params(AugmentConfig(flip=True), seed=0, epoch=zeros, index=torch.arange(batch_size).numpy())
    return Batch(images=images, labels=labels, augment_params=draws)


def processor_seconds(call: Callable[[], object]) -> float:
    """Processor time of a call, which other programs do not lengthen by waiting."""
    began = time.process_time()
    call()
    return time.process_time() - began


def print_steps(batch_size: int, rounds: int) -> None:
    """The table of steps."""
    batch = training_batch(batch_size)
    plain, averaged = (session("ViT-S/16", batch_size=batch_size, ema=ema) for ema in (None, 0.999))
    calls = {
        "plain": lambda: plain.train_step(batch, lr=LR),
        "with the moving average": lambda: averaged.train_step(batch, lr=LR),
        "with metrics read after each step": lambda: [
            float(value) for value in plain.train_step(batch, lr=LR).values()
        ],
    }
    times: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(rounds + 1):
        for name, call in calls.items():
            seconds = processor_seconds(call)
            if turn:
                times[name].append(seconds)
    print("| step of S/16 | processor, ms | ratio, median of the rounds | middle half |\n|---|--:|--:|--:|")
    for name, values in times.items():
        ratios = sorted(value / base for value, base in zip(values, times["plain"], strict=True))
        quarter = len(ratios) // 4
        middle = f"{ratios[quarter]:.3f} to {ratios[-1 - quarter]:.3f}"
        print(f"| {name} | {1000 * statistics.median(values):.0f} | {statistics.median(ratios):.3f} | {middle} |")


def longest_pause(checkpoints: Checkpoints) -> float:
    """Seconds for which Python could run nothing but the writing of a checkpoint, which it waits for."""
    longest, last = 0.0, time.perf_counter()
    while checkpoints.writing is not None and not checkpoints.writing.done():
        time.sleep(0.001)
        now = time.perf_counter()
        longest, last = max(longest, now - last), now
    checkpoints.wait()
    return longest


def print_checkpoints(name: str, rounds: int) -> None:
    """The table of checkpoints."""
    run = session(name, batch_size=1)
    run.train_step(training_batch(1), lr=LR)
    tensors = run.tensors()
    size = sum(tensor.nbytes for tensor in tensors.values())
    rows: dict[str, list[float]] = {"blocked": [], "pause": [], "writing": [], "copy": []}
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:
        checkpoints = Checkpoints(Path(folder), keep=1)
        for step in range(rounds + 1):
            began = time.perf_counter()
            checkpoints.save(tensors, {"step": step}, step=step)
            blocked = time.perf_counter()
            pause = longest_pause(checkpoints)
            written = time.perf_counter()
            copies = [tensor.clone() for tensor in tensors.values()]
            copied = time.perf_counter()
            del copies
            if step:
                rows["blocked"].append(blocked - began)
                rows["pause"].append(pause)
                rows["writing"].append(written - blocked)
                rows["copy"].append(copied - written)
    medians = {key: statistics.median(values) for key, values in rows.items()}
    print(f"\n| checkpoint of {name}, {size / 1e9:.2f} GB | s | beside a copy |\n|---|--:|--:|")
    for key, label in LABELS.items():
        print(f"| {label} | {medians[key]:.2f} | {medians[key] / medians['copy']:.2f} |")


def main() -> None:
    parser = argparse.ArgumentParser(description="Costs around a training step on the CPU.")
    parser.add_argument("--batch", type=int, default=8, help="images in a step (default: 8)")
    parser.add_argument("--rounds", type=int, default=9, help="timed rounds (default: 9)")
    parser.add_argument("--save", default="ViT-L/16", metavar="MODEL", help="model to save (default: ViT-L/16)")
    options = parser.parse_args()
    print(f"{os.cpu_count()} cores, {torch.get_num_threads()} threads, torch {torch.__version__}, ", end="")
    print(f"batch {options.batch}, {options.rounds} rounds\n")
    print_steps(options.batch, options.rounds)
    print_checkpoints(options.save, min(options.rounds, 3))


if __name__ == "__main__":
    main()
