"""A contact sheet of image pairs, to compare by eye."""

from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from vitral.files import font_fallback, printable, write_atomically

__all__ = ["MOST_PAIRS", "ShownPair", "draw_pairs", "evenly_spaced_pairs"]

MOST_PAIRS = 24
"""Maximum number of pairs on a sheet; of more, evenly spaced ones are drawn."""

COLUMNS, SIDE, ROW = 3, 1.7, 2.15
"""Pairs per row; side of an image and height of a row in inches."""


@dataclass(frozen=True, kw_only=True)
class ShownPair:
    """Two images side by side."""

    images: tuple[Image.Image, Image.Image]
    names: tuple[str, str]
    note: str
    """Text above them."""


def evenly_spaced_pairs(count: int) -> list[int]:
    """Indices of the pairs to show: all of `count`, or evenly spaced ones from the first to the last."""
    return sorted({round(index) for index in np.linspace(0, count - 1, min(count, MOST_PAIRS))})


@font_fallback()
def draw_pairs(pairs: Sequence[ShownPair], path: Path) -> None:
    """Writes a PNG with all pairs, the names of their images and their notes.

    Raises:
        OSError: the file cannot be written.
    """
    columns = min(COLUMNS, len(pairs))
    rows = -(-len(pairs) // columns)
    width, height = columns * (2 * SIDE + 0.45), rows * ROW + 0.15
    figure = Figure(figsize=(width, height))
    for index, pair in enumerate(pairs):
        left = (index % columns) * (2 * SIDE + 0.45) + 0.2
        bottom = height - (index // columns + 1) * ROW
        for side, (image, name) in enumerate(zip(pair.images, pair.names, strict=True)):
            box = (left + side * (SIDE + 0.05), bottom, SIDE, SIDE)
            axes = figure.add_axes((box[0] / width, box[1] / height, box[2] / width, box[3] / height))
            axes.imshow(np.asarray(image.convert("RGB")))
            axes.set_axis_off()
            axes.set_anchor("N")
            axes.set_title(_short(name), fontsize=6, pad=2, loc="left")
        x, y = (left + SIDE + 0.025) / width, (bottom + SIDE + 0.22) / height
        figure.text(x, y, pair.note, fontsize=7, ha="center", va="bottom", color="#555555")
    buffer = BytesIO()
    figure.savefig(buffer, format="png", dpi=130)
    write_atomically(path, lambda file: file.write(buffer.getbuffer()))


def _short(name: str, room: int = 30) -> str:
    """The end of a name, its most informative part."""
    text = printable(name).replace("$", r"\$")
    return text if len(text) <= room else f"...{text[3 - room :]}"
