"""The picture of a run: loss and accuracy over its steps."""

from io import BytesIO
from pathlib import Path
from typing import Any

from vitral.files import write_atomically

__all__ = ["draw_curves"]

TRAIN, HELD_OUT = "#9db4c0", "#c8553d"


def draw_curves(records: list[dict[str, Any]], path: Path) -> None:
    """Draws training and held-out loss and accuracy from a run's record into a PNG."""
    # imported here because Matplotlib takes a second, and a run needs it only when it ends
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.4), layout="constrained")
    for axes, quantity in zip(figure.subplots(1, 2), ("loss", "accuracy"), strict=True):
        train = [(record["step"], record[f"train/{quantity}"]) for record in records if f"train/{quantity}" in record]
        axes.plot(*zip(*train, strict=True), color=TRAIN, linewidth=1.2, label="training batches")
        measured = "loss" if quantity == "loss" else "top1"
        for split in ("val", "test"):
            points = [(record["step"], record[key]) for record in records if (key := f"{split}/{measured}") in record]
            if points:
                style = dict(color=HELD_OUT, marker="o", markersize=3, linestyle="-" if split == "test" else "--")
                axes.plot(*zip(*points, strict=True), **style, label=split)
        axes.set_xlabel("step")
        axes.set_title(quantity, loc="left", fontsize=11)
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
        if quantity == "accuracy":
            axes.set_ylim(0, 1.01)
            axes.yaxis.set_major_formatter(lambda share, _: f"{share:.0%}")
        axes.legend(frameon=False, fontsize=9)
    buffer = BytesIO()
    figure.savefig(buffer, format="png", dpi=130)
    write_atomically(path, lambda file: file.write(buffer.getbuffer()))
