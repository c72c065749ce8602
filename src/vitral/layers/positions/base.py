"""What all kinds of position embeddings have in common."""

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import ClassVar

import torch
import torch.nn.functional as F
from einops import repeat
from jaxtyping import Float
from torch import Generator, Tensor, nn

from vitral.errors import UserError
from vitral.layers.positions.coordinates import PatchCoordinates
from vitral.layers.positions.state import PositionState
from vitral.layers.resample import is_symbolic

__all__ = ["INJECTIONS", "Fixed", "Learned", "Positions"]

INJECTIONS = ("stem", "every_layer", "every_layer_shared")
"""Where positions are added (Table 8): once before the first block, or also to the input of each later block, from a
table per block or from the same table.
"""
CACHED_GRIDS = 8
"""Tables of fixed positions that are cached for grids other than the model's."""


@dataclass(frozen=True, kw_only=True)
class Positions(ABC):
    """One kind of position embeddings for one shape of model. It holds no tensor: the table is `ViT.pos_embed`.

    Raises:
        UserError: the kind does not support this injection or this width.
    """

    kind: str
    """Its name in `POSITIONS`."""
    grid: tuple[int, int]
    """Rows and columns of patches that the table is made for."""
    num_class_tokens: int
    """Class token and distillation token."""
    num_registers: int
    """Register tokens."""
    width: int
    """Width of the tokens."""
    depth: int
    """Number of blocks."""
    num_heads: int
    """Attention heads of a block."""
    injection: str
    """One of `INJECTIONS`."""
    resample: str
    """How learned positions are interpolated to another grid: a name in `layers.resample.RESAMPLERS`."""
    per_layer: bool
    """Whether each layer has separate relative embeddings."""
    per_head: bool
    """Whether each head has separate relative embeddings."""
    periods: tuple[float, ...] | None = None
    """Periods of rotary positions; None: those of DINOv3's formula."""
    resampled_from: tuple[int, int] | None = None
    """Grid of the trained table, if this table was interpolated from it and has not been trained since."""

    learned: ClassVar[bool] = True
    """Whether the table is trained and saved."""
    injections: ClassVar[tuple[str, ...]] = ("stem",)
    """Supported values of `injection`."""
    parts: ClassVar[int] = 1
    """Number of equal parts that a vector is split into."""
    in_attention: ClassVar[bool] = False
    """Whether positions act on queries and keys instead of being added to tokens."""

    def __post_init__(self) -> None:
        if self.injection not in self.injections:
            raise UserError(
                f"position {self.kind} cannot go with position_injection {self.injection}: "
                f"choose {' or '.join(self.injections)}"
            )
        if self.vector_width % self.parts:
            raise UserError(
                f"position {self.kind} needs vectors whose width is a multiple of {self.parts}, not {self.vector_width}"
            )

    @property
    def num_prefix_tokens(self) -> int:
        """Tokens before the patches: class tokens and registers."""
        return self.num_class_tokens + self.num_registers

    @property
    def vector_width(self) -> int:
        """Width of the vectors that encode a position: that of a token, or of one head."""
        return self.width // self.num_heads if self.in_attention else self.width

    @property
    def only_at_stem(self) -> bool:
        """Whether the blocks need no positions, so that they can run on any subset of the tokens."""
        return self.injection == "stem" and not self.in_attention

    @property
    @abstractmethod
    def shape(self) -> tuple[int, ...]:
        """Shape of the table."""

    @property
    def whole_grids_only(self) -> str:
        """Why there are no positions of patches of several grids; empty if there are."""
        return ""

    def check_coordinates(self) -> None:
        """Raises UserError if there are no positions of patches of several grids."""
        if self.whole_grids_only:
            raise UserError(self.whole_grids_only)

    @abstractmethod
    def fill(self, table: Tensor, generator: Generator | None = None) -> None:
        """Writes the initial values into the table."""

    @abstractmethod
    def resampled(self, table: Tensor, grid: tuple[int, int]) -> Tensor:
        """The table for another grid; for its own grid, the table itself."""

    @abstractmethod
    def at_grid(self, table: Tensor, grid: tuple[int, int]) -> tuple[PositionState, list[PositionState]]:
        """Positions of prefix tokens and a grid of patches: the state of the stem, and that of each block."""

    @abstractmethod
    def at_coordinates(self, table: Tensor, coordinates: PatchCoordinates) -> tuple[PositionState, list[PositionState]]:
        """The same for prefix tokens and patches of several grids; raises UserError as `check_coordinates`."""

    def at(
        self, table: Tensor, grid: tuple[int, int], places: Float[Tensor, "b n 2"] | None
    ) -> tuple[PositionState, list[PositionState]]:
        """As `at_places` if patches come with their places, else as `at_grid`."""
        return self.at_grid(table, grid) if places is None else self.at_places(table, places)

    def at_places(self, table: Tensor, places: Float[Tensor, "b n 2"]) -> tuple[PositionState, list[PositionState]]:
        """The same for images whose patches come with their row and column, which count from 1; 0 is padding.

        No token attends to padding.
        """
        numbers = places.long()
        grids = numbers.amax(dim=1, keepdim=True).clamp(min=1).expand_as(numbers)
        coordinates = PatchCoordinates(index=(numbers - 1).clamp(min=0), grids=grids)
        stem, states = self.at_coordinates(table, coordinates)
        # an image that is all padding, as unreadable ones are, counts as one patch: without any, attention is NaN
        exists = F.pad(numbers[:, 1:, 0] > 0, (self.num_prefix_tokens + 1, 0), value=True)
        mask = repeat(exists, "b keys -> b 1 queries keys", queries=exists.shape[1])
        return stem, [replace(state, mask=mask) for state in states]


