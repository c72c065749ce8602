"""The hardware and settings that determine a run's speed."""

import os
import sys
import time
from dataclasses import dataclass

import torch

from vitral.device import device_name
from vitral.inspection.cost import forward_macs
from vitral.inspection.devices import DEVICES, Device
from vitral.inspection.plan import throughput
from vitral.train.session import Session

__all__ = ["Setup", "all_reduce_seconds", "find_device", "setup_of"]

MAX_PROBE = 2**24
"""Maximum number of float32 values in the timed all-reduce."""


@dataclass(frozen=True, kw_only=True)
class Setup:
    """The hardware and settings that determine a run's speed."""

    device: str = "cpu"
    """Name of the device."""
    on_gpu: bool = False
    half_precision: bool = False
    """Whether the model computes in 16 bits."""
    compiled: bool = False
    workers: int = 0
    """Data workers of each training process; 0: it reads images itself."""
    cores: int = 1
    """CPU cores for each training process."""
    processes: int = 1
    all_reduce_seconds: float = 0.0
    """Time to exchange all gradients once, without overlap."""
    pictures: bool = True
    """Whether the images are grey or colour pictures."""
    peak_rate: float | None = None
    """Images per second of all devices at peak FLOPS; None if the peak is unknown."""

    @property
    def pack(self) -> str:
        """What makes images faster to read."""
        return "store the images smaller" + (" with vitral data pack" if self.pictures else "")

    def utilisation(self, rate: float) -> float | None:
        """Model FLOPS utilisation (MFU) at `rate` images per second, a fraction of the peak; None if it is unknown."""
        return None if self.peak_rate is None else rate / self.peak_rate


def setup_of(session: Session) -> Setup:
    """The setup of a session. All processes call it, to time the all-reduce."""
    config, world = session.config, session.world
    on_gpu = session.device.type != "cpu"
    name = device_name(session.device)
    local_size = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    device, peak = find_device(name), None
    # the peak is that of 16 bits and of full training at the model's size: float32 reaches half of it or less, adapters
    # skip some gradients
    full = config.model.lora_rank is None and not config.model.probe and not config.resolution.sizes
    if device is not None and session.autocast_dtype is not None and full:
        macs = forward_macs(config.model.architecture)
        peak = throughput(macs, device=device, devices=world.size, utilisation=1.0)
    cores = len(os.sched_getaffinity(0)) // local_size if sys.platform == "linux" else os.cpu_count() or 1
    return Setup(
        device=name,
        on_gpu=on_gpu,
        half_precision=session.autocast_dtype is not None,
        compiled=session.forward is not session.wrapped,
        workers=config.data.workers,
        cores=max(cores, 1),
        processes=world.size,
        all_reduce_seconds=all_reduce_seconds(session),
        pictures=config.data.channels is None,
        peak_rate=peak,
    )


def find_device(name: str) -> Device | None:
    """The accelerator with a name such as `NVIDIA H100 80GB HBM3`; None for unknown ones and for PCIe, NVL and MIG."""
    words = name.lower().replace("rtx ", "rtx").replace("-", " ").split()
    if {"pcie", "nvl", "mig"} & set(words):
        return None
    return next((DEVICES[word] for word in words if word in DEVICES), None)


def all_reduce_seconds(session: Session) -> float:
    """Measures how long the exchange of all gradients of a step takes."""
    world = session.world
    if world.size == 1:
        return 0.0
    count = sum(parameter.numel() for parameter in session.model.parameters() if parameter.requires_grad)
    dtype = getattr(torch, session.config.train.reduce_dtype)
    values = torch.zeros(min(count, MAX_PROBE), device=session.device, dtype=dtype)
    world.all_reduce_sum(values).sum().item()  # the first call connects the processes
    start = time.perf_counter()
    world.all_reduce_sum(values).sum().item()
    seconds = (time.perf_counter() - start) * count / len(values)
    # FSDP all-gathers weights before the forward and the backward pass and reduce-scatters gradients: 1.5 times as much
    return seconds * (1.5 if session.config.train.parallel == "fsdp" else 1.0)
