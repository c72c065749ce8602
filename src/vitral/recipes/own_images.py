"""What a recipe chooses by the images it is given: the model's size, and settings for a desk instead of a cluster."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from PIL import Image

from vitral.data.augment.config import AugmentConfig
from vitral.data.images.decode import UnreadableImage
from vitral.data.images.preprocess import Preprocessing
from vitral.data.sources.source import Source
from vitral.objectives.dino import CropConfig, DINOConfig
from vitral.objectives.mae import MAEConfig
from vitral.objectives.masked_patch import MaskedPatchConfig
from vitral.train.config import ModelSetup, RunConfig, TrainConfig
from vitral.train.optimisers.optimiser import OptimConfig
from vitral.train.schedule import ScheduleConfig
from vitral.vit_config import ViTConfig

__all__ = ["DESK_IMAGES", "DESK_OBJECTIVES", "Survey", "chosen_for", "survey"]

DESK_IMAGES = 20_000
"""Training images below which self-supervised recipes have settings for a desk, and not those of their papers."""

SAMPLE = 100
"""Images whose size is read."""

SMALL = 32
"""Pixels of the shorter side up to which images are small: a crop or a flip would change what they show."""

SMALL_AUGMENT = AugmentConfig(shift=2, rotate=10.0, scale=0.15)
"""Augmentation of small images."""

DESK_OBJECTIVES: dict[str, Any] = {
    "masked-patch": MaskedPatchConfig(target="small_patch"),
    "mae": MAEConfig(width=96, depth=2, num_heads=4),
    "dino": DINOConfig(crops=CropConfig(num_local=4), prototypes=1024, hidden=256, bottleneck=64, momentum=0.9),
}
"""Objectives of the self-supervised recipes at a desk."""


@dataclass(frozen=True, kw_only=True)
class Survey:
    """What is known of images before training."""

    num_train: int
    num_classes: int
    short_side: int | None
    """Median of the shorter side in pixels, of some training images; None if none could be read."""

    @property
    def small(self) -> bool:
        """Whether the images are small."""
        return self.short_side is not None and self.short_side <= SMALL

    def describe(self) -> str:
        """The facts in words."""
        classes = f" of {self.num_classes} classes" if self.num_classes > 1 else ""
        side = f", {self.short_side} pixels on the shorter side" if self.short_side else ""
        return f"{self.num_train:,} training images{classes}{side}"


def survey(data: Mapping[str, Source]) -> Survey:
    """Counts the training images and reads the size of some of them."""
    train = data["train"]
    sides = []
    for index in np.linspace(0, len(train) - 1, min(SAMPLE, len(train))).round().astype(int).tolist():
        try:
            stored = train.stored(index)
            size = stored.size if isinstance(stored, Image.Image) else _size(stored)
        except (UnreadableImage, OSError, ValueError, SyntaxError, Image.DecompressionBombError):
            continue
        sides.append(min(size))
    return Survey(
        num_train=len(train), num_classes=len(train.classes), short_side=round(median(sides)) if sides else None
    )


def _size(stored: Path | bytes) -> tuple[int, int]:
    """Width and height in a file's header."""
    with Image.open(BytesIO(stored) if isinstance(stored, bytes) else stored) as image:
        return image.size


def chosen_for(config: RunConfig, facts: Survey) -> RunConfig:
    """A recipe's configuration with what it chooses by the images; unchanged if it chooses nothing."""
    if config.recipe == "folder":
        return _for_labels(config, facts)
    if config.recipe in DESK_OBJECTIVES and facts.num_train < DESK_IMAGES:
        return _without_labels(config, facts)
    return config


def _for_labels(config: RunConfig, facts: Survey) -> RunConfig:
    """Small images keep their detail at 64 pixels, in patches of 8, and are augmented without crops and flips."""
    if not facts.small:
        return config
    architecture = replace(config.model.architecture, image_size=64, patch_size=8)
    return replace(config, model=replace(config.model, architecture=architecture), augment=SMALL_AUGMENT)


def _without_labels(config: RunConfig, facts: Survey) -> RunConfig:
    """A model of 2 million parameters, batches of 64 and the settings of the recipes for Fashion-MNIST."""
    paper = config.model.architecture
    assert isinstance(paper, ViTConfig)
    size, patch = (64, 8) if facts.small else (128, 16)
    architecture = replace(paper, image_size=size, patch_size=patch, width=192, depth=6, num_heads=3, mlp_dim=768)
    return replace(
        config,
        model=ModelSetup(architecture=replace(architecture, pool="gap")),
        data=replace(config.data, workers=2),
        preprocessing=Preprocessing(image_size=(size, size), channels=3),
        augment=AugmentConfig() if config.recipe == "dino" else AugmentConfig(crop="inception", crop_area=(0.25, 1.0)),
        objective=DESK_OBJECTIVES[config.recipe],
        optim=OptimConfig(name="muon", lr=3e-3, weight_decay=0.05, clip=3.0),
        schedule=ScheduleConfig(warmup="10percent"),
        train=TrainConfig(batch_size=64, epochs=100.0, evaluate="20percent"),
    )
