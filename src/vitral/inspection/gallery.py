"""A figure of images: a row for each, with the image and panels of the same proportions beside it."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize, PowerNorm
from matplotlib.figure import Figure
from PIL import Image

from vitral.files import printable

__all__ = ["Panel", "Row", "draw_gallery", "draw_scale", "enlarge", "max_title_length", "shorten"]

PANEL, GAP, EDGE, TITLE, LABEL, ROW_GAP, SCALE = 1.7, 0.1, 0.18, 0.26, 0.22, 0.22, 0.56
"""Inches: side of a panel, gap between panels, margin, line of a title, label of a panel, gap below a row, colour
scale.
"""

NAME_OF_SCALE = 2.2
"""Width in inches of the colour scale's label, to its left."""

DRAWN_PIXELS = 440
"""Length in pixels of the longer side of a drawn image."""

PIXEL_ART = 64
"""Images with a longer side of at most this many pixels are enlarged without smoothing."""

TITLE_SIZE = 10.5
"""Points."""

QUIET = "#666666"


@dataclass(frozen=True, kw_only=True)
class Panel:
    """One picture of a row."""

    label: str
    pixels: np.ndarray
    """Colours (h w 3), or values (gh gw) on a colour scale."""
    norm: Normalize | None = None
    """The scale of values; None: from 0 to the panel's maximum, with the square root of the value."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """An image and its panels."""

    title: str
    """One or two lines."""
    image: Image.Image
    """The panels are stretched over it."""
    panels: Sequence[Panel]
    colour: str = "#222222"
    """Colour of the title."""


def draw_gallery(rows: Sequence[Row], *, scale: bool = False) -> Figure:
    """A figure with the rows below each other.

    Args:
        rows: with as many panels each.
        scale: whether to leave room below for `draw_scale`.
    """
    count = 1 + len(rows[0].panels)
    heights = [_panel_height(row.image) for row in rows]
    heads = [TITLE * len(row.title.splitlines()) + LABEL for row in rows]
    height = EDGE + sum(heads) + sum(heights) + ROW_GAP * len(rows) + (SCALE if scale else 0)
    figure = Figure(figsize=(_width(count), height))
    top = height - EDGE
    for row, head, panel in zip(rows, heads, heights, strict=True):
        _draw_title(figure, row.title, colour=row.colour, top=top)
        _draw_panels(figure, row, bottom=top - head - panel, height=panel)
        top -= head + panel + ROW_GAP
    return figure


def max_title_length(num_panels: int) -> int:
    """Characters that fit one line above an image and so many panels."""
    return int((_width(1 + num_panels) - 2 * EDGE) / 0.095)


def shorten(text: str, length: int) -> str:
    """At most `length` printable characters on one line."""
    text = " ".join(printable(text).split())
    return text if len(text) <= length else f"{text[: length - 1]}…"


def enlarge(image: Image.Image) -> Image.Image:
    """The image, resized for drawing."""
    longer = max(image.size)
    if longer <= PIXEL_ART:
        factor = -(-DRAWN_PIXELS // longer)
        return image.resize((factor * image.width, factor * image.height), Image.Resampling.NEAREST)
    scale = DRAWN_PIXELS / longer
    size = max(round(scale * image.width), 1), max(round(scale * image.height), 1)
    return image.resize(size, Image.Resampling.LANCZOS)


def draw_scale(figure: Figure, colours: PowerNorm, *, highest: float) -> None:
    """Draws the colour scale of all panels at the lower right, with its label to the left."""
    width, height = figure.get_size_inches()
    length = min(2 * PANEL, width - 2 * EDGE - NAME_OF_SCALE)
    left = width - 2 * EDGE - length
    axes = figure.add_axes((left / width, 0.4 / height, length / width, 0.09 / height))
    scale = figure.colorbar(ScalarMappable(colours, "magma"), cax=axes, orientation="horizontal")
    scale.set_ticks([highest * (part / 4) ** 2 for part in range(5)])
    scale.ax.xaxis.set_major_formatter(lambda fraction, _: f"{100 * fraction:.2g}%")
    scale.ax.tick_params(labelsize=7.5, labelcolor=QUIET, length=2)
    scale.outline.set_visible(False)
    x, y = (left - GAP) / width, 0.4 / height
    figure.text(x, y, "attention per patch", fontsize=8.5, color=QUIET, ha="right")


def _width(count: int) -> float:
    """Width in inches of a figure with so many panels, the image included."""
    return 2 * EDGE + count * (PANEL + GAP) - GAP


def _panel_height(image: Image.Image) -> float:
    """Height in inches of an image as wide as a panel; tall images are limited, and so drawn narrower."""
    return min(PANEL * image.height / image.width, 1.3 * PANEL)


def _draw_title(figure: Figure, text: str, *, colour: str, top: float) -> None:
    """Draws a title above its row, with a smaller font if it is too wide."""
    width, height = figure.get_size_inches()
    title = figure.text(EDGE / width, top / height, text, color=colour, fontsize=TITLE_SIZE, va="top", parse_math=False)
    title_width = title.get_window_extent().width / figure.dpi
    title.set_fontsize(TITLE_SIZE * min(1, (width - 2 * EDGE) / title_width))


def _draw_panels(figure: Figure, row: Row, *, bottom: float, height: float) -> None:
    image = enlarge(row.image)
    frame = (0, image.width, image.height, 0)
    first, *others = _axes(figure, 1 + len(row.panels), bottom=bottom, height=height)
    first.imshow(image.convert("RGB"), extent=frame)
    first.set_title("image")
    for axes, panel in zip(others, row.panels, strict=True):
        norm = None
        if panel.pixels.ndim == 2:
            norm = panel.norm or PowerNorm(0.5, 0, max(float(panel.pixels.max()), 1e-12))
        axes.imshow(panel.pixels, extent=frame, norm=norm, cmap="magma", interpolation="nearest")
        axes.set_title(panel.label)
    for axes in (first, *others):
        axes.title.set(fontsize=8.5, color=QUIET)
        axes.set_axis_off()


def _axes(figure: Figure, count: int, *, bottom: float, height: float) -> list[Axes]:
    """A row of axes; sizes in inches."""
    whole_width, whole_height = figure.get_size_inches()
    bounds = [(EDGE + index * (PANEL + GAP), bottom, PANEL, height) for index in range(count)]
    return [
        figure.add_axes((x / whole_width, y / whole_height, width / whole_width, high / whole_height))
        for x, y, width, high in bounds
    ]
