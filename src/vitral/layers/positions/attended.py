"""Positions that take part in attention itself."""

import math
from functools import partial

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from vitral.errors import UserError
from vitral.layers.places import Layout, Place, Spots, keep
from vitral.layers.positions.kind import Fixed, Learned, counted

__all__ = ["Relative", "Rotary"]


class Relative(Learned):
    """1-D relative attention (appendix D.4, after Shaw et al. 2018 without the term of the values).

    Each query also meets a learned embedding of its offset to each key in raster order, p_q - p_k, of 2n - 1 that there
    are; these logits are added to the content's before the softmax, as a bias of fused attention. The paper leaves
    open what the class token does: here it and registers have no position, and meet by content alone.
    """

    in_heads = True

    @property
    def shape(self) -> tuple[int, ...]:
        layers, heads = self.depth if self.per_layer else 1, self.num_heads if self.per_head else 1
        return layers, heads, 2 * math.prod(self.grid) - 1, self.vector

    def layout(self, table: Tensor, grid: tuple[int, int]) -> Layout:
        offsets = self.resampled(table, grid).flip(2).expand(self.depth, -1, -1, -1)
        attends = (partial(_by_offset, embeddings=layer, prefix=self.prefix) for layer in offsets)
        return Layout(stem=keep, places=tuple(Place(grid=grid, attend=attend) for attend in attends))

    def resampled(self, table: Tensor, grid: tuple[int, int]) -> Tensor:
        """An offset is so many rows and as few columns as can be; each scales with its axis, and between is linear."""
        if grid == self.grid:
            return table
        (gh, gw), last = self.grid, math.prod(self.grid) - 1
        offsets = torch.arange(1 - math.prod(grid), math.prod(grid), device=table.device)
        rows = (offsets / grid[1]).round()
        down, along = rows * gh / grid[0], (offsets - rows * grid[1]) * gw / grid[1]

        def at(row: Tensor, column: Tensor) -> Tensor:
            return table[:, :, (row * gw + column).long().clamp(-last, last) + last]

        top, left = down.floor(), along.floor()
        right, below = ((place - place.floor())[:, None].to(table) for place in (along, down))
        upper = torch.lerp(at(top, left), at(top, left + 1), right)
        return torch.lerp(upper, torch.lerp(at(top + 1, left), at(top + 1, left + 1), right), below)

    def scattered(self, table: Tensor, spots: Spots) -> Layout:
        raise UserError("patches of several grids share no offsets: choose another position than relative")


def _by_offset(
    q: Float[Tensor, "b heads t k"],
    k: Float[Tensor, "b heads t k"],
    read: slice,
    *,
    embeddings: Float[Tensor, "one_or_heads offsets k"],
    prefix: int,
) -> tuple[Float[Tensor, "b heads r k"], Float[Tensor, "b heads t k"], Float[Tensor, "b heads r t"]]:
    """Content, and the logits of each query with the embeddings of the offsets, from 1 - n to n - 1 of the key."""
    n = q.shape[2] - prefix
    logits = (q[:, :, prefix:] / math.sqrt(q.shape[3])) @ embeddings.mT
    # row i wants the n columns from n - 1 - i on; laid end to end, these begin 2n - 2 numbers apart: no copy is made
    lines = logits.flatten(2)[:, :, n - 1 :].unfold(2, n, max(2 * n - 2, 1))
    bias = F.pad(lines, (prefix, 0, prefix, 0))
    return q[:, :, read], k, bias[:, :, read].to(q.dtype)


class Rotary(Fixed):
    """Rotary positions along both axes (DINOv3's form of RoPE, arXiv 2104.09864): queries and keys are turned.

    Half of each head turns with the row and half with the column, both scaled to -1..1 at the image's edges, so that
    any grid spans the same angles; a head's pairs are its first and second half. Class token and registers stay.
    """

    parts = 4
    in_heads = True
    base = 100.0

    def computed(self, grid: tuple[int, int]) -> Tensor:
        axes = [(2 * counted(count) + 1) / count - 1 for count in grid]
        rows, columns = torch.meshgrid(*axes, indexing="ij")
        angles = F.pad(self._angles(rows.flatten(), columns.flatten()), (0, 0, self.prefix, 0))
        return torch.stack([angles.cos(), angles.sin()])

    def layout(self, table: Tensor, grid: tuple[int, int]) -> Layout:
        return self._turning(self.resampled(table, grid), grid)

    def scattered(self, table: Tensor, spots: Spots) -> Layout:
        middles = (2 * spots.at.double() + 1) / spots.grids - 1
        angles = rearrange(self._angles(*middles.unbind(-1)), "s t k -> s 1 t k")
        return self._turning(torch.stack([angles.cos(), angles.sin()]).to(table), self.grid)

    def _angles(self, rows: Float[Tensor, "*t"], columns: Float[Tensor, "*t"]) -> Float[Tensor, "*t k"]:
        """By how much each pair of a head turns at these places, which go from -1 to 1."""
        quarter = self.vector // 4
        periods = self.base ** (torch.arange(quarter, dtype=torch.float64, device=rows.device) / quarter)
        return 2 * math.pi * torch.cat([rows[..., None] / periods, columns[..., None] / periods] * 2, dim=-1)

    def _turning(self, rotation: Float[Tensor, "2 *s t k"], grid: tuple[int, int]) -> Layout:
        place = Place(grid=grid, attend=partial(_turned, rotation=rotation))
        return Layout(stem=keep, places=(place,) * self.depth)


def _turned(
    q: Float[Tensor, "b heads t k"],
    k: Float[Tensor, "b heads t k"],
    read: slice,
    *,
    rotation: Float[Tensor, "2 *s t k"],
) -> tuple[Float[Tensor, "b heads r k"], Float[Tensor, "b heads t k"], None]:
    """Queries and keys, each turned by its position."""
    cos, sin = rotation

    def turn(x: Tensor) -> Tensor:
        first, second = x.chunk(2, dim=-1)
        return (x * cos + torch.cat([-second, first], dim=-1) * sin).to(x.dtype)

    return turn(q)[:, :, read], turn(k), None
