"""Axial attention (paper, appendix D.6)."""

from typing import Literal

from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from vitral.layers.positions.state import PositionState

__all__ = ["AxialAttention", "AxialBlock"]

ALL = slice(None)


class AxialAttention(nn.Module):
    """Attention within each row of patches, or within each column."""

    def __init__(self, attn: nn.Module, axis: Literal["rows", "columns"]) -> None:
        super().__init__()
        self.attn = attn
        self.batch_axis, self.token_axis = {"rows": ("gh", "gw"), "columns": ("gw", "gh")}[axis]

    def forward(self, x: Float[Tensor, "b n d"], pos: PositionState, queries: slice = ALL) -> Float[Tensor, "b r d"]:
        gh, gw = pos.grid
        lines = f"(b {self.batch_axis}) {self.token_axis} d"
        x = rearrange(x, f"b (gh gw) d -> {lines}", gh=gh, gw=gw)
        x = self.attn(x, PositionState(grid=(1, x.shape[1])))
        return rearrange(x, f"{lines} -> b (gh gw) d", gh=gh, gw=gw)[:, queries]


class AxialBlock(nn.Module):
    """A whole block along each row of patches, then a whole block along each column.

    Each has separate norms, attention and MLP, which doubles the parameters and, outside of attention itself, the
    computation. All tokens must be patches: the paper does not say where a class token would go.
    """

    def __init__(self, rows: nn.Module, columns: nn.Module) -> None:
        """
        Args:
            rows: a block with `AxialAttention` along rows.
            columns: a block with `AxialAttention` along columns.
        """
        super().__init__()
        self.rows = rows
        self.columns = columns

    def forward(self, x: Float[Tensor, "b n d"], pos: PositionState, queries: slice = ALL) -> Float[Tensor, "b r d"]:
        x = self.rows(x, pos)
        return self.columns(x, PositionState(grid=pos.grid), queries)  # positions were added before the rows
