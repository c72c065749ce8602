"""Parameters, multiply-accumulates and activation memory of a model, counted without running any but small ones."""

from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from math import prod
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from vitral.inspection.mac_counter import MacCounter
from vitral.models import Architecture, Model, blank_model, repeated
from vitral.vit_config import ViTConfig

__all__ = ["Cost", "Memory", "activation_memory", "cost", "forward_macs"]


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Counts of a model for one image of its native size."""

    parameters: int
    """Number of trained values."""
    tokens: int | None
    """Tokens of a Transformer, including class token and registers; None for a ResNet."""
    macs: int
    """Multiply-accumulates of a forward pass: matrix products, convolutions and the two products in attention."""


@dataclass(frozen=True, kw_only=True)
class Memory:
    """Bytes that a forward pass saves for the backward pass."""

    fixed: int
    """Independent of the batch size, such as copies of the weights in another precision."""
    per_image: int
    """Per image of the batch."""

    def of(self, batch_size: int) -> int:
        """Bytes for a batch."""
        return self.fixed + batch_size * self.per_image


def cost(architecture: Architecture) -> Cost:
    """Counts a model without allocating it.

    All tokens go through all blocks, as in published figures. `ViT.forward` computes fewer in the last block.
    """
    parameters, macs = _by_depth(architecture, _parameters_and_macs)
    tokens = None
    if isinstance(architecture, ViTConfig):
        tokens = architecture.num_prefix_tokens + prod(architecture.grid)
    return Cost(parameters=parameters, tokens=tokens, macs=macs)


def forward_macs(architecture: Architecture) -> int:
    """Multiply-accumulates of `forward` for one image; the last block computes only the tokens that are pooled."""

    def count(shallow: Architecture) -> tuple[int]:
        return (_macs(blank_model(shallow), lambda model, images: model(images)),)

    return _by_depth(architecture, count)[0]


def _by_depth(architecture: Architecture, count: Callable[[Architecture], tuple[int, ...]]) -> tuple[int, ...]:
    """The counts of a model, extrapolated from two shallow ones, which is faster.

    All blocks of a Transformer but the first and last cost the same, unless stochastic depth gives each another rate.
    """
    if not isinstance(architecture, ViTConfig) or architecture.depth <= 3 or architecture.drop_path:
        return count(architecture)
    two, three = (count(replace(architecture, depth=depth)) for depth in (2, 3))
    return tuple(b + (architecture.depth - 3) * (b - a) for a, b in zip(two, three, strict=True))


def _parameters_and_macs(architecture: Architecture) -> tuple[int, int]:
    model = blank_model(architecture)
    macs = _macs(model, lambda model, images: model.classify(model.features(images).pooled))
    return sum(parameter.numel() for parameter in model.parameters()), macs


def _macs(model: Model, run: Callable[[Model, Tensor], Tensor]) -> int:
    """Multiply-accumulates of `run` for one image."""
    config = model.config
    with torch.no_grad(), MacCounter() as counter:
        run(model.eval(), torch.empty(1, config.channels, *config.image_hw, device="meta"))
    return counter.macs


def activation_memory(architecture: Architecture, *, bfloat16: bool, recompute: bool) -> Memory:
    """Bytes that autograd saves in the forward pass of a training step: each tensor once, without parameters.

    The step runs on CPU tensors, fake ones if the model is not small. There attention is fused as on a GPU, except in
    float32 with `attention_dropout`.
    Only relative positions in bfloat16 differ: they take a fifth less on a GPU, which has a fused kernel for their
    gradients.

    Args:
        architecture: configuration of the model.
        bfloat16: whether the step runs under a GPU's autocast, which copies the weights; otherwise in float32.
        recompute: whether only the input of each block is saved, and one block at a time is recomputed.
    """

    def count(shallow: Architecture) -> tuple[int, int]:
        # not one image: a tensor that is expanded over the batch is copied for two images or more only
        two, three = (_saved_bytes(shallow, batch, bfloat16=bfloat16, recompute=recompute) for batch in (2, 3))
        return 3 * two - 2 * three, three - two

    fixed, per_image = _by_depth(architecture, count)
    return Memory(fixed=fixed, per_image=per_image)


FEW_MACS = 2_000_000_000
"""A step below so many multiply-accumulates an image takes less time than the import of PyTorch's fake tensors."""
FEW_PARAMETERS = 20_000_000
"""So many take 80 MB, less than that import."""


