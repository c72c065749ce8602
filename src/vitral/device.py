"""Which device to compute on."""

import re

import torch

__all__ = ["pick_device"]


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
