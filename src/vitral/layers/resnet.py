"""Parts of the paper's two ResNets: that of the released hybrids, and BiT (arXiv 1912.11370).

Both have GroupNorm and weight-standardised convolutions, but with different constants: see each class.
"""

import math
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Generator, Tensor, nn

from vitral.layers.init import lecun_normal_

__all__ = [
    "GROUPS",
    "NUMERICS",
    "BiTConv",
    "Bottleneck",
    "GoogleConv",
    "HybridNumerics",
    "PadSame",
    "PreActivated",
    "TimmConv",
    "init_resnet",
    "stages",
]

GROUPS = 32
"""Groups of every GroupNorm."""


class PadSame(nn.Module):
    """TensorFlow's "same" zero padding: ceil(size / stride) windows; an odd pixel goes to the bottom and right."""

    def __init__(self, kernel: int, stride: int) -> None:
        super().__init__()
        self.kernel, self.stride = kernel, stride

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h2 w2"]:
        missing = (max((-(-size // self.stride) - 1) * self.stride + self.kernel - size, 0) for size in x.shape[2:])
        (top, bottom), (left, right) = ((count // 2, count - count // 2) for count in missing)
        return F.pad(x, (left, right, top, bottom))


class StandardisedConv(nn.Conv2d, ABC):
    """A convolution without bias whose filters are standardised to mean 0 and standard deviation 1 at each call.

    Symmetric padding is left to the convolution, as a separate pad would copy the input.
    """

    pad: nn.Module

    def forward(self, input: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d h2 w2"]:
        return F.conv2d(self.pad(input), self.standardised(), stride=self.stride, padding=self.padding[0])

    @abstractmethod
    def standardised(self) -> Float[Tensor, "d c p q"]:
        """The filters to convolve with. `torch.var_mean` would be ten times slower on a CPU."""


class SameConv(StandardisedConv):
    """TensorFlow's padding, as in the released hybrids."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1) -> None:
        symmetric = stride == 1 or kernel == 1
        super().__init__(inputs, outputs, kernel, stride=stride, padding=kernel // 2 if symmetric else 0, bias=False)
        self.pad = nn.Identity() if symmetric else PadSame(kernel, stride)


class GoogleConv(SameConv):
    """As in the released hybrids: std + 1e-5."""

    def standardised(self) -> Float[Tensor, "d c p q"]:
        filters = self.weight.flatten(1)
        centred = filters - filters.mean(dim=1, keepdim=True)
        deviation = torch.linalg.vector_norm(centred, dim=1, keepdim=True) / math.sqrt(filters.shape[1])
        return (centred * (deviation + 1e-5).reciprocal()).view_as(self.weight)


class TimmConv(SameConv):
    """As in timm's hybrids: sqrt(var + 1e-8)."""

    def standardised(self) -> Float[Tensor, "d c p q"]:
        return F.layer_norm(self.weight, self.weight.shape[1:], eps=1e-8)


@dataclass(frozen=True)
class HybridNumerics:
    """Constants of a hybrid's ResNet."""

    conv: Callable[..., SameConv]
    """The kind of convolution."""
    norm_eps: float
    """Epsilon of its norms."""

    def norm(self, channels: int) -> nn.GroupNorm:
        """A norm with this epsilon."""
        return nn.GroupNorm(GROUPS, channels, eps=self.norm_eps)


NUMERICS = {"google": HybridNumerics(GoogleConv, 1e-6), "timm": HybridNumerics(TimmConv, 1e-5)}
"""The released hybrids, and timm's, which compute with other constants than the weights were trained with."""


class BiTConv(StandardisedConv):
    """As in BiT: sqrt(var + 1e-10), and symmetric padding."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1) -> None:
        super().__init__(inputs, outputs, kernel, stride=stride, padding=kernel // 2, bias=False)
        self.pad = nn.Identity()

    def standardised(self) -> Float[Tensor, "d c p q"]:
        return F.layer_norm(self.weight, self.weight.shape[1:], eps=1e-10)


class Bottleneck(nn.Module):
    """The unit of a hybrid: post-activation, as in the first ResNet."""

    def __init__(self, inputs: int, width: int, stride: int, *, numerics: HybridNumerics) -> None:
        super().__init__()
        outputs, conv, norm = 4 * width, numerics.conv, numerics.norm
        self.conv1, self.norm1 = conv(inputs, width, 1), norm(width)
        self.conv2, self.norm2 = conv(width, width, 3, stride), norm(width)
        self.conv3, self.norm3 = conv(width, outputs, 1), norm(outputs)
        projection: OrderedDict[str, nn.Module] = OrderedDict(conv=conv(inputs, outputs, 1, stride), norm=norm(outputs))
        self.downsample = nn.Sequential(projection) if inputs != outputs or stride != 1 else nn.Identity()

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d h2 w2"]:
        out = F.relu(self.norm1(self.conv1(x)))
        out = F.relu(self.norm2(self.conv2(out)))
        return F.relu(self.downsample(x) + self.norm3(self.conv3(out)))


class IdentityShortcut(nn.Module):
    """The shortcut of a unit that keeps its shape: the input."""

    def forward(self, x: Float[Tensor, "b c h w"], active: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        return x


class ProjectedShortcut(nn.Module):
    """The shortcut of a unit that changes its shape: a projection of the normalised and rectified input."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv = BiTConv(inputs, outputs, 1, stride)

    def forward(self, x: Float[Tensor, "b c h w"], active: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d h2 w2"]:
        return self.conv(active)


class PreActivated(nn.Module):
    """The unit of BiT: norm and ReLU precede each convolution and the projection; GroupNorm epsilon 1e-5."""

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        outputs = 4 * width
        self.norm1, self.conv1 = nn.GroupNorm(GROUPS, inputs, eps=1e-5), BiTConv(inputs, width, 1)
        self.norm2, self.conv2 = nn.GroupNorm(GROUPS, width, eps=1e-5), BiTConv(width, width, 3, stride)
        self.norm3, self.conv3 = nn.GroupNorm(GROUPS, width, eps=1e-5), BiTConv(width, outputs, 1)
        changes_shape = inputs != outputs or stride != 1
        self.downsample = ProjectedShortcut(inputs, outputs, stride) if changes_shape else IdentityShortcut()

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d h2 w2"]:
        active = F.relu(self.norm1(x))
        out = self.conv2(F.relu(self.norm2(self.conv1(active))))
        return self.conv3(F.relu(self.norm3(out))) + self.downsample(x, active)


def stages(unit: Callable[[int, int, int], nn.Module], *, units: Sequence[int], width: int) -> nn.Sequential:
    """The stages after a root of `width` channels: each doubles the width, each but the first halves the map.

    Args:
        unit: creates a unit from its input channels, width (a quarter of its output channels) and stride.
        units: number of units in each stage.
        width: channels of the root, which are the width of the first stage.
    """
    widths = [width * 2**stage for stage in range(len(units))]
    inputs = [width, *(4 * stage_width for stage_width in widths)]
    modules = []
    for stage, (count, (before, after)) in enumerate(zip(units, pairwise(inputs), strict=True)):
        first = unit(before, widths[stage], 1 if stage == 0 else 2)
        others = (unit(after, widths[stage], 1) for _ in range(count - 1))
        modules.append(nn.Sequential(OrderedDict(blocks=nn.Sequential(first, *others))))
    return nn.Sequential(*modules)


@torch.no_grad()
def init_resnet(resnet: nn.Module, generator: Generator | None) -> None:
    """Convolutions: LeCun normal. Norms: 1 and 0, but 0 for the last of a `Bottleneck`: it starts as its shortcut."""
    for module in resnet.modules():
        if isinstance(module, nn.Conv2d):
            lecun_normal_(module.weight, generator)
        elif isinstance(module, nn.GroupNorm):
            nn.init.ones_(module.weight)
            nn.init.zeros_(module.bias)
    for module in resnet.modules():
        if isinstance(module, Bottleneck):
            nn.init.zeros_(module.norm3.weight)
