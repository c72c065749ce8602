"""Where the tokens are: what the blocks are told of positions, and of which tokens see each other."""

from collections.abc import Callable
from dataclasses import dataclass

from jaxtyping import Float, Int
from torch import Tensor

__all__ = ["Layout", "Place", "Spots", "by_content", "keep"]

Attend = Callable[[Tensor, Tensor, slice], tuple[Tensor, Tensor, Tensor | None]]
"""From queries, keys and the tokens to be read: these tokens' queries, the keys, and a bias of the logits or None."""


def keep(x: Float[Tensor, "b t d"]) -> Float[Tensor, "b t d"]:
    """The tokens as they are."""
    return x


def by_content(
    q: Float[Tensor, "b heads t k"], k: Float[Tensor, "b heads t k"], read: slice
) -> tuple[Float[Tensor, "b heads r k"], Float[Tensor, "b heads t k"], None]:
    """Attention by what the tokens hold alone."""
    return q[:, :, read], k, None


@dataclass(frozen=True, kw_only=True)
class Place:
    """What one block is told of where its tokens are."""

    grid: tuple[int, int]
    """Rows and columns of patches."""
    enter: Callable[[Tensor], Tensor] = keep
    """Adds positions to the block's input, where every layer does so."""
    attend: Attend = by_content
    """Brings positions into the block's attention, where they belong there."""


@dataclass(frozen=True, kw_only=True)
class Layout:
    """Where the tokens of one batch are, as the stem and each block are told."""

    stem: Callable[[Tensor], Tensor]
    """Adds positions to the embedded patches."""
    places: tuple[Place, ...]
    """For each block."""


@dataclass(frozen=True, kw_only=True)
class Spots:
    """Where patches of several images lie, each on the grid of its own image."""

    at: Int[Tensor, "s t 2"]
    """Row and column of each patch in each sequence."""
    grids: Int[Tensor, "s t 2"]
    """Rows and columns of the image it belongs to."""

    def shares(self, axis: int) -> Float[Tensor, "s t"]:
        """How far along its image's rows (0) or columns (1) each patch lies, from 0 for the first to 1 for the last."""
        return self.at[..., axis].double() / (self.grids[..., axis] - 1).clamp(min=1)

    def between(self, axis: int, count: int) -> tuple[Int[Tensor, "s t"], Int[Tensor, "s t"], Float[Tensor, "s t 1"]]:
        """For a table of `count` vectors along an axis, its ends kept in place: the two that each patch lies between,
        and the share of the second.
        """
        place = self.shares(axis) * (count - 1)
        first = place.floor().long()
        return first, (first + 1).clamp(max=count - 1), (place - first)[..., None]
