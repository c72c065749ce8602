"""Position embeddings of every kind and each way of adding them (paper, section 3.1 and appendix D.4).

A kind says how one tensor, `ViT.pos_embed`, is shaped, filled, read for a grid of patches, and carried to another grid.
Tokens are the class token where there is one, registers, then patches row by row; registers have no position.
"""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import torch
import torch.nn.functional as F
from einops import rearrange, repeat
from jaxtyping import Float
from torch import Generator, Tensor, nn

from vitral.layers.places import Layout, Place, keep
from vitral.layers.resample import resample_grid, resample_line

__all__ = ["INJECTIONS", "POSITIONS", "Positions"]

INJECTIONS = ("stem", "every_layer", "every_layer_shared")
"""Where positions are added (Table 8): before the first block only, or to each block's input, from a table of the
block's own or from the same one."""


@dataclass(frozen=True, kw_only=True)
class Positions(ABC):
    """One kind of position embeddings for one shape of model.

    Raises:
        ValueError: the kind cannot be injected so, or does not fit the width.
    """

    kind: str
    """Its name in `POSITIONS`."""
    grid: tuple[int, int]
    """Rows and columns of patches that the table is made for."""
    cls: int
    """Number of class tokens, 0 or 1."""
    registers: int
    """Number of register tokens."""
    width: int
    """Width of the tokens."""
    depth: int
    """Number of blocks."""
    num_heads: int
    """Attention heads of a block."""
    injection: str
    """One of `INJECTIONS`."""
    resample: str
    """How learned positions are carried to another grid: a name of `layers.resample.RESAMPLERS`."""
    per_layer: bool
    """Whether each layer has relative embeddings of its own."""
    per_head: bool
    """Whether each head has relative embeddings of its own."""

    learned: ClassVar[bool] = True
    """Whether the table is trained and saved."""
    injections: ClassVar[tuple[str, ...]] = ("stem",)
    """The ways in which the kind can be added."""
    parts: ClassVar[int] = 1
    """Equal parts that each vector is made of."""
    in_heads: ClassVar[bool] = False
    """Whether positions belong to the heads' queries and keys, not to the tokens."""

    def __post_init__(self) -> None:
        if self.injection not in self.injections:
            raise ValueError(
                f"position {self.kind} cannot go with position_injection {self.injection}: "
                f"choose {' or '.join(self.injections)}"
            )
        if self.vector % self.parts:
            raise ValueError(f"position {self.kind} needs a multiple of {self.parts}, not vectors of {self.vector}")

    @property
    def prefix(self) -> int:
        """Number of tokens before the patches."""
        return self.cls + self.registers

    @property
    def vector(self) -> int:
        """Width of what tells a position: of a token, or of one of its heads."""
        return self.width // self.num_heads if self.in_heads else self.width

    @property
    @abstractmethod
    def shape(self) -> tuple[int, ...]:
        """Shape of the table."""

    @abstractmethod
    def fill(self, table: Tensor, generator: Generator | None) -> None:
        """Writes the values to start from."""

    @abstractmethod
    def layout(self, table: Tensor, grid: tuple[int, int]) -> Layout:
        """What stem and blocks are told about a grid of patches, be it the table's own or another."""

    @abstractmethod
    def resampled(self, table: Tensor, grid: tuple[int, int]) -> Tensor:
        """The table for another grid; itself for its own."""


class Learned(Positions):
    """Positions whose table is trained; it starts from a normal distribution of deviation 0.02."""

    def fill(self, table: Tensor, generator: Generator | None) -> None:
        nn.init.normal_(table, std=0.02, generator=generator)


class Fixed(Positions):
    """Positions that are computed: for another grid they are computed again."""

    learned = False

    @abstractmethod
    def computed(self, grid: tuple[int, int]) -> Tensor:
        """The table of a grid, in float64."""

    @property
    def shape(self) -> tuple[int, ...]:
        with torch.device("meta"):
            return tuple(self.computed(self.grid).shape)

    def fill(self, table: Tensor, generator: Generator | None) -> None:
        table.copy_(self.computed(self.grid))

    def resampled(self, table: Tensor, grid: tuple[int, int]) -> Tensor:
        return table if grid == self.grid else self.computed(grid).to(table)


