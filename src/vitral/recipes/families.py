"""Recipes that differ in a row of a table: their tables, without PyTorch, so that they can be listed quickly."""

from typing import Any, Literal

__all__ = ["AUGREG_LEVELS", "BETTER_VIT", "TASKS", "Task", "augreg_facts", "finetuning_facts"]

Task = Literal["imagenet1k", "cifar10", "cifar100", "pets", "flowers"]
TASKS: dict[Task, dict[str, Any]] = {
    "imagenet1k": dict(steps=20_000, warmup=500, grid="0.003,0.01,0.03,0.06", val_fraction=0.01),
    "cifar10": dict(steps=10_000, warmup=500, grid="0.001,0.003,0.01,0.03", val_fraction=0.02),
    "cifar100": dict(steps=10_000, warmup=500, grid="0.001,0.003,0.01,0.03", val_fraction=0.02),
    "pets": dict(steps=500, warmup=100, grid="0.001,0.003,0.01,0.03", val_fraction=0.1),
    "flowers": dict(steps=500, warmup=100, grid="0.001,0.003,0.01,0.03", val_fraction=0.1),
}
"""Table 4 of the ViT paper: steps and the grid of learning rates; the warm-up of the released code; the fraction of the
training images that selected the rate (B.1.1).
"""

REPORTED: dict[Task, str] = {
    "imagenet1k": "B/16 83.97 %, L/16 85.15 %; L/16 at 512 pixels 85.30 % ± 0.02",
    "cifar10": "B/16 98.95 %, L/16 99.15 % ± 0.03",
    "cifar100": "B/16 91.67 %, L/16 93.25 % ± 0.05",
    "pets": "B/16 94.43 %, L/16 94.67 % ± 0.15",
    "flowers": "B/16 99.38 %, L/16 99.61 % ± 0.02",
}
"""Accuracy from ImageNet-21k weights: one run (Table 5), or mean and deviation of three (Table 2)."""

HOURS: dict[int, str] = {20_000: "2.4 hours", 10_000: "1.2 hours", 500: "3.6 minutes"}
"""Time of B/16 for a number of steps of 512 images at 384 pixels, by `vitral plan`."""


def finetuning_facts(task: Task) -> dict[str, Any]:
    """Values of the fields in the docstring of `paper.paper_finetuning`."""
    row = TASKS[task]
    fraction = row["val_fraction"]
    selected_on = f"{fraction:.0%} of the training images (`--data.val-fraction {fraction}`)"
    if task == "flowers":  # its authors provide as many validation images as training images
        selected_on = "the authors' validation images, as the paper's tenth of the 1,020 would be one image a class"
    return {
        "steps": row["steps"],
        "images": row["steps"] * 512,
        "grid": row["grid"],
        "selected_on": selected_on,
        "reported": REPORTED[task],
        "time": HOURS[row["steps"]],
    }


AUGREG_LEVELS: dict[str, tuple[int, int, float]] = {
    "none": (0, 0, 0.0),
    "light1": (2, 0, 0.0),
    "light2": (2, 10, 0.2),
    "medium1": (2, 15, 0.2),
    "medium2": (2, 15, 0.5),
    "strong1": (2, 20, 0.5),
    "strong2": (2, 20, 0.8),
}
"""RandAugment's layers and magnitude, and mixup's alpha (How to train your ViT?, arXiv 2106.10270, section 3.1)."""

RELEASED = {
    "medium2": "S/16 78.85 % when the released model is fine-tuned at 224 pixels (timm's measurement, one run)",
    "strong2": "B/16 with both regularisers 79.15 % when the released model is fine-tuned at 224 pixels (timm's "
    "measurement, one run)",
}
"""Published accuracy of single levels."""

UNKNOWN = "no table of the paper has this level by itself; the best of 28 settings: S/16 79.00 % before fine-tuning"


def augreg_facts(level: str) -> dict[str, Any]:
    """Values of the fields in the docstring of `imagenet1k.augreg`."""
    layers, magnitude, mixup = AUGREG_LEVELS[level]
    return {
        "strength": f"RandAugment ({layers}, {magnitude}), mixup {mixup}" if layers else "the crop and mirroring alone",
        "expect": RELEASED.get(level, UNKNOWN),
        "source": "; timm's results-imagenet.csv" if level in RELEASED else "",
    }


BETTER_VIT: dict[int, dict[str, str]] = {
    90: dict(accuracy="76.7", time="2.2 hours", published="6.5 hours of a TPUv3-8, its authors say"),
    150: dict(accuracy="78.6", time="3.7 hours", published="none is published for this length"),
    300: dict(accuracy="79.8", time="7.4 hours", published="none is published for this length"),
}
"""By epochs: accuracy of S/16 on ImageNet (arXiv 2205.01580, Table 1), time by `vitral plan`, and published time."""
