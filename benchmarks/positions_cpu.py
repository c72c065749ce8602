"""How much slower are positions inside attention than positions added once?

Relative positions add a bias in fused attention, rotary ones rotate queries and keys. One training step of ViT-S/16 at
224 pixels (forward, cross-entropy, backward, AdamW) with each kind and with none, in eager float32 on the CPU. The
models alternate step by step in one process; the table compares medians with the model without positions.

    python benchmarks/positions_cpu.py --steps 15 --batch 8

prints a Markdown table. Results are in this folder as `positions_cpu_HARDWARE_DATE.md`.
"""

import argparse
import os
import statistics
import time

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # waiting threads must not spin on a core that others need

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from vitral.models import create

KINDS = ("none", "learned_1d", "rope", "relative")
WARM_UP = 2


def timed_step(model: nn.Module, optimiser: torch.optim.Optimizer, images: Tensor, labels: Tensor) -> float:
    """Seconds of one training step."""
    start = time.perf_counter()
    loss = cross_entropy(model(images), labels)
    optimiser.zero_grad()
    loss.backward()
    optimiser.step()
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=15, help="timed steps of each model")
    parser.add_argument("--batch", type=int, default=8, help="images in a step")
    arguments = parser.parse_args()
    torch.manual_seed(0)
    images = torch.rand(arguments.batch, 3, 224, 224) * 2 - 1
    labels = torch.randint(1000, (arguments.batch,))
    models = {kind: create("ViT-S/16", position=kind).train() for kind in KINDS}
    optimisers = {kind: torch.optim.AdamW(model.parameters(), lr=1e-3) for kind, model in models.items()}
    seconds: dict[str, list[float]] = {kind: [] for kind in KINDS}
    for turn in range(WARM_UP + arguments.steps):
        for kind in KINDS[:: 1 if turn % 2 else -1]:
            duration = timed_step(models[kind], optimisers[kind], images, labels)
            if turn >= WARM_UP:
                seconds[kind].append(duration)
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {torch.backends.cpu.get_cpu_capability()}")
    print(f"batch {arguments.batch}, median of {arguments.steps} steps of each model\n")
    print("| position | img/s | relative to none | middle half of the pairwise ratios |\n|---|---|---|---|")
    for kind in KINDS:
        pairs = [bare / own for own, bare in zip(seconds[kind], seconds["none"], strict=True)]
        low, middle, high = statistics.quantiles(pairs, n=4)
        speed = arguments.batch / statistics.median(seconds[kind])
        print(f"| {kind} | {speed:.2f} | {middle:.3f} | {low:.3f} to {high:.3f} |", flush=True)


if __name__ == "__main__":
    main()
