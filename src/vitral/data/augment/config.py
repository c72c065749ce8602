"""What training images may vary in."""

import math
from dataclasses import dataclass
from typing import Literal

from vitral.errors import UserError

__all__ = ["AugmentConfig"]


@dataclass(frozen=True, kw_only=True)
class AugmentConfig:
    """How training images vary. The defaults change nothing.

    Raises:
        UserError: a value is out of range.
    """

    crop: Literal["none", "inception", "inception_tf", "simple", "square"] = "none"
    """`inception`: a random part of the image, resized to the model's size, as torchvision draws it: area evenly,
    aspect evenly in its logarithm, ten attempts. `inception_tf`: as TensorFlow and big_vision: aspect evenly, then
    height, a hundred attempts. `simple`: DeiT III's: the short side is resized, 4 pixels around are mirrored, and a
    part of the model's size is cut out. `square`: BiT's: the whole image is squashed to 7/6 of the model's size, and a
    part of the model's size is cut out. The two settings below do not concern these.
    """
    crop_area: tuple[float, float] = (0.05, 1.0)
    """Smallest and largest share of the image's area that the crop keeps."""
    crop_aspect: tuple[float, float] = (3 / 4, 4 / 3)
    """Smallest and largest width over height of the crop."""
    flip: bool = False
    """Mirror each image with probability one half, left to right."""
    flip_vertical: bool = False
    """Mirror each image with probability one half, top to bottom."""
    shift: int = 0
    """Largest shift along each axis, in whole pixels; what comes in is black."""
    rotate: float = 0.0
    """Largest rotation, in degrees."""
    scale: float = 0.0
    """Largest change of size: 0.1 is from 10 % smaller to 10 % larger."""
    randaugment: Literal["none", "big_vision", "torchvision"] = "none"
    """Whose set of operations, and meaning of a magnitude, RandAugment has (arXiv 1909.13719)."""
    randaugment_layers: int = 2
    """Operations on each image, one after another."""
    randaugment_magnitude: int = 10
    """Strength: big_vision's goes to 10 and beyond, torchvision's is one of 0 to 30."""
    three_augment: bool = False
    """One of greyscale, solarising and Gaussian blur on each image, as DeiT III (arXiv 2204.07118)."""
    colour_jitter: float = 0.0
    """Brightness, contrast and saturation change by up to this share, in random order."""
    erase: float = 0.0
    """Chance that a rectangle of an image is erased (arXiv 1708.04896)."""
    erase_fill: Literal["mean", "noise"] = "noise"
    """What fills it: the mean of all images, or normal noise."""
    mixup: float = 0.0
    """Alpha of mixup's Beta distribution (arXiv 1710.09412); 0 is off. Neighbours in a batch are mixed."""
    cutmix: float = 0.0
    """Alpha of CutMix's (arXiv 1905.04899); 0 is off. With both, either has one half of the pairs."""
    mix_per: Literal["pair", "batch"] = "pair"
    """Whether each pair draws its own share, or the whole batch one, as in big_vision."""
    repeats: int = 1
    """Copies of an image in a batch, augmented differently (repeated augmentation, arXiv 1901.09335)."""

    def __post_init__(self) -> None:
        if not 0 < self.crop_area[0] <= self.crop_area[1] <= 1:
            raise UserError(f"crop_area must be two shares with 0 < smallest <= largest <= 1, not {self.crop_area}")
        if not 0 < self.crop_aspect[0] <= self.crop_aspect[1] < math.inf:
            raise UserError(f"crop_aspect must be two ratios with 0 < smallest <= largest, not {self.crop_aspect}")
        if self.shift < 0 or not 0 <= self.rotate < math.inf:
            raise UserError(f"shift and rotate must be at least 0, not {self.shift} and {self.rotate}")
        if not 0 <= self.scale < 1:
            raise UserError(f"scale must be at least 0 and below 1, not {self.scale}")

        for name in ("colour_jitter", "erase", "mixup", "cutmix"):
            value, most = getattr(self, name), 1.0 if name in ("colour_jitter", "erase") else math.inf
            if not 0 <= value <= most or value == math.inf:
                raise UserError(f"{name} must be at least 0{' and at most 1' if most == 1 else ''}, not {value}")
        if self.randaugment_layers < 1 or self.repeats < 1 or self.randaugment_magnitude < 0:
            raise UserError("randaugment_layers and repeats must be at least 1, randaugment_magnitude at least 0")
        if self.randaugment == "torchvision" and self.randaugment_magnitude > 30:
            raise UserError(f"torchvision's magnitudes are 0 to 30, not {self.randaugment_magnitude}")

    @property
    def mixes(self) -> bool:
        """Whether images are mixed."""
        return bool(self.mixup or self.cutmix)

    @property
    def warps(self) -> bool:
        """Whether images are shifted, rotated or scaled."""
        return bool(self.shift or self.rotate or self.scale)
