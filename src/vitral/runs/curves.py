"""Plot of loss and accuracy over the steps of a run."""

from io import BytesIO
from itertools import product
from pathlib import Path
from typing import Any

from vitral.files import write_atomically

__all__ = ["draw_curves"]

TRAIN, EVAL = "#9db4c0", "#c8553d"

EVAL_METRICS = {
    "loss": {"loss": ("", "o")},
    "accuracy": {
        "top1": ("", "o"),
        "knn": (", kNN", "s"),
        "linear": (", linear probe", "^"),
        "map": (", mAP", "s"),
        "f1": (", F1", "^"),
    },
}
"""For each plot the metrics of evaluations, each with its label and marker."""


def draw_curves(records: list[dict[str, Any]], path: Path) -> None:
    """Plots loss and accuracy of training and evaluation from a run's records into a PNG file."""
    # imported here because Matplotlib takes a second, and only the end of a run needs it
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.4), layout="constrained")
    for axes, quantity in zip(figure.subplots(1, 2), ("loss", "accuracy"), strict=True):
        train = [(record["step"], record[f"train/{quantity}"]) for record in records if f"train/{quantity}" in record]
        if train:
            axes.plot(*zip(*train, strict=True), color=TRAIN, linewidth=1.2, label="training batches")
        for split, (metric, (name, marker)) in product(("val", "test"), EVAL_METRICS[quantity].items()):
            points = [(record["step"], record[key]) for record in records if (key := f"{split}/{metric}") in record]
            if points:
                style = dict(color=EVAL, marker=marker, markersize=3, linestyle="-" if split == "test" else "--")
                axes.plot(*zip(*points, strict=True), **style, label=f"{split}{name}")
        axes.set_xlabel("step")
        axes.set_title(quantity, loc="left", fontsize=11)
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
        if quantity == "accuracy":
            axes.set_ylim(0, 1.01)
            axes.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
        if axes.lines:
            axes.legend(frameon=False, fontsize=9)
    buffer = BytesIO()
    figure.savefig(buffer, format="png", dpi=130)
    write_atomically(path, lambda file: file.write(buffer.getbuffer()))
