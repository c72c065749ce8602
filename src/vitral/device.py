"""Selects the device to compute on, and knows how much memory it has left."""

import os
import re
from pathlib import Path

import torch

from vitral.errors import UserError

__all__ = ["DEVICE_TYPES", "free_memory", "pick_device"]

CONTROL_GROUPS = tuple(
    (folder / limit, folder / used, cached)
    for folder, limit, used, cached in (
        (Path("/sys/fs/cgroup"), "memory.max", "memory.current", "inactive_file"),
        (Path("/sys/fs/cgroup/memory"), "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
    )
)
"""Limit and use of a container's memory in both versions of control groups, and the name of the file cache."""


DEVICE_TYPES = ("cpu", "cuda", "mps", "xpu")
"""What PyTorch calls the kinds of devices: the CPU, GPUs of NVIDIA and AMD, of Apple, and of Intel."""


def pick_device(name: str | torch.device) -> torch.device:
    """The device behind `auto`, `cpu`, `cuda` or `cuda:1`; auto is a GPU if there is one.

    Raises:
        UserError: the name is none of these, or the device is not available.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if not re.fullmatch(r"cpu|cuda(:\d+)?", str(name)):
        raise UserError(f"device {str(name)!r} is not available: choose auto, cpu, cuda or cuda:1")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise UserError(f"device {name!r} is not available: {str(error).splitlines()[0]}") from None
    return device


def free_memory(device: str | torch.device = "cpu") -> int:
    """Bytes that can still be allocated on a device; on the CPU also the control group of a container limits them."""
    device = torch.device(device)
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        free = 1024 * next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable"))
    except (OSError, StopIteration):  # not Linux
        free = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return min([free, *(left for group in CONTROL_GROUPS if (left := _free_in_group(*group)) is not None)])


def _free_in_group(limit: Path, used: Path, cached: str) -> int | None:
    """Bytes that a control group still has; its file cache, which the system gives up first, counts as free.

    None if there is no limit.
    """
    try:
        stat = dict(line.split() for line in (used.parent / "memory.stat").read_text().splitlines())
        return max(0, int(limit.read_text()) - int(used.read_text()) + int(stat.get(cached, 0)))
    except (OSError, ValueError):
        return None
