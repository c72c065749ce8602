"""Selects the device to compute on."""

import re

import torch

from vitral.errors import UserError

__all__ = ["pick_device"]


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
