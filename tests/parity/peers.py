"""Helpers for peers' models: renaming their tensors, and adding what Vitral's model has."""

import re
from collections.abc import Mapping

import torch
from torch import Tensor, nn

__all__ = ["WithClassifier", "rename_tensors", "without_mask_token"]


def rename_tensors(
    tensors: Mapping[str, Tensor], *, modules: Mapping[str, tuple[str, ...]], single: Mapping[str, str]
) -> dict[str, Tensor]:
    """The peer's weights or gradients under Vitral's names; every tensor of the peer is used exactly once.

    Args:
        tensors: the peer's tensors by name.
        modules: for each of Vitral's modules, the peer's modules whose weights and biases are concatenated in it; `*`
            is the number of a block. If only some of them have a bias, the others count as zero.
        single: for each other tensor of Vitral, the peer's tensor with the same values in the same order.
    """
    remaining = dict(tensors)
    numbers = {int(match[1]) for name in remaining if (match := re.search(r"\.(?:\w+_)?(\d+)\.", name))}
    renamed = {}
    for name, peer in single.items():
        for block in sorted(numbers) if "*" in name else (0,):
            renamed[name.replace("*", str(block))] = remaining.pop(peer.replace("*", str(block)))
    for module, parts in modules.items():
        for block in sorted(numbers) if "*" in module else (0,):
            names = [part.replace("*", str(block)) for part in parts]
            weights = [_pop(remaining, name, "weight") for name in names]
            assert all(weight is not None for weight in weights), names
            target = module.replace("*", str(block))
            renamed[f"{target}.weight"] = torch.cat(weights)
            biases = [_pop(remaining, name, "bias") for name in names]
            if any(bias is not None for bias in biases):
                filled = [
                    weight.new_zeros(len(weight)) if bias is None else bias
                    for weight, bias in zip(weights, biases, strict=True)
                ]
                renamed[f"{target}.bias"] = torch.cat(filled)
    assert not remaining, sorted(remaining)
    return renamed


def _pop(remaining: dict[str, Tensor], name: str, kind: str) -> Tensor | None:
    """Removes a module's weight or bias; some are named `in_proj_weight` instead of `in_proj.weight`."""
    return remaining.pop(f"{name}.{kind}", remaining.pop(f"{name}_{kind}", None))


class WithClassifier(nn.Module):
    """A peer's encoder with a linear classifier on its pooled output."""

    def __init__(self, encoder: nn.Module, *, width: int, num_classes: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.classifier = nn.Linear(width, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        return self.classifier(self.encoder(images).pooler_output)


def without_mask_token(encoder: nn.Module) -> nn.Module:
    """The encoder without its mask token, which only pre-training uses."""
    encoder.get_submodule("embeddings").register_parameter("mask_token", None)
    return encoder
