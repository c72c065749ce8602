"""What a training run will take: arithmetic, time and memory, before anything runs."""

from dataclasses import dataclass

from vitral.inspection.cost import Cost, Memory

__all__ = [
    "DATA",
    "DEVICES",
    "PAPER_CORE_DAYS",
    "Device",
    "Footprint",
    "core_days",
    "exaflops",
    "footprint",
    "throughput",
]


@dataclass(frozen=True, kw_only=True)
class Device:
    """An accelerator as its maker's data sheet describes it."""

    name: str
    """What to call it."""
    flops: float
    """Peak operations a second, dense, 16-bit, accumulated in 32."""
    memory: float
    """Bytes of its memory."""


DEVICES = {
    # makers' data sheets; figures with sparsity are halved
    "h100": Device(name="NVIDIA H100 SXM 80 GB", flops=989.4e12, memory=80e9),
    "h200": Device(name="NVIDIA H200 SXM 141 GB", flops=989.4e12, memory=141e9),
    "a100": Device(name="NVIDIA A100 80 GB", flops=312e12, memory=80e9),
    "a100-40": Device(name="NVIDIA A100 40 GB", flops=312e12, memory=40e9),
    "v100": Device(name="NVIDIA V100 32 GB", flops=125e12, memory=32e9),
    "l4": Device(name="NVIDIA L4 24 GB", flops=121e12, memory=24e9),
    "t4": Device(name="NVIDIA T4 16 GB", flops=65e12, memory=16e9),
    "rtx4090": Device(name="NVIDIA RTX 4090 24 GB", flops=165.2e12, memory=24e9),
    "tpuv3": Device(name="Google TPU v3, one of a chip's two cores", flops=61.5e12, memory=16e9),
}
"""Accelerators by the name to type."""

DATA = {"imagenet1k": 1_281_167, "imagenet21k": 14_197_122, "jft300m": 303_000_000}
"""Training images of the paper's data sets."""

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
