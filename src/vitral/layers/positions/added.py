"""Positions that are added to the tokens."""

import math
from abc import abstractmethod

import torch
import torch.nn.functional as F
from einops import rearrange, repeat
from jaxtyping import Float
from torch import Tensor

from vitral.device import precise_dtype
from vitral.layers.positions.base import INJECTIONS, Fixed, Learned, Positions
from vitral.layers.positions.coordinates import PatchCoordinates
from vitral.layers.positions.state import PositionState
from vitral.layers.resample import resample_grid, resample_line

__all__ = ["Factorized2D", "Learned1D", "Learned2D", "SinCosMAE", "SinCosMoCo"]


class Additive(Positions):
    """Positions that are added to the tokens. Subclasses give the vector of each class token and patch."""

    injections = INJECTIONS

    @property
    def num_tables(self) -> int:
        """One table per layer with `every_layer`, one otherwise."""
        return self.depth if self.injection == "every_layer" else 1

    @abstractmethod
    def vectors_on_grid(self, table: Tensor, grid: tuple[int, int]) -> Float[Tensor, "tables t d"]:
        """The vectors of class tokens, then of a grid of patches."""

    @abstractmethod
    def vectors_at(self, table: Tensor, coordinates: PatchCoordinates) -> Float[Tensor, "tables s t d"]:
        """The vectors of patches of several grids."""

    def at_grid(self, table: Tensor, grid: tuple[int, int]) -> tuple[PositionState, list[PositionState]]:
        added = self.vectors_on_grid(table, grid)
        if self.num_registers:
            added = torch.cat([self._prefix(added), added[:, self.num_class_tokens :]], dim=1)
        return self._states(added, grid)

    def at_coordinates(self, table: Tensor, coordinates: PatchCoordinates) -> tuple[PositionState, list[PositionState]]:
        added = self.vectors_at(table, coordinates)
        if self.num_prefix_tokens:
            prefix = self._prefix(self.vectors_on_grid(table, self.grid))
            added = torch.cat([repeat(prefix, "tables t d -> tables s t d", s=added.shape[1]), added], dim=2)
        return self._states(added, self.grid)

    def _prefix(self, vectors: Float[Tensor, "tables t d"]) -> Float[Tensor, "tables g d"]:
        """The vectors of the tokens before the patches: registers have no position."""
        return F.pad(vectors[:, : self.num_class_tokens], (0, 0, 0, self.num_registers))

    def _states(
        self, added: Float[Tensor, "tables *s t d"], grid: tuple[int, int]
    ) -> tuple[PositionState, list[PositionState]]:
        """The stem adds the first table, so the first block adds nothing; the injection decides on the later blocks."""
        nothing = PositionState(grid=grid)
        first, *others = (PositionState(grid=grid, added=vectors) for vectors in added)
        repeated = {"stem": nothing, "every_layer_shared": first}
        later = others if self.injection == "every_layer" else [repeated[self.injection]] * (self.depth - 1)
        return first, [nothing, *later]


class Learned1D(Learned, Additive):
    """A learned vector for each token in raster order: E_pos of Eq. 1."""

    @property
    def shape(self) -> tuple[int, ...]:
        return self.num_tables, self.num_class_tokens + math.prod(self.grid), self.width

    def vectors_on_grid(self, table: Tensor, grid: tuple[int, int]) -> Float[Tensor, "tables t d"]:
        return self.resampled(table, grid)

    def interpolated(self, table: Tensor, grid: tuple[int, int]) -> Tensor:
        patches = resample_grid(self._patches(table), grid, method=self.resample).flatten(1, 2)
        return torch.cat([table[:, : self.num_class_tokens], patches], dim=1)

    def vectors_at(self, table: Tensor, coordinates: PatchCoordinates) -> Float[Tensor, "tables s t d"]:
        self.check_coordinates()
        self.check_not_resampled()
        patches = self._patches(table)
        top, bottom, down = coordinates.neighbours(0, self.grid[0])
        left, right, along = coordinates.neighbours(1, self.grid[1])
        upper = torch.lerp(patches[:, top, left], patches[:, top, right], along.to(table))
        lower = torch.lerp(patches[:, bottom, left], patches[:, bottom, right], along.to(table))
        return torch.lerp(upper, lower, down.to(table))

    @property
    def whole_grids_only(self) -> str:
        if self.resample == "google":
            return ""
        need = f"patches of several grids need position_resample google, not {self.resample}"
        return f"{need}: it changes nothing on the model's own grid"

    def _patches(self, table: Tensor) -> Float[Tensor, "tables gh gw d"]:
        return rearrange(table[:, self.num_class_tokens :], "tables (gh gw) d -> tables gh gw d", gh=self.grid[0])


