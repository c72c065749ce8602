"""What the optimisers here have in common: all parameters of one shape are updated together."""

from abc import abstractmethod
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

__all__ = ["ByShape", "State", "Tensors", "keep", "recalled"]

State = dict[str, Tensor]
"""What is remembered of one parameter, by name."""

Tensors = list[Tensor] | tuple[Tensor, ...]

TOGETHER = {"cpu": 1, "cuda": 2**24}
"""Numbers that are updated at once: enough to keep a GPU busy, few enough that what lies between takes little memory;
a CPU takes one parameter after another, which keeps it in its caches.
"""


class ByShape(torch.optim.Optimizer):
    """Updates the parameters of a group that have one shape, and as many steps behind them, at once.

    That spares a GPU thousands of small operations.
    """

    @torch.no_grad()
    def step(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, closure: Callable[[], float] | None = None
    ) -> None:
        """Takes one step; there is no closure."""
        assert closure is None
        for group in self.param_groups:
            for step, params in self._together(group):
                states = [self.state[param] for param in params]
                gradients = [param.grad for param in params if param.grad is not None]
                self.update(params, gradients, states, step=step, group=group)

    @abstractmethod
    def begun(self, param: Tensor, group: dict[str, Any]) -> State:
        """What is remembered of a parameter before the first step."""

    @abstractmethod
    def update(
        self, params: list[Tensor], gradients: Tensors, states: list[State], *, step: int, group: dict[str, Any]
    ) -> None:
        """Takes a step of parameters of one shape, in place; `step` counts from 1."""

    def _together(self, group: dict[str, Any]) -> Iterator[tuple[int, list[Tensor]]]:
        alike: dict[tuple[torch.Size, int], list[Tensor]] = {}
        for param in group["params"]:
            if param.grad is not None:
                state = self.state[param]
                if not state:
                    # on the CPU, where reading it waits for no GPU
                    state |= {"step": torch.zeros((), device="cpu"), **self.begun(param, group)}
                state["step"] += 1
                alike.setdefault((param.shape, int(state["step"].item())), []).append(param)
        for (shape, step), params in alike.items():
            numbers = TOGETHER.get(params[0].device.type, TOGETHER["cuda"])
            at_once = max(numbers // max(shape.numel(), 1), 1)
            for start in range(0, len(params), at_once):
                yield step, params[start : start + at_once]


def recalled(states: list[State], name: str, *, dtype: torch.dtype) -> list[Tensor]:
    """What is remembered of each parameter under a name, in the precision to compute in: itself, or a copy."""
    return [state[name].to(dtype) for state in states]


def keep(states: list[State], name: str, values: Tensors) -> None:
    """Remembers new values, in the precision of the old ones."""
    for state, value in zip(states, values, strict=True):
        if state[name] is not value:
            state[name].copy_(value)
