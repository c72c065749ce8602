"""Figures of a model's inside that need more than attention maps: distances, positions, filters, tokens, relevance."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize, PowerNorm
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from torch import Tensor

from vitral.inspection.gallery import Panel, draw_gallery
from vitral.inspection.look import Look
from vitral.inspection.picture import look_row

__all__ = ["distance_figure", "filters_figure", "positions_figure", "relevance_figure", "tokens_figure"]

COLUMNS = 7
"""Filters in a row, as in the paper's Figure 7."""

MOST_POSITIONS = 16
"""Maximum number of rows and columns of patches whose similarities are drawn; of larger grids, evenly spaced ones."""

QUIET = "#666666"


def distance_figure(distances: Float[Tensor, "l heads"], *, uniform: float, num_images: int) -> Figure:
    """Mean attention distance of each head against the layer, as in the paper's Figures 7 (right) and 11.

    Args:
        distances: in input pixels.
        uniform: distance of a head that attends to all patches alike, drawn as a line.
        num_images: number of images that they are means over.
    """
    depth, heads = distances.shape
    figure = Figure(figsize=(6.4, 4.2), layout="constrained")
    axes = figure.subplots()
    layers = np.repeat(np.arange(1, depth + 1), heads)
    ordered = distances.sort(dim=1).values.flatten().numpy()
    axes.scatter(layers, ordered, c=np.tile(np.arange(heads), depth), cmap="viridis", s=22, alpha=0.85)
    axes.axhline(uniform, color="#999999", linestyle="--", linewidth=1)
    axes.text(depth + 0.5, uniform, "even attention ", color=QUIET, fontsize=8.5, ha="right", va="bottom")
    axes.set_xlim(0.5, depth + 0.5)
    axes.set_ylim(0, 1.12 * max(uniform, float(distances.max()), 1.0))  # of a single patch they are 0
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("layer")
    axes.set_ylabel("mean attention distance (pixels)")
    plural = "image" if num_images == 1 else "images"
    axes.set_title(f"each point is one of {heads} heads; {num_images} {plural}", fontsize=10, loc="left")
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def positions_figure(similarity: Float[Tensor, "n n"], *, grid: tuple[int, int]) -> Figure:
    """Similarity of each patch's position to all others, as in the paper's Figures 7 (centre) and 10.

    The tile in row i and column j shows how similar the position (i, j) is to every position.
    """
    gh, gw = grid
    tiles = similarity.reshape(gh, gw, gh, gw).numpy()
    rows, columns = _spaced(gh), _spaced(gw)
    canvas = np.full((len(rows) * (gh + 1) - 1, len(columns) * (gw + 1) - 1), np.nan)
    for i, row in enumerate(rows):
        for j, column in enumerate(columns):
            canvas[i * (gh + 1) :, j * (gw + 1) :][:gh, :gw] = tiles[row, column]
    side = 5.4
    figure = Figure(figsize=(side + 1.2, side * canvas.shape[0] / canvas.shape[1] + 0.8), layout="constrained")
    axes = figure.subplots()
    norm = Normalize(min(-1.0, float(similarity.min())) if similarity.min() < 0 else 0.0, 1)
    axes.imshow(canvas, cmap="viridis", norm=norm, interpolation="nearest")
    axes.set_xticks([j * (gw + 1) + (gw - 1) / 2 for j in range(len(columns))], [str(index + 1) for index in columns])
    axes.set_yticks([i * (gh + 1) + (gh - 1) / 2 for i in range(len(rows))], [str(index + 1) for index in rows])
    axes.set_xlabel("column of the patch")
    axes.set_ylabel("row of the patch")
    axes.tick_params(length=0, labelsize=8)
    axes.spines[:].set_visible(False)
    figure.colorbar(ScalarMappable(norm, "viridis"), ax=axes, label="cosine similarity", shrink=0.8)
    return figure


def _spaced(count: int) -> list[int]:
    """Indices of the rows or columns to draw."""
    return sorted({round(index) for index in np.linspace(0, count - 1, min(count, MOST_POSITIONS))})


def filters_figure(components: Float[np.ndarray, "k p q c"]) -> Figure:
    """Principal components of the patch embedding, as in the paper's Figure 7 (left).

    Each is stretched so that 0 is mid-grey and the largest absolute value black, white or a full colour. Models of
    other channels than colours show their mean.
    """
    count, p, q, channels = components.shape
    shown = components if channels in (1, 3) else components.mean(axis=3, keepdims=True)
    columns, rows = min(count, COLUMNS), -(-count // COLUMNS)
    figure = Figure(figsize=(columns * 0.9, rows * 0.9 * p / q))
    for index, part in enumerate(shown):
        axes = figure.add_subplot(rows, columns, index + 1)
        axes.imshow((0.5 + part / (2 * np.abs(part).max())).squeeze(), cmap="gray", vmin=0, vmax=1)
        axes.set_xticks([])
        axes.set_yticks([])
        axes.spines[:].set(color="#999999", linewidth=0.6)
    figure.subplots_adjust(0.01, 0.01, 0.99, 0.99, 0.08, 0.08)
    return figure


def tokens_figure(
    looks: Sequence[Look], colours: Float[np.ndarray, "b gh gw 3"], norms: Float[Tensor, "b gh gw"]
) -> Figure:
    """One row per image: the image, the principal components of its patch tokens as colours, and the tokens' norms."""
    rows = []
    for look, colour, norm in zip(looks, colours, norms.numpy(), strict=True):
        low, high = float(norm.min()), float(norm.max())
        scale = Normalize(low, high if high > low else low + 1)
        panels = [
            Panel(label="tokens' components", pixels=np.rint(255 * colour).astype(np.uint8)),
            Panel(label=f"norms {low:.3g} to {high:.3g}", pixels=norm, norm=scale),
        ]
        rows.append(look_row(look, panels))
    return draw_gallery(rows)


def relevance_figure(
    looks: Sequence[Look], maps: Sequence[Float[Tensor, "k gh gw"]], names: Sequence[Sequence[str]]
) -> Figure:
    """One row per image: the image, and the relevance of its patches for each of its most probable classes.

    The maps of an image share one colour scale, so that the classes can be compared.
    """
    rows = []
    for look, relevance, classes in zip(looks, maps, names, strict=True):
        norm = PowerNorm(0.5, 0, max(float(relevance.max()), torch.finfo(torch.float32).tiny))
        panels = [
            Panel(label=f"for {name}", pixels=one.numpy(), norm=norm)
            for name, one in zip(classes, relevance, strict=True)
        ]
        rows.append(look_row(look, panels))
    return draw_gallery(rows)
