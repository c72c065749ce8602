"""Selects the device to compute on, and knows what it can do and how much memory it has left."""

import ctypes
import os
import re
from contextlib import suppress
from pathlib import Path

import torch

from vitral.errors import UserError

__all__ = [
    "DEVICE_TYPES",
    "check_bfloat16",
    "device_name",
    "free_memory",
    "is_available",
    "pick_device",
    "precise_dtype",
    "prefers_bfloat16",
    "return_freed_memory",
    "share_heap",
    "synchronize",
]

CONTROL_GROUPS = tuple(
    (folder / limit, folder / used, cached)
    for folder, limit, used, cached in (
        (Path("/sys/fs/cgroup"), "memory.max", "memory.current", "inactive_file"),
        (Path("/sys/fs/cgroup/memory"), "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
    )
)
"""Limit and use of a container's memory in both versions of control groups, and the name of the file cache."""


DEVICE_TYPES = ("cpu", "cuda", "mps", "xpu")
"""PyTorch's names of the CPU and of the GPUs of NVIDIA and AMD, of Apple, and of Intel."""

MISSING = {
    "mps": "PyTorch finds no GPU of Apple that it can use (it needs macOS on Apple silicon)",
    "xpu": "PyTorch finds no GPU of Intel that it can use (it needs PyTorch's build for XPU, and a driver)",
}
"""Why a device is not there."""

WITHOUT_FLOAT64 = ("mps",)

ARENA_MAX = -8
"""The number of a setting of glibc."""

BFLOAT16_MACOS = 14
"""First version of macOS with bfloat16."""


def is_available(kind: str) -> bool:
    """Whether this machine and this PyTorch have a device of one of `DEVICE_TYPES`."""
    if kind == "mps":
        return torch.backends.mps.is_available()
    return kind == "cpu" or getattr(torch, kind).is_available()


def pick_device(name: str | torch.device) -> torch.device:
    """The device behind `auto`, `cpu`, `cuda`, `cuda:1`, `mps` or `xpu`; auto is the first there is of cuda, mps, xpu
    and cpu.

    Raises:
        UserError: the name is none of these, or the device is not available.
    """
    if name == "auto":
        return torch.device(next(kind for kind in ("cuda", "mps", "xpu", "cpu") if is_available(kind)))
    if not re.fullmatch(r"cpu|mps|(cuda|xpu)(:\d+)?", str(name)):
        raise UserError(f"device {str(name)!r} is not available: choose auto, cpu, cuda, cuda:1, mps or xpu")
    kind = str(name).partition(":")[0]
    if kind in MISSING and not is_available(kind):
        raise UserError(f"device {str(name)!r} is not available: {MISSING[kind]}: choose auto or cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise UserError(f"device {name!r} is not available: {str(error).splitlines()[0]}") from None
    return device


def device_name(device: torch.device) -> str:
    """The name of a GPU, or `cpu`."""
    if device.type in ("cuda", "xpu"):
        return getattr(torch, device.type).get_device_name(device)
    return "Apple GPU" if device.type == "mps" else device.type


def synchronize(device: torch.device) -> None:
    """Waits for a GPU; nothing on a CPU."""
    if device.type == "mps":
        torch.mps.synchronize()
    elif device.type != "cpu":
        getattr(torch, device.type).synchronize(device)


def prefers_bfloat16(device: torch.device) -> bool:
    """Whether precision `auto` is bfloat16: on GPUs that compute faster with it, not on Apple's."""
    return device.type in ("cuda", "xpu")


def check_bfloat16(device: torch.device) -> None:
    """Raises UserError on a Mac whose system is too old for bfloat16."""
    if device.type == "mps" and not torch.backends.mps.is_macos_or_newer(BFLOAT16_MACOS, 0):
        raise UserError(f"bfloat16 on mps needs macOS {BFLOAT16_MACOS} or later: choose float32")


def precise_dtype(device: torch.device | None) -> torch.dtype:
    """float64; float32 on Apple's GPUs, which do not have it."""
    return torch.float32 if device is not None and device.type in WITHOUT_FLOAT64 else torch.float64


def free_memory(device: str | torch.device = "cpu") -> int:
    """Bytes that can still be allocated on a device; on the CPU also the control group of a container limits them."""
    device = torch.device(device)
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    if device.type == "xpu":
        return torch.xpu.mem_get_info(device)[0]
    if device.type == "mps":
        return max(0, torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory())
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        free = 1024 * next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable"))
    except (OSError, StopIteration):  # not Linux
        free = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return min([free, *(left for group in CONTROL_GROUPS if (left := _free_in_group(*group)) is not None)])


def share_heap() -> None:
    """Lets all threads of this process allocate from one heap, if its C library is glibc.

    Otherwise a new thread may get its own, which grows with what the thread takes and is never returned whole.
    """
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).mallopt(ARENA_MAX, 1)


def return_freed_memory() -> None:
    """Gives the system what is free in glibc's heap, which takes milliseconds."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def _free_in_group(limit: Path, used: Path, cached: str) -> int | None:
    """Bytes that a control group still has; its file cache, which the system gives up first, counts as free.

    None if there is no limit.
    """
    try:
        stat = dict(line.split() for line in (used.parent / "memory.stat").read_text().splitlines())
        return max(0, int(limit.read_text()) - int(used.read_text()) + int(stat.get(cached, 0)))
    except (OSError, ValueError):
        return None
