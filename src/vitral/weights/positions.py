"""Position embeddings for another grid of patches."""

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

__all__ = ["resample_positions"]


def resample_positions(
    table: Float[Tensor, "1 t d"], *, source: tuple[int, int], target: tuple[int, int]
) -> Float[Tensor, "1 u d"]:
    """Interpolates learned positions from one grid of patches to another.

    Bilinear with the corners kept in place, as Google's code does (`scipy.ndimage.zoom` of order 1; paper, section
    3.2). The rows before the grid's, the class token's, are copied.

    Args:
        table: one row a token: class token if there is one, then the patches row by row.
        source: rows and columns of the grid the table was learned on.
        target: rows and columns wanted.

    Raises:
        ValueError: the table does not hold the source grid.
    """
    gh, gw = source
    prefix = table.shape[1] - gh * gw
    if prefix not in (0, 1):
        raise ValueError(f"{table.shape[1]} positions are not a {gh}x{gw} grid with at most one class token")
    if source == target:
        return table
    grid = rearrange(table[:, prefix:], "1 (gh gw) d -> 1 d gh gw", gh=gh)
    grid = F.interpolate(grid, size=target, mode="bilinear", align_corners=True)
    return torch.cat([table[:, :prefix], rearrange(grid, "1 d gh gw -> 1 (gh gw) d")], dim=1)
