"""The kernels in Triton. Block sizes are fixed, not tuned at run time, so that the same input gives the same bits.

Sizes were chosen on an H200: benchmarks/train_step_gpu_h200_2026-11-27.md.
"""

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor
from triton.tools.tensor_descriptor import TensorDescriptor

__all__ = ["run_attention_backward", "run_gelu_backward"]

QUERIES = 32
"""Queries in one step of the loop over a head."""
ROWS, STEP, COLUMNS = 256, 16, 128
"""What a program of GELU's backward pass takes: so many rows, in steps, of so many columns."""


def run_attention_backward(grad: Tensor, qkv: Tensor, lse: Tensor, delta: Tensor) -> tuple[Tensor, Tensor]:
    """See `vitral.layers.kernels.attention.attention_backward`; at most 256 tokens."""
    b, t, _, heads, k = qkv.shape
    grad_qkv, sums = torch.empty_like(qkv), lse.new_empty(b, 3 * heads * k)
    packed, flat, keys = qkv.view(b * t, 3 * heads * k), grad.view(b * t, heads * k), triton.next_power_of_2(t)
    launch: Any = _attention_backward[(b * heads,)]
    launch(
        TensorDescriptor.from_tensor(packed, [keys, k]),
        TensorDescriptor.from_tensor(packed, [QUERIES, k]),
        TensorDescriptor.from_tensor(flat, [QUERIES, k]),
        lse,
        delta,
        grad_qkv,
        sums,
        t,
        k**-0.5,
        heads,
        K=k,
        KEYS=keys,
        QUERIES=QUERIES,
        num_warps=8,
        num_stages=3,
    )
    return grad_qkv, sums.sum(0)


def run_gelu_backward(grad: Tensor, x: Tensor, *, approximate: str) -> tuple[Tensor, Tensor]:
    """See `vitral.layers.kernels.gelu.gelu_backward`."""
    columns = x.shape[-1]
    rows = x.numel() // columns
    grad_x, sums = torch.empty_like(x), x.new_empty(triton.cdiv(rows, ROWS), columns, dtype=torch.float32)
    tanh = approximate == "tanh"
    launch: Any = _gelu_backward[sums.shape[0], triton.cdiv(columns, COLUMNS)]
    launch(grad, x, grad_x, sums, rows, columns, TANH=tanh, ROWS=ROWS, STEP=STEP, COLUMNS=COLUMNS)
    return grad_x, sums.sum(0)


@triton.jit
def _attention_backward(
    all_keys,
    some_queries,
    some_grads,
    lse_pointer,
    delta_pointer,
    grad_pointer,
    sum_pointer,
    t,
    scale,
    heads,
    K: tl.constexpr,
    KEYS: tl.constexpr,
    QUERIES: tl.constexpr,
):
    """One head of one image: holds all keys and values, loops over queries.

    Logits are kept transposed, keys by queries: so weights and their gradients are the left operands of the products
    that sum over queries, straight from registers.
    """
    image, head, row = tl.program_id(0) // heads, tl.program_id(0) % heads, 3 * heads * K
    key, query, column = tl.arange(0, KEYS), tl.arange(0, QUERIES), tl.arange(0, K)
    k = all_keys.load([image * t, (heads + head) * K])
    v = all_keys.load([image * t, (2 * heads + head) * K])
    grad_k, grad_v = tl.zeros([KEYS, K], tl.float32), tl.zeros([KEYS, K], tl.float32)
    sum_q = tl.zeros([K, QUERIES], tl.float32)
    to = grad_pointer + image.to(tl.int64) * t * row + head * K
    lse_pointer += tl.program_id(0).to(tl.int64) * t
    delta_pointer += tl.program_id(0).to(tl.int64) * t
    # an infinite denominator gives queries past the end no weight. Both are read one step ahead of their use: a load
    # this small is not pipelined by the compiler
    next_lse = tl.load(lse_pointer + query, mask=query < t, other=float("inf"))
    next_delta = tl.load(delta_pointer + query, mask=query < t, other=0.0)
    for start in range(0, t, QUERIES):
        q = some_queries.load([image * t + start, head * K])
        grad = some_grads.load([image * t + start, head * K])
        lse, delta, here, ahead = next_lse, next_delta, start + query, start + QUERIES + query
        next_lse = tl.load(lse_pointer + ahead, mask=ahead < t, other=float("inf"))
        next_delta = tl.load(delta_pointer + ahead, mask=ahead < t, other=0.0)
        logits = tl.dot(k, tl.trans(q)) * scale
        grad_weights = tl.dot(v, tl.trans(grad))
        weights = tl.where(key[:, None] < t, tl.exp2((logits - lse[None, :]) * 1.4426950408889634), 0.0)
        grad_v += tl.dot(weights.to(grad.dtype), grad)
        grad_logits = (weights * (grad_weights - delta[None, :])).to(q.dtype)
        grad_k += tl.dot(grad_logits, q)
        grad_q = tl.dot(tl.trans(k), grad_logits)
        sum_q += grad_q
        where = to + here[:, None] * row + column[None, :]
        tl.store(where, tl.trans(grad_q * scale).to(q.dtype), mask=here[:, None] < t)
    where = to + heads * K + key[:, None] * row + column[None, :]
    tl.store(where, (grad_k * scale).to(k.dtype), mask=key[:, None] < t)
    tl.store(where + heads * K, grad_v.to(v.dtype), mask=key[:, None] < t)
    sums = sum_pointer + image.to(tl.int64) * row + head * K + column
    tl.store(sums, tl.sum(sum_q, 1) * scale)
    tl.store(sums + heads * K, tl.sum(grad_k, 0) * scale)
    tl.store(sums + 2 * heads * K, tl.sum(grad_v, 0))


@triton.jit
def _gelu_backward(
    grad_pointer,
    x_pointer,
    out_pointer,
    sum_pointer,
    rows,
    columns,
    TANH: tl.constexpr,
    ROWS: tl.constexpr,
    STEP: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """ROWS rows of COLUMNS columns, STEP rows at a time."""
    column = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    first = tl.program_id(0) * ROWS
    total = tl.zeros([STEP, COLUMNS], tl.float32)
    for start in range(0, ROWS, STEP):
        row = first + start + tl.arange(0, STEP)
        mask = (row[:, None] < rows) & (column[None, :] < columns)
        at = row[:, None].to(tl.int64) * columns + column[None, :]
        x = tl.load(x_pointer + at, mask=mask, other=0.0).to(tl.float32)
        grad = tl.load(grad_pointer + at, mask=mask, other=0.0).to(tl.float32)
        if TANH:  # 0.5 (1 + tanh(z)) = sigmoid(2 z), 2 z = sqrt(8 / pi) (x + 0.044715 x^3)
            gate = tl.sigmoid(1.5957691216057308 * x * (1 + 0.044715 * x * x))
            slope = gate * (1 - gate) * 1.5957691216057308 * (1 + 0.134145 * x * x)
        else:
            gate = 0.5 * (1 + tl.erf(0.7071067811865476 * x))
            slope = 0.3989422804014327 * tl.exp(-0.5 * x * x)
        out = grad * (gate + x * slope)
        total += out
        tl.store(out_pointer + at, out.to(out_pointer.dtype.element_ty), mask=mask)
    tl.store(sum_pointer + tl.program_id(0).to(tl.int64) * columns + column, tl.sum(total, 0), mask=column < columns)
