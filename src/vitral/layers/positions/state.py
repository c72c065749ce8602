"""Positions of the tokens of one batch, ready for use in a block."""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

__all__ = ["PositionState"]


@dataclass(frozen=True, kw_only=True)
class PositionState:
    """What one block needs to know about positions. By default it needs nothing: attention is by content alone."""

    grid: tuple[int, int]
    """Rows and columns of patches."""
    added: Float[Tensor, "*s t d"] | None = None
    """Vectors to add to the block's input."""
    rotation: Float[Tensor, "2 *s t k"] | None = None
    """Cosine and sine of the angles by which queries and keys are rotated."""
    offset_embeddings: Float[Tensor, "one_or_heads offsets k"] | None = None
    """Embedding of each offset from query to key, from 1 - n to n - 1."""
    mask: Bool[Tensor, "s 1 t t"] | None = None
    """Which keys (last axis) each query may attend to; cannot be combined with `offset_embeddings`."""

    def add(self, x: Float[Tensor, "b t d"]) -> Float[Tensor, "b t d"]:
        """Adds positions to tokens; the result has the dtype of the tokens."""
        return x if self.added is None else (x + self.added).to(x.dtype)

    def rotate(
        self, q: Float[Tensor, "b heads t k"], k: Float[Tensor, "b heads t k"]
    ) -> tuple[Float[Tensor, "b heads t k"], Float[Tensor, "b heads t k"]]:
        """Rotates queries and keys."""
        if self.rotation is None:
            return q, k
        cos, sin = self.rotation
        return _rotate(q, cos, sin), _rotate(k, cos, sin)

    def exist(self, tokens: slice) -> Bool[Tensor, "b r"] | None:
        """Which of these tokens are no padding, of sequences of one image each; None: all."""
        return None if self.mask is None else self.mask[:, 0, 0, tokens]

    def bias(self, q: Float[Tensor, "b heads t k"]) -> Tensor | None:
        """The `attn_mask` of fused attention: logits to add, or which pairs may attend; None for neither."""
        if self.offset_embeddings is None:
            return self.mask
        gh, gw = self.grid
        return _relative_logits(q, self.offset_embeddings, n=gh * gw)


def _rotate(
    x: Float[Tensor, "b heads t k"], cos: Float[Tensor, "*s t k"], sin: Float[Tensor, "*s t k"]
) -> Float[Tensor, "b heads t k"]:
    first, second = x.chunk(2, dim=-1)
    return (x * cos + torch.cat([-second, first], dim=-1) * sin).to(x.dtype)


def _relative_logits(
    q: Float[Tensor, "b heads t k"], embeddings: Float[Tensor, "one_or_heads offsets k"], *, n: int
) -> Float[Tensor, "b heads t t"]:
    """Product of each query with the embedding of its offset to each key; 0 for tokens that are not patches."""
    prefix = q.shape[2] - n
    logits = (q[:, :, prefix:] / math.sqrt(q.shape[3])) @ embeddings.mT
    # row i needs the n columns from n - 1 - i on. In the flattened matrix these start 2n - 2 numbers apart: they begin
    # the rows of a view of that length
    stride = max(2 * n - 2, 1)
    lines = logits.flatten(2)[:, :, n - 1 : n - 1 + n * stride].unflatten(2, (n, stride))[..., :n]
    return F.pad(lines, (prefix, 0, prefix, 0)).to(q.dtype)
