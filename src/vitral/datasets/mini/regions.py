"""The plane parted into the regions nearest to scattered points (Voronoi's)."""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64

from vitral.datasets.mini.drawing import SIZE, numbers, samples

__all__ = ["Regions", "regions"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Regions:
    """Points, and how the pixels lie to them."""

    x: Float64[np.ndarray, " points"]
    """Places across, in pixels."""
    y: Float64[np.ndarray, " points"]
    """Places down, in pixels."""
    nearest: Float64[np.ndarray, "64 64"]
    """Distance from each pixel to the nearest point."""
    second: Float64[np.ndarray, "64 64"]
    """Distance from each pixel to the second nearest."""
    owner: Int64[np.ndarray, "64 64"]
    """The nearest point."""
    neighbour: Int64[np.ndarray, "64 64"]
    """The second nearest."""


def regions(title: str, index: int, *, spacing: float, jitter: float) -> Regions:
    """Regions of one point in each cell of a square grid.

    Args:
        title: what the points depend on.
        index: what the points depend on.
        spacing: side of a cell, in pixels.
        jitter: share of its cell that a point may be in, from 0 (the middle) to 1 (all of it).
    """
    side = math.ceil(SIZE / spacing) + 2
    rows, columns = np.divmod(np.arange(side * side), side)
    across, down = (numbers(title, index, 2 * side * side).reshape(2, -1) - 0.5) * jitter
    x, y = (columns - 0.5 + across) * spacing, (rows - 0.5 + down) * spacing
    places = samples(1)
    squares = (places[None, :, None] - x) ** 2 + (places[:, None, None] - y) ** 2
    owner = squares.argmin(2)
    nearest = np.take_along_axis(squares, owner[:, :, None], 2)[:, :, 0]
    np.put_along_axis(squares, owner[:, :, None], np.inf, 2)
    neighbour = squares.argmin(2)
    second = np.take_along_axis(squares, neighbour[:, :, None], 2)[:, :, 0]
    return Regions(x=x, y=y, nearest=np.sqrt(nearest), second=np.sqrt(second), owner=owner, neighbour=neighbour)
