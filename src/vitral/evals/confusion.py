"""Plot of a confusion matrix."""

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

MAX_CLASSES_WITH_NUMBERS, MAX_CLASSES_WITH_NAMES = 24, 80
"""With more classes, cells have no numbers, and rows and columns no names."""

MAX_NAME_LENGTH = 24
"""Longer class names are shortened to this number of characters."""


@font_fallback()
def draw_confusion(confusion: Int64[Tensor, "classes classes"], classes: tuple[str, ...], path: Path) -> None:
    """Draws the number of images by true class (row) and predicted class (column) into a PNG.

    Colours show the fraction of the row, so that classes with few images look like those with many. The scale is a
    square root, which makes small fractions, the mistakes, visible.

    Raises:
        OSError: the file cannot be written.
    """
    classes = tuple(map(printable, classes))
    count = len(classes)
    fractions = confusion / confusion.sum(dim=1, keepdim=True).clamp(min=1)
    side = min(max(0.42 * count, 3.2), 11.0) if count <= MAX_CLASSES_WITH_NUMBERS else 11.0
    names = 0.09 * min(max(map(len, classes)), MAX_NAME_LENGTH) if count <= MAX_CLASSES_WITH_NAMES else 0.4
    figure = Figure(figsize=(side + names + 1.6, side + names + 0.9), layout="constrained")
    axes = figure.add_subplot()
    image = axes.imshow(fractions.numpy(), cmap="Blues", norm=PowerNorm(0.5, 0, 1), interpolation="nearest")
    axes.set_title(f"{int(confusion.trace()):,} of {int(confusion.sum()):,} images correct", loc="left", fontsize=11)
    axes.set_xlabel("predicted class")
    axes.set_ylabel("true class")
    axes.spines[:].set_visible(False)
    if count <= MAX_CLASSES_WITH_NAMES:
        _write_names(axes, classes, room=side / count)
    if count <= MAX_CLASSES_WITH_NUMBERS:
        _write_numbers(axes, confusion, fractions)
    scale = figure.colorbar(image, ax=axes, shrink=0.6, ticks=[0, 0.05, 0.25, 0.5, 1])
    scale.ax.yaxis.set_major_formatter(lambda fraction, _: f"{fraction:.0%}")
    scale.set_label("fraction of the true class")
    scale.outline.set_visible(False)
    buffer = BytesIO()
    figure.savefig(buffer, format="png", dpi=130)
    write_atomically(path, lambda file: file.write(buffer.getbuffer()))


def _write_names(axes: Axes, classes: tuple[str, ...], *, room: float) -> None:
    """Names beside rows and below columns; vertical if they are wider than `room` inches, the width of a column."""
    size = 9 if len(classes) <= MAX_CLASSES_WITH_NUMBERS else 6
    labels = [name if len(name) <= MAX_NAME_LENGTH else f"{name[: MAX_NAME_LENGTH - 1]}…" for name in classes]
    fit = 0.09 * max(map(len, labels)) < room
    axes.set_xticks(range(len(labels)), labels, fontsize=size, rotation=0 if fit else 90, parse_math=False)
    axes.set_yticks(range(len(labels)), labels, fontsize=size, parse_math=False)
    axes.tick_params(length=0)


def _write_numbers(axes: Axes, confusion: Tensor, fractions: Tensor) -> None:
    """The number of images in every cell that is not zero."""
    for row, column in torch.nonzero(confusion).tolist():
        colour = "white" if fractions[row, column] > 0.35 else "#333333"
        text = f"{int(confusion[row, column])}"
        axes.text(column, row, text, ha="center", va="center", color=colour, fontsize=8 if len(text) < 5 else 6)
