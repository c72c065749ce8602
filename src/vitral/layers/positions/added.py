"""Positions that are added to the tokens."""

import math
from abc import abstractmethod
from functools import partial

import torch
import torch.nn.functional as F
from einops import rearrange, repeat
from jaxtyping import Float
from torch import Tensor

from vitral.errors import UserError
from vitral.layers.places import Layout, Place, Spots, keep
from vitral.layers.positions.kind import INJECTIONS, Fixed, Learned, Positions, counted
from vitral.layers.resample import resample_grid, resample_line

__all__ = ["Factorized2D", "Learned1D", "Learned2D", "SinCosMAE", "SinCosMoCo"]


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
        return self._adding(added, grid)

    @abstractmethod
    def at(self, table: Tensor, spots: Spots) -> Float[Tensor, "tables s t d"]:
        """What each patch of several grids gets."""

    def scattered(self, table: Tensor, spots: Spots) -> Layout:
        return self._adding(self.at(table, spots), self.grid)

    def _adding(self, added: Float[Tensor, "tables *s t d"], grid: tuple[int, int]) -> Layout:
        """Adds each table where the injection says."""
        first, *others = (partial(_plus, tokens) for tokens in added)
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

    def at(self, table: Tensor, spots: Spots) -> Float[Tensor, "tables s t d"]:
        if self.resample != "google":
            raise UserError(f"patches of several grids need position_resample google, not {self.resample}")
        patches = rearrange(table[:, self.cls :], "tables (gh gw) d -> tables gh gw d", gh=self.grid[0])
        top, bottom, down = spots.between(0, self.grid[0])
        left, right, along = spots.between(1, self.grid[1])
        upper = torch.lerp(patches[:, top, left], patches[:, top, right], along.to(table))
        lower = torch.lerp(patches[:, bottom, left], patches[:, bottom, right], along.to(table))
        return torch.lerp(upper, lower, down.to(table))


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

    def at(self, table: Tensor, spots: Spots) -> Float[Tensor, "tables s t d"]:
        x, y, _ = table.split([*reversed(self.grid), self.parts * self.cls], dim=1)
        (up, down, below), (left, right, along) = spots.between(0, y.shape[1]), spots.between(1, x.shape[1])
        x = torch.lerp(x[:, left], x[:, right], along.to(table))
        return self.joined(x, torch.lerp(y[:, up], y[:, down], below.to(table)))

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
        rows, columns = torch.meshgrid(*map(counted, grid), indexing="ij")
        return F.pad(self._waves(rows.flatten(), columns.flatten()), (0, 0, self.cls, 0))[None]

    def at(self, table: Tensor, spots: Spots) -> Float[Tensor, "tables s t d"]:
        rows, columns = spots.at.double().unbind(-1)
        return self._waves(rows, columns)[None].to(table)

    def _waves(self, rows: Float[Tensor, "*t"], columns: Float[Tensor, "*t"]) -> Float[Tensor, "*t d"]:
        """Sines and cosines of the patches in these rows and columns."""
        steps = torch.arange(self.width // 4, dtype=torch.float64, device=rows.device)
        y, x = (place[..., None] * 10_000.0 ** -(steps / self.slowest) for place in (rows, columns))
        return torch.cat([x.sin(), x.cos(), y.sin(), y.cos()], dim=-1)

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


def _plus(added: Float[Tensor, "*s t d"], x: Float[Tensor, "b t d"]) -> Float[Tensor, "b t d"]:
    """The sum, in the arithmetic of the tokens."""
    return (x + added).to(x.dtype)
