"""Hybrids: the patches are cut from the feature map of a ResNet (paper, sections 3.1 and 4.1)."""

from functools import partial

import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Generator, Tensor, nn

from vitral.errors import UserError
from vitral.layers.resnet import GROUPS, NUMERICS, Bottleneck, HybridNumerics, PadSame, init_resnet, stages

__all__ = ["HybridEmbed"]


class Root(nn.Module):
    """Convolution 7x7, norm, ReLU, max-pool 3x3: a quarter of the image's height and width."""

    def __init__(self, channels: int, width: int, *, numerics: HybridNumerics) -> None:
        super().__init__()
        self.conv = numerics.conv(channels, width, 7, 2)
        self.norm = numerics.norm(width)
        self.pool = nn.Sequential(PadSame(3, 2), nn.MaxPool2d(3, 2))

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d h4 w4"]:
        return self.pool(F.relu(self.norm(self.conv(x))))  # zero padding never wins: ReLU leaves nothing below 0


class Backbone(nn.Module):
    """The ResNet of the released hybrids."""

    def __init__(self, *, channels: int, units: tuple[int, ...], width: int, numerics: HybridNumerics) -> None:
        super().__init__()
        self.stem = Root(channels, width, numerics=numerics)
        self.stages = stages(partial(Bottleneck, numerics=numerics), units=units, width=width)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d h2 w2"]:
        return self.stages(self.stem(x))


class HybridEmbed(nn.Module):
    """Cuts a ResNet's feature map into patches and projects each to a token; leaves out a rest of the map.

    Raises:
        UserError: a patch does not cover whole pixels of the map, or the width does not fit GroupNorm.
    """

    def __init__(
        self,
        *,
        channels: int,
        stem_stages: tuple[int, ...],
        stem_width: int,
        stem_numerics: str = "google",
        patch_hw: tuple[int, int],
        width: int,
        bias: bool = True,
    ) -> None:
        """
        Args:
            channels: channels of the images.
            stem_stages: units in each stage; an empty tuple leaves only the root.
            stem_width: channels of the root.
            stem_numerics: whose constants it computes with, one of `NUMERICS`.
            patch_hw: height and width of a patch in pixels of the image.
            width: width of a token.
            bias: whether the projection of patches has a bias.
        """
        super().__init__()
        if stem_width < 1 or stem_width % GROUPS:
            raise UserError(f"stem_width must be a multiple of {GROUPS}, the groups of its norms, not {stem_width}")
        if any(count < 1 for count in stem_stages):
            raise UserError(f"every stage of stem_stages needs a unit, not {stem_stages}")
        stride = 4 * 2 ** max(len(stem_stages) - 1, 0)
        p, q = patch_hw
        if p % stride or q % stride:
            raise UserError(
                f"patch size {p}x{q} is not a multiple of {stride}x{stride}, the stride of the stem's feature map: "
                f"choose {max(p // stride, 1) * stride}x{max(q // stride, 1) * stride}, or fewer stages"
            )
        self.backbone = Backbone(
            channels=channels, units=stem_stages, width=stem_width, numerics=NUMERICS[stem_numerics]
        )
        maps = 4 * stem_width * 2 ** (len(stem_stages) - 1) if stem_stages else stem_width
        on_map = (p // stride, q // stride)
        self.proj = nn.Conv2d(maps, width, kernel_size=on_map, stride=on_map, bias=bias)

    def forward(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b gh gw d"]:
        maps = self.backbone(images)
        p, q = self.proj.kernel_size
        gh, gw = maps.shape[2] // p, maps.shape[3] // q
        whole = maps[:, :, : gh * p, : gw * q]
        patches = rearrange(whole, "b c (gh p) (gw q) -> b (gh gw) (c p q)", p=p, q=q)
        tokens = F.linear(patches, self.proj.weight.flatten(1), self.proj.bias)
        return rearrange(tokens, "b (gh gw) d -> b gh gw d", gh=gh)

    def init_weights(self, generator: Generator | None = None) -> None:
        """Initialises the ResNet; the projection is initialised by the model."""
        init_resnet(self.backbone, generator)