def _fake_tensors() -> AbstractContextManager[Any]:
    """The context in which tensors have no values. It imports PyTorch's compiler, which takes a second and more."""
    from torch._subclasses.fake_tensor import FakeTensorMode

    return FakeTensorMode()


def _saved_bytes(architecture: Architecture, batch: int, *, bfloat16: bool, recompute: bool) -> int:
    """Bytes saved for one batch."""
    model = blank_model(architecture)
    few_parameters = sum(parameter.numel() for parameter in model.parameters()) < FEW_PARAMETERS
    small = few_parameters and _macs(model, lambda model, images: model(images)) < FEW_MACS
    model.train()
    with torch.random.fork_rng([]) if small else _fake_tensors():
        parameters = {name: torch.empty(tensor.shape, requires_grad=True) for name, tensor in model.named_parameters()}
        buffers = {name: torch.empty(tensor.shape) for name, tensor in model.named_buffers()}
        saved = _SavedTensors([*parameters.values(), *buffers.values()])
        for index, block in enumerate(repeated(model)):
            saved.attribute_to(block, index)
        images = torch.empty(batch, architecture.channels, *architecture.image_hw)
        autocast = _gpu_autocast() if bfloat16 else nullcontext()
        with torch.autograd.graph.saved_tensors_hooks(saved.add, lambda tensor: tensor), autocast:
            torch.func.functional_call(model, parameters | buffers, (images,))
    outside = saved.bytes.pop(None)
    if not recompute:
        return outside + sum(saved.bytes.values())
    return outside + sum(saved.inputs) + max(saved.bytes.values(), default=0)


@contextmanager
def _gpu_autocast() -> Iterator[None]:
    """The CPU's autocast to bfloat16, but as on a GPU with norms in float32, for which ResNets save twice as much, and
    with attention that stays fused under dropout.
    """
    with torch.autocast("cpu", torch.bfloat16), _AsOnGPU():
        yield


class _AsOnGPU(TorchFunctionMode):
    """Casts the input of norms to float32, and leaves out the dropout of attention."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None) -> Any:
        if func in (F.layer_norm, F.group_norm):
            args = (args[0].float(), *args[1:])
        kwargs = dict(kwargs or {})
        if func is F.scaled_dot_product_attention:
            kwargs["dropout_p"] = 0.0
        return func(*args, **kwargs)


class _SavedTensors:
    """Bytes of the storages that autograd saves, by the block that was running; None is outside of the blocks."""

    def __init__(self, uncounted: list[Tensor]) -> None:
        self.seen = {tensor.untyped_storage()._cdata for tensor in uncounted}
        self.alive: list[Tensor] = []  # keeps storages alive, as a new one could get the address of a freed one
        self.running: int | None = None
        self.bytes: dict[int | None, int] = defaultdict(int)
        self.inputs: list[int] = []

    def attribute_to(self, block: nn.Module, index: int) -> None:
        """Counts for `index` what is saved while the block runs."""

        def enter(_: nn.Module, arguments: tuple[Any, ...]) -> None:
            self.running = index
            self.inputs.append(arguments[0].untyped_storage().nbytes())

        def leave(*_: object) -> None:
            self.running = None

        block.register_forward_pre_hook(enter)
        block.register_forward_hook(leave)

    def add(self, tensor: Tensor) -> Tensor:
        """Counts a tensor that autograd saves, unless its storage has been counted."""
        storage = tensor.untyped_storage()
        self.alive.append(tensor)
        if storage._cdata not in self.seen:
            self.seen.add(storage._cdata)
            self.bytes[self.running] += storage.nbytes()
        return tensor
