"""Which architecture is most accurate for the same arithmetic: ViT, hybrid, axial ViT or BiT ResNet?

    python benchmarks/families.py --epochs 2 --seeds 0 1 2

Trains one small model of each family on Fashion-MNIST with `vitral train`, with equal settings except the architecture,
for the same number of multiply-accumulates and with each of two learning rates, and prints a Markdown table.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import replace

import torch

from vitral.inspection.cost import cost
from vitral.models import Architecture, architecture
from vitral.recipes.fashion_mnist import fashion_mnist

PLAIN = fashion_mnist().model.architecture
FAMILIES: dict[str, tuple[list[str], Architecture]] = {
    "ViT, 4x4 patches of 7x7": ([], PLAIN),
    "axial ViT, half the blocks": (
        ["--model.attention", "axial", "--model.depth", "2"],
        replace(PLAIN, attention="axial", depth=2),
    ),
    "hybrid, root and one unit, 7x7 tokens": (
        [
            *("--model.stem-stages", "1", "--model.stem-width", "32", "--model.patch-size", "4"),
            *("--model.width", "48", "--model.mlp-dim", "192"),
        ],
        replace(PLAIN, stem_stages=(1,), stem_width=32, patch_size=4, width=48, mlp_dim=192),
    ),
    "BiT ResNet, stages 2, 2, 1": (
        ["--model.name", "BiT-R50x1", "--model.stages", "2", "2", "1", "--model.root-width", "32"],
        architecture("BiT-R50x1", image_size=28, channels=1, stages=(2, 2, 1), root_width=32, num_classes=10),
    ),
}
RATES = ("1e-3", "3e-3")
COMMON = ["--optim.name", "adamw", "--train.evaluate", "100epochs", "--checkpoint.every", "100epochs"]


def main() -> None:
    """Trains and prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=float, default=2.0, help="of the plain ViT; others are scaled by their cost")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    options = parser.parse_args()
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {torch.backends.cpu.get_cpu_capability()}\n")
    print(
        "| family | parameters | MMACs | epochs | learning rate | test accuracy of each seed | mean | seconds a run |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for family, (flags, config) in FAMILIES.items():
        counts = cost(config)
        epochs = options.epochs * cost(PLAIN).macs / counts.macs
        for rate in RATES:
            settings = [*flags, *COMMON, "--optim.lr", rate, "--train.epochs", f"{epochs:.4f}"]
            runs = [train(seed, settings) for seed in options.seeds]
            accuracies = [100 * accuracy for accuracy, _ in runs]
            spread = f" ± {statistics.stdev(accuracies):.2f}" if len(accuracies) > 1 else ""
            values = ", ".join(f"{accuracy:.2f}" for accuracy in accuracies)
            print(
                f"| {family} | {counts.parameters:,} | {counts.macs / 1e6:.2f} | {epochs:.2f} | {rate} | "
                f"{values} | {statistics.mean(accuracies):.2f}{spread} % | "
                f"{statistics.mean(seconds for _, seconds in runs):.0f} |",
                flush=True,
            )


def train(seed: int, settings: list[str]) -> tuple[float, float]:
    """The test accuracy of one run, and its seconds."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "vitral", "train", "fashion-mnist", "--seed", str(seed), "--json"]
        start = time.perf_counter()
        run = subprocess.run([*command, "--out", f"{folder}/run", *settings], check=True, stdout=subprocess.PIPE)
        return json.loads(run.stdout)["test/top1"], time.perf_counter() - start


if __name__ == "__main__":
    main()
