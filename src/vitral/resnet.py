"""The paper's baseline: a ResNet as in "Big Transfer" (BiT, arXiv 1912.11370).

Letters in the shapes: `b` images, `c` channels, `h w` pixels, `d` channels of the last feature map, `gh gw` its rows
and columns, with a stride of 32 pixels.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Generator, Tensor, nn

from vitral.compat import PretrainedMethods
from vitral.config import check_maximum, check_minimum, pair
from vitral.errors import UserError
from vitral.layers.resnet import GROUPS, BiTConv, PreActivated, init_resnet, stages

__all__ = ["DEPTHS", "ResNet", "ResNetConfig", "ResNetFeatures"]

DEPTHS = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3), 200: (3, 24, 36, 3)}
"""Units in each stage by the number of layers (He et al., arXiv 1512.03385, Table 1; 200: arXiv 1603.05027)."""


LARGEST = dict(image_size=2**17, channels=2**12, num_classes=2**24, stages=1000, root_width=2**12, width_factor=64)
"""Sizes far beyond those of any model: a configuration with larger ones is damaged."""


@dataclass(frozen=True, kw_only=True)
class ResNetConfig:
    """Architecture of a BiT ResNet; the defaults are BiT-R50x1 at 224 pixels.

    Raises:
        UserError: a size is out of range.
    """

    image_size: int | tuple[int, int] = 224
    """Input size in pixels: one number for a square, or height and width."""
    channels: int = 3
    """Channels of the input images."""
    stages: tuple[int, ...] = DEPTHS[50]
    """Units in each stage."""
    root_width: int = 64
    """Channels of the root before the width factor."""
    width_factor: int = 1
    """Factor by which all layers are wider than those of a plain ResNet."""
    num_classes: int = 1000
    """Classes of the head; training sets it to those of the data."""
    head_bias: float = 0.0
    """Initial bias of the head; sigmoid pre-training uses -10."""

    def __post_init__(self) -> None:
        check_minimum(self, 1, "channels", "width_factor", "num_classes")
        check_maximum(self, LARGEST)
        if min(self.image_hw) < 1:
            raise UserError(f"image size must be at least 1 pixel, not {self.image_hw[0]}x{self.image_hw[1]}")
        if not self.stages or min(self.stages) < 1:
            raise UserError(f"stages must name at least one unit for each stage, not {self.stages}")
        if self.root_width < 1 or self.root_width % GROUPS:
            raise UserError(
                f"root_width must be a multiple of {GROUPS}, the groups of its norms, not {self.root_width}"
            )

    @property
    def image_hw(self) -> tuple[int, int]:
        """Image height and width in pixels."""
        return pair(self.image_size)

    @property
    def width(self) -> int:
        """Channels of the last feature map, and width of the representation."""
        return 4 * self.root_width * self.width_factor * 2 ** (len(self.stages) - 1)


@dataclass(frozen=True, kw_only=True)
class ResNetFeatures:
    """Outputs of the ResNet for a batch of images."""

    map: Float[Tensor, "b d gh gw"]
    """The last feature map, after norm and ReLU."""
    pooled: Float[Tensor, "b d"]
    """Its mean, the image representation."""


class Root(nn.Module):
    """Convolution 7x7 and max-pool 3x3: a quarter of the image's height and width."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.conv = BiTConv(channels, width, 7, 2)

    def forward(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d h4 w4"]:
        # padded with zeros, not with -inf as in nn.MaxPool2d: where all values are negative, the maximum is 0
        return F.max_pool2d(F.pad(self.conv(images), (1, 1, 1, 1)), kernel_size=3, stride=2)


class ResNet(PretrainedMethods):
    """Root, stages of pre-activated units, norm, mean, head: from normalised images of any size to logits."""

    def __init__(self, config: ResNetConfig) -> None:
        super().__init__()
        self.config = config
        self.card = None  # preprocessing, class names and provenance, once they are known
        width = config.root_width * config.width_factor
        self.stem = Root(config.channels, width)
        self.stages = stages(PreActivated, units=config.stages, width=width)
        self.norm = nn.GroupNorm(GROUPS, config.width, eps=1e-5)
        self.head = nn.Linear(config.width, config.num_classes)
        if not self.head.weight.is_meta:
            self.init_weights()

    def forward(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b classes"]:
        return self.classify(self.features(images).pooled)

    def features(self, images: Float[Tensor, "b c h w"]) -> ResNetFeatures:
        """Runs everything except the head."""
        if images.shape[1] != self.config.channels:
            raise UserError(f"this model takes images of {self.config.channels} channels, not {images.shape[1]}")
        maps = F.relu(self.norm(self.stages(self.stem(images))))
        return ResNetFeatures(map=maps, pooled=maps.mean(dim=(2, 3)))

    def classify(self, pooled: Float[Tensor, "b d"]) -> Float[Tensor, "b classes"]:
        """The linear head."""
        return self.head(pooled)

    @torch.no_grad()
    def init_weights(self, generator: Generator | None = None) -> None:
        """Initialises every tensor.

        | tensors       | weight                              | bias        |
        |---------------|-------------------------------------|-------------|
        | convolutions  | LeCun normal (truncated at 2 sigma) |             |
        | every norm    | 1                                   | 0           |
        | head          | 0                                   | `head_bias` |
        """
        init_resnet(self, generator)
        nn.init.zeros_(self.head.weight)
        nn.init.constant_(self.head.bias, self.config.head_bias)
