"""The processes of a distributed run, one for each device, as torchrun starts them, and their collectives."""

import logging
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
    """Rank and number of processes. Methods that mention "all" processes are collective: all of them must call it."""

    rank: int = 0
    """Rank of this process, from 0."""
    size: int = 1
    """Number of processes."""
    local_rank: int = 0
    """Rank of this process on its machine."""

    @property
    def is_main(self) -> bool:
        """Whether this is the process that writes files and prints."""
        return self.rank == 0

    def device(self, name: str) -> torch.device:
        """The device of this process: with several GPUs, the one of its local rank.

        Raises:
            UserError: there is no such device, or fewer GPUs than processes on this machine, or it is a Mac's.
        """
        device = pick_device(name)
        if self.size == 1 or device.type == "cpu":
            return device
        if device.type == "mps":
            if name == "auto":
                return torch.device("cpu")
            raise UserError("processes cannot share the GPU of a Mac: start one process, or choose the device cpu")
        of_gpu = getattr(torch, device.type)
        if self.local_rank >= (count := of_gpu.device_count()):
            raise UserError(f"process {self.local_rank} has no GPU, as this machine has {count}: start fewer processes")
        device = torch.device(device.type, self.local_rank)
        of_gpu.set_device(device)
        return device

    def local_range(self, count: int) -> range:
        """This process's contiguous part of `count` items, a multiple of the number of processes."""
        assert count % self.size == 0, (count, self.size)
        part = count // self.size
        return range(self.rank * part, (self.rank + 1) * part)

    def all_reduce_max(self, *values: int) -> tuple[int, ...]:
        """The maximum of each value over all processes; it does not synchronise with a GPU."""
        if self.size == 1:
            return values
        maxima = torch.tensor(values)
        dist.all_reduce(maxima, op=dist.ReduceOp.MAX)
        return tuple(map(int, maxima))

    def all_reduce_sum(self, tensor: Shaped[Tensor, "*n"]) -> Shaped[Tensor, "*n"]:
        """The sum of a tensor over all processes, in place, on its own device."""
        if self.size > 1:
            dist.all_reduce(tensor)
        return tensor

    def all_reduce_sum_dict(self, values: dict[str, Float[Tensor, ""]]) -> None:
        """Sums each value over all processes, in place, with a single all-reduce."""
        if self.size > 1:
            sums = self.all_reduce_sum(torch.stack(list(values.values())))
            values.update(zip(values, sums.unbind(), strict=True))

    def all_gather(self, value: T) -> list[T]:
        """The values of all processes, by rank."""
        values: list[Any] = [value] * self.size
        if self.size > 1:
            dist.all_gather_object(values, value)
        return values

    def run_on_main(self, act: Callable[[], T]) -> T:
        """Calls `act` in the main process and returns its result in all processes.

        Raises:
            UserError: `act` raised it; the other processes exit silently with status 2.
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
    """The sum of a tensor over all processes, as a new tensor; the tensor itself if there is only one process.

    For layers and objectives, which have no `World`.
    """
    if dist.is_available() and dist.is_initialized():
        tensor = tensor.clone()
        dist.all_reduce(tensor)
    return tensor


@contextmanager
def join_processes(*, timeout: timedelta) -> Iterator[World]:
    """Initialises the process group if torchrun or another launcher started several processes.

    A group that exists already, as in the workers of Ray Train, is used and not destroyed.

    Args:
        timeout: of every collective.

    Raises:
        UserError: WORLD_SIZE is above 1, but the environment has no address of the main process.
    """
    size, rank = int(os.environ.get("WORLD_SIZE", "1")), int(os.environ.get("RANK", "0"))
    if size == 1 and not dist.is_initialized():
        yield SINGLE_PROCESS
        return
    owns_group = not dist.is_initialized()
    if owns_group:
        if "MASTER_ADDR" not in os.environ or "MASTER_PORT" not in os.environ:
            raise UserError(
                f"WORLD_SIZE is {size}, but MASTER_ADDR and MASTER_PORT are not set: start with torchrun, or unset it"
            )
        dist.init_process_group(_backend(), timeout=timeout)
        if rank:
            logging.getLogger("vitral").setLevel(logging.ERROR)  # the main process prints notes
    try:
        yield World(
            rank=dist.get_rank(), size=dist.get_world_size(), local_rank=int(os.environ.get("LOCAL_RANK", rank))
        )
    finally:
        # after an error the other processes may be gone, and destroying the group would wait for them
        if owns_group and sys.exc_info()[0] is None:
            dist.destroy_process_group()


def _backend() -> str:
    """The libraries that exchange tensors between processes."""
    if torch.cuda.is_available():
        return "cpu:gloo,cuda:nccl"
    return "cpu:gloo,xpu:xccl" if torch.xpu.is_available() and dist.is_xccl_available() else "gloo"
