"""Models small enough for a test, with cards."""

from dataclasses import replace
from typing import Any

import torch

from vitral.card import ModelCard
from vitral.data.images.preprocess import Preprocessing
from vitral.vit import ViT
from vitral.vit_config import ViTConfig

__all__ = ["SMALL", "small_card", "small_model"]

SMALL = ViTConfig(image_size=(16, 24), patch_size=8, width=12, depth=2, num_heads=3, mlp_dim=24, num_classes=3)
"""Six patches, two rows of three, of a colour image that is wider than high."""


def small_model(config: ViTConfig = SMALL, *, seed: int = 0, **changes: Any) -> ViT:
    """A random model whose logits differ from image to image, with its card."""
    config = replace(config, **changes)
    generator = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)
    model = ViT(config)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.5, generator=generator)
    model.card = small_card(config)
    return model.eval()


def small_card(config: ViTConfig = SMALL) -> ModelCard:
    """A card for a model of that form, with classes "class 0", "class 1" and so on."""
    return ModelCard(
        preprocessing=Preprocessing(image_size=config.image_hw, channels=config.channels),
        classes=tuple(f"class {label}" for label in range(config.num_classes)),
    )
