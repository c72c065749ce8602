"""Configuration of data augmentation."""

import math
from dataclasses import dataclass
from typing import Literal

from vitral.data.images.patch_rows import MAX_PATCHES
from vitral.errors import UserError

__all__ = ["AugmentConfig"]


@dataclass(frozen=True, kw_only=True)
class AugmentConfig:
    """How training images are augmented. The defaults change nothing.

    Raises:
        UserError: a value is out of range.
    """

    crop: Literal["none", "inception", "inception_tf", "simple", "square"] = "none"
    """`inception`: a random crop resized to the model's size, sampled as in torchvision: uniform area, log-uniform
    aspect ratio, ten attempts. `inception_tf`: as in TensorFlow and big_vision: uniform aspect ratio, then height, a
    hundred attempts. `simple`: DeiT III's simple random crop: the short side is resized, 4 pixels are added by
    reflection, and the model's size is cropped. `square`: BiT's: the whole image is squashed to 7/6 of the model's
    size, and the model's size is cropped. The next two settings apply to the inception crops only.
    """
    crop_area: tuple[float, float] = (0.05, 1.0)
    """Smallest and largest area of the crop, as a fraction of the image's."""
    crop_aspect: tuple[float, float] = (3 / 4, 4 / 3)
    """Smallest and largest aspect ratio (width / height) of the crop."""
    flip: bool = False
    """Flip each image horizontally with probability 0.5."""
    flip_vertical: bool = False
    """Flip each image vertically with probability 0.5."""
    shift: int = 0
    """Largest shift along each axis, in whole pixels; the border is filled with black, with --data.channels with the
    channels' means.
    """
    rotate: float = 0.0
    """Largest rotation, in degrees."""
    scale: float = 0.0
    """Largest change of scale: 0.1 is from 10 % smaller to 10 % larger."""
    randaugment: Literal["none", "big_vision", "torchvision"] = "none"
    """Which implementation's operations and magnitudes RandAugment uses (arXiv 1909.13719)."""
    randaugment_layers: int = 2
    """Number of operations applied to each image."""
    randaugment_magnitude: int = 10
    """Strength: torchvision's scale is 0 to 30, big_vision's is 0 to 10 and beyond."""
    three_augment: bool = False
    """Apply greyscale, solarisation or Gaussian blur to each image, as in DeiT III (arXiv 2204.07118)."""
    colour_jitter: float = 0.0
    """Largest relative change of brightness, contrast and saturation, applied in random order."""
    erase: float = 0.0
    """Probability of random erasing (arXiv 1708.04896)."""
    erase_fill: Literal["mean", "noise"] = "noise"
    """Fill of the erased rectangle: the mean of all images, or normal noise."""
    mixup: float = 0.0
    """Alpha of mixup's Beta distribution (arXiv 1710.09412); 0: off. Neighbours in a batch are mixed."""
    cutmix: float = 0.0
    """Alpha of CutMix's Beta distribution (arXiv 1905.04899); 0: off. With mixup, each mixes half the pairs."""
    mix_per: Literal["pair", "batch"] = "pair"
    """Whether the mixing weight is sampled for each pair, or once for the batch as in big_vision."""
    sequence_lengths: tuple[int, ...] = ()
    """With --preprocessing.resize native_aspect: numbers of patches, of which each batch takes one at random as its
    most (NaFlex); none: all batches have --preprocessing.max-patches.
    """
    repeats: int = 1
    """Copies of each image in a batch, augmented differently (repeated augmentation, arXiv 1901.09335)."""

    def __post_init__(self) -> None:
        if not 0 < self.crop_area[0] <= self.crop_area[1] <= 1:
            raise UserError(f"crop_area must be two fractions with 0 < smallest <= largest <= 1, not {self.crop_area}")
        if not 0 < self.crop_aspect[0] <= self.crop_aspect[1] < math.inf:
            raise UserError(f"crop_aspect must be two ratios with 0 < smallest <= largest, not {self.crop_aspect}")
        if self.shift < 0 or not 0 <= self.rotate < math.inf:
            raise UserError(f"shift and rotate must be at least 0, not {self.shift} and {self.rotate}")
        if not 0 <= self.scale < 1:
            raise UserError(f"scale must be at least 0 and below 1, not {self.scale}")

        if not all(1 <= length <= MAX_PATCHES for length in self.sequence_lengths):
            raise UserError(f"sequence_lengths must be from 1 to {MAX_PATCHES}, not {self.sequence_lengths}")
        for name in ("colour_jitter", "erase", "mixup", "cutmix"):
            value, most = getattr(self, name), 1.0 if name in ("colour_jitter", "erase") else math.inf
            if not 0 <= value <= most or value == math.inf:
                raise UserError(f"{name} must be at least 0{' and at most 1' if most == 1 else ''}, not {value}")
        if self.randaugment_layers < 1 or self.repeats < 1 or self.randaugment_magnitude < 0:
            raise UserError("randaugment_layers and repeats must be at least 1, randaugment_magnitude at least 0")
        if self.randaugment == "torchvision" and self.randaugment_magnitude > 30:
            raise UserError(f"torchvision's magnitudes are 0 to 30, not {self.randaugment_magnitude}")

    @property
    def colour_flags(self) -> tuple[str, ...]:
        """The flags of augmentations that change colours, with the values that turn them off, if they are on."""
        on = {
            "--augment.colour-jitter 0": self.colour_jitter > 0,
            "--augment.randaugment none": self.randaugment != "none",
            "--augment.no-three-augment": self.three_augment,
        }
        return tuple(flag for flag, used in on.items() if used)

    @property
    def one_size_flags(self) -> tuple[str, ...]:
        """The flags that turn off what needs images of one size, if it is on: all but some crops, flips and repeats."""
        names = ("shift", "rotate", "scale", "erase", "mixup", "cutmix")
        on = {
            "--augment.crop inception": self.crop in ("inception_tf", "simple"),
            **{f"--augment.{name} 0": getattr(self, name) > 0 for name in names},
        }
        return (*(flag for flag, used in on.items() if used), *self.colour_flags)

    @property
    def mixes(self) -> bool:
        """Whether images are mixed."""
        return bool(self.mixup or self.cutmix)

    @property
    def warps(self) -> bool:
        """Whether images are shifted, rotated or scaled."""
        return bool(self.shift or self.rotate or self.scale)
