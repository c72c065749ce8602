"""Peak memory of a call: on a GPU as PyTorch allocates it, on Linux as the process holds it."""

import gc
from collections.abc import Callable
from pathlib import Path

import torch

from vitral.device import return_freed_memory, synchronize

__all__ = ["MemoryGrowth", "measure_growth", "peak_bytes", "tensor_bytes"]

STATUS, RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


class MemoryGrowth:
    """Memory that this process takes in addition, while a block runs.

    On a CPU it is the resident memory, which the system counts on Linux only.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.before: int | None = None
        self.peak: int | None = None
        """Bytes at most inside the block, less those before it; None if they cannot be measured."""
        self.kept: int | None = None
        """Bytes after the block, less those before it."""

    def __enter__(self) -> "MemoryGrowth":
        self.before = self._settle()
        return self

    def __exit__(self, *_: object) -> None:
        if self.before is None:
            return
        peak = _peak(self.device)
        after = self._settle()
        assert after is not None
        self.kept = max(after - self.before, 0)
        self.peak = None if peak is None else max(peak - self.before, 0)

    def _settle(self) -> int | None:
        """Returns what is free to the system and forgets the peak; the bytes held now, or None if not known."""
        gc.collect()
        if self.device.type == "mps":
            return None  # PyTorch counts no peak there
        if self.device.type != "cpu":
            synchronize(self.device)
            of_gpu = getattr(torch, self.device.type)
            of_gpu.reset_peak_memory_stats(self.device)
            return of_gpu.memory_allocated(self.device)
        return_freed_memory()  # it would serve the next call, which then seems to need none
        try:
            RESET.write_text("5")
        except OSError:
            return None
        return _status("VmRSS")


def measure_growth(call: Callable[[], object], device: torch.device) -> MemoryGrowth:
    """The memory that a call takes in addition."""
    with MemoryGrowth(device) as growth:
        call()
    return growth


def peak_bytes(held: int | None, growth: MemoryGrowth) -> int | None:
    """Bytes held before a call and those of the call; None if one of them is not known."""
    return None if held is None or growth.peak is None else held + growth.peak


def tensor_bytes(module: torch.nn.Module) -> int:
    """Bytes of a module's parameters and buffers."""
    return sum(tensor.numel() * tensor.element_size() for tensor in (*module.parameters(), *module.buffers()))


def _peak(device: torch.device) -> int | None:
    return _status("VmHWM") if device.type == "cpu" else getattr(torch, device.type).max_memory_allocated(device)


def _status(name: str) -> int | None:
    """A line of the process's status, in bytes."""
    try:
        lines = STATUS.read_text().splitlines()
    except OSError:
        return None
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith(f"{name}:")), None)
