"""Optimisers by name, and their settings."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import torch
from torch import nn

from vitral.errors import UserError
from vitral.layers.linear import FusedLinear
from vitral.train.optimisers import eager
from vitral.train.optimisers.adafactor import Adafactor
from vitral.train.optimisers.adam import LAMB, Adam, AdamW
from vitral.train.optimisers.lars import LARS
from vitral.train.optimisers.muon import Muon
from vitral.train.optimisers.rules import ParamSettings, Rule, is_matrix, param_settings
from vitral.train.optimisers.sgd import SGD

__all__ = ["OPTIMISERS", "OptimConfig", "Optimiser"]


@dataclass(frozen=True, kw_only=True)
class OptimConfig:
    """Settings of the optimiser.

    Raises:
        UserError: a value is out of range.
    """

    name: Literal["adamw", "adam", "sgd", "muon", "lamb", "lars", "adafactor"] = "adamw"
    """`muon` updates the matrices of the blocks with Muon and everything else with AdamW."""
    lr: float = 1e-3
    """Peak learning rate."""
    weight_decay: float = 0.1
    """For weights of dense layers and convolutions only. Coupled (L2) with adam, sgd and lars, otherwise decoupled."""
    decay_form: Literal["times_lr", "absolute"] = "times_lr"
    """Decoupled decay is multiplied by the learning rate, or only by the schedule as in big_vision: 0.1 is then 1e-4
    at the peak rate 1e-3.
    """
    betas: tuple[float, float] = (0.9, 0.999)
    """Decay rates of the two moments of Adam and LAMB; the second also limits that of Adafactor."""
    momentum: float = 0.9
    """Momentum of SGD, LARS and Adafactor."""
    nesterov: bool = False
    """Whether SGD uses Nesterov momentum."""
    momentum_dtype: Literal["float32", "bfloat16"] = "float32"
    """Type of momentum or of Adam's first moment; second moments are always float32."""
    layer_decay: float | None = None
    """Factor of the learning rate from each block to the one before it; None: the same rate for all."""
    rules: tuple[str, ...] = ()
    """Exceptions by name; the first match applies: `^head:lr=10`, `norm:decay=0.1`, `^blocks.[0-5]\\.:frozen`."""
    clip: float | None = 1.0
    """Maximum global norm of the gradient; None: no clipping."""
    sam_rho: float | None = None
    """Radius of sharpness-aware minimisation (SAM, arXiv 2010.01412), such as 0.05: the gradient is that at the weights
    which are worst within this distance, so that a step takes twice as long. None: no SAM.
    """

    def __post_init__(self) -> None:
        if not 0 < self.lr < math.inf or not 0 <= self.weight_decay < math.inf:
            raise UserError(f"lr must be above 0 and weight_decay at least 0, not {self.lr} and {self.weight_decay}")
        if not all(0 <= rate < 1 for rate in (*self.betas, self.momentum)):
            raise UserError("betas and momentum must be at least 0 and below 1")
        if self.clip is not None and not self.clip > 0:
            raise UserError(f"clip must be above 0, or None, not {self.clip}")
        if self.sam_rho is not None and not 0 < self.sam_rho < math.inf:
            raise UserError(f"sam_rho must be above 0, or None, not {self.sam_rho}")
        if self.layer_decay is not None and not 0 < self.layer_decay <= 1:
            raise UserError(f"layer_decay must be above 0 and at most 1, not {self.layer_decay}")
        if self.decay_form == "absolute" and self.name in {"adam", "sgd", "lars"}:
            raise UserError(
                f"the decay of {self.name} is coupled: decay_form absolute goes with adamw, lamb, adafactor and muon"
            )
        if self.momentum_dtype == "bfloat16" and self.name == "muon":
            raise UserError(
                "muon supports float32 momentum only: remove --optim.momentum-dtype, or choose another optimiser"
            )
        for rule in self.rules:
            Rule.parse(rule)

    @property
    def passes(self) -> int:
        """Forward and backward passes of a step."""
        return 1 if self.sam_rho is None else 2

    def decay_times_lr(self, settings: ParamSettings) -> float:
        """The weight decay of a parameter, to be multiplied by its learning rate."""
        if self.decay_form == "times_lr" or not settings.lr:
            return settings.decay
        return settings.decay / (self.lr * settings.lr)


