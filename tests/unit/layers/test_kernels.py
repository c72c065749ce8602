"""Kernels of a training step: the references beside PyTorch's own gradients, the Triton code beside the references."""

import os
import subprocess
import sys
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from vitral.layers.kernels.attention import attention, attention_backward, attention_forward
from vitral.layers.kernels.gelu import gelu, gelu_backward


def random(*shape: int, dtype: torch.dtype = torch.float64, device: str = "cpu") -> Tensor:
    return torch.randn(shape, dtype=dtype, device=device, generator=torch.Generator(device).manual_seed(sum(shape)))


def error(ours: Tensor, exact: Tensor) -> float:
    """Relative error of the whole tensor."""
    return float((ours.double().cpu() - exact.cpu()).norm() / exact.cpu().norm())


def plain_attention(qkv: Tensor) -> Tensor:
    q, k, v = qkv.permute(2, 0, 3, 1, 4)
    return F.scaled_dot_product_attention(q, k, v).transpose(1, 2)


def gradients(function: Callable[[Tensor, Tensor], Tensor], x: Tensor, bias: Tensor) -> tuple[Tensor, ...]:
    """The output for x, and the gradients of x and bias."""
    x, bias = x.clone().requires_grad_(), bias.clone().requires_grad_()
    out = function(x, bias)
    return out.detach(), *torch.autograd.grad(out, (x, bias), random(*out.shape).to(out))


def attention_pair(*, b: int, t: int, heads: int, k: int, **kind) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    """Output and gradients by the operator, and by PyTorch in float64 with a bias that it adds itself."""
    qkv, bias = random(b, t, 3, heads, k, **kind), random(3 * heads * k, **kind)
    ours = gradients(lambda x, bias: attention(x, bias), qkv, bias)
    zero = torch.zeros_like(bias).double()
    return ours, gradients(lambda x, bias: plain_attention(x + bias.view(3, heads, k)), qkv.double(), zero)


def gelu_pair(*shape: int, approximate: str, **kind) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    x, bias = random(*shape, **kind), random(shape[-1], **kind)
    ours = gradients(lambda x, bias: gelu(x, bias, approximate=approximate), x, bias)
    zero = torch.zeros_like(bias).double()
    return ours, gradients(lambda x, bias: F.gelu(x + bias, approximate=approximate), x.double(), zero)


def test_attention_has_the_gradients_of_pytorch():
    for ours, exact in zip(*attention_pair(b=3, t=13, heads=2, k=8), strict=True):
        torch.testing.assert_close(ours, exact, rtol=0, atol=1e-12)


@pytest.mark.parametrize("approximate", ["none", "tanh"])
def test_gelu_has_the_gradients_of_pytorch(approximate):
    for ours, exact in zip(*gelu_pair(3, 5, 7, approximate=approximate), strict=True):
        torch.testing.assert_close(ours, exact, rtol=0, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_operators_describe_their_outputs(dtype):
    """What the compiler needs: shapes, dtypes, strides, no aliases."""
    qkv = random(2, 13, 3, 2, 8, dtype=dtype)
    out, lse = attention_forward(qkv)
    torch.library.opcheck(attention_forward, (qkv,))
    torch.library.opcheck(attention_backward, (out, qkv, lse, lse.clone()))
    torch.library.opcheck(gelu_backward, (random(4, 6, dtype=dtype), random(4, 6, dtype=dtype), "tanh"))


INTERPRET = """
import sys, torch
from vitral.layers.kernels import triton_kernels as kernels
cases = torch.load(sys.argv[1])
torch.save([getattr(kernels, name)(*args, **options) for name, args, options in cases], sys.argv[1])
"""


def test_triton_kernels_equal_their_references(tmp_path):
    """Triton's interpreter runs them on the CPU; it must be on before anything imports Triton, so in a new process."""
    pytest.importorskip("triton", reason="PyTorch for this platform comes without Triton")
    cases, references = [], []
    for t in (129, 197, 256):
        qkv, grad = random(2, t, 3, 2, 64, dtype=torch.float32), random(2, t, 2, 64, dtype=torch.float32)
        out, lse = attention_forward(qkv)
        args = grad, qkv, lse, (out * grad).sum(-1).transpose(1, 2).contiguous()
        cases.append(("run_attention_backward", args, {}))
        references.append(attention_backward(*args))
    for approximate in ("none", "tanh"):
        for shape in ((2, 197, 130), (3, 64), (300, 128)):
            args = random(*shape, dtype=torch.float32), random(*shape, dtype=torch.float32).flip(0)
            cases.append(("run_gelu_backward", args, {"approximate": approximate}))
            references.append(gelu_backward(*args, approximate))
    torch.save(cases, tmp_path / "cases")
    command = [sys.executable, "-c", INTERPRET, tmp_path / "cases"]
    subprocess.run(command, check=True, env=os.environ | {"TRITON_INTERPRET": "1"})
    for ours, reference in zip(torch.load(tmp_path / "cases"), references, strict=True):
        for kernel, plain in zip(ours, reference, strict=True):
            torch.testing.assert_close(kernel, plain, rtol=1e-4, atol=1e-4)


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("t", [129, 197, 256])
def test_attention_on_a_gpu_is_close_to_float64(t, dtype):
    ours, exact = attention_pair(b=5, t=t, heads=3, k=64, dtype=dtype, device="cuda")
    heads_apart = ours[2].view(3, -1), exact[2].view(3, -1)
    assert max(error(mine, true) for mine, true in zip(ours[:2], exact[:2], strict=True)) < 5e-3
    for index in (0, 2):  # a bias of the keys changes nothing: its gradient is zero
        assert error(heads_apart[0][index], heads_apart[1][index]) < 5e-3


@pytest.mark.gpu
@pytest.mark.parametrize("approximate", ["none", "tanh"])
def test_gelu_on_a_gpu_is_close_to_float64(approximate):
    ours, exact = gelu_pair(7, 197, 1540, approximate=approximate, dtype=torch.bfloat16, device="cuda")
    assert max(error(mine, true) for mine, true in zip(ours, exact, strict=True)) < 5e-3


@pytest.mark.gpu
def test_gradients_on_a_gpu_have_the_same_bits_every_time():
    first, second = (
        attention_pair(b=4, t=197, heads=3, k=64, dtype=torch.bfloat16, device="cuda")[0] for _ in range(2)
    )
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
