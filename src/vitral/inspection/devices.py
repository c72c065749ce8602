"""Accelerators and data sets that training runs are planned for, without PyTorch."""

from dataclasses import dataclass

__all__ = ["DATA", "DEVICES", "Device"]


@dataclass(frozen=True, kw_only=True)
class Device:
    """An accelerator as its maker's data sheet describes it."""

    name: str
    """What to call it."""
    flops: float
    """Peak operations per second, dense, 16-bit, accumulated in 32."""
    memory: float
    """Bytes of its memory."""
    watts: float
    """Highest power that it draws."""
    link: float | None = None
    """Bytes per second, in one direction, to the other devices of its node."""
    network: float | None = None
    """Bytes per second, in one direction, to other nodes, in its maker's own nodes of eight."""


DEVICES = {
    # makers' data sheets; figures with sparsity are halved
    # links of NVLink; networks of the DGX systems: 8 x 400, 8 x 200 and 4 x 100 Gb/s
    # watts of half a TPU v3 chip: Jouppi et al., ISCA 2021
    "h100": Device(name="NVIDIA H100 SXM 80 GB", flops=989.4e12, memory=80e9, watts=700.0, link=450e9, network=50e9),
    "h200": Device(name="NVIDIA H200 SXM 141 GB", flops=989.4e12, memory=141e9, watts=700.0, link=450e9, network=50e9),
    "a100": Device(name="NVIDIA A100 80 GB", flops=312e12, memory=80e9, watts=400.0, link=300e9, network=25e9),
    "a100-40": Device(name="NVIDIA A100 40 GB", flops=312e12, memory=40e9, watts=400.0, link=300e9, network=25e9),
    "v100": Device(name="NVIDIA V100 32 GB", flops=125e12, memory=32e9, watts=300.0, link=150e9, network=6.25e9),
    "l4": Device(name="NVIDIA L4 24 GB", flops=121e12, memory=24e9, watts=72.0),
    "t4": Device(name="NVIDIA T4 16 GB", flops=65e12, memory=16e9, watts=70.0),
    "rtx4090": Device(name="NVIDIA RTX 4090 24 GB", flops=165.2e12, memory=24e9, watts=450.0),
    "tpuv3": Device(name="Google TPU v3, one of a chip's two cores", flops=61.5e12, memory=16e9, watts=225.0),
}
"""Accelerators by the name to type."""

DATA = {"imagenet1k": 1_281_167, "imagenet21k": 14_197_122, "jft300m": 303_000_000}
"""Training images of the paper's data sets."""
