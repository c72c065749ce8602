"""Tissue under a microscope, after PatchCamelyon (Veeling et al. 2018).

As there, an image has class 1 if there is a diseased cell in its central region, half as wide and high. Cells outside
it may be diseased in either class, and in the same number, so that the mean of the pixels does not reveal the class.
"""

from dataclasses import dataclass

import numpy as np
from einops import rearrange
from jaxtyping import Bool

from vitral.datasets.mini.drawing import SIZE, Picture, between, colour, numbers
from vitral.datasets.mini.regions import Regions, regions

__all__ = ["Tissue", "draw_tissue", "in_the_middle", "tissue"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Tissue:
    """Cells, each with a nucleus."""

    cells: Regions
    sick: Bool[np.ndarray, " cells"]
    """Whether a cell's nucleus is large, and pale inside a dark rim."""


def in_the_middle(cells: Regions) -> Bool[np.ndarray, " cells"]:
    """Whose nucleus has its centre in the central 32x32 pixels."""
    return (np.abs(cells.x - SIZE / 2) < SIZE / 4) & (np.abs(cells.y - SIZE / 2) < SIZE / 4)


def tissue(title: str, index: int, label: int) -> Tissue:
    """Two to six diseased cells; for class 1, one to four of them in the centre."""
    cells = regions(title, index, spacing=8.0, jitter=0.6)
    total, inside, *ranks = numbers(f"{title} sick", index, 2 + len(cells.x))
    total = 2 + int(total * 5)
    inside = label * (1 + int(inside * min(total, 4)))
    seen = (np.abs(cells.x - SIZE / 2) < SIZE / 2) & (np.abs(cells.y - SIZE / 2) < SIZE / 2)
    middle = in_the_middle(cells)
    sick = np.zeros(len(cells.x), bool)
    for candidates, count in ((middle, inside), (seen & ~middle, total - inside)):
        sick[np.argsort(np.where(candidates, ranks, 1.0), kind="stable")[:count]] = True
    return Tissue(cells=cells, sick=sick)


def draw_tissue(title: str, index: int, label: int) -> Picture:
    """Tissue of a given class, stained in violet and pink."""
    shown = tissue(title, index, label)
    cells, count = shown.cells, len(shown.cells.x)
    stain, strength, light, *varied = numbers(f"{title} stain", index, 3 + 2 * count)
    size, dark = np.array(varied).reshape(2, count)
    radius = np.where(shown.sick, 2.8 + size, 1.7 + size)[cells.owner]
    depth = (0.5 + 0.4 * dark)[cells.owner]
    within = radius - cells.nearest + 0.5
    # a rim of one pixel, then paler
    depth = np.where(shown.sick[cells.owner], depth * (1 - 0.4 * (within - 1).clip(0, 1)), depth)
    hue = between(0.78, 0.9, stain)
    body = colour(hue + 0.05, between(0.15, 0.35, strength), between(0.8, 1.0, light))
    nucleus = colour(hue - 0.06, between(0.5, 0.8, strength), between(0.25, 0.45, light))
    wall = 0.35 * (1.5 - (cells.second - cells.nearest)).clip(0, 1)
    weight = rearrange(np.maximum(wall, within.clip(0, 1) * depth), "h w -> h w 1")
    noise = rearrange(numbers(f"{title} noise", index, SIZE * SIZE), "(h w) -> h w 1", w=SIZE) - 0.5
    return body + (nucleus - body) * weight + 0.12 * noise
