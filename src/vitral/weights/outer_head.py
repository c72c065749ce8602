"""A classifier that stands beside the encoder in a user's own module, such as `fc` beside `backbone.`."""

import re
from collections.abc import Mapping
from dataclasses import replace

from torch import Tensor

from vitral.weights.lineages.lineage import HEAD_NAMES, Lineage
from vitral.weights.prefixes import Encoder

__all__ = ["WIDTHS", "with_outer_head"]

CLASSIFIERS = ("head", "fc", "classifier", "linear_head")
"""Names of such a classifier, which is a single linear layer."""
OTHER_READERS = r"pooler\.|.*dist_token$|.*distillation_token$"
"""Names in encoders whose output a classifier may read in more than one way."""
WIDTHS = ("cls_token", "pos_embed", "pos_embedding", "position_embeddings", "class_token")
"""Ends of the names of tensors whose last axis is the encoder's width."""


def with_outer_head(
    encoder: Encoder, lineage: Lineage, tensors: Mapping[str, Tensor], content: Mapping[str, Tensor]
) -> tuple[Encoder, dict[str, Tensor]]:
    """The encoder and its tensors with the classifier as their head, if all that stands beside them is one that fits.

    Args:
        encoder: the encoder and the names beside it.
        lineage: its format.
        tensors: its tensors under the names of the format's mapping.
        content: all tensors of the file.
    """
    layers = {name.rpartition(".")[0] for name in encoder.others}
    layer = layers.pop() if len(layers) == 1 else ""
    weight = content.get(f"{layer}.weight")
    known = any(re.match(HEAD_NAMES, name) or re.match(OTHER_READERS, name) for name in tensors)
    parent, _, last = f".{layer}".rpartition(".")
    beside = f".{encoder.prefix}".startswith(f"{parent}.") and last in CLASSIFIERS
    if lineage.head is None or known or not beside or weight is None or weight.ndim != 2:
        return encoder, dict(tensors)
    kinds = {name.rpartition(".")[2] for name in encoder.others}
    width = next((tensor.shape[-1] for name, tensor in tensors.items() if name.endswith(WIDTHS) and tensor.ndim), 0)
    if not kinds <= {"weight", "bias"} or weight.shape[1] not in [width * count for count in lineage.head_inputs]:
        return encoder, dict(tensors)
    bias = content.get(f"{layer}.bias", weight.new_zeros(len(weight)))
    head = {f"{lineage.head}.weight": weight, f"{lineage.head}.bias": bias}
    note = f"{layer}, beside {encoder.prefix}, was read as the classifier of what the encoder pools"
    return replace(encoder, others=(), notes=(*encoder.notes, note)), {**tensors, **head}