class Learned(Positions):
    """Positions whose table is trained; its initial values are normal with standard deviation 0.02.

    A table is interpolated once only: interpolated twice, positions are not those that the trained model would get.
    """

    @abstractmethod
    def interpolated(self, table: Tensor, grid: tuple[int, int]) -> Tensor:
        """The table for another grid than its own."""

    def resampled(self, table: Tensor, grid: tuple[int, int]) -> Tensor:
        if not is_symbolic(*grid) and grid == self.grid:
            return table
        self.check_not_resampled(f" to {grid[0]}x{grid[1]}")
        return self.interpolated(table, grid)

    def check_not_resampled(self, target: str = "") -> None:
        """Raises UserError if the table was interpolated already; `target` is the grid that is asked for."""
        if self.resampled_from is not None:
            (a, b), (c, d) = self.resampled_from, self.grid
            raise UserError(
                f"this model's positions were interpolated from {a}x{b} to {c}x{d} patches, and interpolating them "
                f"again{target} would give other numbers than the trained model: load it without image_size, and it "
                "takes images of any size, or load it with the size of these images"
            )

    def fill(self, table: Tensor, generator: Generator | None = None) -> None:
        nn.init.normal_(table, std=0.02, generator=generator)


class Fixed(Positions):
    """Positions that are computed from the grid. The table holds those of the model's own grid."""

    learned = False

    @abstractmethod
    def compute(self, grid: tuple[int, int], device: torch.device | None = None) -> Tensor:
        """The table of a grid, in float64 if the device has it."""

    def fill(self, table: Tensor, generator: Generator | None = None) -> None:
        table.copy_(self.compute(self.grid))

    def resampled(self, table: Tensor, grid: tuple[int, int]) -> Tensor:
        if not is_symbolic(*grid) and grid == self.grid:
            return table
        # a graph computes its table itself: its grid may be symbolic. A subclass such as FakeTensor must not be cached
        if torch.compiler.is_compiling() or type(table) is not Tensor:
            return self.compute(grid, table.device).to(table)
        return _cached(self, grid, table.dtype, table.device)


@lru_cache(maxsize=CACHED_GRIDS)
def _cached(positions: Fixed, grid: tuple[int, int], dtype: torch.dtype, device: torch.device) -> Tensor:
    """The table of a grid. Created outside inference mode, so that training can use it too."""
    with torch.inference_mode(False):
        return positions.compute(grid).to(device, dtype)
