"""Voronoi diagrams of scattered points."""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64

from vitral.datasets.mini.drawing import SIZE, numbers, samples

__all__ = ["Regions", "regions"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Regions:
    """A Voronoi diagram, sampled at the pixels."""

    x: Float64[np.ndarray, " points"]
    """Horizontal positions, in pixels."""
    y: Float64[np.ndarray, " points"]
    """Vertical positions, in pixels."""
    nearest: Float64[np.ndarray, "64 64"]
    """Distance from each pixel to the nearest point."""
    second: Float64[np.ndarray, "64 64"]
    """Distance from each pixel to the second nearest."""
    owner: Int64[np.ndarray, "64 64"]
    """The nearest point."""
    neighbour: Int64[np.ndarray, "64 64"]
    """The second nearest."""


def regions(title: str, index: int, *, spacing: float, jitter: float) -> Regions:
    """The diagram of one random point in each cell of a square grid.

    Args:
        title: seeds the points.
        index: seeds the points.
        spacing: side of a cell, in pixels.
        jitter: fraction of its cell that a point may be in, from 0 (the centre) to 1 (anywhere).
    """
    side = math.ceil(SIZE / spacing) + 2
    rows, columns = np.divmod(np.arange(side * side), side)
    across, down = (numbers(title, index, 2 * side * side).reshape(2, -1) - 0.5) * jitter
    x, y = (columns - 0.5 + across) * spacing, (rows - 0.5 + down) * spacing
    centres = samples(1)
    squares = (centres[None, :, None] - x) ** 2 + (centres[:, None, None] - y) ** 2
    owner = squares.argmin(2)
    nearest = np.take_along_axis(squares, owner[:, :, None], 2)[:, :, 0]
    np.put_along_axis(squares, owner[:, :, None], np.inf, 2)
    neighbour = squares.argmin(2)
    second = np.take_along_axis(squares, neighbour[:, :, None], 2)[:, :, 0]
    return Regions(x=x, y=y, nearest=np.sqrt(nearest), second=np.sqrt(second), owner=owner, neighbour=neighbour)
