"""What recipes over photographs have in common."""

from typing import Any

from vitral.data.augment.config import AugmentConfig
from vitral.data.images.preprocess import Preprocessing

__all__ = ["IMAGENET", "WORKERS", "augment", "centre_crop"]

INCEPTION: dict[str, Any] = dict(crop="inception_tf", crop_area=(0.05, 1.0), flip=True)
"""The paper's augmentation: Inception crop and mirroring, as its code draws them."""
WORKERS = 8

IMAGENET: dict[str, Any] = dict(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
"""Mean and deviation of ImageNet's colours, which recipes of PyTorch take off."""


def centre_crop(ratio: float = 0.875, **changes: Any) -> Preprocessing:
    """The centre of an image, colours in -1..1; the size is the model's."""
    return Preprocessing(image_size=(224, 224), channels=3, resize="crop", crop_ratio=ratio, **changes)


def augment(**changes: Any) -> AugmentConfig:
    """The paper's augmentation and more."""
    return AugmentConfig(**{**INCEPTION, **changes})
