"""Which device to compute on, and with which others."""

import re

import torch
import torch.distributed
from jaxtyping import Shaped
from torch import Tensor

__all__ = ["over_processes", "pick_device"]


def pick_device(name: str | torch.device) -> torch.device:
    """The device behind `auto`, `cpu`, `cuda` or `cuda:1`; auto takes a GPU where there is one.

    Raises:
        ValueError: it is none of these, or there is no such device here.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if not re.fullmatch(r"cpu|cuda(:\d+)?", str(name)):
        raise ValueError(f"device {str(name)!r} is not to be had here: choose auto, cpu, cuda or cuda:1")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f"device {name!r} is not to be had here: {str(error).splitlines()[0]}") from None
    return device


def over_processes(values: Shaped[Tensor, "*n"]) -> Shaped[Tensor, "*n"]:
    """The sum over all processes; the values themselves where there is one."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        values = values.clone()
        torch.distributed.all_reduce(values)
    return values
