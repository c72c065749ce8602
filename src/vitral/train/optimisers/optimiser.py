"""Optimisers by name, and what their settings mean."""

import math
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import torch
from torch import nn

from vitral.errors import UserError
from vitral.layers.linear import FusedLinear
from vitral.train.optimisers.adafactor import Adafactor
from vitral.train.optimisers.adam import LAMB, Adam, AdamW
from vitral.train.optimisers.lars import LARS
from vitral.train.optimisers.muon import Muon
from vitral.train.optimisers.rules import Rule, Treatment, is_matrix, treatments
from vitral.train.optimisers.sgd import SGD

__all__ = ["OptimConfig", "Optimiser"]


@dataclass(frozen=True, kw_only=True)
class OptimConfig:
    """How parameters are updated.

    Raises:
        UserError: a value is out of range.
    """

    name: Literal["adamw", "adam", "sgd", "muon", "lamb", "lars", "adafactor"] = "adamw"
    """`muon` updates the matrices of the blocks with Muon and everything else with AdamW."""
    lr: float = 1e-3
    """Peak learning rate."""
    weight_decay: float = 0.1
    """On matrices only: no bias, norm, position or token. Coupled, as L2, with adam, sgd and lars, else decoupled."""
    decay_form: Literal["times_lr", "absolute"] = "times_lr"
    """Decoupled decay is multiplied by the learning rate, or by the schedule alone as in big_vision: 0.1 is then 1e-4
    at the peak rate 1e-3.
    """
    betas: tuple[float, float] = (0.9, 0.999)
    """Adam's and LAMB's two decay rates; the second is also the largest that Adafactor comes to."""
    momentum: float = 0.9
    """Momentum of SGD, LARS and Adafactor."""
    nesterov: bool = False
    """Whether SGD looks ahead."""
    momentum_dtype: Literal["float32", "bfloat16"] = "float32"
    """Precision in which momentum, or Adam's mean of the gradient, is kept; squares are always float32."""
    layer_decay: float | None = None
    """The rate falls by this factor from each block to the one before it; None: all learn alike."""
    rules: tuple[str, ...] = ()
    """Exceptions by name, the first that fits: `^head:lr=10`, `norm:decay=0.1`, `^blocks.[0-5]\\.:frozen`."""
    clip: float | None = 1.0
    """Largest global norm of the gradient; None leaves it as it is."""

    def __post_init__(self) -> None:
        if not 0 < self.lr < math.inf or not 0 <= self.weight_decay < math.inf:
            raise UserError(f"lr must be above 0 and weight_decay at least 0, not {self.lr} and {self.weight_decay}")
        if not all(0 <= rate < 1 for rate in (*self.betas, self.momentum)):
            raise UserError("betas and momentum must be at least 0 and below 1")
        if self.clip is not None and not self.clip > 0:
            raise UserError(f"clip must be above 0, or None, not {self.clip}")
        if self.layer_decay is not None and not 0 < self.layer_decay <= 1:
            raise UserError(f"layer_decay must be above 0 and at most 1, not {self.layer_decay}")
        if self.decay_form == "absolute" and self.name in {"adam", "sgd", "lars"}:
            raise UserError(
                f"the decay of {self.name} is coupled: decay_form absolute goes with adamw, lamb, adafactor and muon"
            )
        if self.momentum_dtype == "bfloat16" and self.name == "muon":
            raise UserError("muon keeps its momentum in float32: leave out optim.momentum-dtype, or choose another")
        for rule in self.rules:
            Rule.parse(rule)

    def decay_times_lr(self, treatment: Treatment) -> float:
        """The decay of a parameter that, multiplied by its learning rate, is what was configured."""
        if self.decay_form == "times_lr" or not treatment.lr:
            return treatment.decay
        return treatment.decay / (self.lr * treatment.lr)


class Optimiser:
    """The PyTorch optimisers of a model: one, or Muon for the blocks' matrices and AdamW for the rest."""

    def __init__(self, model: nn.Module, config: OptimConfig) -> None:
        self.name = config.name
        fused = {layer.weight: layer.projections for layer in model.modules() if isinstance(layer, FusedLinear)}
        groups: dict[tuple[bool, float, float, int], dict[str, Any]] = {}
        in_blocks = False
        for name, param, treatment in treatments(
            model, weight_decay=config.weight_decay, layer_decay=config.layer_decay, rules=config.rules
        ):
            by_muon = config.name == "muon" and name.startswith("blocks.") and is_matrix(name, param)
            split = fused.get(param, 1) if by_muon or config.name == "adafactor" else 1
            in_blocks = in_blocks or by_muon
            decay = config.decay_times_lr(treatment)
            new = dict(params=[], weight_decay=decay, lr_scale=treatment.lr, split=split)
            groups.setdefault((by_muon, treatment.lr, decay, split), new)["params"].append(param)
        if config.name == "muon" and not in_blocks:
            raise UserError(
                "muon updates the blocks of a Transformer, and there are none to train: choose --optim.name adamw"
            )
        self.parts: list[torch.optim.Optimizer] = []
        for by_muon in (True, False):
            chosen = [group for key, group in groups.items() if key[0] == by_muon]
            if chosen:
                make = partial(Muon, lr=config.lr) if by_muon else _makers(config)[config.name]
                self.parts.append(make(chosen))

    def unscale(self, scaler: torch.amp.GradScaler) -> None:
        """Takes off gradients what the loss was scaled by."""
        if scaler.is_enabled():
            for part in self.parts:
                scaler.unscale_(part)

    def step(self, lr: float, scaler: torch.amp.GradScaler | None = None) -> None:
        """Updates every parameter at this learning rate, then forgets the gradients.

        With a scaler that is at work, parameters stay where their gradients overflowed, and the scale adapts.
        """
        scaler = scaler or torch.amp.GradScaler(enabled=False)
        for part in self.parts:
            for group in part.param_groups:
                group["lr"] = lr * group["lr_scale"]
            scaler.step(part)
            part.zero_grad(set_to_none=True)
        scaler.update()


def _makers(config: OptimConfig) -> dict[str, Any]:
    """What builds the optimiser of each name from groups of parameters."""
    half = config.momentum_dtype == "bfloat16"
    kept = dict(lr=config.lr, momentum_dtype=getattr(torch, config.momentum_dtype))
    adam = dict(betas=config.betas, eps=1e-8)
    sgd = dict(momentum=config.momentum, nesterov=config.nesterov)
    # PyTorch's own are fused, but keep everything in the precision of the parameters
    adamw = partial(torch.optim.AdamW, lr=config.lr, **adam, fused=True)
    return {
        "adamw": partial(AdamW, **kept, **adam) if half else adamw,
        "adam": partial(Adam, **kept, **adam) if half else partial(torch.optim.Adam, lr=config.lr, **adam, fused=True),
        "muon": adamw,
        "sgd": partial(SGD, **kept, **sgd) if half else partial(torch.optim.SGD, lr=config.lr, **sgd),
        "lamb": partial(LAMB, **kept, betas=config.betas, eps=1e-6),
        "lars": partial(LARS, **kept, momentum=config.momentum),
        "adafactor": partial(Adafactor, **kept, momentum=config.momentum, cap=config.betas[1]),
    }
