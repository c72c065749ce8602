"""The model follows the paper's equations and parameter counts, and rejects invalid configurations."""

import importlib
import math
import re
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from jaxtyping import TypeCheckError, install_import_hook
from torch import Generator, Tensor, nn
from torch.nn.functional import cross_entropy

import vitral
import vitral.vit
from vitral.layers.positions import PositionState
from vitral.models import SIZES, architecture, create
from vitral.vit import Attention, PatchEmbed, ViT
from vitral.vit_config import ViTConfig

TINY: dict[str, Any] = {
    "image_size": (8, 12),
    "patch_size": (4, 3),
    "channels": 2,
    "width": 24,
    "depth": 2,
    "num_heads": 3,
    "mlp_dim": 40,
    "num_classes": 5,
}
POOLS = ("cls", "gap")
POSITIONS = ("none", "learned_1d")
NO_POSITIONS = PositionState(grid=(1, 4))


def seeded(seed: int) -> Generator:
    return Generator().manual_seed(seed)


def tiny(*, seed: int = 0, **overrides: Any) -> ViT:
    """A small float64 model in evaluation mode whose every parameter is random, the head's too."""
    model = ViT(ViTConfig(**{**TINY, **overrides})).double().eval()
    generator = seeded(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.4, generator=generator)
    return model


def images_for(model: ViT, *, batch: int = 3, seed: int = 1) -> Tensor:
    shape = (batch, model.config.channels, *model.config.image_hw)
    return torch.rand(shape, generator=seeded(seed), dtype=model.head.weight.dtype) * 2 - 1


def count(name: str, **overrides: Any) -> tuple[int, int]:
    """Parameters of a model, and of the model without its head."""
    with torch.device("meta"):
        model = create(name, **overrides)
    total = sum(parameter.numel() for parameter in model.parameters())
    return total, total - sum(parameter.numel() for parameter in model.head.parameters())


def cut(images: Tensor, config: ViTConfig) -> list[Tensor]:
    """The patches of a batch as (b, c, p, q) tensors, row by row from the top left."""
    (gh, gw), (p, q) = config.grid, config.patch_hw
    return [images[:, :, i * p : (i + 1) * p, j * q : (j + 1) * q] for i in range(gh) for j in range(gw)]


def paste(patches: list[Tensor], config: ViTConfig) -> Tensor:
    """The image batch whose patches these are: what `cut` takes apart."""
    gw = config.grid[1]
    rows = [torch.cat(patches[start : start + gw], dim=3) for start in range(0, len(patches), gw)]
    return torch.cat(rows, dim=2)


# Sizes


@pytest.mark.parametrize(
    ("name", "total", "without_head"),
    [
        ("ViT-Ti/16", 5_717_416, 5_524_416),
        ("ViT-S/32", 22_878_952, 22_493_952),
        ("ViT-S/16", 22_050_664, 21_665_664),
        ("ViT-B/32", 88_224_232, 87_455_232),
        ("ViT-B/16", 86_567_656, 85_798_656),
        ("ViT-B/8", 86_576_872, 85_807_872),
        ("ViT-L/32", 306_535_400, 305_510_400),
        ("ViT-L/16", 304_326_632, 303_301_632),
        ("ViT-H/14", 632_045_800, 630_764_800),
    ],
)
def test_plain_models_have_the_published_number_of_parameters(name: str, total: int, without_head: int) -> None:
    assert count(name) == (total, without_head)


