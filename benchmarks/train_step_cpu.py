"""Is a training step on the CPU as fast as timm's?

One step is forward, softmax cross-entropy, backward and an AdamW update of ViT-S/16 at 224 pixels, in eager float32,
on random images. Vitral's model and timm's alternate step by step in one process, each first every other time, so that
other load on the machine slows both; the table compares medians. Both forms of GELU are timed, with the same form in
both models: timm's default is the exact form, Vitral's the tanh form.

    python benchmarks/train_step_cpu.py --steps 15 --batch 8

prints a Markdown table. Results are in this folder as `train_step_cpu_HARDWARE_DATE.md`.
"""

import argparse
import os
import statistics
import time
from collections.abc import Callable
from functools import partial

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # waiting threads must not spin on a core that others need

import timm
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from vitral.models import create

ACTIVATIONS = {"erf": nn.GELU, "tanh": partial(nn.GELU, approximate="tanh")}
IMAGE_SIZE, CLASSES, WARM_UP = 224, 1000, 2


def stepper(model: nn.Module, images: Tensor, labels: Tensor) -> Callable[[], float]:
    """A function that runs one training step and returns its seconds."""
    optimiser = torch.optim.AdamW(model.train().parameters(), lr=1e-3, weight_decay=0.1)

    def step() -> float:
        start = time.perf_counter()
        loss = cross_entropy(model(images), labels)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        return time.perf_counter() - start

    return step


def compare(gelu: str, images: Tensor, labels: Tensor, steps: int) -> dict[str, list[float]]:
    """Seconds of each step of both models, which alternate; the first steps are a warmup."""
    models = {
        "vitral": create("ViT-S/16", gelu=gelu),
        "timm": timm.create_model("vit_small_patch16_224", act_layer=ACTIVATIONS[gelu]),
    }
    steppers = {name: stepper(model, images, labels) for name, model in models.items()}
    seconds: dict[str, list[float]] = {name: [] for name in models}
    for turn in range(WARM_UP + steps):
        for name in list(models)[:: 1 if turn % 2 else -1]:
            duration = steppers[name]()
            if turn >= WARM_UP:
                seconds[name].append(duration)
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description="Training step of ViT-S/16 at 224 on the CPU: Vitral and timm.")
    parser.add_argument("--steps", type=int, default=15, help="timed steps of each model")
    parser.add_argument("--batch", type=int, default=8, help="images in a step")
    arguments = parser.parse_args()

    torch.manual_seed(0)
    images = torch.rand(arguments.batch, 3, IMAGE_SIZE, IMAGE_SIZE) * 2 - 1
    labels = torch.randint(CLASSES, (arguments.batch,))
    print(f"torch {torch.__version__}, timm {timm.__version__}, {torch.get_num_threads()} threads")
    print(f"batch {arguments.batch}, median of {arguments.steps} steps of each model\n")
    print("| GELU | Vitral img/s | timm img/s | Vitral / timm | middle half of the pairwise ratios |")
    print("|---|---|---|---|---|")
    for gelu in ACTIVATIONS:
        seconds = compare(gelu, images, labels, arguments.steps)
        ours, theirs = (arguments.batch / statistics.median(seconds[name]) for name in ("vitral", "timm"))
        pairs = [peer / own for own, peer in zip(seconds["vitral"], seconds["timm"], strict=True)]
        low, _, high = statistics.quantiles(pairs, n=4)
        print(f"| {gelu} | {ours:.2f} | {theirs:.2f} | {ours / theirs:.3f} | {low:.3f} to {high:.3f} |", flush=True)


if __name__ == "__main__":
    main()
