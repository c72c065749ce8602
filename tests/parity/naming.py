"""A peer's named tensors under our names."""

import re
from collections.abc import Mapping

import torch
from torch import Tensor, nn

__all__ = ["Headed", "renamed", "without_mask_token"]


def renamed(
    tensors: Mapping[str, Tensor], *, modules: Mapping[str, tuple[str, ...]], single: Mapping[str, str]
) -> dict[str, Tensor]:
    """Their tensors under our names, gradients alike; every one of theirs is used exactly once.

    Args:
        tensors: theirs by name.
        modules: for each of our modules, theirs whose weights (and biases) are stacked in it; `*` is a block. A part
            that has no bias, beside others that have one, counts as zero.
        single: for each other tensor of ours, theirs, which has the same numbers in the same order.
    """
    theirs = dict(tensors)
    numbers = {int(match[1]) for name in theirs if (match := re.search(r"\.(?:\w+_)?(\d+)\.", name))}
    ours = {}
    for own, peer in single.items():
        for block in sorted(numbers) if "*" in own else (0,):
            ours[own.replace("*", str(block))] = theirs.pop(peer.replace("*", str(block)))
    for module, parts in modules.items():
        for block in sorted(numbers) if "*" in module else (0,):
            names = [part.replace("*", str(block)) for part in parts]
            weights = [_taken(theirs, name, "weight") for name in names]
            assert all(weight is not None for weight in weights), names
            own = module.replace("*", str(block))
            ours[f"{own}.weight"] = torch.cat(weights)
            biases = [_taken(theirs, name, "bias") for name in names]
            if any(bias is not None for bias in biases):
                filled = [
                    weight.new_zeros(len(weight)) if bias is None else bias
                    for weight, bias in zip(weights, biases, strict=True)
                ]
                ours[f"{own}.bias"] = torch.cat(filled)
    assert not theirs, sorted(theirs)
    return ours


def _taken(theirs: dict[str, Tensor], name: str, kind: str) -> Tensor | None:
    """A module's weight or bias; some call it `in_proj_weight` instead of `in_proj.weight`."""
    return theirs.pop(f"{name}.{kind}", theirs.pop(f"{name}_{kind}", None))


class Headed(nn.Module):
    """A peer's encoder with a linear layer over its pooled output."""

    def __init__(self, encoder: nn.Module, *, width: int, num_classes: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.classifier = nn.Linear(width, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        return self.classifier(self.encoder(images).pooler_output)


def without_mask_token(encoder: nn.Module) -> nn.Module:
    """The encoder without the token that only its pre-training uses."""
    encoder.get_submodule("embeddings").register_parameter("mask_token", None)
    return encoder
