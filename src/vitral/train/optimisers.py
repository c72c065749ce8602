"""Optimisers that PyTorch does not have, or not with a momentum of half precision."""

from abc import abstractmethod
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from vitral.train.parallel import whole

__all__ = ["LAMB", "SGD", "Adafactor", "Adam"]


class Optimiser(torch.optim.Optimizer):
    """Updates one parameter after another; what it remembers of each are tensors by name."""

    @torch.no_grad()
    def step(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, closure: Callable[[], float] | None = None
    ) -> None:
        """Takes one step; there is no closure."""
        assert closure is None
        for group in self.param_groups:
            for param in group["params"]:
                if param.grad is not None:
                    state = self.state[param]
                    if not state:
                        state |= {"step": torch.zeros(()), **self.begun(param, group)}
                    state["step"] += 1
                    self.update(param, param.grad, state, group)

    @abstractmethod
    def begun(self, param: Tensor, group: dict[str, Any]) -> dict[str, Tensor]:
        """What is remembered of a parameter before the first step."""

    @abstractmethod
    def update(self, param: Tensor, gradient: Tensor, state: dict[str, Tensor], group: dict[str, Any]) -> None:
        """Takes one parameter's step, in place; `state["step"]` counts from 1."""


class SGD(Optimiser):
    """Momentum with coupled weight decay, as `torch.optim.SGD`; the momentum is kept in `momentum_dtype`."""

    def __init__(
        self, params: Iterable[Any], *, lr: float, momentum: float, nesterov: bool, momentum_dtype: torch.dtype
    ) -> None:
        defaults = dict(lr=lr, weight_decay=0.0, momentum=momentum, nesterov=nesterov, momentum_dtype=momentum_dtype)
        super().__init__(params, defaults)

    def begun(self, param: Tensor, group: dict[str, Any]) -> dict[str, Tensor]:
        return {"momentum": torch.zeros_like(param, dtype=group["momentum_dtype"])}

    def update(self, param: Tensor, gradient: Tensor, state: dict[str, Tensor], group: dict[str, Any]) -> None:
        gradient = gradient.add(param, alpha=group["weight_decay"])
        velocity = state["momentum"].to(param.dtype).mul_(group["momentum"]).add_(gradient)
        state["momentum"].copy_(velocity)
        ahead = gradient.add(velocity, alpha=group["momentum"]) if group["nesterov"] else velocity
        param.add_(ahead, alpha=-group["lr"])


class Moments(Optimiser):
    """Running means of the gradient and of its square, both without the bias of their beginning."""

    def __init__(
        self, params: Iterable[Any], *, lr: float, betas: tuple[float, float], eps: float, momentum_dtype: torch.dtype
    ) -> None:
        super().__init__(params, dict(lr=lr, weight_decay=0.0, betas=betas, eps=eps, momentum_dtype=momentum_dtype))

    def begun(self, param: Tensor, group: dict[str, Any]) -> dict[str, Tensor]:
        return {
            "exp_avg": torch.zeros_like(param, dtype=group["momentum_dtype"]),
            "exp_avg_sq": torch.zeros_like(param),
        }

    def direction(self, gradient: Tensor, state: dict[str, Tensor], group: dict[str, Any]) -> Tensor:
        """Adam's direction: the mean over the root of the mean square (Kingma and Ba, algorithm 1)."""
        (first, second), step = group["betas"], state["step"].item()
        mean = state["exp_avg"].to(gradient.dtype).lerp_(gradient, 1 - first)
        state["exp_avg"].copy_(mean)
        square = state["exp_avg_sq"].mul_(second).addcmul_(gradient, gradient, value=1 - second)
        root = (square / (1 - second**step)).sqrt_().add_(group["eps"])
        return (mean / (1 - first**step)).div_(root)


class Adam(Moments):
    """AdamW, as `torch.optim.AdamW`; the mean of the gradient is kept in `momentum_dtype`, its square is not."""

    def update(self, param: Tensor, gradient: Tensor, state: dict[str, Tensor], group: dict[str, Any]) -> None:
        direction = self.direction(gradient, state, group)
        param.mul_(1 - group["lr"] * group["weight_decay"]).add_(direction, alpha=-group["lr"])


class LAMB(Moments):
    """Adam's direction with weight decay, made as long as the parameter is (You et al., arXiv 1904.00962).

    What does not decay, biases and norms, is updated as by Adam: their length says nothing.
    """

    def update(self, param: Tensor, gradient: Tensor, state: dict[str, Tensor], group: dict[str, Any]) -> None:
        direction = self.direction(gradient, state, group)
        trust: Tensor | float = 1.0
        if group["weight_decay"]:
            direction.add_(param, alpha=group["weight_decay"])
            length, wanted = whole(direction.norm()), whole(param.norm())
            trust = torch.where((length > 0) & (wanted > 0), wanted / length, 1.0)
        param.sub_(direction * (trust * group["lr"]))


class Adafactor(Optimiser):
    """Adafactor as "Scaling Vision Transformers" modifies it (arXiv 2106.04560, section 3.4).

    The mean square of a matrix is kept as the means of its rows and columns where both are at least 32 long; there is
    neither relative step size nor scaling by the parameter. The mean square decays by 1 - t^-0.8, at most by 0.999. The
    update's running mean, without correction, is what is applied. Weight decay is decoupled. A parameter that is
    `split` in several matrices stacked by rows (q, k and v) has row and column means for each.
    """

    def __init__(
        self,
        params: Iterable[Any],
        *,
        lr: float,
        momentum: float,
        momentum_dtype: torch.dtype,
        split: int = 1,
        cap: float = 0.999,
        smallest: int = 32,
    ) -> None:
        defaults = dict(lr=lr, weight_decay=0.0, momentum=momentum, momentum_dtype=momentum_dtype, split=split)
        super().__init__(params, defaults | dict(cap=cap, smallest=smallest))

    def begun(self, param: Tensor, group: dict[str, Any]) -> dict[str, Tensor]:
        momentum = {"momentum": torch.zeros_like(param, dtype=group["momentum_dtype"])}
        if param.ndim != 2 or min(param.shape[0] // group["split"], param.shape[1]) < group["smallest"]:
            return {**momentum, "square": torch.zeros_like(param)}
        matrices = param.unflatten(0, (group["split"], -1))
        return {
            **momentum,
            "square_rows": torch.zeros_like(matrices[..., 0]),
            "square_columns": torch.zeros_like(matrices[:, 0]),
        }

    def update(self, param: Tensor, gradient: Tensor, state: dict[str, Tensor], group: dict[str, Any]) -> None:
        kept = min(group["cap"], 1 - state["step"].item() ** -0.8)
        square = gradient.square().add_(1e-30)
        if "square" in state:
            scaled = gradient * state["square"].lerp_(square, 1 - kept).rsqrt()
        else:
            matrices = square.unflatten(0, (group["split"], -1))
            rows = state["square_rows"].lerp_(matrices.mean(dim=2), 1 - kept)
            columns = state["square_columns"].lerp_(matrices.mean(dim=1), 1 - kept)
            by_row = (rows / rows.mean(dim=1, keepdim=True)).rsqrt()
            scaled = gradient * (by_row[:, :, None] * columns.rsqrt()[:, None]).flatten(0, 1)
        mean = state["momentum"].to(param.dtype).lerp_(scaled, 1 - group["momentum"])
        state["momentum"].copy_(mean)
        param.mul_(1 - group["lr"] * group["weight_decay"]).add_(mean, alpha=-group["lr"])
