"""Low-rank adapters (LoRA, Hu et al., arXiv 2106.09685): fine-tuning a few new weights next to frozen ones."""

import math
import re
from functools import partial

import torch
from jaxtyping import Float
from torch import Generator, Tensor, nn

from vitral.errors import UserError

__all__ = ["LoRALinear", "add_lora", "merge_lora"]


class LoRALinear(nn.Module):
    """base(x) + scale * up(down(x)), with a frozen dense layer `base`; `up` starts at zero."""

    def __init__(self, base: nn.Linear, *, rank: int, alpha: float, generator: Generator | None = None) -> None:
        super().__init__()
        self.base = base
        self.scale = alpha / rank
        linear = partial(nn.Linear, bias=False, device=base.weight.device, dtype=base.weight.dtype)
        self.down, self.up = linear(base.in_features, rank), linear(rank, base.out_features)
        nn.init.kaiming_uniform_(self.down.weight, a=math.sqrt(5), generator=generator)
        nn.init.zeros_(self.up.weight)

    def forward(self, x: Float[Tensor, "*b inputs"]) -> Float[Tensor, "*b outputs"]:
        return self.base(x) + self.scale * self.up(self.down(x))

    @torch.no_grad()
    def merged(self) -> nn.Linear:
        """The dense layer after adding the adapter to its weight, in place."""
        self.base.weight += self.scale * self.up.weight @ self.down.weight
        return self.base


def add_lora(
    model: nn.Module, *, layers: str, rank: int, alpha: float, generator: Generator | None = None
) -> list[str]:
    """Adds adapters to dense layers and freezes everything except adapters and head.

    Args:
        model: changed in place; its head is `head`.
        layers: regular expression to search for in the names of dense layers, such as `attn.qkv|attn.proj`.
        rank: rank of the adapters.
        alpha: the adapters' output is scaled by alpha / rank.
        generator: source of the initial weights; None: the global one.

    Returns:
        The names of the layers.

    Raises:
        UserError: no name matches, rank or expression are invalid, or the model has adapters already.
    """
    matches = _matches(model, layers)
    _check_rank(rank, matches)
    model.requires_grad_(False)
    for name, layer in matches.items():
        adapted = LoRALinear(layer, rank=rank, alpha=alpha, generator=generator)
        adapted.down.requires_grad_()
        adapted.up.requires_grad_()
        model.set_submodule(name, adapted)
    model.get_submodule("head").requires_grad_()
    return list(matches)


def merge_lora(model: nn.Module) -> None:
    """Merges adapters into plain layers that compute the same, and unfreezes all weights; in place."""
    adapted = [(name, layer) for name, layer in model.named_modules() if isinstance(layer, LoRALinear)]
    for name, layer in adapted:
        model.set_submodule(name, layer.merged())
    model.requires_grad_()


def _matches(model: nn.Module, layers: str) -> dict[str, nn.Linear]:
    """The dense layers, except the head, whose names match the regular expression."""
    if any(isinstance(layer, LoRALinear) for layer in model.modules()):
        raise UserError("the model has adapters already: merge them with merge_lora before adding others")
    try:
        pattern = re.compile(layers)
    except re.error as error:
        raise UserError(f"{layers!r} is not a regular expression: {error}") from None
    dense = {name: layer for name, layer in model.named_modules() if isinstance(layer, nn.Linear) and name != "head"}
    if not dense:
        raise UserError("the model has no dense layer except its head, so there is nothing to adapt: train all weights")
    matches = {name: layer for name, layer in dense.items() if pattern.search(name)}
    if not matches:
        raise UserError(f"no dense layer's name matches {layers!r}: the names are such as {', '.join(list(dense)[:4])}")
    return matches


def _check_rank(rank: int, layers: dict[str, nn.Linear]) -> None:
    """Raises UserError for a rank below 1 or above that of a layer."""
    if rank < 1:
        raise UserError(f"the rank of LoRA adapters must be at least 1, not {rank}")
    for name, layer in layers.items():
        if rank > (most := min(layer.in_features, layer.out_features)):
            raise UserError(f"the rank of LoRA adapters must be at most {most} for {name}, not {rank}")
