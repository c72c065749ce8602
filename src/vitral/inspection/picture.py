"""The picture of `vitral inspect`: images, what a model attends to in them, and its layers one by one."""

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

import numpy as np
from jaxtyping import Float, UInt8
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from PIL import Image, ImageFilter
from torch import Tensor

from vitral.files import font_fallback, printable, write_atomically
from vitral.inspection.look import Look

__all__ = ["MOST_LAYERS", "chosen_layers", "draw_looks", "lay_over"]

MOST_LAYERS = 6
"""Maps of single layers in a row; of a deeper model, evenly spaced ones are drawn."""

PANEL, GAP, EDGE, TITLE, LABEL, ROW_GAP, SCALE = 1.7, 0.1, 0.18, 0.26, 0.22, 0.22, 0.56
"""In inches: side of a panel, space between panels, margin, a row's title, a panel's label, space below a row, and
the colour scale."""

NAME_OF_SCALE = 2.2
"""Inches that the colour scale's name takes, to its left."""

SHOWN = 440
"""Pixels that the longer side of an image is drawn with."""

PIXEL_ART = 64
"""Images of at most so many pixels a side are enlarged with their pixels kept square."""

RIGHT, WRONG, UNKNOWN, QUIET = "#23704c", "#b3372f", "#222222", "#666666"


@font_fallback()
def draw_looks(looks: Sequence[Look], path: Path) -> None:
    """Draws one row an image into a PNG: the image, the rollout laid over it, attention layer by layer.

    Raises:
        OSError: the file cannot be written.
    """
    layers = chosen_layers(len(looks[0].layers))
    heights = [_panel_height(look.image) for look in looks]
    width = 2 * EDGE + (2 + len(layers)) * (PANEL + GAP) - GAP
    titles = [_title(look, room=int((width - 2 * EDGE) / 0.095)) for look in looks]
    heads = [TITLE * len(title.splitlines()) + LABEL for title in titles]
    height = EDGE + sum(heads) + sum(heights) + ROW_GAP * len(looks) + SCALE
    figure = Figure(figsize=(width, height))
    highest = max(float(look.layers[layers].max()) for look in looks)
    colours = PowerNorm(0.5, 0, highest)
    top = height - EDGE
    for look, title, head, panel in zip(looks, titles, heads, heights, strict=True):
        _draw_title(figure, title, colour=_colour(look), top=top)
        _draw_row(figure, look, layers, colours, bottom=top - head - panel, panel=panel)
        top -= head + panel + ROW_GAP
    _draw_scale(figure, colours, highest=highest)
    buffer = BytesIO()
    figure.savefig(buffer, format="png", dpi=130)
    write_atomically(path, lambda file: file.write(buffer.getbuffer()))


def chosen_layers(depth: int) -> list[int]:
    """The layers to draw: all, or evenly spaced ones from the first to the last."""
    count = min(depth, MOST_LAYERS)
    return [round(index) for index in np.linspace(0, depth - 1, count)]


def lay_over(image: Image.Image, rollout: Float[Tensor, "gh gw"]) -> UInt8[np.ndarray, "h w 3"]:
    """Darkens an image where little of the conclusion comes from, as in the paper's Figure 6.

    The map is divided by its largest value, resized to the image, blurred by half a patch, and stretched so that
    the least attended place is black and the most attended keeps its colour. Shares dim the light, of which the
    values of pixels are about the square root.
    """
    shares = (rollout / rollout.max()).numpy()
    mask = Image.fromarray(np.rint(255 * shares).astype(np.uint8)).resize(image.size, Image.Resampling.LANCZOS)
    patch = image.height / rollout.shape[0], image.width / rollout.shape[1]
    smooth = np.asarray(mask.filter(ImageFilter.GaussianBlur(sum(patch) / 4)), np.float32)
    low, high = smooth.min(), smooth.max()
    weight = (smooth - low) / (high - low) if high > low else np.ones_like(smooth)
    return np.rint(np.asarray(image.convert("RGB")) * np.sqrt(weight)[:, :, None]).astype(np.uint8)


def _panel_height(image: Image.Image) -> float:
    """Inches for an image as wide as a panel; a tall one is made narrower instead of filling the page."""
    return min(PANEL * image.height / image.width, 1.3 * PANEL)


