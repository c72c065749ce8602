"""Augmentation: drawn by arithmetic on (seed, epoch, sample), applied to whole batches on the device.

The crop alone is applied where an image is decoded, so that only the pixels it keeps are ever resized.
"""

from vitral.data.augment.apply import augmented
from vitral.data.augment.config import AugmentConfig
from vitral.data.augment.crop import crop_box
from vitral.data.augment.draws import Draws, draw
from vitral.data.augment.geometry import flip, warp

__all__ = ["AugmentConfig", "Draws", "augmented", "crop_box", "draw", "flip", "warp"]