class Absent(Fixed):
    """No positions: the patches are a bag."""

    def computed(self, grid: tuple[int, int]) -> Tensor:
        return torch.zeros(0)

    def layout(self, table: Tensor, grid: tuple[int, int]) -> Layout:
        return Layout(stem=keep, places=(Place(grid=grid),) * self.depth)


class Additive(Positions):
    """Positions that are added to the tokens; a kind says what class token and patches get."""

    injections = INJECTIONS

    @property
    def tables(self) -> int:
        """Number of tables, one or one a layer."""
        return self.depth if self.injection == "every_layer" else 1

    @abstractmethod
    def tokens(self, table: Tensor, grid: tuple[int, int]) -> Float[Tensor, "tables t d"]:
        """What each class token and patch of a grid gets."""

    def layout(self, table: Tensor, grid: tuple[int, int]) -> Layout:
        added = self.tokens(table, grid)
        if self.registers:
            nothing = added.new_zeros(len(added), self.registers, self.width)
            added = torch.cat([added[:, : self.cls], nothing, added[:, self.cls :]], dim=1)
        first, *others = (partial(torch.add, tokens) for tokens in added)
        later = {"stem": keep, "every_layer_shared": first}.get(self.injection)
        entering = [keep, *(others if later is None else [later] * (self.depth - 1))]
        return Layout(stem=first, places=tuple(Place(grid=grid, enter=enter) for enter in entering))


class Learned1D(Learned, Additive):
    """A learned vector for every token in raster order: E_pos of Eq. 1."""

    @property
    def shape(self) -> tuple[int, ...]:
        return self.tables, self.cls + math.prod(self.grid), self.width

    def tokens(self, table: Tensor, grid: tuple[int, int]) -> Float[Tensor, "tables t d"]:
        return self.resampled(table, grid)

    def resampled(self, table: Tensor, grid: tuple[int, int]) -> Tensor:
        if grid == self.grid:
            return table
        patches = rearrange(table[:, self.cls :], "tables (gh gw) d -> tables gh gw d", gh=self.grid[0])
        patches = resample_grid(patches, grid, method=self.resample).flatten(1, 2)
        return torch.cat([table[:, : self.cls], patches], dim=1)


class TwoTables(Learned, Additive):
    """One learned table for columns, X, and one for rows, Y; the class token has a free vector.

    They lie in one table: X, then Y, then the class token's vector in `parts` pieces. Each is interpolated along its
    own axis, its ends kept in place.
    """

    @abstractmethod
    def joined(self, x: Tensor, y: Tensor) -> Tensor:
        """One vector from those of column and row."""

    @property
    def shape(self) -> tuple[int, ...]:
        return self.tables, sum(self.grid) + self.parts * self.cls, self.width // self.parts

    def tokens(self, table: Tensor, grid: tuple[int, int]) -> Float[Tensor, "tables t d"]:
        gh, gw = grid
        x, y, own = self.resampled(table, grid).split([gw, gh, self.parts * self.cls], dim=1)
        x = repeat(x, "tables gw part -> tables (gh gw) part", gh=gh)
        y = repeat(y, "tables gh part -> tables (gh gw) part", gw=gw)
        own = rearrange(own, "tables (cls parts) part -> tables cls (parts part)", parts=self.parts)
        return torch.cat([own, self.joined(x, y)], dim=1)

    def resampled(self, table: Tensor, grid: tuple[int, int]) -> Tensor:
        if grid == self.grid:
            return table
        x, y, own = table.split([*reversed(self.grid), self.parts * self.cls], dim=1)
        return torch.cat([resample_line(x, grid[1]), resample_line(y, grid[0]), own], dim=1)


class Learned2D(TwoTables):
    """The paper's 2-D form: X and Y have half the width each and lie side by side (appendix D.4)."""

    parts = 2

    def joined(self, x: Tensor, y: Tensor) -> Tensor:
        return torch.cat([x, y], dim=-1)