@pytest.mark.parametrize(
    ("name", "overrides", "total"),
    [
        ("ViT-S/16", {"pool": "gap"}, 22_049_896),
        ("ViT-S/32", {"pool": "gap"}, 22_878_184),
        ("ViT-B/16", {"pool": "gap"}, 86_566_120),
        ("ViT-B/32", {"pool": "gap"}, 88_222_696),
        ("ViT-B/16", {"num_classes": 21_843, "representation_size": 768}, 103_186_515),
        ("ViT-B/32", {"num_classes": 21_843, "representation_size": 768}, 104_843_091),
        ("ViT-L/16", {"num_classes": 21_843, "representation_size": 1024}, 326_740_307),
        ("ViT-L/32", {"num_classes": 21_843, "representation_size": 1024}, 328_949_075),
        ("ViT-H/14", {"num_classes": 21_843, "representation_size": 1280}, 660_385_363),
        ("ViT-B/16", {"num_classes": 21_843}, 102_595_923),
        ("ViT-B/32", {"num_classes": 21_843}, 104_252_499),
        ("ViT-L/16", {"num_classes": 21_843}, 325_690_707),
        ("ViT-L/32", {"num_classes": 21_843}, 327_899_475),
        ("ViT-H/14", {"num_classes": 21_843}, 658_745_683),
        ("ViT-B/16", {"representation_size": 768}, 87_158_248),
        ("ViT-B/32", {"representation_size": 768}, 88_814_824),
        ("ViT-L/16", {"representation_size": 1024}, 305_376_232),
        ("ViT-L/32", {"representation_size": 1024}, 307_585_000),
        ("ViT-H/14", {"representation_size": 1280}, 633_685_480),
        ("ViT-B/16", {"image_size": 384}, 86_859_496),
        ("ViT-B/32", {"image_size": 384}, 88_297_192),
        ("ViT-L/16", {"image_size": 384}, 304_715_752),
        ("ViT-L/32", {"image_size": 384}, 306_632_680),
        ("ViT-L/16", {"image_size": 512}, 305_174_504),
        ("ViT-H/14", {"image_size": 518}, 633_470_440),
        ("ViT-L/14", {}, 304_203_752),
        ("ViT-So400m/14", {}, 413_597_656),
        ("ViT-g/14", {}, 1_012_611_432),
        ("ViT-G/14", {}, 1_844_440_680),
    ],
)
def test_other_forms_have_the_published_number_of_parameters(name: str, overrides: dict[str, Any], total: int) -> None:
    assert count(name, **overrides)[0] == total


def test_heads_have_the_published_width() -> None:
    widths = {size: shape["width"] / shape["num_heads"] for size, shape in SIZES.items()}
    assert widths == {
        "mu": 16,
        "s": 32,
        "Ti": 64,
        "S": 64,
        "b": 64,
        "M": 64,
        "B": 64,
        "L": 64,
        "So400m": 72,
        "H": 80,
        "g": 88,
        "g-opt": 96,
        "G": 104,
        "G-opt": 96,
        "e": 112,
    }


def test_the_default_configuration_is_base_16() -> None:
    assert architecture("ViT-B/16") == ViTConfig()
    assert ViTConfig().grid == (14, 14)


def test_a_name_gives_its_sizes_and_accepts_overrides() -> None:
    config = architecture("ViT-mu/8", image_size=(16, 32), depth=3, pool="gap")
    assert (config.width, config.depth, config.mlp_dim, config.num_heads) == (32, 3, 128, 2)
    assert (config.image_hw, config.patch_hw, config.grid, config.pool) == ((16, 32), (8, 8), (2, 4), "gap")


# Errors


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        ({"image_size": 30, "patch_size": 16}, "image size 30x30 is not divisible by patch size 16x16: choose 16x16"),
        ({"image_size": (33, 50), "patch_size": (16, 25)}, "33x50 is not divisible by patch size 16x25: choose 32x50"),
        ({"image_size": 8, "patch_size": 16}, "image size 8x8 is not divisible by patch size 16x16: choose 16x16"),
        ({"width": 100, "num_heads": 12}, "width 100 is not divisible by 12 heads"),
        ({"dropout": 1.0}, "dropout must be in [0, 1), not 1.0"),
        ({"dropout": -0.1}, "dropout must be in [0, 1), not -0.1"),
        ({"dropout": math.nan}, "dropout must be in [0, 1), not nan"),
        ({"attention_dropout": 1.0}, "attention_dropout must be in [0, 1), not 1.0"),
        ({"image_size": 0}, "image and patch size must be at least 1 pixel, not 0x0 and 16x16"),
        ({"patch_size": (16, 0)}, "image and patch size must be at least 1 pixel, not 224x224 and 16x0"),
        ({"channels": 0}, "channels must be at least 1, not 0"),
        ({"width": -12}, "width must be at least 1, not -12"),
        ({"depth": 0}, "depth must be at least 1, not 0"),
        ({"num_heads": 0}, "num_heads must be at least 1, not 0"),
        ({"mlp_dim": 0}, "mlp_dim must be at least 1, not 0"),
        ({"num_classes": 0}, "num_classes must be at least 1, not 0"),
        ({"representation_size": 0}, "representation_size must be at least 1, not 0"),
        ({"norm_eps": -1.0}, "norm_eps must be above 0, not -1.0"),
    ],
)
def test_sizes_that_do_not_fit_raise(overrides: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=re.escape(sentence)):
        ViTConfig(**overrides)


