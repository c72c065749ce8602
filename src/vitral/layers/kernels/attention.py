"""Self-attention of a short sequence whose backward pass writes the gradient of qkv packed, and sums that of its bias.

PyTorch returns the gradients of queries, keys and values apart: one pass over memory packs them for the matrix product,
another sums them for the bias. Here one kernel does all of it while the gradients are in registers.
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

__all__ = ["HEAD_WIDTH", "MAX_TOKENS", "MIN_TOKENS", "attention"]

HEAD_WIDTH, MIN_TOKENS, MAX_TOKENS = 64, 129, 256
"""What the kernel was written and measured for: 224 pixels in patches of 16."""


def attention(
    qkv: Float[Tensor, "b t 3 heads k"], bias: Float[Tensor, " three_heads_k"]
) -> Float[Tensor, "b t heads k"]:
    """Scaled dot-product attention of every head (paper, Eq. 6 and 7).

    Args:
        qkv: queries, keys and values, contiguous, with the bias added already.
        bias: the bias in `qkv`. Its gradient comes from here, so the product that added it must not give another.
    """
    return _Attention.apply(qkv, bias)


class _Attention(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, qkv: Tensor, bias: Tensor) -> Tensor:
        out, lse = attention_forward(qkv)
        ctx.save_for_backward(qkv, out, lse, bias)
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        qkv, out, lse, bias = ctx.saved_tensors
        grad = grads[0].contiguous()
        delta = (out.to(lse.dtype) * grad.to(lse.dtype)).sum(-1).transpose(1, 2).contiguous()
        grad_qkv, grad_bias = attention_backward(grad, qkv, lse, delta)
        return grad_qkv, grad_bias.to(bias.dtype)


@torch.library.custom_op("vitral::attention_forward", mutates_args=())
def attention_forward(qkv: Tensor) -> tuple[Tensor, Tensor]:
    """Attention (b, t, heads, k), and the logarithm of the softmax's denominator (b, heads, t)."""
    q, k, v = qkv.permute(2, 0, 3, 1, 4)
    logits = q @ k.mT * q.shape[-1] ** -0.5
    lse = logits.logsumexp(-1)
    return ((logits - lse[..., None]).exp() @ v).transpose(1, 2).contiguous(), _statistic(lse)


@attention_forward.register_kernel("cuda")
def _(qkv: Tensor) -> tuple[Tensor, Tensor]:
    q, k, v = qkv.permute(2, 0, 3, 1, 4)
    out, lse, *_ = torch.ops.aten._scaled_dot_product_cudnn_attention(q, k, v, None, True)
    return out.transpose(1, 2).contiguous(), lse.view(q.shape[:3])


@attention_forward.register_fake
def _(qkv: Tensor) -> tuple[Tensor, Tensor]:
    b, t, _, heads, k = qkv.shape
    return qkv.new_empty(b, t, heads, k), _statistic(qkv.new_empty(b, heads, t))


@torch.library.custom_op("vitral::attention_backward", mutates_args=())
def attention_backward(grad: Tensor, qkv: Tensor, lse: Tensor, delta: Tensor) -> tuple[Tensor, Tensor]:
    """The gradient of qkv, and its sum over images and tokens.

    Args:
        grad: of the output, (b, t, heads, k), contiguous.
        qkv: (b, t, 3, heads, k).
        lse: logarithm of the softmax's denominator, (b, heads, t).
        delta: product of the output with its gradient, summed over k, (b, heads, t).
    """
    q, k, v = qkv.permute(2, 0, 3, 1, 4)
    grad, scale = grad.transpose(1, 2), q.shape[-1] ** -0.5
    weights = (q @ k.mT * scale - lse[..., None]).exp().to(qkv.dtype)
    grad_logits = (weights * (grad @ v.mT - delta[..., None]) * scale).to(qkv.dtype)
    grads = torch.stack([grad_logits @ k, grad_logits.mT @ q, weights.mT @ grad])
    packed = grads.permute(1, 3, 0, 2, 4).contiguous()
    return packed, _statistic(packed).sum((0, 1)).flatten()


@attention_backward.register_kernel("cuda")
def _(grad: Tensor, qkv: Tensor, lse: Tensor, delta: Tensor) -> tuple[Tensor, Tensor]:
    from vitral.layers.kernels.triton_kernels import run_attention_backward

    return run_attention_backward(grad, qkv, lse, delta)


@attention_backward.register_fake
def _(grad: Tensor, qkv: Tensor, lse: Tensor, delta: Tensor) -> tuple[Tensor, Tensor]:
    return torch.empty_like(qkv), lse.new_empty(qkv[0, 0].numel())


def _statistic(x: Tensor) -> Tensor:
    """In float32 at least, whatever the dtype of the tokens."""
    return x if x.dtype == torch.float64 else x.float()
