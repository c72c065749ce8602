"""A contact sheet of what a model is given: a row per image, from the file to augmented views."""

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from vitral.data.tools.views import Views
from vitral.files import font_fallback, printable, write_atomically

__all__ = ["draw_views"]

SIDE, GAP, TITLE, HEAD, EDGE = 1.3, 0.06, 0.24, 0.3, 0.15
"""Inches: side of a panel, gap between panels, line of a title, line of the columns' names, margin."""


@font_fallback()
def draw_views(rows: Sequence[Views], path: Path) -> None:
    """Writes a PNG with a row per image: the file, the evaluation's input, and the augmented views.

    Raises:
        OSError: the file cannot be written.
    """
    columns = 2 + len(rows[0].augmented)
    width = 2 * EDGE + columns * (SIDE + GAP) - GAP
    height = 2 * EDGE + HEAD + len(rows) * (SIDE + TITLE + GAP)
    figure = Figure(figsize=(width, height))
    heads = {0: "file", 1: "evaluation", 2: "training, one view an epoch"}
    for column, head in heads.items():
        x = EDGE + column * (SIDE + GAP)
        figure.text(x / width, 1 - (EDGE + 0.12) / height, head, fontsize=8, fontweight="bold", va="center")
    top = height - EDGE - HEAD
    for row in rows:
        title = f"{row.label}   {_end_of(row.name, room=int(columns * 16))}"
        y = (top - TITLE / 2) / height
        figure.text(EDGE / width, y, printable(title), fontsize=7, va="center", parse_math=False)
        bottom = top - TITLE - SIDE
        for column, pixels in enumerate((np.asarray(row.original), row.preprocessed, *row.augmented)):
            left = EDGE + column * (SIDE + GAP)
            axes = figure.add_axes((left / width, bottom / height, SIDE / width, SIDE / height))
            axes.imshow(pixels.squeeze(), cmap="gray", vmin=0, vmax=255)
            axes.set_anchor("NW")
            axes.set_axis_off()
        top = bottom - GAP
    buffer = BytesIO()
    figure.savefig(buffer, format="png", dpi=130)
    write_atomically(path, lambda file: file.write(buffer.getbuffer()))


def _end_of(name: str, *, room: int) -> str:
    """The end of a name, its most informative part."""
    return name if len(name) <= room else f"...{name[3 - room :]}"
