"""Coordinates of patches that belong to several images."""

from dataclasses import dataclass

from jaxtyping import Float, Int
from torch import Tensor

from vitral.device import precise_dtype

__all__ = ["PatchCoordinates"]


@dataclass(frozen=True, kw_only=True)
class PatchCoordinates:
    """Row and column of each patch in sequences that hold patches of several images."""

    index: Int[Tensor, "s t 2"]
    """Row and column of the patch in its image."""
    grids: Int[Tensor, "s t 2"]
    """Rows and columns of that image."""

    def fractions(self, axis: int) -> Float[Tensor, "s t"]:
        """Row (axis 0) or column (axis 1) as a fraction, from 0 for the image's first to 1 for its last."""
        return self.index[..., axis].to(precise_dtype(self.index.device)) / (self.grids[..., axis] - 1).clamp(min=1)

    def neighbours(
        self, axis: int, count: int
    ) -> tuple[Int[Tensor, "s t"], Int[Tensor, "s t"], Float[Tensor, "s t 1"]]:
        """How to interpolate a table of `count` vectors along an axis: the index below and above each patch, and the
        weight of the one above. The first and last vectors are those of the first and last patches.
        """
        point = self.fractions(axis) * (count - 1)
        below = point.floor().long()
        return below, (below + 1).clamp(max=count - 1), (point - below)[..., None]
