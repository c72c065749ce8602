"""The pictures of a model's attention: the rollout over images, and the attention of single layers."""

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

import numpy as np
from jaxtyping import Float, UInt8
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from PIL import Image, ImageFilter
from torch import Tensor

from vitral.files import font_fallback, write_atomically
from vitral.inspection.gallery import Panel, Row, draw_gallery, draw_scale, enlarge, max_title_length, shorten
from vitral.inspection.look import Look

__all__ = [
    "MOST_LAYERS",
    "attention_figure",
    "draw_looks",
    "evenly_spaced_layers",
    "image_title",
    "look_row",
    "overlay_rollout",
    "rollout_figure",
    "save_figure",
]

MOST_LAYERS = 6
"""Maximum number of layers in a row; of deeper models, evenly spaced layers are drawn."""

RIGHT, WRONG, UNKNOWN = "#23704c", "#b3372f", "#222222"


@font_fallback()
def draw_looks(looks: Sequence[Look], path: Path, *, shared_scale: bool = False) -> None:
    """Writes `attention_figure` as a PNG.

    Raises:
        OSError: the file cannot be written.
    """
    save_figure(attention_figure(looks, shared_scale=shared_scale), path)


def attention_figure(looks: Sequence[Look], *, shared_scale: bool = False) -> Figure:
    """One row per image: the image, the rollout over it, and the attention of single layers.

    Args:
        looks: at least one.
        shared_scale: whether all layers share one colour scale, which a spike in one layer makes dark; otherwise each
            has its own.
    """
    layers = evenly_spaced_layers(len(looks[0].layers))
    highest = max(float(look.layers[layers].max()) for look in looks)
    norm = PowerNorm(0.5, 0, highest) if shared_scale else None
    rows = []
    for look in looks:
        panels = [_rollout_panel(look)]
        for layer in layers:
            values = look.layers[layer].numpy()
            label = f"layer {layer + 1}" if shared_scale else f"layer {layer + 1}, to {100 * values.max():.2g} %"
            panels.append(Panel(label=label, pixels=values, norm=norm))
        rows.append(look_row(look, panels))
    figure = draw_gallery(rows, scale=shared_scale)
    if norm:
        draw_scale(figure, norm, highest=highest)
    return figure


def rollout_figure(looks: Sequence[Look]) -> Figure:
    """One row per image: the image, and its rollout over it, as in the paper's Figures 6 and 14."""
    return draw_gallery([look_row(look, [_rollout_panel(look)]) for look in looks])


def look_row(look: Look, panels: Sequence[Panel]) -> Row:
    """A row with the image, its prediction and panels."""
    title = image_title(look, max_length=max_title_length(len(panels)))
    return Row(title=title, colour=_colour(look), image=look.image, panels=panels)


def save_figure(figure: Figure, path: Path) -> None:
    """Writes a figure in the format of the file's ending, atomically.

    Raises:
        OSError: the file cannot be written.
    """
    buffer = BytesIO()
    figure.savefig(buffer, format=path.suffix[1:].lower(), dpi=130)
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


def image_title(look: Look, *, max_length: int) -> str:
    """Name, prediction and truth of an image, in two lines if one line would exceed `max_length` characters."""
    facts = []
    if look.predicted is not None:
        probability = "" if look.probability is None else f" ({look.probability:.0%})"
        facts.append(f"predicted {shorten(look.predicted, max_length // 4)}{probability}")
    if look.truth is not None:
        kind = "truth" if look.predicted is not None and look.probability is None else "true class"
        facts.append(f"{kind} {shorten(look.truth, max_length // 4)}")
    prediction, name = ", ".join(facts), shorten(look.name, max_length - 1)
    if not facts:
        return name
    separator = " " if len(name) + 2 + len(prediction) <= max_length else "\n"
    return f"{name}:{separator}{prediction}"


def _rollout_panel(look: Look) -> Panel:
    return Panel(label="attention rollout", pixels=overlay_rollout(enlarge(look.image), look.rollout))


def _colour(look: Look) -> str:
    """The colour of a title: right, wrong, or unknown."""
    if look.truth is None or look.predicted is None or look.is_number:
        return UNKNOWN
    return RIGHT if look.truth == look.predicted else WRONG
