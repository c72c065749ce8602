"""An optimiser's state by the names of the parameters it belongs to, so that it fits any number of devices."""

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from vitral.errors import UserError
from vitral.train.optimisers.optimiser import Optimiser

__all__ = ["blank_state", "named_state"]

Sizes = Mapping[str, tuple[tuple[int, ...], torch.dtype]]


def named_state(optimiser: Optimiser, model: nn.Module) -> dict[str, Tensor]:
    """The optimiser's tensors as `blocks.0.attn.qkv.weight.exp_avg`; shards where the model's weights are shards."""
    names: dict[Tensor, str] = {param: name for name, param in model.named_parameters()}
    return {
        f"{names[param]}.{key}": value
        for part in optimiser.parts
        for param, entries in part.state.items()
        for key, value in entries.items()
        if isinstance(value, Tensor)
    }


def blank_state(optimiser: Optimiser, model: nn.Module, sizes: Sizes) -> dict[str, Tensor]:
    """Gives the optimiser the memory that the state of these sizes is then read into.

    Returns:
        Its tensors by name, as in `named_state`.

    Raises:
        UserError: the sizes are of another model's or optimiser's state.
    """
    groups = dict(_groups(optimiser, model))
    for name, (shape, dtype) in sizes.items():
        owner, _, key = name.rpartition(".")
        if owner not in groups:
            raise UserError(f"it holds the state of {owner}, which is not trained")
        part, group, param = groups[owner]
        if shape == tuple(param.shape):
            value = torch.empty_like(param, dtype=dtype, requires_grad=False)
        else:
            at_hand = key != "step" or group.get("fused")
            value = torch.empty(shape, dtype=dtype, device=param.device if at_hand else "cpu")
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
