"""Optimiser state by parameter name, which is independent of the number of devices."""

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from vitral.errors import UserError
from vitral.train.optimisers.optimiser import Optimiser

__all__ = ["allocate_state", "named_state"]

Sizes = Mapping[str, tuple[tuple[int, ...], torch.dtype]]


def named_state(optimiser: Optimiser, model: nn.Module) -> dict[str, Tensor]:
    """The optimiser's tensors by names such as `blocks.0.attn.qkv.weight.exp_avg`; with FSDP, shards."""
    names: dict[Tensor, str] = {param: name for name, param in model.named_parameters()}
    return {
        f"{names[param]}.{key}": value
        for part in optimiser.parts
        for param, entries in part.state.items()
        for key, value in entries.items()
        if isinstance(value, Tensor)
    }


def allocate_state(optimiser: Optimiser, model: nn.Module, sizes: Sizes) -> dict[str, Tensor]:
    """Allocates uninitialised optimiser state of the given sizes, to load a checkpoint into.

    Returns:
        Its tensors by name, as in `named_state`.

    Raises:
        UserError: a name belongs to no trained parameter.
    """
    groups = dict(_groups(optimiser, model))
    for name, (shape, dtype) in sizes.items():
        param_name, _, key = name.rpartition(".")
        if param_name not in groups:
            raise UserError(f"it has optimiser state of {param_name}, which is not trained")
        part, group, param = groups[param_name]
        if shape == tuple(param.shape):
            value = torch.empty_like(param, dtype=dtype, requires_grad=False)
        else:
            on_device = key != "step" or group.get("fused")
            value = torch.empty(shape, dtype=dtype, device=param.device if on_device else "cpu")
        part.state[param][key] = value
    return named_state(optimiser, model)


def _groups(
    optimiser: Optimiser, model: nn.Module
) -> Iterator[tuple[str, tuple[torch.optim.Optimizer, dict[str, Any], nn.Parameter]]]:
    names = {param: name for name, param in model.named_parameters()}
    for part in optimiser.parts:
        for group in part.param_groups:
            for param in group["params"]:
                yield names[param], (part, group, param)
