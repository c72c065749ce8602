"""What a model costs: parameters, arithmetic, and the memory that training keeps, counted without running it."""

from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from math import prod
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.overrides import TorchFunctionMode
from torch.utils.flop_counter import FlopCounterMode

from vitral.models import Architecture, Model, blank_model, repeated
from vitral.vit_config import ViTConfig

__all__ = ["Cost", "Memory", "activation_memory", "cost", "forward_macs"]


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Counts of one model for one image at its own resolution."""

    parameters: int
    """Learned numbers."""
    tokens: int | None
    """Tokens of a Transformer, the class token and registers among them; None for a ResNet."""
    macs: int
    """Multiply-accumulate operations of a forward pass: matrix products, convolutions and attention's two products."""


@dataclass(frozen=True, kw_only=True)
class Memory:
    """Bytes that a forward pass keeps for the backward pass, as they grow with the batch."""

    fixed: int
    """Whatever the batch, such as copies of the weights in another precision."""
    per_image: int
    """For each image."""

    def of(self, batch_size: int) -> int:
        """Bytes for a batch."""
        return self.fixed + batch_size * self.per_image


def cost(architecture: Architecture) -> Cost:
    """Counts a model without giving it memory.

    All tokens go through all blocks here, as in every published figure; `ViT.forward` carries fewer through the last.
    """
    parameters, macs = _by_depth(architecture, _counted)
    tokens = None
    if isinstance(architecture, ViTConfig):
        tokens = architecture.num_prefix_tokens + prod(architecture.grid)
    return Cost(parameters=parameters, tokens=tokens, macs=macs)


def forward_macs(architecture: Architecture) -> int:
    """Multiply-accumulates that `forward` takes for one image: through the last block go only tokens that are read."""
    return _by_depth(architecture, lambda shallow: (_macs(blank_model(shallow), lambda model, images: model(images)),))[
        0
    ]


def _by_depth(architecture: Architecture, count: Callable[[Architecture], tuple[int, ...]]) -> tuple[int, ...]:
    """What `count` finds, told from two shallow models in a fraction of the time.

    Between its first block and its last, a Transformer's are alike, unless each is skipped with a chance of its own.
    """
    if not isinstance(architecture, ViTConfig) or architecture.depth <= 3 or architecture.drop_path:
        return count(architecture)
    two, three = (count(replace(architecture, depth=depth)) for depth in (2, 3))
    return tuple(b + (architecture.depth - 3) * (b - a) for a, b in zip(two, three, strict=True))


def _counted(architecture: Architecture) -> tuple[int, int]:
    """Parameters and multiply-accumulates."""
    model = blank_model(architecture)
    macs = _macs(model, lambda model, images: model.classify(model.features(images).pooled))
    return sum(parameter.numel() for parameter in model.parameters()), macs


def _macs(model: Model, run: Callable[[Model, Tensor], Tensor]) -> int:
    """Multiply-accumulates of what is done with one image; PyTorch counts two operations for each."""
    config = model.config
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        run(model.eval(), torch.empty(1, config.channels, *config.image_hw, device="meta"))
    return counter.get_total_flops() // 2


def activation_memory(architecture: Architecture, *, bfloat16: bool, recompute: bool) -> Memory:
    """What autograd keeps of a training step's forward pass, each tensor once, parameters not counted.

    The step runs on tensors without memory, on what PyTorch takes for a CPU; attention is fused there as on a GPU. Only
    relative positions in bfloat16 take a fifth less on a GPU, which has a fused form for their gradients.

    Args:
        architecture: of the model.
        bfloat16: under a GPU's autocast, with the copies of the weights that it makes; otherwise in float32.
        recompute: of each block only its input is kept, and one block at a time is computed again.
    """

    def kept(shallow: Architecture) -> tuple[int, int]:
        # not from one image on: what is spread over the batch is a copy only from two images on
        two, three = (_kept(shallow, batch, bfloat16=bfloat16, recompute=recompute) for batch in (2, 3))
        return 3 * two - 2 * three, three - two

    fixed, per_image = _by_depth(architecture, kept)
    return Memory(fixed=fixed, per_image=per_image)


def _kept(architecture: Architecture, batch: int, *, bfloat16: bool, recompute: bool) -> int:
    """Bytes kept for one batch."""
    model = blank_model(architecture).train()
    with FakeTensorMode():
        learned = {name: torch.empty(tensor.shape, requires_grad=True) for name, tensor in model.named_parameters()}
        computed = {name: torch.empty(tensor.shape) for name, tensor in model.named_buffers()}
        ledger = _Ledger([*learned.values(), *computed.values()])
        for index, block in enumerate(repeated(model)):
            ledger.follow(block, index)
        images = torch.empty(batch, architecture.channels, *architecture.image_hw)
        arithmetic = _gpu_autocast() if bfloat16 else nullcontext()
        with torch.autograd.graph.saved_tensors_hooks(ledger.keep, lambda tensor: tensor), arithmetic:
            torch.func.functional_call(model, learned | computed, (images,))
    outside = ledger.bytes.pop(None)
    if not recompute:
        return outside + sum(ledger.bytes.values())
    return outside + sum(ledger.inputs) + max(ledger.bytes.values(), default=0)


@contextmanager
def _gpu_autocast() -> Iterator[None]:
    """The CPU's autocast to bfloat16, with norms in float32 as on a GPU: ResNets keep twice as much for that."""
    with torch.autocast("cpu", torch.bfloat16), _NormsInFloat32():
        yield


class _NormsInFloat32(TorchFunctionMode):
    """Gives norms their input in float32."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None) -> Any:
        if func in (F.layer_norm, F.group_norm):
            args = (args[0].float(), *args[1:])
        return func(*args, **(kwargs or {}))


class _Ledger:
    """Bytes of the storages that autograd saves, by the block that was running."""

    def __init__(self, own: list[Tensor]) -> None:
        self.seen = {tensor.untyped_storage()._cdata for tensor in own}
        self.alive: list[Tensor] = []  # a storage that is freed could give its name to the next
        self.running: int | None = None
        self.bytes: dict[int | None, int] = defaultdict(int)
        self.inputs: list[int] = []

    def follow(self, block: nn.Module, index: int) -> None:
        """Books to `index` what is saved while the block runs."""

        def enter(_: nn.Module, arguments: tuple[Any, ...]) -> None:
            self.running = index
            self.inputs.append(arguments[0].untyped_storage().nbytes())

        def leave(*_: object) -> None:
            self.running = None

        block.register_forward_pre_hook(enter)
        block.register_forward_hook(leave)

    def keep(self, tensor: Tensor) -> Tensor:
        """Books a tensor that autograd saves, unless its storage is known."""
        storage = tensor.untyped_storage()
        self.alive.append(tensor)
        if storage._cdata not in self.seen:
            self.seen.add(storage._cdata)
            self.bytes[self.running] += storage.nbytes()
        return tensor
