"""Position embeddings of every kind, and each way to add them (paper, section 3.1 and appendix D.4).

A kind (`Positions`) defines the shape and initial values of one table, `ViT.pos_embed`, and how to resample it to
another grid. For a batch it gives a `PositionState` to the stem and to each block. Tokens are ordered: class token,
distillation token, registers, then patches row by row; registers have no position.
"""

import torch
from torch import Tensor

from vitral.layers.positions.added import Factorized2D, Learned1D, Learned2D, SinCosMAE, SinCosMoCo
from vitral.layers.positions.base import INJECTIONS, Fixed, Positions
from vitral.layers.positions.coordinates import PatchCoordinates
from vitral.layers.positions.in_attention import Relative, Rotary
from vitral.layers.positions.state import PositionState

__all__ = ["INJECTIONS", "POSITIONS", "PatchCoordinates", "PositionState", "Positions"]


class NoPositions(Fixed):
    """No positions: the model sees a bag of patches."""

    @property
    def shape(self) -> tuple[int, ...]:
        return (0,)

    def compute(self, grid: tuple[int, int], device: torch.device | None = None) -> Tensor:
        return torch.zeros(0, device=device)

    def at_grid(self, table: Tensor, grid: tuple[int, int]) -> tuple[PositionState, list[PositionState]]:
        state = PositionState(grid=grid)
        return state, [state] * self.depth

    def at_coordinates(self, table: Tensor, coordinates: PatchCoordinates) -> tuple[PositionState, list[PositionState]]:
        return self.at_grid(table, self.grid)


POSITIONS: dict[str, type[Positions]] = {
    "none": NoPositions,
    "learned_1d": Learned1D,
    "learned_2d": Learned2D,
    "factorized_2d": Factorized2D,
    "relative": Relative,
    "sincos_2d": SinCosMoCo,
    "sincos_2d_mae": SinCosMAE,
    "rope": Rotary,
}
"""Kinds of position embeddings by name."""
