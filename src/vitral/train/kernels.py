"""Trains a Transformer with the kernels of `vitral.layers.kernels` where they are right and faster."""

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vitral.layers.kernels.attention import HEAD_WIDTH, MAX_TOKENS, MIN_TOKENS, attention
from vitral.layers.kernels.gelu import gelu
from vitral.layers.linear import FusedLinear
from vitral.layers.positions import PositionState
from vitral.vit import MLP, Attention

__all__ = ["supports_kernels", "use_kernels"]

Forward = Callable[..., Tensor]

ALL = slice(None)
HALF = (torch.bfloat16, torch.float16)


def supports_kernels(device: torch.device) -> bool:
    """Whether the kernels run, and were measured, on this device: GPUs of the generation of the H100 and the H200."""
    if device.type != "cuda" or torch.version.hip is not None:
        return False
    return torch.cuda.get_device_capability(device)[0] == 9


def use_kernels(model: nn.Module) -> None:
    """Makes attention and MLPs of a model train with the kernels; results stay the same but for rounding.

    Layers that are not plain (normalised queries, no bias, dropout of attention, adapters, another activation) stay as
    they are. So do calls that the kernels are not written for: without gradients, in float32, with positions in
    attention, of few or many tokens. Parameter names stay the same. Copy the model before, because a copy made later
    would call its layers.
    """
    for module in model.modules():
        if type(module) is Attention and _is_plain(module):
            module.forward = partial(_attend, module, module.forward)
        elif type(module) is MLP and type(module.fc1) is nn.Linear and type(module.act) is nn.GELU:
            module.forward = partial(_transform, module, module.forward)


def _is_plain(module: Attention) -> bool:
    qkv = module.qkv
    dense = type(qkv) is FusedLinear and qkv.bias is not None and not module.attention_dropout
    return dense and isinstance(module.q_norm, nn.Identity) and qkv.in_features == HEAD_WIDTH * module.num_heads


def _attend(layer: Attention, plain: Forward, x: Tensor, pos: PositionState, queries: slice = ALL) -> Tensor:
    """`Attention.forward`."""
    in_attention = pos.rotation is not None or pos.offset_embeddings is not None or pos.mask is not None
    every_query = queries.start is None and queries.stop is None
    if in_attention or not every_query or not MIN_TOKENS <= x.shape[1] <= MAX_TOKENS or not _in_half(x):
        return plain(x, pos, queries)
    qkv = F.linear(x, layer.qkv.weight, layer.qkv.bias.detach())
    out = attention(qkv.unflatten(-1, (3, layer.num_heads, HEAD_WIDTH)), layer.qkv.bias)
    return layer.drop(layer.proj(out.flatten(2)))


def _transform(layer: MLP, plain: Forward, x: Tensor) -> Tensor:
    """`MLP.forward`."""
    if not _in_half(x):
        return plain(x)
    hidden = F.linear(x, layer.fc1.weight, layer.fc1.bias.detach())
    return layer.drop2(layer.fc2(layer.drop1(gelu(hidden, layer.fc1.bias, approximate=layer.act.approximate))))


def _in_half(x: Tensor) -> bool:
    """Whether gradients are wanted, of products in 16 bits."""
    kind = x.device.type
    dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else x.dtype
    return torch.is_grad_enabled() and dtype in HALF
