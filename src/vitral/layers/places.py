"""Where the tokens are: what the blocks are told of positions, and of which tokens see each other."""

from collections.abc import Callable
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

__all__ = ["Layout", "Place", "by_content", "keep"]

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
