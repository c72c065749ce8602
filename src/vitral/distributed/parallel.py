"""One model on several devices: replicas that average gradients (DDP), or sharded weights (FSDP2).

FSDP2 and its tensors are imported where they are used: they take as long to import as half of PyTorch.
"""

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from inspect import signature
from itertools import pairwise
from typing import TYPE_CHECKING, Any, TypeGuard, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import bf16_compress_hook
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.nn.parallel import DistributedDataParallel

from vitral.distributed.world import World
from vitral.errors import UserError

if TYPE_CHECKING:
    from torch.distributed.tensor import DTensor

__all__ = [
    "clip_grad_norm",
    "full_state_dict",
    "full_tensor",
    "load_full_state_dict",
    "local_tensor",
    "set_gradient_sync",
    "shard_like",
    "wrap_ddp",
    "wrap_fsdp",
]

BUFFERS = next(
    name
    for name in ("forward_sync_buffers", "broadcast_buffers")
    if name in signature(DistributedDataParallel).parameters
)
"""Argument of DDP that broadcasts buffers before each forward pass; PyTorch 2.13 gave it the first name."""


def wrap_fsdp(
    learner: nn.Module,
    models: Iterable[Sequence[nn.Module]],
    *,
    world: World,
    device: torch.device,
    shards: int | None,
    dtype: torch.dtype | None,
    reduce_dtype: torch.dtype = torch.float32,
) -> None:
    """Shards weights over the processes, in place, with FSDP2.

    A block's weights are all-gathered for its computation, while the block before it computes, and freed after it. Call
    this before creating an optimiser, because it replaces the parameters.

    Args:
        learner: the trained module, identical in all processes.
        models: of each of its models, the blocks, which are all-gathered one by one.
        world: the processes.
        device: of this process.
        shards: processes in each group that shards the weights; groups are replicas (HSDP). None: one group.
        dtype: 16-bit type of all-gathered weights.
        reduce_dtype: of gradients, where processes exchange and add them.

    Raises:
        UserError: the processes cannot be divided into groups of `shards`.
    """
    from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard, register_fsdp_forward_method

    mesh = _mesh(world, device, shards)
    policy = MixedPrecisionPolicy(param_dtype=dtype, reduce_dtype=reduce_dtype)
    for blocks in models:
        sharded = [fully_shard(block, mesh=mesh, mp_policy=policy) for block in blocks]
        for block, following in pairwise(sharded):
            block.set_modules_to_forward_prefetch([following])  # the backward pass prefetches by default
    fully_shard(learner, mesh=mesh, mp_policy=policy)
    for method in ("extract_features", "panels"):
        if hasattr(learner, method):
            register_fsdp_forward_method(learner, method)


def wrap_ddp(
    model: nn.Module, *, device: torch.device, reduce_dtype: torch.dtype = torch.float32
) -> DistributedDataParallel:
    """Wraps a model in DistributedDataParallel, which averages gradients over the processes, in `reduce_dtype`."""
    # buffers are equal in all processes, or partial sums that differ on purpose
    options: dict[str, Any] = {BUFFERS: False}
    wrapped = DistributedDataParallel(
        model,
        device_ids=None if device.type == "cpu" else [device],
        gradient_as_bucket_view=True,
        **options,
    )
    if reduce_dtype == torch.bfloat16:
        wrapped.register_comm_hook(None, bf16_compress_hook)
    return wrapped


def set_gradient_sync(model: nn.Module, *, last: bool) -> None:
    """Exchanges gradients in the next backward pass only if it is the last one of a batch."""
    if isinstance(model, DistributedDataParallel):
        model.require_backward_grad_sync = last
    elif hasattr(model, "set_requires_gradient_sync"):
        cast(Callable[[bool], None], model.set_requires_gradient_sync)(last)


def clip_grad_norm(parameters: list[nn.Parameter], *, norm: float | None) -> Float[Tensor, ""]:
    """Clips gradients to a global norm, in place; None only computes it.

    Returns:
        The norm before clipping, over the shards of all processes.
    """
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    total = nn.utils.get_total_norm(gradients)
    total = full_tensor(total)
    if norm is not None:
        nn.utils.clip_grads_with_norm_(parameters, norm, total)
    return total


def full_tensor(tensor: Tensor) -> Tensor:
    """The full tensor, all-gathered if it is sharded; called by all processes."""
    return tensor.full_tensor() if _is_sharded(tensor) else tensor


def local_tensor(tensor: Tensor) -> Tensor:
    """This process's shard of a sharded tensor, or the tensor; without a copy."""
    return tensor.to_local() if _is_sharded(tensor) else tensor


def shard_like(tensor: Tensor, like: Tensor) -> Tensor:
    """Shards a full tensor, equal in all processes, as `like` is sharded; without communication."""
    if not _is_sharded(like):
        return tensor
    from torch.distributed.tensor import DTensor, Replicate

    everywhere = [Replicate()] * like.device_mesh.ndim
    return DTensor.from_local(tensor, like.device_mesh, everywhere, run_check=False).redistribute(
        placements=like.placements
    )


def full_state_dict(model: nn.Module) -> dict[str, Tensor]:
    """A model's state dict with full tensors; called by all processes."""
    return {name: full_tensor(tensor) for name, tensor in model.state_dict().items()}


def load_full_state_dict(model: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Loads a state dict of full tensors, equal in all processes."""
    for name, own in model.state_dict().items():
        given = state[name].to(own.device)
        own.copy_(shard_like(given, own))


def _is_sharded(tensor: Tensor) -> "TypeGuard[DTensor]":
    """Whether a tensor is a `DTensor`; without its module, there is none."""
    module = sys.modules.get("torch.distributed.tensor")
    return module is not None and isinstance(tensor, module.DTensor)


def _mesh(world: World, device: torch.device, shards: int | None) -> DeviceMesh:
    if shards is None or shards == world.size:
        return init_device_mesh(device.type, (world.size,), mesh_dim_names=("shard",))
    if world.size % shards:
        raise UserError(f"train.shards {shards} does not divide the {world.size} processes: choose a divisor")
    return init_device_mesh(device.type, (world.size // shards, shards), mesh_dim_names=("replica", "shard"))
