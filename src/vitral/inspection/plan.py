"""What a training run will take: arithmetic, time and memory, before anything runs."""

from dataclasses import dataclass

from vitral.inspection.cost import Cost, Memory
from vitral.inspection.devices import DEVICES, Device

__all__ = [
    "PAPER_CORE_DAYS",
    "Footprint",
    "core_days",
    "exaflops",
    "footprint",
    "throughput",
]


PAPER_CORE_DAYS = {
    # Table 2; the model, its data set and epochs
    ("ViT-H/14", "jft300m", 14): 2500,
    ("ViT-L/16", "jft300m", 14): 680,
    ("ViT-L/16", "imagenet21k", 90): 230,
}
"""TPUv3-core-days that the paper states."""

USABLE = 0.9
"""Share of a device's memory that training can fill; the rest goes to the framework and to gaps."""


def exaflops(macs: int, *, images: int | float) -> float:
    """Operations of a training run in 10^18, by the rule that gives the paper's Table 6.

    Two operations a multiply-accumulate; the backward pass takes twice the forward pass.

    Args:
        macs: of one image's forward pass.
        images: that are trained on, each as often as there are epochs.
    """
    return 3 * 2 * macs * images / 1e18


def throughput(macs: int, *, device: Device, devices: int, utilisation: float) -> float:
    """Images a second that training sees when it does useful work for this share of the peak."""
    return devices * device.flops * utilisation / (3 * 2 * macs)


def core_days(total: float, *, utilisation: float) -> float:
    """TPUv3-core-days of a number of exaFLOPs."""
    return total * 1e18 / (DEVICES["tpuv3"].flops * utilisation * 86_400)


@dataclass(frozen=True, kw_only=True)
class Footprint:
    """Memory of one device in training."""

    name: str
    """How the run is spread and what it keeps."""
    state: int
    """Bytes of weights, gradients and optimiser, on this device."""
    activations: int
    """Bytes kept for the backward pass."""
    largest_batch: int
    """Images that one device could take at most."""
    fits: bool
    """Whether the batch asked for does."""


def footprint(
    name: str, *, cost: Cost, memory: Memory, batch_size: int, device: Device, shards: int, average: bool
) -> Footprint:
    """The memory of one device under data parallel training.

    Weights, gradients and Adam's two moments are 4 bytes each, so is the running average if there is one.

    Args:
        name: of the outcome.
        cost: of the model.
        memory: that activations take.
        batch_size: images of a step on one device.
        device: what it runs on.
        shards: devices that share one copy of the state, as FSDP does; 1 gives each a copy of its own.
        average: whether a running average of the weights is kept.
    """
    state = cost.parameters * 4 * (5 if average else 4) // shards
    room = USABLE * device.memory - state - memory.fixed
    return Footprint(
        name=name,
        state=state,
        activations=memory.of(batch_size),
        largest_batch=max(int(room // memory.per_image), 0),
        fits=state + memory.of(batch_size) <= USABLE * device.memory,
    )
