"""Position embeddings of every kind and each way of adding them (paper, section 3.1 and appendix D.4).

A kind says how one tensor, `ViT.pos_embed`, is shaped, filled, read for a grid of patches, and carried to another grid.
Tokens are the class token where there is one, registers, then patches row by row; registers have no position.
"""

import torch
from torch import Tensor

from vitral.layers.places import Layout, Place, Spots, keep
from vitral.layers.positions.added import Factorized2D, Learned1D, Learned2D, SinCosMAE, SinCosMoCo
from vitral.layers.positions.attended import Relative, Rotary
from vitral.layers.positions.kind import INJECTIONS, Fixed, Positions

__all__ = ["INJECTIONS", "POSITIONS", "Positions"]


class Absent(Fixed):
    """No positions: the patches are a bag."""

    def computed(self, grid: tuple[int, int]) -> Tensor:
        return torch.zeros(0)

    def layout(self, table: Tensor, grid: tuple[int, int]) -> Layout:
        return Layout(stem=keep, places=(Place(grid=grid),) * self.depth)

    def scattered(self, table: Tensor, spots: Spots) -> Layout:
        return self.layout(table, self.grid)


POSITIONS: dict[str, type[Positions]] = {
    "none": Absent,
    "learned_1d": Learned1D,
    "learned_2d": Learned2D,
    "factorized_2d": Factorized2D,
    "relative": Relative,
    "sincos_2d": SinCosMoCo,
    "sincos_2d_mae": SinCosMAE,
    "rope": Rotary,
}
"""Kinds of position embeddings by name."""