class PerAxis(Learned, Additive):
    """A learned vector for each column, X, and for each row, Y; class tokens have a free vector.

    The table holds X, then Y, then the vectors of class tokens in `parts` pieces each. X and Y are interpolated along
    their own axis, and their first and last vectors stay first and last.
    """

    @abstractmethod
    def combine(self, x: Tensor, y: Tensor) -> Tensor:
        """The vector of a patch from those of its column and row."""

    @property
    def shape(self) -> tuple[int, ...]:
        return self.num_tables, sum(self.grid) + self.parts * self.num_class_tokens, self.width // self.parts

    def vectors_on_grid(self, table: Tensor, grid: tuple[int, int]) -> Float[Tensor, "tables t d"]:
        gh, gw = grid
        x, y, cls = self.resampled(table, grid).split([gw, gh, self.parts * self.num_class_tokens], dim=1)
        x = repeat(x, "tables gw part -> tables (gh gw) part", gh=gh)
        y = repeat(y, "tables gh part -> tables (gh gw) part", gw=gw)
        cls = rearrange(cls, "tables (cls parts) part -> tables cls (parts part)", parts=self.parts)
        return torch.cat([cls, self.combine(x, y)], dim=1)

    def vectors_at(self, table: Tensor, coordinates: PatchCoordinates) -> Float[Tensor, "tables s t d"]:
        self.check_not_resampled()
        x, y, _ = self._split(table)
        top, bottom, down = coordinates.neighbours(0, y.shape[1])
        left, right, along = coordinates.neighbours(1, x.shape[1])
        x = torch.lerp(x[:, left], x[:, right], along.to(table))
        return self.combine(x, torch.lerp(y[:, top], y[:, bottom], down.to(table)))

    def interpolated(self, table: Tensor, grid: tuple[int, int]) -> Tensor:
        x, y, cls = self._split(table)
        return torch.cat([resample_line(x, grid[1]), resample_line(y, grid[0]), cls], dim=1)

    def _split(self, table: Tensor) -> tuple[Tensor, ...]:
        gh, gw = self.grid
        return table.split([gw, gh, self.parts * self.num_class_tokens], dim=1)


class Learned2D(PerAxis):
    """The paper's 2-D form: X and Y have half the width each and are concatenated (appendix D.4)."""

    parts = 2

    def combine(self, x: Tensor, y: Tensor) -> Tensor:
        return torch.cat([x, y], dim=-1)


class Factorized2D(PerAxis):
    """NaViT's form (arXiv 2307.06304): X and Y have the full width and are summed; coordinates are fractional."""

    def combine(self, x: Tensor, y: Tensor) -> Tensor:
        return x + y


class SinCos(Fixed, Additive):
    """Fixed sines and cosines of column and row, a quarter of the width each; class tokens get zero.

    The frequencies are the same for every grid, as positions count patches. With `every_layer_shared` all layers add
    the same table.
    """

    injections = ("stem", "every_layer_shared")
    parts = 4

    @property
    def shape(self) -> tuple[int, ...]:
        return 1, self.num_class_tokens + math.prod(self.grid), self.width

    @property
    @abstractmethod
    def divisor(self) -> int:
        """The frequencies are 10000 ** -(i / divisor) for i from 0."""

    def compute(self, grid: tuple[int, int], device: torch.device | None = None) -> Tensor:
        axes = (torch.arange(count, dtype=precise_dtype(device), device=device) for count in grid)
        rows, columns = torch.meshgrid(*axes, indexing="ij")
        return F.pad(self._waves(rows.flatten(), columns.flatten()), (0, 0, self.num_class_tokens, 0))[None]

    def vectors_on_grid(self, table: Tensor, grid: tuple[int, int]) -> Float[Tensor, "tables t d"]:
        return self.resampled(table, grid)

    def vectors_at(self, table: Tensor, coordinates: PatchCoordinates) -> Float[Tensor, "tables s t d"]:
        rows, columns = coordinates.index.to(precise_dtype(coordinates.index.device)).unbind(-1)
        return self._waves(rows, columns)[None].to(table)

    def _waves(self, rows: Float[Tensor, "*t"], columns: Float[Tensor, "*t"]) -> Float[Tensor, "*t d"]:
        """Sines and cosines for patches in these rows and columns."""
        steps = torch.arange(self.width // 4, dtype=rows.dtype, device=rows.device)
        y, x = (index[..., None] * 10_000.0 ** -(steps / self.divisor) for index in (rows, columns))
        return torch.cat([x.sin(), x.cos(), y.sin(), y.cos()], dim=-1)


class SinCosMoCo(SinCos):
    """As in MoCo v3 and big_vision: the lowest frequency is 1/10000."""

    @property
    def divisor(self) -> int:
        return max(self.width // 4 - 1, 1)


class SinCosMAE(SinCos):
    """As in MAE: the frequencies end one step above 1/10000."""

    @property
    def divisor(self) -> int:
        return self.width // 4
