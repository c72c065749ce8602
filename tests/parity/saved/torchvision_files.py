"""Files of torchvision, as they are saved."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torchvision.models import VisionTransformer
from torchvision.models.vision_transformer import ConvStemConfig

from parity.saved.case import Saved, safetensors, torch_file

__all__ = ["CASES"]

TINY: dict[str, Any] = dict(image_size=32, patch_size=8, num_layers=2, num_heads=1, hidden_dim=64, mlp_dim=96)
HUGE: dict[str, Any] = TINY | dict(num_heads=16, hidden_dim=1280)
"""Width and heads of `vit_h_14`, with fewer blocks."""


def build(**args: Any) -> Callable[[], nn.Module]:
    return lambda: VisionTransformer(**{**TINY, "num_classes": 7, **args})


def published(model: nn.Module, folder: Path) -> Path:
    """The names of the published files, older than those of the class."""
    names = {".mlp.0.": ".mlp.linear_1.", ".mlp.3.": ".mlp.linear_2."}
    tensors = {}
    for name, tensor in model.state_dict().items():
        for new, old in names.items():
            name = name.replace(new, old)
        tensors[name] = tensor
    torch.save(tensors, folder / "vit_b_16-c867db91.pth")
    return folder / "vit_b_16-c867db91.pth"


CASES: dict[str, Saved] = {
    "torchvision, state dict": Saved(build=build(), save=safetensors, lineage="torchvision"),
    "torchvision, published names": Saved(
        build=build(), save=published, lineage="torchvision", notes=("1 assumed, as usual for width 64",)
    ),
    "torchvision, tanh layer": Saved(build=build(representation_size=24), save=safetensors, lineage="torchvision"),
    "torchvision, vit_h_14": Saved(build=build(**HUGE), save=published, lineage="torchvision"),
    "torchvision, heads given": Saved(
        build=build(num_heads=4), save=published, lineage="torchvision", options={"num_heads": 4}
    ),
    "torchvision, training checkpoint": Saved(
        build=build(), save=torch_file(lambda model: {"model": model.state_dict()}), lineage="torchvision"
    ),
    "torchvision, convolutions before the patches": Saved(
        build=build(conv_stem_configs=[ConvStemConfig(16, 3, 8)]),
        save=safetensors,
        refusal="unknown format",
    ),
}
