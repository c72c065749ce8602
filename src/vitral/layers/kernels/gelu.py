"""GELU whose backward pass also sums the gradient of the bias before it, in one pass over memory instead of two."""

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

__all__ = ["gelu"]


def gelu(x: Float[Tensor, "*b d"], bias: Float[Tensor, " d"], *, approximate: str) -> Float[Tensor, "*b d"]:
    """GELU of `x`.

    Args:
        x: has the bias added already.
        bias: the bias in `x`. Its gradient comes from here, so the product that added it must not give another.
        approximate: `none` or `tanh`, as in `torch.nn.GELU`.
    """
    return _GELU.apply(x, bias, approximate)


class _GELU(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, bias: Tensor, approximate: str) -> Tensor:
        ctx.save_for_backward(x, bias)
        ctx.approximate = approximate
        return F.gelu(x, approximate=approximate)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        x, bias = ctx.saved_tensors
        grad_x, grad_bias = gelu_backward(grads[0].contiguous(), x, ctx.approximate)
        return grad_x, grad_bias.to(bias.dtype), None


@torch.library.custom_op("vitral::gelu_backward", mutates_args=())
def gelu_backward(grad: Tensor, x: Tensor, approximate: str) -> tuple[Tensor, Tensor]:
    """The gradient of x, and its sum over all axes but the last."""
    grad_x = torch.ops.aten.gelu_backward(grad, x, approximate=approximate)
    total = grad_x if x.dtype == torch.float64 else grad_x.float()
    return grad_x, total.flatten(0, -2).sum(0)


@gelu_backward.register_kernel("cuda")
def _(grad: Tensor, x: Tensor, approximate: str) -> tuple[Tensor, Tensor]:
    from vitral.layers.kernels.triton_kernels import run_gelu_backward

    return run_gelu_backward(grad, x, approximate=approximate)


@gelu_backward.register_fake
def _(grad: Tensor, x: Tensor, approximate: str) -> tuple[Tensor, Tensor]:
    return torch.empty_like(x), x.new_empty(x.shape[-1], dtype=torch.promote_types(x.dtype, torch.float32))
