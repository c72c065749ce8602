"""What every kind of position embeddings has in common."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Generator, Tensor, nn

from vitral.errors import UserError
from vitral.layers.places import Layout, Spots

__all__ = ["INJECTIONS", "Fixed", "Learned", "Positions", "counted"]

INJECTIONS = ("stem", "every_layer", "every_layer_shared")
"""Where positions are added (Table 8): before the first block only, or to each block's input, from a table of the
block's own or from the same one."""


@dataclass(frozen=True, kw_only=True)
class Positions(ABC):
    """One kind of position embeddings for one shape of model.

    Raises:
        UserError: the kind cannot be injected so, or does not fit the width.
    """

    kind: str
    """Its name in `POSITIONS`."""
    grid: tuple[int, int]
    """Rows and columns of patches that the table is made for."""
    cls: int
    """Number of class tokens; one for distillation counts."""
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
            raise UserError(
                f"position {self.kind} cannot go with position_injection {self.injection}: "
                f"choose {' or '.join(self.injections)}"
            )
        if self.vector % self.parts:
            raise UserError(f"position {self.kind} needs a multiple of {self.parts}, not vectors of {self.vector}")

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

    @abstractmethod
    def scattered(self, table: Tensor, spots: Spots) -> Layout:
        """What stem and blocks are told of patches from several grids; there are no other tokens.

        Raises:
            UserError: the kind has no value for a single patch.
        """


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


def counted(count: int) -> Tensor:
    """0, 1, 2 and so on, in float64."""
    return torch.arange(count, dtype=torch.float64)