class Factorized2D(TwoTables):
    """NaViT's form (arXiv 2307.06304): X and Y have the full width and are summed; coordinates are fractional."""

    def joined(self, x: Tensor, y: Tensor) -> Tensor:
        return x + y


class SinCos(Fixed, Additive):
    """Fixed sines and cosines of column and row, a quarter of the width each; the class token gets zero.

    Any grid has the same frequencies: positions count patches. A table that is computed is the same for every layer.
    """

    injections = ("stem", "every_layer_shared")
    parts = 4

    @property
    @abstractmethod
    def slowest(self) -> int:
        """The frequencies are 10000 ** -(i / slowest) for i from 0."""

    def computed(self, grid: tuple[int, int]) -> Tensor:
        frequencies = 10_000.0 ** -(torch.arange(self.width // 4, dtype=torch.float64) / self.slowest)
        y, x = (axis.flatten()[:, None] * frequencies for axis in torch.meshgrid(*map(_counted, grid), indexing="ij"))
        patches = torch.cat([x.sin(), x.cos(), y.sin(), y.cos()], dim=1)
        return F.pad(patches, (0, 0, self.cls, 0))[None]

    def tokens(self, table: Tensor, grid: tuple[int, int]) -> Float[Tensor, "tables t d"]:
        return self.resampled(table, grid)


class SinCosMoCo(SinCos):
    """As in MoCo v3 and big_vision: the slowest frequency is 1/10000."""

    @property
    def slowest(self) -> int:
        return max(self.width // 4 - 1, 1)


class SinCosMAE(SinCos):
    """As in MAE: the frequencies stop one step before 1/10000."""

    @property
    def slowest(self) -> int:
        return self.width // 4


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
        return table if grid == self.grid else resample_line(table, 2 * math.prod(grid) - 1)


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
    logits = q[:, :, prefix:] @ embeddings.mT / math.sqrt(q.shape[3])
    # row i wants the n columns from n - 1 - i on: read with rows one shorter than they are, they come to stand in line
    lines = F.pad(F.pad(logits, (0, 1)).flatten(2), (0, n - 1)).unflatten(2, (n + 1, 2 * n - 1))
    bias = F.pad(lines[:, :, :n, n - 1 :], (prefix, 0, prefix, 0))
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
        quarter = self.vector // 4
        periods = self.base ** (torch.arange(quarter, dtype=torch.float64) / quarter)
        axes = [(2 * _counted(count) + 1) / count - 1 for count in grid]
        turns = [axis.flatten()[:, None] / periods for axis in torch.meshgrid(*axes, indexing="ij")]
        angles = F.pad(2 * math.pi * torch.cat(turns * 2, dim=1), (0, 0, self.prefix, 0))
        return torch.stack([angles.cos(), angles.sin()])

    def layout(self, table: Tensor, grid: tuple[int, int]) -> Layout:
        attend = partial(_turned, rotation=self.resampled(table, grid))
        return Layout(stem=keep, places=(Place(grid=grid, attend=attend),) * self.depth)


def _turned(
    q: Float[Tensor, "b heads t k"], k: Float[Tensor, "b heads t k"], read: slice, *, rotation: Float[Tensor, "2 t k"]
) -> tuple[Float[Tensor, "b heads r k"], Float[Tensor, "b heads t k"], None]:
    """Queries and keys, each turned by its position."""
    cos, sin = rotation

    def turn(x: Tensor) -> Tensor:
        first, second = x.chunk(2, dim=-1)
        return (x * cos + torch.cat([-second, first], dim=-1) * sin).to(x.dtype)

    return turn(q)[:, :, read], turn(k), None


def _counted(count: int) -> Tensor:
    return torch.arange(count, dtype=torch.float64)


POSITIONS: dict[str, type[Positions]] = {
    "none": Absent,
    "learned_1d": Learned1D,
    "learned_2d": Learned2D,
    "factorized_2d": Factorized2D,
    "relative": Relative,
    "sincos_2d": SinCosMoCo,
    "sincos_2d_mae": SinCosMAE,
    "rope": Rotary,
}
"""Kinds of position embeddings by name."""
