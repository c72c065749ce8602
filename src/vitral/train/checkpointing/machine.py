"""What bit-identical results depend on besides a run's configuration."""

from collections.abc import Mapping

import torch

from vitral.device import device_name

__all__ = ["describe_machine", "machine_changes"]


def describe_machine(device: torch.device, *, processes: int) -> dict[str, str | int]:
    """Device, threads, processes and versions that the rounding of a training step depends on, as JSON values."""
    return {
        "device": device_name(device),
        "processes": processes,
        "threads": torch.get_num_threads(),
        "PyTorch": torch.__version__,
        "CPU instructions": torch.backends.cpu.get_cpu_capability(),
    }


def machine_changes(before: Mapping[str, str | int], now: Mapping[str, str | int]) -> str:
    """What differs, such as `threads 2 instead of 1`; empty if nothing does, or if the checkpoint is too old to say."""
    changed = [key for key in now if before.get(key, now[key]) != now[key]]
    return ", ".join(f"{key} {now[key]} instead of {before[key]}" for key in changed)
