"""What a recipe chooses by the images it is given: the model's size, and settings for a desk instead of a cluster."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from vitral.data.augment.config import AugmentConfig
from vitral.data.batches import EvaluationBatches, readable
from vitral.data.images.decode import UnreadableImage
from vitral.data.images.preprocess import Preprocessing
from vitral.data.sources.source import Source
from vitral.objectives.dino import CropConfig, DINOConfig
from vitral.objectives.mae import MAEConfig
from vitral.objectives.masked_patch import MaskedPatchConfig
from vitral.recipes.masked_patch import SIMMIM
from vitral.train.config import ModelSetup, RunConfig, TrainConfig
from vitral.train.evaluation import evenly_spaced
from vitral.train.optimisers.optimiser import OptimConfig
from vitral.train.schedule import ScheduleConfig
from vitral.vit_config import ViTConfig

__all__ = ["DESK_IMAGES", "DESK_OBJECTIVES", "Survey", "choose", "chosen_for", "compare_classes", "survey"]

DESK_IMAGES = 20_000
"""Training images below which self-supervised recipes have settings for a desk, and not those of their papers."""

SAMPLE = 100
"""Images whose size is read."""

SMALL = 32
"""Pixels of the shorter side up to which images are small for self-supervision."""

ICON = 96
"""Pixels of the shorter side below which images show one thing, of which a crop would leave out too much."""

ICON_SIZE = 64
"""Pixels at which such images are trained."""

PLAIN_GRID = 8
"""Rows and columns of patches where there is no convolutional stem."""

ICON_AUGMENT = AugmentConfig(shift=4, rotate=10.0, scale=0.15)
"""Augmentation of such images."""

COMPARED, THUMBNAIL = 400, 16
"""Images that are compared with their mirror images, and their height and width in pixels."""

TELLING = 0.1
"""Accuracy of nearest neighbours above that of random ones, below which they say nothing about the classes."""

MIRRORED = 0.75
"""Fraction of that accuracy which mirror images keep at least, where flips keep the class."""

LEVELLED = 0.25
"""Fraction of that accuracy which images without their mean colour keep at most, where it is what classes differ by."""

DESK_OBJECTIVES: dict[str, Any] = {
    "masked-patch": MaskedPatchConfig(target="small_patch"),
    "simmim": MaskedPatchConfig(**SIMMIM, mask_unit=2),
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
    mirrors: bool = True
    """Whether a mirror image shows the same class; see `compare_classes`."""
    levels: bool = False
    """Whether classes differ by their mean brightness or colour; see `compare_classes`."""

    @property
    def small(self) -> bool:
        """Whether the images are small."""
        return self.short_side is not None and self.short_side <= SMALL

    @property
    def icons(self) -> bool:
        """Whether the images are as small as icons."""
        return self.short_side is not None and self.short_side < ICON

    def describe(self) -> str:
        """The facts in words."""
        classes = f" of {self.num_classes} classes" if self.num_classes > 1 else ""
        side = f", {self.short_side} pixels on the shorter side" if self.short_side else ""
        return f"{self.num_train:,} training images{classes}{side}"


def choose(config: RunConfig, data: Mapping[str, Source]) -> RunConfig:
    """A recipe's configuration with what it chooses by the images; unchanged if it chooses nothing."""
    facts = survey(data)
    if config.recipe == "folder":
        mirrors, levels = compare_classes(data["train"])
        facts = replace(facts, mirrors=mirrors, levels=levels or bool(config.preprocessing.bands))
    return chosen_for(config, facts)


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
    """A recipe's configuration with what it chooses by these facts."""
    if config.recipe == "folder":
        return _for_labels(config, facts)
    if config.recipe in DESK_OBJECTIVES and facts.num_train < DESK_IMAGES:
        return _without_labels(config, facts)
    return config


def _for_labels(config: RunConfig, facts: Survey) -> RunConfig:
    """Icons are trained at 64 pixels without crops; nothing is flipped whose mirror image is of another class.

    A convolutional stem normalises each image's brightness away: where that is the class, there are plain patches. So
    there are where images keep their aspect ratio.
    """
    architecture, augment = config.model.architecture, config.augment
    keeps_aspect = config.preprocessing.keeps_aspect
    if facts.icons:
        architecture = replace(architecture, image_size=ICON_SIZE)
    if facts.icons and not keeps_aspect:
        augment = ICON_AUGMENT
    if facts.levels or keeps_aspect:
        architecture = replace(architecture, stem_stages=None, patch_size=architecture.image_hw[0] // PLAIN_GRID)
    augment = replace(augment, flip=facts.mirrors)
    return replace(config, model=replace(config.model, architecture=architecture), augment=augment)


def compare_classes(source: Source) -> tuple[bool, bool]:
    """Whether mirror images are of the same class, and whether classes differ by mean brightness or colour alone.

    A digit in a mirror is no digit, most photographs show the same. Among some of the training images, how often is
    the nearest other one of the same class, more often than a random one: for the images, for their mirror images, and
    without each image's mean colour? Distances are Euclidean, of small pixels.
    """
    some = evenly_spaced(source, COMPARED)
    small = Preprocessing(image_size=(THUMBNAIL, THUMBNAIL), channels=3)
    batch = EvaluationBatches(source=some, preprocessing=small, batch_size=len(some))[0]
    images, labels = batch.images[readable(batch.labels)].float(), batch.labels[readable(batch.labels)]
    if labels.ndim > 1 or len(labels) < 2:
        return True, False

    by_chance = (labels[:, None] == labels).double().mean().item()

    def gain(queries: Float[Tensor, "b h w c"], others: Float[Tensor, "b h w c"]) -> float:
        distances = torch.cdist(queries.flatten(1), others.flatten(1)).fill_diagonal_(math.inf)
        return (labels[distances.argmin(1)] == labels).double().mean().item() - by_chance

    original = gain(images, images)
    if original < TELLING:
        return True, False
    level = images - images.mean(dim=(1, 2), keepdim=True)
    return gain(images.flip(2), images) >= MIRRORED * original, gain(level, level) < LEVELLED * original


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
