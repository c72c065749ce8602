"""Positions that act inside attention."""

import math

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from vitral.device import precise_dtype
from vitral.errors import UserError
from vitral.layers.positions.base import Fixed, Learned
from vitral.layers.positions.coordinates import PatchCoordinates
from vitral.layers.positions.state import PositionState

__all__ = ["Relative", "Rotary"]


class Relative(Learned):
    """1-D relative attention (appendix D.4, after Shaw et al. 2018 without the term for values).

    Each of the 2n - 1 offsets p_q - p_k between a query and a key in raster order has an embedding, whose product with
    the query is added to the attention logits. The paper does not say what the class token does: here class token and
    registers have no position, and nothing is added to their logits.
    """

    in_attention = True

    @property
    def shape(self) -> tuple[int, ...]:
        layers, heads = self.depth if self.per_layer else 1, self.num_heads if self.per_head else 1
        return layers, heads, 2 * math.prod(self.grid) - 1, self.vector_width

    def at_grid(self, table: Tensor, grid: tuple[int, int]) -> tuple[PositionState, list[PositionState]]:
        from_query_to_key = self.resampled(table, grid).flip(2).expand(self.depth, -1, -1, -1)
        blocks = [PositionState(grid=grid, offset_embeddings=layer) for layer in from_query_to_key]
        return PositionState(grid=grid), blocks

    def interpolated(self, table: Tensor, grid: tuple[int, int]) -> Tensor:
        """Splits each offset into rows and the fewest columns, scales both to the table's grid and interpolates."""
        (gh, gw), last = self.grid, math.prod(self.grid) - 1
        offsets = torch.arange(1 - math.prod(grid), math.prod(grid), device=table.device)
        rows = (offsets / grid[1]).round()
        down, along = rows * gh / grid[0], (offsets - rows * grid[1]) * gw / grid[1]

        def at(row: Tensor, column: Tensor) -> Tensor:
            return table[:, :, (row * gw + column).long().clamp(-last, last) + last]

        top, left = down.floor(), along.floor()
        right, below = ((point - point.floor())[:, None].to(table) for point in (along, down))
        upper = torch.lerp(at(top, left), at(top, left + 1), right)
        return torch.lerp(upper, torch.lerp(at(top + 1, left), at(top + 1, left + 1), right), below)

    def at_coordinates(self, table: Tensor, coordinates: PatchCoordinates) -> tuple[PositionState, list[PositionState]]:
        raise UserError(self.whole_grids_only)

    @property
    def whole_grids_only(self) -> str:
        return "patches of several grids have no common offsets: choose another position than relative"


class Rotary(Fixed):
    """Rotary positions along both axes (DINOv3's form of RoPE, arXiv 2104.09864).

    Half of each head rotates with the row, half with the column. Both are scaled to -1..1 at the image's edges, so that
    every grid spans the same angles. The first half of a head pairs with its second half. Class token and registers are
    not rotated.
    """

    parts = 4
    in_attention = True
    base = 100.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.periods is None:
            return
        if len(self.periods) != self.vector_width // 4:
            raise UserError(
                f"rope_periods has {len(self.periods)} values, but heads of width {self.vector_width} need "
                f"{self.vector_width // 4}"
            )
        if not all(period > 0 for period in self.periods):
            raise UserError(f"rope_periods must be above 0, not {min(self.periods)}")

    @property
    def shape(self) -> tuple[int, ...]:
        return 2, self.num_prefix_tokens + math.prod(self.grid), self.vector_width

    def compute(self, grid: tuple[int, int], device: torch.device | None = None) -> Tensor:
        counts = (torch.arange(count, dtype=precise_dtype(device), device=device) for count in grid)
        axes = [(2 * index + 1) / count - 1 for index, count in zip(counts, grid, strict=True)]
        rows, columns = torch.meshgrid(*axes, indexing="ij")
        angles = F.pad(self._angles(rows.flatten(), columns.flatten()), (0, 0, self.num_prefix_tokens, 0))
        return torch.stack([angles.cos(), angles.sin()])

    def at_grid(self, table: Tensor, grid: tuple[int, int]) -> tuple[PositionState, list[PositionState]]:
        state = PositionState(grid=grid, rotation=self.resampled(table, grid))
        return PositionState(grid=grid), [state] * self.depth

    def at_coordinates(self, table: Tensor, coordinates: PatchCoordinates) -> tuple[PositionState, list[PositionState]]:
        centres = (2 * coordinates.index.to(precise_dtype(coordinates.index.device)) + 1) / coordinates.grids - 1
        angles = F.pad(self._angles(*centres.unbind(-1)), (0, 0, self.num_prefix_tokens, 0))
        angles = rearrange(angles, "s t k -> s 1 t k")
        rotation = torch.stack([angles.cos(), angles.sin()]).to(table)
        return PositionState(grid=self.grid), [PositionState(grid=self.grid, rotation=rotation)] * self.depth

    def _angles(self, rows: Float[Tensor, "*t"], columns: Float[Tensor, "*t"]) -> Float[Tensor, "*t k"]:
        """Angle of each pair in a head, from coordinates in -1..1."""
        if self.periods is None:
            quarter = self.vector_width // 4
            periods = self.base ** (torch.arange(quarter, dtype=rows.dtype, device=rows.device) / quarter)
        else:
            periods = torch.tensor(self.periods, dtype=rows.dtype, device=rows.device)
        return 2 * math.pi * torch.cat([rows[..., None] / periods, columns[..., None] / periods] * 2, dim=-1)