def _enlarged(image: Image.Image) -> Image.Image:
    """The image at the size it is drawn with."""
    longer = max(image.size)
    if longer <= PIXEL_ART:
        factor = -(-SHOWN // longer)
        return image.resize((factor * image.width, factor * image.height), Image.Resampling.NEAREST)
    scale = SHOWN / longer
    size = max(round(scale * image.width), 1), max(round(scale * image.height), 1)
    return image.resize(size, Image.Resampling.LANCZOS)


def _title(look: Look, *, room: int) -> str:
    """Name, prediction and truth of an image, in two lines where `room` letters are too few for one."""
    said = f"predicted {_shortened(look.predicted, room // 4)} ({look.probability:.0%})"
    if look.truth is not None:
        said += f", true class {_shortened(look.truth, room // 4)}"
    name = _shortened(look.name, room - 1)
    return f"{name}: {said}" if len(name) + 2 + len(said) <= room else f"{name}:\n{said}"


def _colour(look: Look) -> str:
    """Whether the model is right, where that is known."""
    if look.truth is None:
        return UNKNOWN
    return RIGHT if look.truth == look.predicted else WRONG


def _draw_title(figure: Figure, text: str, *, colour: str, top: float) -> None:
    """A title above its row, made smaller where its letters are too wide for the picture."""
    width, height = figure.get_size_inches()
    title = figure.text(EDGE / width, top / height, text, color=colour, fontsize=10.5, va="top", parse_math=False)
    taken = title.get_window_extent().width / figure.dpi
    title.set_fontsize(10.5 * min(1, (width - 2 * EDGE) / taken))


def _shortened(text: str, length: int) -> str:
    """At most `length` characters on one line, all of which can be drawn."""
    text = " ".join(printable(text).split())
    return text if len(text) <= length else f"{text[: length - 1]}…"


def _draw_row(
    figure: Figure, look: Look, layers: list[int], colours: PowerNorm, *, bottom: float, panel: float
) -> None:
    image = _enlarged(look.image)
    frame = (0, image.width, image.height, 0)
    panels = _panels(figure, 2 + len(layers), bottom=bottom, height=panel)
    panels[0].imshow(image.convert("RGB"), extent=frame)
    panels[0].set_title("image")
    panels[1].imshow(lay_over(image, look.rollout), extent=frame)
    panels[1].set_title("attention rollout")
    for axes, layer in zip(panels[2:], layers, strict=True):
        axes.imshow(look.layers[layer].numpy(), extent=frame, norm=colours, cmap="magma", interpolation="nearest")
        axes.set_title(f"layer {layer + 1}")
    for axes in panels:
        axes.title.set(fontsize=8.5, color=QUIET)
        axes.set_axis_off()


def _panels(figure: Figure, count: int, *, bottom: float, height: float) -> list[Axes]:
    """A row of axes side by side; measures in inches."""
    whole_width, whole_height = figure.get_size_inches()
    return [
        figure.add_axes(
            (
                (EDGE + index * (PANEL + GAP)) / whole_width,
                bottom / whole_height,
                PANEL / whole_width,
                height / whole_height,
            )
        )
        for index in range(count)
    ]


def _draw_scale(figure: Figure, colours: PowerNorm, *, highest: float) -> None:
    """The one colour scale of all layers' maps, at the lower right, its name to the left of it."""
    width, height = figure.get_size_inches()
    length = min(2 * PANEL, width - 2 * EDGE - NAME_OF_SCALE)
    left = width - 2 * EDGE - length
    place = figure.add_axes((left / width, 0.4 / height, length / width, 0.09 / height))
    scale = figure.colorbar(ScalarMappable(colours, "magma"), cax=place, orientation="horizontal")
    scale.set_ticks([highest * (part / 4) ** 2 for part in range(5)])
    scale.ax.xaxis.set_major_formatter(lambda share, _: f"{100 * share:.2g}%")
    scale.ax.tick_params(labelsize=7.5, labelcolor=QUIET, length=2)
    scale.outline.set_visible(False)
    figure.text(
        (left - GAP) / width,
        0.4 / height,
        "share of a layer's attention",
        fontsize=8.5,
        color=QUIET,
        ha="right",
    )