@pytest.mark.parametrize("field", ["pool", "position", "gelu"])
def test_an_unknown_part_raises(field: str) -> None:
    """The configuration raises, or the type checker before it."""
    with pytest.raises((ValueError, TypeCheckError), match=field):
        ViTConfig(**{field: "unheard-of"})


@pytest.mark.parametrize("name", ["ViT-X/16", "ViT-B16", "ViT-B/", "ViT-B/16px", "B/16", "vit-b/16", ""])
def test_an_unknown_name_raises_and_lists_the_sizes(name: str) -> None:
    with pytest.raises(ValueError, match=re.escape(f"unknown model {name!r}")) as error:
        architecture(name)
    assert "mu, s, Ti, S, b, M, B, L, So400m, H, g, g-opt, G, G-opt, e" in str(error.value)


@pytest.mark.parametrize(
    ("shape", "sentence"),
    [
        ((1, 8, 12), "this model takes images of 2 channels, not 1"),
        ((3, 8, 12), "this model takes images of 2 channels, not 3"),
        ((2, 12, 8), "image size 12x8 is not divisible by patch size 4x3: choose 12x6, or another patch size"),
        ((2, 8, 16), "image size 8x16 is not divisible by patch size 4x3: choose 8x15, or another patch size"),
    ],
)
def test_images_that_do_not_fit_raise(shape: tuple[int, int, int], sentence: str) -> None:
    model = tiny()
    for call in (model, model.features):
        with pytest.raises(ValueError, match=re.escape(sentence)):
            call(torch.zeros(2, *shape, dtype=torch.float64))


