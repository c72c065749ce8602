"""Small models with cards."""

from dataclasses import replace
from typing import Any

import torch

from vitral.card import ModelCard
from vitral.data.images.preprocess import Preprocessing
from vitral.vit import ViT
from vitral.vit_config import ViTConfig

__all__ = ["SMALL", "small_card", "small_model"]

SMALL = ViTConfig(image_size=(16, 24), patch_size=8, width=12, depth=2, num_heads=3, mlp_dim=24, num_classes=3)
"""A colour image of 2 rows and 3 columns of patches."""


def small_model(config: ViTConfig = SMALL, *, seed: int = 0, **changes: Any) -> ViT:
    """A model with its card, and random weights large enough that logits differ between images."""
    config = replace(config, **changes)
    generator = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)
    model = ViT(config)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.5, generator=generator)
    model.card = small_card(config)
    return model.eval()


def small_card(config: ViTConfig = SMALL) -> ModelCard:
    """A card for this configuration, with classes "class 0", "class 1" and so on."""
    return ModelCard(
        preprocessing=Preprocessing(image_size=config.image_hw, channels=config.channels),
        classes=tuple(f"class {label}" for label in range(config.num_classes)),
    )
