"""Arithmetic, time and memory of a training run, estimated before it runs."""

from dataclasses import dataclass

from vitral.inspection.cost import Cost, Memory
from vitral.inspection.devices import DEVICES, Device

__all__ = [
    "PAPER_CORE_DAYS",
    "USABLE",
    "Footprint",
    "core_days",
    "exaflops",
    "footprint",
    "throughput",
]


PAPER_CORE_DAYS = {
    # Table 2; model, data set and epochs
    ("ViT-H/14", "jft300m", 14): 2500,
    ("ViT-L/16", "jft300m", 14): 680,
    ("ViT-L/16", "imagenet21k", 90): 230,
}
"""TPUv3-core-days stated in the paper."""

USABLE = 0.9
"""Fraction of a device's memory that training can fill; the rest goes to the framework and fragmentation."""


def exaflops(macs: int, *, images: int | float) -> float:
    """Operations of a training run in 10^18, by the rule behind the paper's Table 6.

    A multiply-accumulate is two operations, and the backward pass takes twice as many as the forward pass.

    Args:
        macs: multiply-accumulates of one image's forward pass.
        images: number of training images, counted once per epoch.
    """
    return 3 * 2 * macs * images / 1e18


def throughput(macs: int, *, device: Device, devices: int, utilisation: float) -> float:
    """Training images per second if this fraction of the peak does useful work."""
    return devices * device.flops * utilisation / (3 * 2 * macs)


def core_days(total: float, *, utilisation: float) -> float:
    """TPUv3-core-days of a number of exaFLOPs."""
    return total * 1e18 / (DEVICES["tpuv3"].flops * utilisation * 86_400)


@dataclass(frozen=True, kw_only=True)
class Footprint:
    """Memory of one device in training."""

    name: str
    """Sharding and recomputation, in words."""
    state: int
    """Bytes of weights, gradients and optimiser state on one device."""
    activations: int
    """Bytes saved for the backward pass."""
    largest_batch: int
    """Largest batch size that fits one device."""
    fits: bool
    """Whether the requested batch size fits."""


def footprint(
    name: str, *, cost: Cost, memory: Memory, batch_size: int, device: Device, shards: int, average: bool
) -> Footprint:
    """The memory of one device under data parallel training.

    Weights, gradients, Adam's two moments and the optional running average take 4 bytes per parameter each.

    Args:
        name: sharding and recomputation, in words.
        cost: counts of the model.
        memory: activation memory of the model.
        batch_size: images per step on one device.
        device: the accelerator.
        shards: number of devices over which FSDP shards the state; 1: each device has a copy.
        average: whether there is a running average of the weights.
    """
    state = cost.parameters * 4 * (5 if average else 4) // shards
    available = USABLE * device.memory - state - memory.fixed
    return Footprint(
        name=name,
        state=state,
        activations=memory.of(batch_size),
        largest_batch=max(int(available // memory.per_image), 0),
        fits=state + memory.of(batch_size) <= USABLE * device.memory,
    )
