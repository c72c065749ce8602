"""A contact sheet of images in sections, each with a note and its name."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from vitral.files import font_fallback, printable, write_atomically

__all__ = ["SheetImage", "draw_sheet"]

COLUMNS, SIDE, ROW, COLUMN, TITLE, EDGE = 8, 1.3, 1.75, 1.45, 0.35, 0.15
"""Images in a row; inches of an image's side, a row, a column, a section's title and the margin."""

ROOM = 24
"""Characters above an image."""


@dataclass(frozen=True, kw_only=True)
class SheetImage:
    """An image with two lines above it."""

    image: Image.Image
    note: str
    name: str


@font_fallback()
def draw_sheet(sections: Mapping[str, Sequence[SheetImage]], path: Path) -> None:
    """Writes a PNG with the images of each section under its title.

    Raises:
        OSError: the file cannot be written.
    """
    rows = {title: -(-len(images) // COLUMNS) for title, images in sections.items()}
    width = 2 * EDGE + COLUMNS * COLUMN
    height = 2 * EDGE + sum(TITLE + ROW * count for count in rows.values())
    figure = Figure(figsize=(width, height))
    top = height - EDGE
    for title, images in sections.items():
        figure.text(EDGE / width, (top - TITLE / 2) / height, printable(title), fontsize=9, fontweight="bold")
        top -= TITLE
        for number, one in enumerate(images):
            left = EDGE + number % COLUMNS * COLUMN
            bottom = top - number // COLUMNS * ROW - ROW + 0.05
            axes = figure.add_axes((left / width, bottom / height, SIDE / width, SIDE / height))
            axes.imshow(np.asarray(one.image.convert("RGB")))
            axes.set_axis_off()
            axes.set_anchor("N")
            lines = f"{_cut(one.note)}\n{_cut(one.name, end=True)}"
            axes.set_title(lines, fontsize=6, pad=2, loc="left", parse_math=False)
        top -= ROW * rows[title]
    buffer = BytesIO()
    figure.savefig(buffer, format="png", dpi=130)
    write_atomically(path, lambda file: file.write(buffer.getbuffer()))


def _cut(text: str, *, end: bool = False) -> str:
    """As much of a text as there is room for; of a name, its end."""
    text = printable(text)
    if len(text) <= ROOM:
        return text
    return f"...{text[3 - ROOM :]}" if end else f"{text[: ROOM - 3]}..."