class Optimiser:
    """The PyTorch optimisers of a model: one, or Muon for the matrices of blocks and AdamW for the rest."""

    def __init__(self, model: nn.Module, config: OptimConfig) -> None:
        self.name = config.name
        fused = {layer.weight: layer.projections for layer in model.modules() if isinstance(layer, FusedLinear)}
        groups: dict[tuple[bool, float, float, int], dict[str, Any]] = {}
        in_blocks = False
        for name, param, settings in param_settings(
            model, weight_decay=config.weight_decay, layer_decay=config.layer_decay, rules=config.rules
        ):
            by_muon = config.name == "muon" and name.startswith("blocks.") and is_matrix(name, param)
            split = fused.get(param, 1) if by_muon or config.name == "adafactor" else 1
            in_blocks = in_blocks or by_muon
            decay = config.decay_times_lr(settings)
            new = dict(params=[], weight_decay=decay, lr_scale=settings.lr, split=split)
            groups.setdefault((by_muon, settings.lr, decay, split), new)["params"].append(param)
        if config.name == "muon" and not in_blocks:
            raise UserError(
                "muon updates the blocks of a Transformer, and there are none to train: choose --optim.name adamw"
            )
        self.parts: list[torch.optim.Optimizer] = []
        for by_muon in (True, False):
            selected = [group for key, group in groups.items() if key[0] == by_muon]
            if selected:
                make = partial(Muon, lr=config.lr) if by_muon else OPTIMISERS[config.name](config)
                self.parts.append(make(selected))

    def unscale(self, scaler: torch.amp.GradScaler) -> None:
        """Divides gradients by the scale of the loss."""
        if scaler.is_enabled():
            for part in self.parts:
                scaler.unscale_(part)

    def step(self, lr: float, scaler: torch.amp.GradScaler | None = None) -> None:
        """Updates all parameters with this learning rate, and clears the gradients.

        An enabled scaler skips the update if gradients overflowed, and adapts its scale.
        """
        scaler = scaler or torch.amp.GradScaler(enabled=False)
        for part in self.parts:
            for group in part.param_groups:
                group["lr"] = lr * group["lr_scale"]
            scaler.step(part)
            part.zero_grad(set_to_none=True)
        scaler.update()


def _common(config: OptimConfig) -> dict[str, Any]:
    return dict(lr=config.lr, momentum_dtype=getattr(torch, config.momentum_dtype))


def _adamw(config: OptimConfig) -> Callable[..., torch.optim.Optimizer]:
    adam = dict(betas=config.betas, eps=1e-8)
    if config.momentum_dtype == "bfloat16":
        return partial(AdamW, **_common(config), **adam)
    # PyTorch's own is fused, but its moments have the type of the parameters
    return partial(eager.AdamW, lr=config.lr, **adam, fused=True)


def _adam(config: OptimConfig) -> Callable[..., torch.optim.Optimizer]:
    adam = dict(betas=config.betas, eps=1e-8)
    if config.momentum_dtype == "bfloat16":
        return partial(Adam, **_common(config), **adam)
    return partial(eager.Adam, lr=config.lr, **adam, fused=True)


def _sgd(config: OptimConfig) -> Callable[..., torch.optim.Optimizer]:
    sgd = dict(momentum=config.momentum, nesterov=config.nesterov)
    if config.momentum_dtype == "bfloat16":
        return partial(SGD, **_common(config), **sgd)
    return partial(eager.SGD, lr=config.lr, **sgd)


OPTIMISERS: dict[str, Callable[[OptimConfig], Callable[..., torch.optim.Optimizer]]] = {
    "adamw": _adamw,
    "adam": _adam,
    "sgd": _sgd,
    "muon": _adamw,  # of all but the matrices of the blocks
    "lamb": lambda config: partial(LAMB, **_common(config), betas=config.betas, eps=1e-6),
    "lars": lambda config: partial(LARS, **_common(config), momentum=config.momentum),
    "adafactor": lambda config: partial(Adafactor, **_common(config), momentum=config.momentum, cap=config.betas[1]),
}
"""For each name of `OptimConfig.name`, what builds the optimiser of parameter groups."""
