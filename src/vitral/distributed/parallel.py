"""One model on many devices: wrap_ddp that share gradients (DDP), or weights in shards (FSDP2)."""

from collections.abc import Callable, Iterable, Mapping
from inspect import signature
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor, Replicate
from torch.nn.parallel import DistributedDataParallel

from vitral.distributed.world import World
from vitral.errors import UserError

__all__ = [
    "clip_grad_norm",
    "full_state_dict",
    "full_tensor",
    "load_full_state_dict",
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
"""What says whether buffers are sent before each forward pass; PyTorch 2.13 gave it the first of these names."""


def wrap_fsdp(
    learner: nn.Module,
    blocks: Iterable[nn.Module],
    *,
    world: World,
    device: torch.device,
    shards: int | None,
    half: torch.dtype | None,
) -> None:
    """Spreads weights over the processes, in place: each keeps a part of every tensor.

    A block's whole weights are gathered when it computes, and given up after. Call it before an optimiser takes the
    parameters, as they become others.

    Args:
        learner: what is trained, the same in all processes.
        blocks: its parts that are gathered one by one.
        world: the processes.
        device: where they compute.
        shards: processes that share one copy of the weights, the copies sharing gradients (HSDP); None: all.
        half: 16-bit form in which weights travel; gradients are summed in float32 all the same.

    Raises:
        UserError: the processes cannot be divided into groups of `shards`.
    """
    mesh = _mesh(world, device, shards)
    policy = MixedPrecisionPolicy(param_dtype=half, reduce_dtype=torch.float32)
    for block in blocks:
        fully_shard(block, mesh=mesh, mp_policy=policy)
    fully_shard(learner, mesh=mesh, mp_policy=policy)
    for method in ("extract_features", "panels"):
        if hasattr(learner, method):
            register_fsdp_forward_method(learner, method)


def wrap_ddp(model: nn.Module, *, device: torch.device) -> nn.Module:
    """What to call in place of a model so that gradients are averaged over the processes."""
    # buffers are the same in all processes, or each has its own part of a sum
    unsent: dict[str, Any] = {BUFFERS: False}
    return DistributedDataParallel(
        model,
        device_ids=[device] if device.type == "cuda" else None,
        gradient_as_bucket_view=True,
        **unsent,
    )


def set_gradient_sync(model: nn.Module, *, last: bool) -> None:
    """Says whether the coming backward pass is a batch's last, hence the one whose gradients travel."""
    if isinstance(model, DistributedDataParallel):
        model.require_backward_grad_sync = last
    elif hasattr(model, "set_requires_gradient_sync"):
        cast(Callable[[bool], None], model.set_requires_gradient_sync)(last)


def clip_grad_norm(parameters: list[nn.Parameter], *, norm: float | None) -> Float[Tensor, ""]:
    """Scales gradients down to a global norm, in place; None leaves them.

    Returns:
        The norm they had, over all processes' shards.
    """
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    total = nn.utils.get_total_norm(gradients)
    total = total.full_tensor() if isinstance(total, DTensor) else total
    if norm is not None:
        nn.utils.clip_grads_with_norm_(parameters, norm, total)
    return total


def full_tensor(tensor: Tensor) -> Tensor:
    """All of a tensor, of which this process may have but a part; called by all processes."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def shard_like(tensor: Tensor, like: Tensor) -> Tensor:
    """A whole tensor, which is the same in all processes, in shards as another one is; nothing is sent."""
    if not isinstance(like, DTensor):
        return tensor
    everywhere = [Replicate()] * like.device_mesh.ndim
    return DTensor.from_local(tensor, like.device_mesh, everywhere, run_check=False).redistribute(
        placements=like.placements
    )


def full_state_dict(model: nn.Module) -> dict[str, Tensor]:
    """A model's state with whole tensors; called by all processes."""
    return {name: full_tensor(tensor) for name, tensor in model.state_dict().items()}


def load_full_state_dict(model: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Takes over whole tensors, which are the same in all processes."""
    for name, own in model.state_dict().items():
        given = state[name].to(own.device)
        own.copy_(shard_like(given, own))


def _mesh(world: World, device: torch.device, shards: int | None) -> DeviceMesh:
    if shards is None or shards == world.size:
        return init_device_mesh(device.type, (world.size,), mesh_dim_names=("shard",))
    if world.size % shards:
        raise UserError(f"train.shards {shards} does not divide the {world.size} processes: choose one that does")
    return init_device_mesh(device.type, (world.size // shards, shards), mesh_dim_names=("copy", "shard"))