@pytest.fixture
def checked(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A second copy of the module whose shape annotations are checked at every call."""
    monkeypatch.setattr(vitral, "vit", vitral.vit)
    monkeypatch.delitem(sys.modules, "vitral.vit")
    with install_import_hook("vitral.vit", "beartype.beartype"):
        return importlib.import_module("vitral.vit")


def test_annotations_catch_a_wrong_rank_and_a_wrong_type(checked: ModuleType) -> None:
    attention = checked.Attention(width=8, num_heads=2, dropout=0.0)
    assert attention(torch.zeros(2, 3, 8), NO_POSITIONS).shape == (2, 3, 8)
    with pytest.raises(TypeCheckError):
        attention(torch.zeros(3, 8), NO_POSITIONS)
    model = checked.ViT(ViTConfig(**TINY))
    assert model(torch.zeros(1, 2, 8, 12)).shape == (1, 5)
    with pytest.raises(TypeCheckError):
        model(torch.zeros(8, 12))
    with pytest.raises(TypeCheckError):
        model(torch.zeros(1, 2, 8, 12, dtype=torch.uint8))


# The head at the start of training


@pytest.mark.parametrize("pool", POOLS)
def test_a_fresh_model_gives_zero_logits_and_loss_ln_k(pool: str) -> None:
    model = create("ViT-mu/8", image_size=16, num_classes=1000, pool=pool)
    logits = model(images_for(model))
    assert torch.equal(logits, torch.zeros(3, 1000))
    assert cross_entropy(logits, torch.tensor([0, 7, 999])).item() == pytest.approx(math.log(1000), rel=1e-6)


@pytest.mark.parametrize(
    ("classes", "bias", "loss"), [(21_843, -10.0, 10.9916), (18_291, -10.0, 10.8304), (1000, -6.9, 7.9073)]
)
def test_the_head_bias_gives_the_published_first_sigmoid_loss(classes: int, bias: float, loss: float) -> None:
    model = create("ViT-mu/8", image_size=16, num_classes=classes, head_bias=bias).double()
    logits = model(images_for(model, batch=1))
    one_positive = F.one_hot(torch.tensor([3]), classes).double()
    actual = F.binary_cross_entropy_with_logits(logits, one_positive, reduction="sum")
    assert actual.item() == pytest.approx(loss, abs=5e-5)


def test_the_representation_layer_is_tanh_before_the_head() -> None:
    model = tiny(representation_size=7)
    images = images_for(model)
    layer = model.pre_logits[0]
    hidden = torch.tanh(model.features(images).pooled @ layer.weight.T + layer.bias)
    torch.testing.assert_close(model(images), hidden @ model.head.weight.T + model.head.bias, rtol=0, atol=1e-12)


# Eq. 1: patches, class token, positions


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize(("image", "patch"), [((8, 8), (4, 4)), ((8, 12), (4, 3)), ((9, 4), (3, 4)), ((6, 10), (1, 5))])
def test_patch_embedding_is_a_convolution_and_a_product(
    channels: int, image: tuple[int, int], patch: tuple[int, int]
) -> None:
    torch.manual_seed(0)
    config = ViTConfig(**{**TINY, "image_size": image, "patch_size": patch, "channels": channels})
    embed = PatchEmbed(channels=channels, patch_hw=patch, width=10).double()
    images = torch.randn(2, channels, *image, dtype=torch.float64)
    tokens = embed(images).flatten(1, 2)

    convolved = embed.proj(images).flatten(2).transpose(1, 2)
    torch.testing.assert_close(tokens, convolved, rtol=0, atol=1e-12)
    matrix = embed.proj.weight.reshape(10, -1).T
    multiplied = torch.stack([x.reshape(2, -1) @ matrix + embed.proj.bias for x in cut(images, config)], dim=1)
    torch.testing.assert_close(tokens, multiplied, rtol=0, atol=1e-12)


def test_patches_are_in_raster_order() -> None:
    config = ViTConfig(**TINY)
    embed = PatchEmbed(channels=2, patch_hw=(4, 3), width=1).double()
    nn.init.constant_(embed.proj.weight, 1 / (2 * 4 * 3))
    nn.init.zeros_(embed.proj.bias)
    numbered = [torch.full((1, 2, 4, 3), float(index), dtype=torch.float64) for index in range(8)]
    tokens = embed(paste(numbered, config)).flatten().tolist()
    assert tokens == pytest.approx(range(8))


@pytest.mark.parametrize("pool", POOLS)
@pytest.mark.parametrize("position", POSITIONS)
def test_patches_moved_with_their_positions_change_nothing(pool: str, position: str) -> None:
    model = tiny(pool=pool, position=position)
    images = images_for(model)
    order = torch.randperm(8, generator=seeded(3))
    before = model.features(images)

    patches = cut(images, model.config)
    prefix = int(pool == "cls")
    rows = torch.cat([torch.arange(prefix), prefix + order])
    if position == "learned_1d":
        with torch.no_grad():
            model.pos_embed.copy_(model.pos_embed[:, rows])
    after = model.features(paste([patches[index] for index in order], model.config))
    torch.testing.assert_close(after.pooled, before.pooled, rtol=0, atol=1e-12)
    torch.testing.assert_close(after.patches, before.patches[:, order], rtol=0, atol=1e-12)


@pytest.mark.parametrize("pool", POOLS)
def test_learned_positions_tell_places_apart(pool: str) -> None:
    model = tiny(pool=pool)
    images = images_for(model)
    mirrored = paste(cut(images, model.config)[::-1], model.config)
    assert (model(mirrored) - model(images)).abs().max() > 1e-3


# Eq. 2-8: the encoder


def attention_by_hand(layer: Attention, tokens: np.ndarray) -> np.ndarray:
    """Eq. 5-8, one image, one head and one token at a time."""
    qkv, bias = layer.qkv.weight.detach().numpy(), layer.qkv.bias.detach().numpy()
    width = tokens.shape[-1]
    head_width = width // layer.num_heads
    joined = np.zeros_like(tokens)
    for image, z in enumerate(tokens):
        for head in range(layer.num_heads):
            columns = slice(head * head_width, (head + 1) * head_width)
            q, k, v = (z @ qkv[o:][columns].T + bias[o:][columns] for o in (0, width, 2 * width))
            for token in range(len(z)):
                weights = np.exp(k @ q[token] / math.sqrt(head_width))
                weights /= weights.sum()
                assert weights.sum() == pytest.approx(1, abs=1e-14)
                joined[image, token, columns] = weights @ v
    return joined @ layer.proj.weight.detach().numpy().T + layer.proj.bias.detach().numpy()


@pytest.mark.parametrize("num_heads", [1, 2, 3, 6])
def test_attention_is_equations_5_to_8(num_heads: int) -> None:
    torch.manual_seed(0)
    layer = Attention(width=6, num_heads=num_heads, dropout=0.0).double()
    tokens = torch.randn(2, 5, 6, dtype=torch.float64)
    expected = torch.from_numpy(attention_by_hand(layer, tokens.numpy()))
    torch.testing.assert_close(layer(tokens, NO_POSITIONS), expected, rtol=0, atol=1e-12)
    torch.testing.assert_close(layer(tokens, NO_POSITIONS, slice(1, 3)), expected[:, 1:3], rtol=0, atol=1e-12)


def test_attention_weights_of_a_token_sum_to_one() -> None:
    torch.manual_seed(0)
    layer = Attention(width=6, num_heads=3, dropout=0.0).double()
    value = torch.randn(6, dtype=torch.float64)
    with torch.no_grad():
        layer.qkv.weight[12:] = 0
        layer.qkv.bias[12:] = value
        layer.proj.weight.copy_(torch.eye(6))
        layer.proj.bias.zero_()
    out = layer(torch.randn(2, 5, 6, dtype=torch.float64), NO_POSITIONS)
    torch.testing.assert_close(out, value.expand(2, 5, 6), rtol=0, atol=1e-12)


@pytest.mark.parametrize("gelu", ["tanh", "erf"])
@pytest.mark.parametrize("pool", POOLS)
@pytest.mark.parametrize("position", POSITIONS)
def test_features_are_the_equations_composed_by_hand(gelu: str, pool: str, position: str) -> None:
    model = tiny(gelu=gelu, pool=pool, position=position, norm_eps=1e-3)
    images = images_for(model)
    features = model.features(images)

    def norm(x: Tensor, layer: nn.LayerNorm) -> Tensor:
        mean, variance = x.mean(-1, keepdim=True), x.var(-1, keepdim=True, unbiased=False)
        return (x - mean) / (variance + 1e-3).sqrt() * layer.weight + layer.bias

    def bent(x: Tensor) -> Tensor:
        if gelu == "erf":
            return x * (1 + torch.erf(x / math.sqrt(2))) / 2
        return x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))) / 2

    matrix, bias = model.patch_embed.proj.weight.flatten(1).T, model.patch_embed.proj.bias
    tokens = [patch.flatten(1) @ matrix + bias for patch in cut(images, model.config)]
    if pool == "cls":
        tokens.insert(0, model.cls_token[:, 0].expand(3, -1))
    z = torch.stack(tokens, dim=1)
    if position == "learned_1d":
        z = z + model.pos_embed
    expected = {"embedded": z}
    for index, block in enumerate(model.blocks):
        attended = attention_by_hand(block.attn, norm(z, block.norm1).detach().numpy())
        z = torch.from_numpy(attended) + z
        mlp = block.mlp
        z = bent(norm(z, block.norm2) @ mlp.fc1.weight.T + mlp.fc1.bias) @ mlp.fc2.weight.T + mlp.fc2.bias + z
        expected[f"blocks.{index}"] = z
    expected["norm"] = norm(z, model.norm)

    assert list(features.landmarks) == ["embedded", "blocks.0", "blocks.1", "norm"]
    for name, tokens in expected.items():
        torch.testing.assert_close(features.landmarks[name], tokens, rtol=0, atol=1e-10)
    pooled = expected["norm"][:, 0] if pool == "cls" else expected["norm"].mean(dim=1)
    torch.testing.assert_close(features.pooled, pooled, rtol=0, atol=1e-10)


@pytest.mark.parametrize("pool", POOLS)
def test_features_have_their_names_and_shapes(pool: str) -> None:
    model = tiny(pool=pool, depth=3)
    features = model.features(images_for(model))
    t = 9 if pool == "cls" else 8
    assert {name: tuple(x.shape) for name, x in features.landmarks.items()} == dict.fromkeys(
        ["embedded", "blocks.0", "blocks.1", "blocks.2", "norm"], (3, t, 24)
    )
    assert (features.patches.shape, features.pooled.shape) == ((3, 8, 24), (3, 24))
    final = features.landmarks["norm"]
    assert torch.equal(features.patches, final[:, -8:])
    if pool == "cls":
        assert torch.equal(features.cls, final[:, 0])
    else:
        assert features.cls is None


@pytest.mark.parametrize("pool", POOLS)
@pytest.mark.parametrize("position", POSITIONS)
@pytest.mark.parametrize("depth", [1, 3])
@pytest.mark.parametrize("representation_size", [None, 7])
def test_forward_is_the_head_over_the_features(
    pool: str, position: str, depth: int, representation_size: int | None
) -> None:
    model = tiny(pool=pool, position=position, depth=depth, representation_size=representation_size)
    images, labels = images_for(model), torch.tensor([0, 4, 2])

    def logits_and_gradients(logits: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        named = dict(model.named_parameters())
        return logits, dict(zip(named, torch.autograd.grad(cross_entropy(logits, labels), named.values()), strict=True))

    short, short_gradients = logits_and_gradients(model(images))
    full, full_gradients = logits_and_gradients(model.classify(model.features(images).pooled))
    torch.testing.assert_close(short, full, rtol=0, atol=1e-12)
    for name, gradient in full_gradients.items():
        torch.testing.assert_close(short_gradients[name], gradient, rtol=1e-12, atol=1e-12, msg=name)
        assert gradient.abs().max() > 0, name


# Dropout


def dropout_inputs_and_sources(model: ViT, images: Tensor) -> dict[str, tuple[Tensor, Tensor]]:
    """For each dropout module, its input, and the output of the dense layer (or position sum) before it."""
    outputs: dict[str, Tensor] = {}
    inputs_of: dict[str, Tensor] = {}

    def recorder(store: dict[str, Tensor], name: str, *, output: bool) -> Callable[..., None]:
        def record(_: nn.Module, inputs: tuple[Tensor, ...], result: Tensor) -> None:
            store[name] = result if output else inputs[0]

        return record

    for name, module in model.named_modules():
        if isinstance(module, nn.Dropout):
            module.register_forward_hook(recorder(inputs_of, name, output=False))
        else:
            module.register_forward_hook(recorder(outputs, name, output=True))
    model(images)
    tokens = torch.cat([model.cls_token.expand(len(images), -1, -1), outputs["patch_embed"].flatten(1, 2)], dim=1)
    pairs = {"pos_drop": (inputs_of["pos_drop"], tokens + model.pos_embed)}
    for index in range(len(model.blocks)):
        block = f"blocks.{index}"
        for drop, source in (("attn.drop", "attn.proj"), ("mlp.drop1", "mlp.act"), ("mlp.drop2", "mlp.fc2")):
            pairs[f"{block}.{drop}"] = inputs_of[f"{block}.{drop}"], outputs[f"{block}.{source}"]
    return pairs


def test_dropout_is_where_the_paper_puts_it_and_nowhere_else() -> None:
    model = tiny(dropout=0.25).train()
    images = images_for(model)
    drops = {name: module for name, module in model.named_modules() if isinstance(module, nn.Dropout)}
    pairs = dropout_inputs_and_sources(model, images)
    assert list(drops) == list(pairs)
    assert len(drops) == 1 + 3 * 2
    for name, (received, source) in pairs.items():
        assert drops[name].p == 0.25
        assert torch.equal(received, source), name

    for drop in drops.values():
        drop.p = 0.0
    assert torch.equal(model(images), model.eval()(images)), "something else than nn.Dropout is random in training"


def test_dropout_drops_its_fraction_and_scales_the_rest() -> None:
    torch.manual_seed(0)
    model = tiny(image_size=(64, 48), dropout=0.3).train()
    images = images_for(model, batch=4)
    embedded, _ = model.embed(images)
    whole, _ = model.eval().embed(images)
    dropped = embedded == 0
    assert dropped.double().mean().item() == pytest.approx(0.3, abs=5 * math.sqrt(0.3 * 0.7 / dropped.numel()))
    torch.testing.assert_close(embedded[~dropped], whole[~dropped] / 0.7, rtol=1e-12, atol=0)


def test_dropout_acts_in_training_only() -> None:
    torch.manual_seed(0)
    model = tiny(dropout=0.3)
    images = images_for(model)
    assert torch.equal(model(images), model(images))
    model.train()
    assert not torch.equal(model(images), model(images))


# Initial weights


def initialised(*, seed: int = 0, **overrides: Any) -> ViT:
    model = ViT(ViTConfig(**{**TINY, **overrides}))
    model.init_weights(seeded(seed))
    return model


def test_initial_weights_are_the_released_codes() -> None:
    shape = {"image_size": 64, "patch_size": 8, "width": 192, "num_heads": 3, "mlp_dim": 768}
    model = initialised(**shape, representation_size=96)
    for block in model.blocks:
        matrices = [*block.attn.qkv.weight.chunk(3), block.attn.proj.weight, block.mlp.fc1.weight, block.mlp.fc2.weight]
        for matrix in matrices:
            bound = math.sqrt(6 / sum(matrix.shape))
            assert 0.99 * bound < matrix.abs().max().item() <= bound
            assert matrix.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.02)
        for bias in (block.mlp.fc1.bias, block.mlp.fc2.bias):
            assert bias.std().item() == pytest.approx(1e-6, rel=0.25)
        for bias in (block.attn.qkv.bias, block.attn.proj.bias):
            assert not bias.any()
    assert model.pos_embed.std().item() == pytest.approx(0.02, rel=0.05)
    for layer in (model.patch_embed.proj, model.pre_logits[0]):
        deviation = math.sqrt(1 / layer.weight[0].numel())
        assert layer.weight.std().item() == pytest.approx(deviation, rel=0.03)
        assert layer.weight.abs().max().item() <= 2 * deviation / 0.8796
        assert not layer.bias.any()
    assert not model.cls_token.any()
    assert not model.head.weight.any()
    for norm in [model.norm, *(norm for block in model.blocks for norm in (block.norm1, block.norm2))]:
        assert torch.equal(norm.weight, torch.ones(192))
        assert not norm.bias.any()


def test_blocks_start_different_from_each_other() -> None:
    first, second = (block.attn.qkv.weight for block in initialised().blocks)
    q, k, v = first.chunk(3)
    assert not torch.equal(first, second)
    assert not torch.equal(q, k)
    assert not torch.equal(k, v)


@pytest.mark.parametrize("pool", POOLS)
@pytest.mark.parametrize("position", POSITIONS)
@pytest.mark.parametrize("representation_size", [None, 7])
def test_init_weights_reaches_every_tensor(pool: str, position: str, representation_size: int | None) -> None:
    config = ViTConfig(**TINY, pool=pool, position=position, representation_size=representation_size, head_bias=-10.0)
    with torch.device("meta"):
        model = ViT(config)
    model.to_empty(device="cpu")
    tensors = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    with torch.no_grad():
        for tensor in tensors.values():
            tensor.fill_(math.nan)
    model.init_weights(seeded(0))
    assert [name for name, tensor in tensors.items() if tensor.isnan().any()] == []

    images = torch.rand(2, 2, 8, 12, generator=seeded(1))
    direct = ViT(config)
    direct.init_weights(seeded(0))
    assert torch.equal(model.features(images).pooled, direct.features(images).pooled)
    assert torch.equal(model(images), torch.full((2, 5), -10.0))


def test_a_seed_gives_the_same_weights_again() -> None:
    first, again, other = (initialised(seed=seed).state_dict() for seed in (5, 5, 6))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["blocks.0.attn.qkv.weight"], other["blocks.0.attn.qkv.weight"])


# Names of the weights

NAMES = [
    "cls_token",
    "pos_embed",
    "patch_embed.proj.weight",
    "patch_embed.proj.bias",
    "blocks.0.norm1.weight",
    "blocks.0.norm1.bias",
    "blocks.0.attn.qkv.weight",
    "blocks.0.attn.qkv.bias",
    "blocks.0.attn.proj.weight",
    "blocks.0.attn.proj.bias",
    "blocks.0.norm2.weight",
    "blocks.0.norm2.bias",
    "blocks.0.mlp.fc1.weight",
    "blocks.0.mlp.fc1.bias",
    "blocks.0.mlp.fc2.weight",
    "blocks.0.mlp.fc2.bias",
    "norm.weight",
    "norm.bias",
    "head.weight",
    "head.bias",
]


@pytest.mark.parametrize(
    ("overrides", "without", "more"),
    [
        ({}, set(), set()),
        ({"pool": "gap"}, {"cls_token"}, set()),
        ({"position": "none"}, {"pos_embed"}, set()),
        ({"pool": "gap", "position": "none"}, {"cls_token", "pos_embed"}, set()),
        ({"representation_size": 7}, set(), {"pre_logits.0.weight", "pre_logits.0.bias"}),
    ],
)
def test_weights_have_the_usual_names(overrides: dict[str, Any], without: set[str], more: set[str]) -> None:
    model = tiny(depth=1, **overrides)
    assert set(model.state_dict()) == (set(NAMES) - without) | more
    assert set(dict(model.named_parameters())) == set(model.state_dict())


# Any model

fields = st.builds(
    lambda grid, patch, head_width, num_heads, **rest: dict(
        image_size=(grid[0] * patch[0], grid[1] * patch[1]),
        patch_size=patch,
        width=head_width * num_heads,
        num_heads=num_heads,
        **rest,
    ),
    grid=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    patch=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    head_width=st.integers(1, 9),
    num_heads=st.integers(1, 4),
    channels=st.integers(1, 5),
    depth=st.integers(1, 3),
    mlp_dim=st.integers(1, 20),
    num_classes=st.integers(1, 6),
    pool=st.sampled_from(POOLS),
    position=st.sampled_from(POSITIONS),
    representation_size=st.none() | st.integers(1, 6),
    dropout=st.floats(0, 0.9),
    gelu=st.sampled_from(["tanh", "erf"]),
)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(fields=fields, batch=st.integers(1, 3), seed=st.integers(0, 2**32))
def test_any_small_model_runs(fields: dict[str, Any], batch: int, seed: int) -> None:
    torch.manual_seed(seed)
    config = ViTConfig(**fields)
    model = ViT(config)
    nn.init.normal_(model.head.weight)
    images = images_for(model, batch=batch, seed=seed)
    trained_on = model(images)
    assert trained_on.shape == (batch, config.num_classes)
    assert trained_on.isfinite().all()

    model.eval()
    features = model.features(images)
    gh, gw = config.grid
    assert features.patches.shape == (batch, gh * gw, config.width)
    assert len(features.landmarks) == config.depth + 2
    assert (features.cls is None) == (config.pool == "gap")
    torch.testing.assert_close(model(images), model.classify(features.pooled), rtol=1e-4, atol=1e-4)


# Compilation and export; run without the shape checks, which a traced graph cannot hold


@pytest.mark.compile
@pytest.mark.parametrize("pool", POOLS)
@pytest.mark.parametrize("position", POSITIONS)
def test_a_compiled_model_is_the_eager_one(pool: str, position: str) -> None:
    torch.compiler.reset()
    model = tiny(pool=pool, position=position)
    images, labels = images_for(model), torch.tensor([0, 4, 2])
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    parameters = list(model.parameters())
    eager = [model(images), *torch.autograd.grad(cross_entropy(model(images), labels), parameters)]
    graph = [compiled(images), *torch.autograd.grad(cross_entropy(compiled(images), labels), parameters)]
    for one, other in zip(graph, eager, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-12)


@pytest.mark.compile
@pytest.mark.parametrize("pool", POOLS)
@pytest.mark.parametrize("position", POSITIONS)
def test_an_exported_model_is_the_eager_one(pool: str, position: str) -> None:
    model = tiny(pool=pool, position=position)
    images = images_for(model)
    exported = torch.export.export(model, (images,)).module()
    torch.testing.assert_close(exported(images), model(images), rtol=0, atol=1e-12)


@pytest.mark.compile
@pytest.mark.parametrize("pool", POOLS)
def test_an_exported_model_takes_any_batch(pool: str) -> None:
    model = tiny(pool=pool)
    any_batch = {"images": {0: torch.export.Dim("batch", min=1, max=64)}}
    exported = torch.export.export(model, (images_for(model),), dynamic_shapes=any_batch).module()
    for batch in (1, 2, 7):
        images = images_for(model, batch=batch)
        torch.testing.assert_close(exported(images), model(images), rtol=0, atol=1e-12)
