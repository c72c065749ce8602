"""The picture of a confusion matrix."""

from io import BytesIO
from pathlib import Path

import torch
from jaxtyping import Int64
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from torch import Tensor

from vitral.files import font_fallback, printable, write_atomically

__all__ = ["draw_confusion"]

WITH_NUMBERS, WITH_NAMES = 24, 80
"""Up to so many classes, every cell has its number, and every row and column its name."""

LONGEST_NAME = 24
"""Characters of a class name that are drawn."""


@font_fallback()
def draw_confusion(confusion: Int64[Tensor, "classes classes"], classes: tuple[str, ...], path: Path) -> None:
    """Draws how often images of one class (row) were taken for another (column) into a PNG.

    Colours tell the share of the row, so classes with few images look like those with many; they rise faster near
    zero, where the mistakes are.

    Raises:
        OSError: the file cannot be written.
    """
    classes = tuple(map(printable, classes))
    count = len(classes)
    shares = confusion / confusion.sum(dim=1, keepdim=True).clamp(min=1)
    side = min(max(0.42 * count, 3.2), 11.0) if count <= WITH_NUMBERS else 11.0
    names = 0.09 * min(max(map(len, classes)), LONGEST_NAME) if count <= WITH_NAMES else 0.4
    figure = Figure(figsize=(side + names + 1.6, side + names + 0.9), layout="constrained")
    axes = figure.add_subplot()
    picture = axes.imshow(shares.numpy(), cmap="Blues", norm=PowerNorm(0.5, 0, 1), interpolation="nearest")
    axes.set_title(f"{int(confusion.trace()):,} of {int(confusion.sum()):,} images right", loc="left", fontsize=11)
    axes.set_xlabel("predicted class")
    axes.set_ylabel("true class")
    axes.spines[:].set_visible(False)
    if count <= WITH_NAMES:
        _write_names(axes, classes, room=side / count)
    if count <= WITH_NUMBERS:
        _write_numbers(axes, confusion, shares)
    scale = figure.colorbar(picture, ax=axes, shrink=0.6, ticks=[0, 0.05, 0.25, 0.5, 1])
    scale.ax.yaxis.set_major_formatter(lambda share, _: f"{share:.0%}")
    scale.set_label("share of the true class")
    scale.outline.set_visible(False)
    buffer = BytesIO()
    figure.savefig(buffer, format="png", dpi=130)
    write_atomically(path, lambda file: file.write(buffer.getbuffer()))


def _write_names(axes: Axes, classes: tuple[str, ...], *, room: float) -> None:
    """Names beside rows and below columns, upright where `room` inches a column are too few."""
    size = 9 if len(classes) <= WITH_NUMBERS else 6
    labels = [name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 1]}…" for name in classes]
    fit = 0.09 * max(map(len, labels)) < room
    axes.set_xticks(range(len(labels)), labels, fontsize=size, rotation=0 if fit else 90, parse_math=False)
    axes.set_yticks(range(len(labels)), labels, fontsize=size, parse_math=False)
    axes.tick_params(length=0)


def _write_numbers(axes: Axes, confusion: Tensor, shares: Tensor) -> None:
    """The number of images in every cell that has any."""
    for row, column in torch.nonzero(confusion).tolist():
        colour = "white" if shares[row, column] > 0.35 else "#333333"
        text = f"{int(confusion[row, column])}"
        axes.text(column, row, text, ha="center", va="center", color=colour, fontsize=8 if len(text) < 5 else 6)
