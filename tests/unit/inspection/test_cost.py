"""Counts are the published ones, and memory is what autograd really keeps."""

from contextlib import nullcontext
from dataclasses import replace

import pytest
import torch

from vitral.inspection.cost import activation_memory, cost
from vitral.models import architecture, build
from vitral.resnet import ResNetConfig
from vitral.train.recompute import recompute_blocks
from vitral.vit_config import ViTConfig

TINY = ViTConfig(image_size=32, patch_size=8, width=48, depth=3, num_heads=3, mlp_dim=96, num_classes=10)
RESNET = ResNetConfig(image_size=32, stages=(2, 1), root_width=32, num_classes=10)


@pytest.mark.parametrize(
    ("name", "pixels", "gmacs"),
    [
        ("ViT-Ti/16", 224, 1.254),
        ("ViT-S/32", 224, 1.143),
        ("ViT-S/16", 224, 4.599),
        ("ViT-B/32", 224, 4.409),
        ("ViT-B/16", 224, 17.564),
        ("ViT-B/8", 224, 78.148),
        ("ViT-L/32", 224, 15.378),
        ("ViT-L/16", 224, 61.555),
        ("ViT-H/14", 224, 167.295),
        ("R+ViT-Ti/16", 224, 0.434),
        ("R26+ViT-S/32", 224, 3.464),
        ("R26+ViT-B/32", 224, 6.711),
        ("R50+ViT-B/16", 224, 21.535),
        ("R50+ViT-L/32", 224, 19.413),
        ("R50+ViT-B/32", 224, 8.458),
        ("R50+ViT-L/16", 224, 65.539),
        ("ViT-B/16", 384, 55.48),
        ("ViT-B/32", 384, 13.04),
        ("ViT-L/16", 384, 191.07),
        ("ViT-L/32", 384, 45.28),
        ("ViT-L/16", 512, 361.99),
        ("ViT-H/14", 518, 1016.72),
        ("ViT-L/14", 224, 81.01),
        ("ViT-So400m/14", 224, 109.93),
        ("ViT-g/14", 224, 267.03),
        ("ViT-G/14", 224, 483.75),
    ],
)
def test_arithmetic_is_the_published(name: str, pixels: int, gmacs: float) -> None:
    assert cost(architecture(name, image_size=pixels)).macs / 1e9 == pytest.approx(gmacs, rel=1e-3)


@pytest.mark.parametrize(
    ("name", "at_224", "at_384"),
    [("ViT-S/32", 2.3, 6.9), ("ViT-s/16", 2.2, 7.8), ("ViT-Ti/16", 2.5, 9.5), ("ViT-B/32", 8.7, 26.0)],
)
def test_operations_are_those_of_scaling_vision_transformers(name: str, at_224: float, at_384: float) -> None:
    """Its Table 2 counts two for a multiply-accumulate, rounded to a tenth, without the 1000-way head."""
    for pixels, gigaflops in ((224, at_224), (384, at_384)):
        assert 2 * cost(architecture(name, image_size=pixels)).macs / 1e9 == pytest.approx(gigaflops, rel=0.03)


def test_tokens_are_class_token_registers_and_patches() -> None:
    assert cost(replace(TINY, num_registers=4)).tokens == 1 + 4 + 16
    assert cost(replace(TINY, pool="gap")).tokens == 16
    assert cost(RESNET).tokens is None


def really_kept(config: ViTConfig | ResNetConfig, batch: int, *, bfloat16: bool) -> int:
    """Bytes that autograd keeps when a step really runs."""
    model = build(config).train()
    known = {tensor.untyped_storage().data_ptr() for tensor in (*model.parameters(), *model.buffers())}
    kept: dict[int, torch.Tensor] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    autocast = torch.autocast("cpu", torch.bfloat16) if bfloat16 else nullcontext()
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor), autocast:
        output = model(torch.randn(batch, 3, *config.image_hw))
    assert output.requires_grad
    return sum(tensor.untyped_storage().nbytes() for place, tensor in kept.items() if place not in known)


@pytest.mark.parametrize("bfloat16", [False, True])
@pytest.mark.parametrize(
    "config",
    [
        TINY,
        replace(TINY, stem_stages=(1,), stem_width=32),
        replace(TINY, attention="axial", pool="map"),
        replace(TINY, position="relative"),
        RESNET,
    ],
    ids=["plain", "hybrid", "axial", "relative", "resnet"],
)
def test_memory_is_what_autograd_really_keeps(config: ViTConfig | ResNetConfig, bfloat16: bool) -> None:
    memory = activation_memory(config, bfloat16=bfloat16, recompute=False)
    for batch in (2, 5):
        found = really_kept(config, batch, bfloat16=bfloat16)
        norms = sum(isinstance(module, torch.nn.GroupNorm) for module in build(config).modules()) if bfloat16 else 0
        statistics = batch * norms * 32 * 2  # float32, but without memory of the input's precision, two bytes shorter
        assert memory.of(batch) + 2 * statistics == pytest.approx(found, abs=4 * batch if bfloat16 else 0)


def test_recomputing_keeps_one_block_and_the_inputs_of_all() -> None:
    pooled = replace(TINY, pool="gap")  # all blocks are alike: with a class token, less goes through the last
    kept = activation_memory(pooled, bfloat16=False, recompute=False)
    one = activation_memory(replace(pooled, depth=1), bfloat16=False, recompute=False)
    again = activation_memory(pooled, bfloat16=False, recompute=True)
    inputs = 3 * 16 * 48 * 4
    block = (kept.per_image - one.per_image) / 2
    assert again.per_image == pytest.approx(kept.per_image - 2 * block + inputs, rel=0.02)


@pytest.mark.parametrize("config", [TINY, replace(TINY, dropout=0.3), RESNET], ids=["plain", "dropout", "resnet"])
def test_recomputing_changes_no_gradient(config: ViTConfig | ResNetConfig) -> None:
    model, images = build(config).train(), torch.randn(2, 3, 32, 32)
    torch.nn.init.normal_(model.head.weight)

    def gradients() -> list[torch.Tensor]:
        torch.manual_seed(0)
        return list(torch.autograd.grad(model(images).square().sum(), list(model.parameters())))

    names, before = list(model.state_dict()), gradients()
    recompute_blocks(model)
    assert list(model.state_dict()) == names
    for one, other in zip(gradients(), before, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)
