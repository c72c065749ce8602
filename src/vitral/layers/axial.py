"""Axial attention (paper, appendix D.6)."""

from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from vitral.layers.places import Place

__all__ = ["AxialBlock"]


class AxialBlock(nn.Module):
    """A whole block along each row of patches, then a whole block along each column.

    Each has its own norms, attention and MLP, so parameters and computation of a plain block double but for attention
    itself. There are patches only: the paper does not say where a class token would stand.
    """

    def __init__(self, rows: nn.Module, columns: nn.Module) -> None:
        super().__init__()
        self.rows = rows
        self.columns = columns

    def forward(self, x: Float[Tensor, "b n d"], place: Place, read: slice = slice(None)) -> Float[Tensor, "b r d"]:
        gh, gw = place.grid
        x = rearrange(x, "b (gh gw) d -> (b gh) gw d", gh=gh)
        x = self.rows(x, Place(grid=(1, gw)))
        x = rearrange(x, "(b gh) gw d -> (b gw) gh d", gh=gh)
        x = self.columns(x, Place(grid=(gh, 1)))
        return rearrange(x, "(b gw) gh d -> b (gh gw) d", gw=gw)[:, read]
