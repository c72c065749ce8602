"""Low-rank adapters (LoRA, Hu et al., arXiv 2106.09685): fine-tuning few weights beside frozen ones."""

import math
import re
from functools import partial

import torch
from jaxtyping import Float
from torch import Generator, Tensor, nn

from vitral.errors import UserError

__all__ = ["LoRALinear", "add_lora", "merge_lora"]


class LoRALinear(nn.Module):
    """A dense layer that stays as it is, plus scale * up(down(x)) of a small rank; at first it adds nothing."""

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
        """The dense layer with what was learned added to its weights, in place."""
        self.base.weight += self.scale * self.up.weight @ self.down.weight
        return self.base


def add_lora(
    model: nn.Module, *, layers: str, rank: int, alpha: float, generator: Generator | None = None
) -> list[str]:
    """Gives dense layers adapters and freezes everything but them and the head.

    Args:
        model: changed in place; its head is `head`.
        layers: regular expression that is searched in the names of dense layers, such as `attn.qkv|attn.proj`.
        rank: of what is added.
        alpha: what is added is scaled by alpha / rank.
        generator: source of the first weights; the global one when None.

    Returns:
        The names of the layers.

    Raises:
        UserError: no layer has such a name, the rank or the expression is impossible, or there are adapters already.
    """
    chosen = _chosen(model, layers)
    _check_rank(rank, chosen)
    model.requires_grad_(False)
    for name, layer in chosen.items():
        adapted = LoRALinear(layer, rank=rank, alpha=alpha, generator=generator)
        adapted.down.requires_grad_()
        adapted.up.requires_grad_()
        model.set_submodule(name, adapted)
    model.get_submodule("head").requires_grad_()
    return list(chosen)


def merge_lora(model: nn.Module) -> None:
    """Turns adapted layers back into plain ones that compute the same, all weights trainable; in place."""
    adapted = [(name, layer) for name, layer in model.named_modules() if isinstance(layer, LoRALinear)]
    for name, layer in adapted:
        model.set_submodule(name, layer.merged())
    model.requires_grad_()


def _chosen(model: nn.Module, layers: str) -> dict[str, nn.Linear]:
    """The dense layers, other than the head, whose names have the regular expression in them."""
    if any(isinstance(layer, LoRALinear) for layer in model.modules()):
        raise UserError("the model has adapters already: merge them with merge_lora before adding others")
    try:
        wanted = re.compile(layers)
    except re.error as error:
        raise UserError(f"{layers!r} is no regular expression: {error}") from None
    dense = {name: layer for name, layer in model.named_modules() if isinstance(layer, nn.Linear) and name != "head"}
    if not dense:
        raise UserError("the model has no dense layer but its head, so there is nothing to adapt: train all weights")
    chosen = {name: layer for name, layer in dense.items() if wanted.search(name)}
    if not chosen:
        raise UserError(f"no dense layer's name has {layers!r} in it: names are like {', '.join(list(dense)[:4])}")
    return chosen


def _check_rank(rank: int, chosen: dict[str, nn.Linear]) -> None:
    """Refuses a rank that no adapter has, or that a layer itself does not reach."""
    if rank < 1:
        raise UserError(f"the rank of LoRA adapters must be at least 1, not {rank}")
    for name, layer in chosen.items():
        if rank > (most := min(layer.in_features, layer.out_features)):
            raise UserError(f"the rank of LoRA adapters must be at most {most} for {name}, not {rank}")
