"""The processes that train one run together, one device each, as torchrun starts them."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from jaxtyping import Float, Shaped
from torch import Tensor

from vitral.device import pick_device
from vitral.errors import UserError

__all__ = ["SINGLE_PROCESS", "World", "all_reduce_sum", "join_processes"]

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class World:
    """This process's place among all; every method with "all" in its description is called by all of them."""

    rank: int = 0
    """Number of this process."""
    size: int = 1
    """How many there are."""
    local_rank: int = 0
    """Number of this process on its machine."""

    @property
    def is_main(self) -> bool:
        """Whether this is the process that writes and speaks."""
        return self.rank == 0

    def device(self, name: str) -> torch.device:
        """This process's own device: of several GPUs the one with its number.

        Raises:
            UserError: there is no such device, or fewer GPUs than processes on this machine.
        """
        device = pick_device(name)
        if self.size == 1 or device.type == "cpu":
            return device
        if self.local_rank >= (count := torch.cuda.device_count()):
            raise UserError(f"process {self.local_rank} of this machine has no GPU, as there are {count}: start fewer")
        device = torch.device("cuda", self.local_rank)
        torch.cuda.set_device(device)
        return device

    def local_range(self, count: int) -> range:
        """This process's contiguous part of `count` things, which all processes share evenly."""
        assert count % self.size == 0, (count, self.size)
        part = count // self.size
        return range(self.rank * part, (self.rank + 1) * part)

    def all_reduce_max(self, *values: int) -> tuple[int, ...]:
        """The largest of each value among all processes, so that all do the same; it waits for no GPU."""
        if self.size == 1:
            return values
        together = torch.tensor(values)
        dist.all_reduce(together, op=dist.ReduceOp.MAX)
        return tuple(map(int, together))

    def all_reduce_sum(self, tensor: Shaped[Tensor, "*n"]) -> Shaped[Tensor, "*n"]:
        """The sum of a tensor over all processes, in place, on its own device."""
        if self.size > 1:
            dist.all_reduce(tensor)
        return tensor

    def all_reduce_sum_each(self, figures: dict[str, Float[Tensor, ""]]) -> None:
        """Sums figures over all processes, in place and in one message."""
        if self.size > 1:
            sums = self.all_reduce_sum(torch.stack(list(figures.values())))
            figures.update(zip(figures, sums.unbind(), strict=True))

    def all_gather(self, value: T) -> list[T]:
        """The value of each process, for all."""
        values: list[Any] = [value] * self.size
        if self.size > 1:
            dist.all_gather_object(values, value)
        return values

    def run_on_main(self, act: Callable[[], T]) -> T:
        """What `act` gives in the first process, for all; the others wait.

        Raises:
            UserError: as in the first process; the others leave without a word.
            OSError: likewise.
        """
        if self.size == 1:
            return act()
        outcome: list[Any] = [None, None]
        if self.is_main:
            try:
                outcome[0] = act()
            except (UserError, OSError) as error:
                outcome[1] = error
        dist.broadcast_object_list(outcome)
        if outcome[1] is not None:
            raise outcome[1] if self.is_main else SystemExit(2)
        return outcome[0]


SINGLE_PROCESS = World()
"""A single process."""


def all_reduce_sum(tensor: Shaped[Tensor, "*n"]) -> Shaped[Tensor, "*n"]:
    """The sum of a tensor over all processes, as a new tensor; the tensor itself where there is only one process.

    For layers and objectives, which know no `World`.
    """
    if dist.is_available() and dist.is_initialized():
        tensor = tensor.clone()
        dist.all_reduce(tensor)
    return tensor


@contextmanager
def join_processes(*, timeout: timedelta) -> Iterator[World]:
    """Joins the other processes, where torchrun or its like started several and says so in the environment.

    Who has joined already, as the workers of a cluster's launcher have, is left joined.

    Args:
        timeout: how long to wait for the others before giving up.

    Raises:
        UserError: the environment names several processes, but not how to meet them.
    """
    size, rank = int(os.environ.get("WORLD_SIZE", "1")), int(os.environ.get("RANK", "0"))
    if size == 1 and not dist.is_initialized():
        yield SINGLE_PROCESS
        return
    mine = not dist.is_initialized()
    if mine:
        if "MASTER_ADDR" not in os.environ or "MASTER_PORT" not in os.environ:
            raise UserError(
                f"WORLD_SIZE is {size}, but MASTER_ADDR and MASTER_PORT are not set: start with torchrun, or unset it"
            )
        backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
        dist.init_process_group(backend, timeout=timeout)
    try:
        yield World(
            rank=dist.get_rank(), size=dist.get_world_size(), local_rank=int(os.environ.get("LOCAL_RANK", rank))
        )
    finally:
        # after an error the others may be gone, and to part from them would wait for ever
        if mine and sys.exc_info()[0] is None:
            dist.destroy_process_group()
