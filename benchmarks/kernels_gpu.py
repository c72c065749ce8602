"""Which library has the fastest kernels for a training step's attention and norms on a GPU?

Attention from qkv to the gradients of qkv and of its bias, and layer norm with its gradients, at the sizes of B/16 and
batch 256: Vitral's operators beside PyTorch's, and beside FlashAttention 3 (`flash_attn_interface`), FlashAttention 4
(`flash-attn-4`) and Liger (`liger-kernel`) where they are installed; what is not is named. All take turns in one
process; medians, and the error of the gradients beside float32's.

    python benchmarks/kernels_gpu.py             on a GPU
    python benchmarks/kernels_gpu.py --tiny      on a CPU: PyTorch's and Vitral's operators at the smallest size

prints a Markdown table.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from functools import partial
from importlib import import_module
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from vitral.layers.kernels.attention import attention

Gradients = tuple[Tensor, ...]
Contender = Callable[[], Gradients]
EPS = 1e-6


def library(module: str, name: str) -> Any:
    """A function of a library; None, and a line that says so, if it is not installed."""
    try:
        return getattr(import_module(module), name)
    except (ImportError, AttributeError) as error:
        print(f"not measured: {module}.{name}: {error}")
        return None


def through(function: Callable[[Tensor, Tensor, Tensor], Any], qkv: Tensor, grad: Tensor) -> Gradients:
    """Gradients of qkv and its bias, by a function of queries, keys and values (b, t, heads, k)."""
    qkv = qkv.detach().requires_grad_()
    out = function(*qkv.unbind(2))
    out = out[0] if isinstance(out, tuple) else out
    (gradient,) = torch.autograd.grad(out, qkv, grad)
    return gradient, gradient.float().sum((0, 1)).flatten()


def scaled_dot_product(q: Tensor, k: Tensor, v: Tensor, *, backend: SDPBackend | None) -> Tensor:
    """PyTorch's attention by one of its kernels; None: by its own choice."""
    with nullcontext() if backend is None else sdpa_kernel(backend):
        return F.scaled_dot_product_attention(*(each.transpose(1, 2) for each in (q, k, v))).transpose(1, 2)


def own_attention(qkv: Tensor, grad: Tensor) -> Gradients:
    """Vitral's operator, whose backward pass writes both gradients."""
    qkv, bias = qkv.detach().requires_grad_(), torch.zeros(qkv[0, 0].numel(), device=qkv.device, requires_grad=True)
    return torch.autograd.grad(attention(qkv, bias), (qkv, bias), grad)


def attentions(qkv: Tensor, grad: Tensor) -> Iterator[tuple[str, Contender]]:
    """Every way to compute attention."""
    kernels: dict[str, SDPBackend | None] = {"PyTorch": None}
    if qkv.is_cuda:
        kernels |= {"PyTorch, cuDNN": SDPBackend.CUDNN_ATTENTION, "FlashAttention 2": SDPBackend.FLASH_ATTENTION}
    for name, backend in kernels.items():
        yield name, partial(through, partial(scaled_dot_product, backend=backend), qkv, grad)
    yield "Vitral", partial(own_attention, qkv, grad)
    if qkv.is_cuda:
        for name, module in (("FlashAttention 3", "flash_attn_interface"), ("FlashAttention 4", "flash_attn.cute")):
            if (function := library(module, "flash_attn_func")) is not None:
                yield name, partial(through, function, qkv, grad)


def normalised(function: Callable[..., Any], x: Tensor, weight: Tensor, bias: Tensor, grad: Tensor) -> Gradients:
    """Gradients of a layer norm."""
    inputs = tuple(each.detach().requires_grad_() for each in (x, weight, bias))
    return torch.autograd.grad(function(*inputs), inputs, grad)


def norms(x: Tensor, weight: Tensor, bias: Tensor, grad: Tensor) -> Iterator[tuple[str, Contender]]:
    """Every way to compute a layer norm."""

    def plain(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return F.layer_norm(x, x.shape[-1:], weight, bias, EPS)

    yield "PyTorch", partial(normalised, plain, x, weight, bias, grad)
    if x.is_cuda:
        yield "PyTorch, compiled", partial(normalised, torch.compile(plain), x, weight, bias, grad)
        if (liger := library("liger_kernel.ops.layer_norm", "LigerLayerNormFunction")) is not None:
            yield "Liger", partial(normalised, lambda *inputs: liger.apply(*inputs, EPS), x, weight, bias, grad)


def measure(contenders: dict[str, Contender], exact: Gradients, *, rounds: int) -> Iterator[tuple[str, float, float]]:
    """The median of the seconds of each contender, and the largest relative error of its gradients."""
    errors = {}
    for name, contender in contenders.items():
        pairs = zip(contender(), exact, strict=True)
        errors[name] = max(float((found.float() - right).norm() / right.norm()) for found, right in pairs)
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, contender in contenders.items():
            synchronise()
            began = time.perf_counter()
            contender()
            synchronise()
            seconds[name].append(time.perf_counter() - began)
    for name, each in seconds.items():
        yield name, statistics.median(each), errors[name]


def synchronise() -> None:
    """Waits for the GPU, if there is one."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tiny", action="store_true", help="on a CPU, to try the script")
    parser.add_argument("--rounds", type=int, default=30, help="timed rounds")
    options = parser.parse_args()
    device, dtype, batch, heads = ("cpu", torch.float32, 2, 2) if options.tiny else ("cuda", torch.bfloat16, 256, 12)
    torch.manual_seed(0)
    random = partial(torch.randn, device=device)
    qkv, grad = random(batch, 197, 3, heads, 64).to(dtype), random(batch, 197, heads, 64).to(dtype)
    x, grad_x = (random(batch, 197, 64 * heads).to(dtype) for _ in range(2))
    weight, bias = (random(64 * heads) for _ in range(2))
    single = (x.float(), weight, bias, grad_x.float())
    tables = {
        "attention": (
            dict(attentions(qkv, grad)),
            through(partial(scaled_dot_product, backend=None), qkv.float(), grad.float()),
        ),
        "layer norm": (dict(norms(x, weight.to(dtype), bias.to(dtype), grad_x)), next(norms(*single))[1]()),
    }
    where = torch.cuda.get_device_name() if device == "cuda" else "CPU"
    print(f"\n{where}, torch {torch.__version__}, batch {batch}, 197 tokens, {heads} heads of 64, {dtype}\n")
    print("| part | kernels of | forward and backward, ms | of PyTorch's | error |\n|---|---|--:|--:|--:|")
    for part, (contenders, exact) in tables.items():
        rows = list(measure(contenders, exact, rounds=options.rounds))
        for name, seconds, error in rows:
            print(f"| {part} | {name} | {1000 * seconds:.3f} | {rows[0][1] / seconds:.2f} | {error:.1e} |")


if __name__ == "__main__":
    main()
