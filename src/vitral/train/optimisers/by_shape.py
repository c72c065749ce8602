"""Base class of the optimisers here: parameters of one shape are updated together."""

from abc import abstractmethod
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from vitral.train.optimisers.eager import EagerOptimizer

__all__ = ["ByShape", "State", "Tensors", "cast_state", "store_state"]

State = dict[str, Tensor]
"""Optimiser state of one parameter, by name."""

Tensors = list[Tensor] | tuple[Tensor, ...]

MAX_NUMEL = {"cpu": 1, "cuda": 2**24}
"""Elements that are updated together: enough to keep a GPU busy, few enough that temporaries take little memory. A CPU
updates one parameter at a time, which fits its caches.
"""


class ByShape(EagerOptimizer):
    """Updates all parameters of a group that have the same shape and number of steps together.

    This saves thousands of kernel launches on a GPU.
    """

    @torch.no_grad()
    def step(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, closure: Callable[[], float] | None = None
    ) -> None:
        """Takes one step. Closures are not supported."""
        assert closure is None
        for group in self.param_groups:
            for step, params in self._batches(group):
                states = [self.state[param] for param in params]
                gradients = [param.grad for param in params if param.grad is not None]
                self.update(params, gradients, states, step=step, group=group)

    @abstractmethod
    def initial_state(self, param: Tensor, group: dict[str, Any]) -> State:
        """State of a parameter before the first step."""

    @abstractmethod
    def update(
        self, params: list[Tensor], gradients: Tensors, states: list[State], *, step: int, group: dict[str, Any]
    ) -> None:
        """Updates parameters of one shape in place; `step` counts from 1."""

    def _batches(self, group: dict[str, Any]) -> Iterator[tuple[int, list[Tensor]]]:
        same: dict[tuple[torch.Size, int], list[Tensor]] = {}
        for param in group["params"]:
            if param.grad is not None:
                state = self.state[param]
                if not state:
                    # on the CPU, where reading it needs no synchronisation
                    state |= {"step": torch.zeros((), device="cpu"), **self.initial_state(param, group)}
                state["step"] += 1
                same.setdefault((param.shape, int(state["step"].item())), []).append(param)
        for (shape, step), params in same.items():
            limit = MAX_NUMEL.get(params[0].device.type, MAX_NUMEL["cuda"])
            at_once = max(limit // max(shape.numel(), 1), 1)
            for start in range(0, len(params), at_once):
                yield step, params[start : start + at_once]


def cast_state(states: list[State], name: str, *, dtype: torch.dtype) -> list[Tensor]:
    """State `name` of each parameter in the given type: the tensor itself, or a copy."""
    return [state[name].to(dtype) for state in states]


def store_state(states: list[State], name: str, values: Tensors) -> None:
    """Stores new values of state `name`, in the type of the old ones."""
    for state, value in zip(states, values, strict=True):
        if state[name] is not value:
            state[name].copy_(value)
