"""A linear probe's head: a batch norm without scale and shift before a linear layer, as MAE trains it."""

import re
from collections.abc import Mapping

import torch
from torch import Tensor

from vitral.errors import UserError

__all__ = ["with_linear_head"]

STATISTICS = re.compile(r"(.*\bhead\.)0\.running_mean")
EPSILON = 1e-6
"""Added to the variance in MAE's linear probe; no file stores it."""


def with_linear_head(tensors: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
    """The tensors with the batch norm folded into the linear layer, and a note if there is one.

    `W (x - mean) / std + b` is `(W / std) x + (b - (W / std) mean)`.

    Raises:
        UserError: the batch norm has scale and shift, so it is another project's, whose epsilon is not known.
    """
    folded, notes = dict(tensors), list[str]()
    for name in [name for name in tensors if STATISTICS.fullmatch(name)]:
        head = name.removesuffix("0.running_mean")
        weight, bias = tensors.get(f"{head}1.weight"), tensors.get(f"{head}1.bias")
        mean, variance = tensors[name], tensors.get(f"{head}0.running_var")
        known = {f"{head}{part}" for part in ("0.num_batches_tracked", "0.running_mean", "0.running_var")}
        known |= {f"{head}1.weight", f"{head}1.bias"}
        others = {each for each in tensors if each.startswith(head)} - known
        if weight is None or variance is None or weight.ndim != 2 or weight.shape[1:] != mean.shape:
            continue  # a projection head of several layers
        if others <= {f"{head}0.weight", f"{head}0.bias"} and others:
            raise UserError(
                f"its {head}0 is a batch norm with scale and shift, whose epsilon the file does not store: fold it "
                f"into {head}1"
            )
        if others or mean.shape != variance.shape:
            continue
        bias = weight.new_zeros(len(weight)) if bias is None else bias
        scaled = weight.double() * torch.rsqrt(variance.double() + EPSILON)
        for each in known:
            folded.pop(each, None)
        folded[f"{head}weight"] = scaled.to(weight.dtype)
        folded[f"{head}bias"] = (bias.double() - scaled @ mean.double()).to(bias.dtype)
        notes.append(f"the batch norm in {head}0 was folded into the head, with MAE's epsilon of {EPSILON:g}")
    return folded, notes
