"""The hybrids' stem has the size, stride and starting point of the published ones, and refuses what cannot be."""

import math
import re
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Generator

from vitral.layers.hybrid import Backbone, HybridEmbed
from vitral.layers.resnet import NUMERICS
from vitral.vit import ViT
from vitral.vit_config import ViTConfig

SIZES: dict[str, Any] = dict(channels=2, stem_stages=(1, 2), stem_width=32, patch_hw=(16, 8), width=24)


def published(**sizes: Any) -> HybridEmbed:
    with torch.device("meta"):
        return HybridEmbed(channels=3, stem_width=64, **sizes)


@pytest.mark.parametrize(
    ("stages", "patch", "width", "total"),
    [
        ((), 32, 192, 796_160),
        ((2, 2, 2, 2), 32, 384, 14_732_992),
        ((3, 4, 9), 16, 768, 12_682_048),
        ((3, 4, 6, 3), 32, 1024, 25_606_208),
    ],
)
def test_stems_have_the_published_number_of_parameters(
    stages: tuple[int, ...], patch: int, width: int, total: int
) -> None:
    """Of the hybrids' totals, what is left without the tokens, positions, blocks, norm and head."""
    embed = published(stem_stages=stages, patch_hw=(patch, patch), width=width)
    assert sum(parameter.numel() for parameter in embed.parameters()) == total


@pytest.mark.parametrize(
    ("stages", "patch", "on_map"), [((), 32, 8), ((2, 2, 2, 2), 32, 1), ((3, 4, 9), 16, 1), ((1,), 16, 4)]
)
def test_a_patch_is_counted_in_pixels_of_the_image(stages: tuple[int, ...], patch: int, on_map: int) -> None:
    embed = published(stem_stages=stages, patch_hw=(patch, patch), width=32)
    assert embed.proj.weight.shape[2:] == (on_map, on_map)


@pytest.mark.parametrize("units", [(), (1,), (1, 1, 1)])
def test_the_backbone_has_the_stride_it_says(units: tuple[int, ...]) -> None:
    backbone = Backbone(channels=1, units=units, width=32, numerics=NUMERICS["google"])
    stride = 4 * 2 ** max(len(units) - 1, 0)
    assert backbone(torch.zeros(1, 1, 64, 32)).shape[2:] == (64 // stride, 32 // stride)


def test_the_largest_of_the_root_is_not_the_padding() -> None:
    """With every value 1 after the norm, no window may see anything else, whatever surrounds the map."""
    backbone = Backbone(channels=1, units=(), width=32, numerics=NUMERICS["google"])
    with torch.no_grad():
        backbone.stem.norm.weight.zero_()
        backbone.stem.norm.bias.fill_(1.0)
    assert torch.equal(backbone(torch.randn(1, 1, 8, 8)), torch.ones(1, 32, 2, 2))


def test_windows_of_the_root_end_beyond_the_last_pixel() -> None:
    """An even size has its one pixel of padding at the bottom and right: the first window starts on the first pixel."""
    root = Backbone(channels=1, units=(), width=32, numerics=NUMERICS["google"]).double().stem
    x = torch.randn(1, 1, 16, 24, dtype=torch.float64)
    root.conv.weight.detach().normal_()
    convolved = F.conv2d(F.pad(x, (2, 3, 2, 3)), root.conv.standardised(), stride=2)
    actual, active = root(x), F.relu(root.norm(convolved))
    assert actual.shape == (1, 32, 4, 6)
    for row, column in ((0, 0), (1, 2), (3, 5)):
        window = active[..., 2 * row : 2 * row + 3, 2 * column : 2 * column + 3]
        torch.testing.assert_close(actual[..., row, column], window.amax(dim=(2, 3)), rtol=0, atol=1e-12)


def test_tokens_are_a_convolution_of_the_map() -> None:
    embed, images = HybridEmbed(**SIZES).double(), torch.randn(3, 2, 32, 40, dtype=torch.float64)
    convolved = embed.proj(embed.backbone(images))
    assert convolved.shape == (3, 24, 2, 5)
    torch.testing.assert_close(embed(images), convolved.permute(0, 2, 3, 1), rtol=0, atol=1e-12)


def test_weights_have_the_usual_names() -> None:
    unit = [f"{part}{index}" for index in (1, 2, 3) for part in ("conv", "norm")]
    units = [f"stages.{stage}.blocks.{index}.{part}" for stage, index in ((0, 0), (1, 0), (1, 1)) for part in unit]
    firsts = [f"stages.{stage}.blocks.0.downsample.{part}" for stage in (0, 1) for part in ("conv", "norm")]
    modules = [f"backbone.{name}" for name in ("stem.conv", "stem.norm", *units, *firsts)]
    weights = {f"{name}.weight" for name in (*modules, "proj")}
    biases = {f"{name}.bias" for name in (*modules, "proj") if "conv" not in name}
    assert set(HybridEmbed(**SIZES).state_dict()) == weights | biases


def test_a_new_stem_is_drawn_as_the_authors_draw_it() -> None:
    model = ViT(
        ViTConfig(image_size=16, patch_size=8, stem_stages=(1, 1), stem_width=32, width=48, num_heads=3, depth=1)
    )
    model.init_weights(Generator().manual_seed(0))
    for name, weight in model.patch_embed.state_dict().items():
        if weight.ndim == 4:
            deviation = math.sqrt(1 / weight[0].numel())
            assert weight.std().item() == pytest.approx(deviation, rel=0.05), name
            assert weight.abs().max().item() <= 2 * deviation / 0.8796, name
        else:
            scale = 1.0 if name.endswith("weight") and "norm3" not in name else 0.0
            assert torch.equal(weight, torch.full_like(weight, scale)), name


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (dict(stem_width=48), "stem_width must be a multiple of 32, the groups of its norms, not 48"),
        (dict(stem_width=0), "stem_width must be a multiple of 32, the groups of its norms, not 0"),
        (dict(stem_stages=(1, 0)), "every stage of stem_stages needs a unit, not (1, 0)"),
        (
            dict(patch_hw=(4, 4)),
            "patch size 4x4 is not a multiple of 8x8, the stride of the stem's feature map",
        ),
        (dict(patch_hw=(20, 8)), "choose 16x8, or fewer stages"),
    ],
)
def test_stems_that_cannot_be_are_refused(changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=re.escape(sentence)):
        HybridEmbed(**{**SIZES, **changes})


def test_images_that_cannot_be_cut_are_refused() -> None:
    model = ViT(
        ViTConfig(image_size=32, patch_size=16, stem_stages=(1,), stem_width=32, width=24, num_heads=3, depth=1)
    )
    with pytest.raises(ValueError, match="image size 12x40 is not divisible by patch size 16x16: choose 16x32"):
        model(torch.zeros(1, 3, 12, 40))
    assert model.features(torch.zeros(1, 3, 30, 40)).patches.shape == (1, 4, 24)
