"""What a run's speed depends on: its machine, its model's arithmetic, its processes."""

import os
import sys
import time
from dataclasses import dataclass

import torch

from vitral.inspection.cost import forward_macs
from vitral.inspection.plan import DEVICES, Device, throughput
from vitral.train.session import Session

__all__ = ["Setup", "gradient_seconds", "known_device", "setup_of"]

PROBE = 2**24
"""Numbers that are exchanged at most to see how fast processes exchange gradients."""


@dataclass(frozen=True, kw_only=True)
class Setup:
    """The circumstances of a run, as far as its speed goes."""

    device: str = "cpu"
    """What to call the device."""
    on_gpu: bool = False
    half: bool = False
    """Whether the model computes in 16 bits."""
    compiled: bool = False
    workers: int = 0
    """Reading processes of each training process; 0: it reads by itself."""
    cores: int = 1
    """Processor cores for each training process."""
    processes: int = 1
    gradients: float = 0.0
    """Seconds in which the processes exchange all gradients once, when they do nothing else."""
    best_rate: float | None = None
    """Images a second of all devices at their peak; None where the peak or the arithmetic is not known."""

    def utilisation(self, rate: float) -> float | None:
        """Share of the devices' peak that is useful work at `rate` images a second (MFU)."""
        return None if self.best_rate is None else rate / self.best_rate


def setup_of(session: Session) -> Setup:
    """The circumstances of a session; all processes call it, and measure their connection."""
    config, world = session.config, session.world
    on_gpu = session.device.type == "cuda"
    name = torch.cuda.get_device_name(session.device) if on_gpu else "cpu"
    local = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    known, best = known_device(name), None
    # half the peak of 16 bits, or less, is what other arithmetic reaches; adapters spare part of the backward pass
    if known is not None and session.half is not None and config.model.lora_rank is None and not config.model.probe:
        macs = forward_macs(config.model.architecture)
        best = throughput(macs, device=known, devices=world.size, utilisation=1.0)
    return Setup(
        device=name,
        on_gpu=on_gpu,
        half=session.half is not None,
        compiled=session.forward is not session.wrapped,
        workers=config.data.workers,
        cores=max(len(os.sched_getaffinity(0)) // local, 1) if sys.platform == "linux" else os.cpu_count() or 1,
        processes=world.size,
        gradients=gradient_seconds(session),
        best_rate=best,
    )


def known_device(name: str) -> Device | None:
    """The accelerator that calls itself `name`, such as `NVIDIA H100 80GB HBM3`; None for others than the SXM forms."""
    words = name.lower().replace("rtx ", "rtx").replace("-", " ").split()
    if {"pcie", "nvl", "mig"} & set(words):
        return None
    return next((DEVICES[word] for word in words if word in DEVICES), None)


def gradient_seconds(session: Session) -> float:
    """Measures the exchange of a step's gradients, as many numbers as there are weights to learn."""
    world = session.world
    if world.size == 1:
        return 0.0
    count = sum(parameter.numel() for parameter in session.model.parameters() if parameter.requires_grad)
    numbers = torch.zeros(min(count, PROBE), device=session.device)
    world.all_reduce_sum(numbers).sum().item()  # the first time makes the connection
    start = time.perf_counter()
    world.all_reduce_sum(numbers).sum().item()
    seconds = (time.perf_counter() - start) * count / len(numbers)
    # weights in shards are gathered before the forward and the backward pass, gradients scattered: half as much again
    return seconds * (1.5 if session.config.train.parallel == "fsdp" else 1.0)
