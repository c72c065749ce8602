"""Parts of the paper's two ResNets: the released hybrids' and BiT's (arXiv 1912.11370).

Both have GroupNorm and weight-standardised convolutions, but not the same numbers: each class below says which.
"""

import math
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Generator, Tensor, nn

from vitral.layers.init import lecun_normal_

__all__ = ["GROUPS", "BiTConv", "Bottleneck", "PadSame", "PreActivated", "SameConv", "init_resnet", "stages"]

GROUPS = 32
"""Groups of every GroupNorm."""


class PadSame(nn.Module):
    """TensorFlow's padding with zeros: ceil(size / stride) windows fit, an odd pixel is at the bottom and right."""

    def __init__(self, kernel: int, stride: int) -> None:
        super().__init__()
        self.kernel, self.stride = kernel, stride

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h2 w2"]:
        missing = (max((-(-size // self.stride) - 1) * self.stride + self.kernel - size, 0) for size in x.shape[2:])
        (top, bottom), (left, right) = ((count // 2, count - count // 2) for count in missing)
        return F.pad(x, (left, right, top, bottom))


class StandardisedConv(nn.Conv2d, ABC):
    """A convolution without bias whose filters are shifted and scaled to mean 0 and deviation 1 at each use.

    Padding that is the same on every side is left to the convolution: a border put around the input copies it.
    """

    border: nn.Module

    def forward(self, input: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d h2 w2"]:
        return F.conv2d(self.border(input), self.standardised(), stride=self.stride, padding=self.padding[0])

    @abstractmethod
    def standardised(self) -> Float[Tensor, "d c p q"]:
        """The filters to convolve with. Written without `torch.var_mean`, ten times as slow as these on a CPU."""


class SameConv(StandardisedConv):
    """The released hybrids': std + 1e-5, and TensorFlow's padding."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1) -> None:
        even = stride == 1 or kernel == 1
        super().__init__(inputs, outputs, kernel, stride=stride, padding=kernel // 2 if even else 0, bias=False)
        self.border = nn.Identity() if even else PadSame(kernel, stride)

    def standardised(self) -> Float[Tensor, "d c p q"]:
        filters = self.weight.flatten(1)
        centred = filters - filters.mean(dim=1, keepdim=True)
        deviation = torch.linalg.vector_norm(centred, dim=1, keepdim=True) / math.sqrt(filters.shape[1])
        return (centred * (deviation + 1e-5).reciprocal()).view_as(self.weight)


class BiTConv(StandardisedConv):
    """BiT's: sqrt(var + 1e-10), and the same padding on every side."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1) -> None:
        super().__init__(inputs, outputs, kernel, stride=stride, padding=kernel // 2, bias=False)
        self.border = nn.Identity()

    def standardised(self) -> Float[Tensor, "d c p q"]:
        return F.layer_norm(self.weight, self.weight.shape[1:], eps=1e-10)


class Bottleneck(nn.Module):
    """The released hybrids' unit: post-activation, ResNet's first form, GroupNorm epsilon 1e-6."""

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        outputs = 4 * width
        self.conv1, self.norm1 = SameConv(inputs, width, 1), nn.GroupNorm(GROUPS, width, eps=1e-6)
        self.conv2, self.norm2 = SameConv(width, width, 3, stride), nn.GroupNorm(GROUPS, width, eps=1e-6)
        self.conv3, self.norm3 = SameConv(width, outputs, 1), nn.GroupNorm(GROUPS, outputs, eps=1e-6)
        projection: OrderedDict[str, nn.Module] = OrderedDict(
            conv=SameConv(inputs, outputs, 1, stride), norm=nn.GroupNorm(GROUPS, outputs, eps=1e-6)
        )
        self.downsample = nn.Sequential(projection) if inputs != outputs or stride != 1 else nn.Identity()

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d h2 w2"]:
        out = F.relu(self.norm1(self.conv1(x)))
        out = F.relu(self.norm2(self.conv2(out)))
        return F.relu(self.downsample(x) + self.norm3(self.conv3(out)))


class Kept(nn.Module):
    """A unit's shortcut, its input as it came."""

    def forward(self, x: Float[Tensor, "b c h w"], active: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        return x


class Projected(nn.Module):
    """A unit's shortcut, its normed and rectified input in the channels and size of its output."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv = BiTConv(inputs, outputs, 1, stride)

    def forward(self, x: Float[Tensor, "b c h w"], active: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d h2 w2"]:
        return self.conv(active)


class PreActivated(nn.Module):
    """BiT's unit: norm and ReLU come before each convolution, the projection too; GroupNorm epsilon 1e-5."""

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        outputs = 4 * width
        self.norm1, self.conv1 = nn.GroupNorm(GROUPS, inputs, eps=1e-5), BiTConv(inputs, width, 1)
        self.norm2, self.conv2 = nn.GroupNorm(GROUPS, width, eps=1e-5), BiTConv(width, width, 3, stride)
        self.norm3, self.conv3 = nn.GroupNorm(GROUPS, width, eps=1e-5), BiTConv(width, outputs, 1)
        self.downsample = Projected(inputs, outputs, stride) if inputs != outputs or stride != 1 else Kept()

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d h2 w2"]:
        active = F.relu(self.norm1(x))
        out = self.conv2(F.relu(self.norm2(self.conv1(active))))
        return self.conv3(F.relu(self.norm3(out))) + self.downsample(x, active)


def stages(unit: Callable[[int, int, int], nn.Module], *, units: Sequence[int], width: int) -> nn.Sequential:
    """The stages after a root of `width` channels: each doubles the width, each but the first halves the map.

    Args:
        unit: makes one from its input channels, width (a quarter of its output channels) and stride.
        units: how many there are in each stage.
        width: channels of the root, and width of the first stage.
    """
    widths = [width * 2**stage for stage in range(len(units))]
    inputs = [width, *(4 * own for own in widths)]
    made = []
    for stage, (count, (before, after)) in enumerate(zip(units, pairwise(inputs), strict=True)):
        first = unit(before, widths[stage], 1 if stage == 0 else 2)
        others = (unit(after, widths[stage], 1) for _ in range(count - 1))
        made.append(nn.Sequential(OrderedDict(blocks=nn.Sequential(first, *others))))
    return nn.Sequential(*made)


@torch.no_grad()
def init_resnet(resnet: nn.Module, generator: Generator | None) -> None:
    """LeCun normal convolutions; norms 1 and 0, but 0 for a `Bottleneck`'s last: the unit begins as its shortcut."""
    for module in resnet.modules():
        if isinstance(module, nn.Conv2d):
            lecun_normal_(module.weight, generator)
        elif isinstance(module, nn.GroupNorm):
            nn.init.ones_(module.weight)
            nn.init.zeros_(module.bias)
    for module in resnet.modules():
        if isinstance(module, Bottleneck):
            nn.init.zeros_(module.norm3.weight)
