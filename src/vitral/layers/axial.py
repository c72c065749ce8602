"""Axial attention (paper, appendix D.6)."""

from typing import Literal

from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from vitral.layers.places import Place

__all__ = ["Along", "AxialBlock"]

ALL = slice(None)


class Along(nn.Module):
    """Attention among the patches of each row, or of each column, for itself."""

    def __init__(self, attn: nn.Module, axis: Literal["rows", "columns"]) -> None:
        super().__init__()
        self.attn = attn
        self.apart, self.together = {"rows": ("gh", "gw"), "columns": ("gw", "gh")}[axis]

    def forward(self, x: Float[Tensor, "b n d"], place: Place, read: slice = ALL) -> Float[Tensor, "b r d"]:
        gh, gw = place.grid
        lines = f"(b {self.apart}) {self.together} d"
        x = rearrange(x, f"b (gh gw) d -> {lines}", gh=gh, gw=gw)
        x = self.attn(x, Place(grid=(1, x.shape[1])))
        return rearrange(x, f"{lines} -> b (gh gw) d", gh=gh, gw=gw)[:, read]


class AxialBlock(nn.Module):
    """A whole block along each row of patches, then a whole block along each column.

    Each has its own norms, attention and MLP, so parameters and computation of a plain block double but for attention
    itself. There are patches only: the paper does not say where a class token would stand.
    """

    def __init__(self, rows: nn.Module, columns: nn.Module) -> None:
        """
        Args:
            rows: a block whose attention is `Along` rows.
            columns: a block whose attention is `Along` columns.
        """
        super().__init__()
        self.rows = rows
        self.columns = columns

    def forward(self, x: Float[Tensor, "b n d"], place: Place, read: slice = ALL) -> Float[Tensor, "b r d"]:
        return self.columns(self.rows(x, place), place, read)
