"""Small versions of architectures: with every module, but smaller sizes and fewer repetitions."""

from dataclasses import replace

from vitral.models import Architecture
from vitral.resnet import ResNetConfig

__all__ = ["shrunk"]


def shrunk(architecture: Architecture) -> Architecture:
    """The architecture with four patches, two narrow blocks, and one unit in each stage of a ResNet."""
    if isinstance(architecture, ResNetConfig):
        return replace(architecture, image_size=32, root_width=32, stages=(1,) * len(architecture.stages))
    stages = architecture.stem_stages
    return replace(
        architecture,
        image_size=2 * architecture.patch_hw[0],
        width=24,
        depth=2,
        num_heads=2,
        mlp_dim=48,
        representation_size=24 if architecture.representation_size else None,
        stem_width=32,
        stem_stages=None if stages is None else (1,) * len(stages),
    )
