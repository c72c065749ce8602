"""Optimisers and which parameters they decay."""

import math
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn

from vitral.layers.linear import FusedLinear
from vitral.train.muon import Muon

__all__ = ["OptimConfig", "Optimiser", "is_matrix"]


@dataclass(frozen=True, kw_only=True)
class OptimConfig:
    """How parameters are updated.

    Raises:
        ValueError: a value is out of range.
    """

    name: Literal["adamw", "sgd", "muon"] = "adamw"
    """`muon` updates the matrices of the blocks with Muon and everything else with AdamW."""
    lr: float = 1e-3
    """Peak learning rate."""
    weight_decay: float = 0.1
    """On matrices only: no bias, norm, position or class token. Times the learning rate; plain L2 with sgd."""
    betas: tuple[float, float] = (0.9, 0.999)
    """Adam's two decay rates."""
    momentum: float = 0.9
    """Momentum of SGD."""
    clip: float | None = 1.0
    """Largest global norm of the gradient; None leaves it as it is."""

    def __post_init__(self) -> None:
        if not 0 < self.lr < math.inf or not 0 <= self.weight_decay < math.inf:
            raise ValueError(f"lr must be above 0 and weight_decay at least 0, not {self.lr} and {self.weight_decay}")
        if not all(0 <= rate < 1 for rate in (*self.betas, self.momentum)):
            raise ValueError("betas and momentum must be at least 0 and below 1")
        if self.clip is not None and not self.clip > 0:
            raise ValueError(f"clip must be above 0, or None, not {self.clip}")


class Optimiser:
    """The PyTorch optimisers of a model: one, or Muon for the blocks' matrices and AdamW for the rest."""

    def __init__(self, model: nn.Module, config: OptimConfig) -> None:
        self.name = config.name
        trained = [(name, param) for name, param in model.named_parameters() if param.requires_grad]
        matrices = [(name, param) for name, param in trained if is_matrix(name, param)]
        others = [param for name, param in trained if not is_matrix(name, param)]
        in_blocks = [(name, param) for name, param in matrices if name.startswith("blocks.")]
        self.parts: list[torch.optim.Optimizer] = []
        if config.name == "muon":
            if not in_blocks:
                raise ValueError("muon updates the blocks of a Transformer, and this model has none: choose adamw")
            fused = {layer.weight: layer.projections for layer in model.modules() if isinstance(layer, FusedLinear)}
            splits = {param: fused.get(param, 1) for _, param in in_blocks}
            groups = [
                dict(params=[param for param, own in splits.items() if own == split], split=split)
                for split in sorted(set(splits.values()), reverse=True)
            ]
            self.parts.append(Muon(groups, lr=config.lr, weight_decay=config.weight_decay))
            matrices = [(name, param) for name, param in matrices if not name.startswith("blocks.")]
        groups = [
            dict(params=[param for _, param in matrices], weight_decay=config.weight_decay),
            dict(params=others, weight_decay=0.0),
        ]
        if config.name == "sgd":
            self.parts.append(torch.optim.SGD(groups, lr=config.lr, momentum=config.momentum))
        else:
            self.parts.append(torch.optim.AdamW(groups, lr=config.lr, betas=config.betas, fused=True))

    def step(self, lr: float) -> None:
        """Updates every parameter at this learning rate, then forgets the gradients."""
        for part in self.parts:
            for group in part.param_groups:
                group["lr"] = lr
            part.step()
            part.zero_grad(set_to_none=True)

    def state_dict(self) -> dict[str, Any]:
        """The state of each part."""
        return {"name": self.name, "parts": [part.state_dict() for part in self.parts]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes over what `state_dict` gave; weight decay, momentum and betas stay as the configuration says.

        Raises:
            ValueError: the state is of another optimiser, or of other parameters.
        """
        if state["name"] != self.name:
            raise ValueError(f"optim.name was {state['name']}, not {self.name}")
        for part, saved in zip(self.parts, state["parts"], strict=True):
            settings = [{key: value for key, value in group.items() if key != "params"} for group in part.param_groups]
            part.load_state_dict(saved)
            for group, own in zip(part.param_groups, settings, strict=True):
                group.update(own)


def is_matrix(name: str, param: nn.Parameter) -> bool:
    """Whether a parameter is the weight of a dense layer or a convolution: only those decay."""
    return name.endswith(".weight") and param.ndim >= 2
