"""How training images vary."""

import math
from dataclasses import dataclass, field
from typing import Literal

from vitral.data.augment.mix import MixConfig

__all__ = ["AugmentConfig"]


@dataclass(frozen=True, kw_only=True)
class AugmentConfig:
    """How training images vary. The defaults change nothing.

    Raises:
        ValueError: a value is out of range.
    """

    crop: Literal["none", "inception"] = "none"
    """`inception`: a random part of the image, resized to the model's size."""
    crop_area: tuple[float, float] = (0.05, 1.0)
    """Smallest and largest share of the image's area that the crop keeps."""
    crop_aspect: tuple[float, float] = (3 / 4, 4 / 3)
    """Smallest and largest width over height of the crop."""
    flip: bool = False
    """Mirror each image with probability one half, left to right."""
    shift: int = 0
    """Largest shift along each axis, in whole pixels; what comes in is black."""
    rotate: float = 0.0
    """Largest rotation, in degrees."""
    scale: float = 0.0
    """Largest change of size: 0.1 is from 10 % smaller to 10 % larger."""
    mix: MixConfig = field(default_factory=MixConfig)

    def __post_init__(self) -> None:
        if not 0 < self.crop_area[0] <= self.crop_area[1] <= 1:
            raise ValueError(f"crop_area must be two shares with 0 < smallest <= largest <= 1, not {self.crop_area}")
        if not 0 < self.crop_aspect[0] <= self.crop_aspect[1] < math.inf:
            raise ValueError(f"crop_aspect must be two ratios with 0 < smallest <= largest, not {self.crop_aspect}")
        if self.shift < 0 or not 0 <= self.rotate < math.inf:
            raise ValueError(f"shift and rotate must be at least 0, not {self.shift} and {self.rotate}")
        if not 0 <= self.scale < 1:
            raise ValueError(f"scale must be at least 0 and below 1, not {self.scale}")

    @property
    def warps(self) -> bool:
        """Whether images are shifted, rotated or scaled."""
        return bool(self.shift or self.rotate or self.scale)
