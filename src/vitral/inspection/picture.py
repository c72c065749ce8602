"""The picture of `vitral inspect`: images with their attention rollout and the attention of single layers."""

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

__all__ = ["MOST_LAYERS", "draw_looks", "evenly_spaced_layers", "image_title", "overlay_rollout"]

MOST_LAYERS = 6
"""Maximum number of layers in a row; of deeper models, evenly spaced layers are drawn."""

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

RIGHT, WRONG, UNKNOWN, QUIET = "#23704c", "#b3372f", "#222222", "#666666"


@font_fallback()
def draw_looks(looks: Sequence[Look], path: Path) -> None:
    """Writes a PNG with one row per image: the image, the rollout over it, and the attention of single layers.

    Raises:
        OSError: the file cannot be written.
    """
    layers = evenly_spaced_layers(len(looks[0].layers))
    heights = [_panel_height(look.image) for look in looks]
    width = 2 * EDGE + (2 + len(layers)) * (PANEL + GAP) - GAP
    titles = [image_title(look, max_length=int((width - 2 * EDGE) / 0.095)) for look in looks]
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


def evenly_spaced_layers(depth: int) -> list[int]:
    """Indices of the layers to draw: all, or evenly spaced ones from the first to the last."""
    count = min(depth, MOST_LAYERS)
    return [round(index) for index in np.linspace(0, depth - 1, count)]


def overlay_rollout(image: Image.Image, rollout: Float[Tensor, "gh gw"]) -> UInt8[np.ndarray, "h w 3"]:
    """Darkens an image where the rollout is low, as in the paper's Figure 6.

    The rollout is divided by its maximum, resized to the image, blurred by half a patch and stretched, so that its
    minimum is black and its maximum keeps its colour. It scales the intensity of light; pixel values are roughly the
    square root of that.
    """
    fractions = (rollout / rollout.max()).numpy()
    mask = Image.fromarray(np.rint(255 * fractions).astype(np.uint8)).resize(image.size, Image.Resampling.LANCZOS)
    patch = image.height / rollout.shape[0], image.width / rollout.shape[1]
    smooth = np.asarray(mask.filter(ImageFilter.GaussianBlur(sum(patch) / 4)), np.float32)
    low, high = smooth.min(), smooth.max()
    weight = (smooth - low) / (high - low) if high > low else np.ones_like(smooth)
    return np.rint(np.asarray(image.convert("RGB")) * np.sqrt(weight)[:, :, None]).astype(np.uint8)


def _panel_height(image: Image.Image) -> float:
    """Height in inches of an image as wide as a panel; tall images are limited, and so drawn narrower."""
    return min(PANEL * image.height / image.width, 1.3 * PANEL)


def _enlarged(image: Image.Image) -> Image.Image:
    """The image, resized for drawing."""
    longer = max(image.size)
    if longer <= PIXEL_ART:
        factor = -(-DRAWN_PIXELS // longer)
        return image.resize((factor * image.width, factor * image.height), Image.Resampling.NEAREST)
    scale = DRAWN_PIXELS / longer
    size = max(round(scale * image.width), 1), max(round(scale * image.height), 1)
    return image.resize(size, Image.Resampling.LANCZOS)


def image_title(look: Look, *, max_length: int) -> str:
    """Name, prediction and truth of an image, in two lines if one line would exceed `max_length` characters."""
    facts = []
    if look.predicted is not None:
        probability = "" if look.probability is None else f" ({look.probability:.0%})"
        facts.append(f"predicted {_shortened(look.predicted, max_length // 4)}{probability}")
    if look.truth is not None:
        kind = "truth" if look.predicted is not None and look.probability is None else "true class"
        facts.append(f"{kind} {_shortened(look.truth, max_length // 4)}")
    prediction, name = ", ".join(facts), _shortened(look.name, max_length - 1)
    if not facts:
        return name
    separator = " " if len(name) + 2 + len(prediction) <= max_length else "\n"
    return f"{name}:{separator}{prediction}"


def _colour(look: Look) -> str:
    """The colour of a title: right, wrong, or unknown."""
    if look.truth is None or look.predicted is None or look.is_number:
        return UNKNOWN
    return RIGHT if look.truth == look.predicted else WRONG


def _draw_title(figure: Figure, text: str, *, colour: str, top: float) -> None:
    """Draws a title above its row, with a smaller font if it is too wide."""
    width, height = figure.get_size_inches()
    title = figure.text(EDGE / width, top / height, text, color=colour, fontsize=10.5, va="top", parse_math=False)
    title_width = title.get_window_extent().width / figure.dpi
    title.set_fontsize(10.5 * min(1, (width - 2 * EDGE) / title_width))


def _shortened(text: str, length: int) -> str:
    """At most `length` printable characters on one line."""
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
    panels[1].imshow(overlay_rollout(image, look.rollout), extent=frame)
    panels[1].set_title("attention rollout")
    for axes, layer in zip(panels[2:], layers, strict=True):
        axes.imshow(look.layers[layer].numpy(), extent=frame, norm=colours, cmap="magma", interpolation="nearest")
        axes.set_title(f"layer {layer + 1}")
    for axes in panels:
        axes.title.set(fontsize=8.5, color=QUIET)
        axes.set_axis_off()


def _panels(figure: Figure, count: int, *, bottom: float, height: float) -> list[Axes]:
    """A row of axes; sizes in inches."""
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
    """Draws the colour scale of all layers at the lower right, with its label to the left."""
    width, height = figure.get_size_inches()
    length = min(2 * PANEL, width - 2 * EDGE - NAME_OF_SCALE)
    left = width - 2 * EDGE - length
    axes = figure.add_axes((left / width, 0.4 / height, length / width, 0.09 / height))
    scale = figure.colorbar(ScalarMappable(colours, "magma"), cax=axes, orientation="horizontal")
    scale.set_ticks([highest * (part / 4) ** 2 for part in range(5)])
    scale.ax.xaxis.set_major_formatter(lambda fraction, _: f"{100 * fraction:.2g}%")
    scale.ax.tick_params(labelsize=7.5, labelcolor=QUIET, length=2)
    scale.outline.set_visible(False)
    figure.text(
        (left - GAP) / width,
        0.4 / height,
        "attention per patch",
        fontsize=8.5,
        color=QUIET,
        ha="right",
    )
