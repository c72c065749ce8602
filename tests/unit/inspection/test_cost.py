"""Counts are the published ones, and memory is what autograd really keeps."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from vitral.inspection.cost import activation_memory, cost, forward_macs
from vitral.models import architecture, build
from vitral.resnet import ResNetConfig
from vitral.train.activation_checkpointing import recompute_blocks
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
    ("name", "pixels", "gigaflops"),
    [
        ("ViT-s/28", (224, 364), (0.7, 2.0)),
        ("ViT-S/32", (224, 384), (2.3, 6.9)),
        ("ViT-s/16", (224, 384), (2.2, 7.8)),
        ("ViT-Ti/16", (224, 384), (2.5, 9.5)),
        ("ViT-B/32", (224, 384), (8.7, 26.0)),
        ("ViT-S/16", (224, 384), (9.2, 31.2)),
        ("ViT-B/28", (224, 364), (11.3, 30.5)),
        ("ViT-B/16", (224, 384), (35.1, 111.3)),
        ("ViT-L/16", (224, 384), (122.9, 382.8)),
        ("ViT-g/14", (224, 378), (533.1, 1596.4)),
        ("ViT-G/14", (224, 378), (965.3, 2859.9)),
    ],
)
def test_operations_are_those_of_scaling_vision_transformers(
    name: str, pixels: tuple[int, int], gigaflops: tuple[float, float]
) -> None:
    """Its Table 2, at 224 and 384 pixels, counts two for a multiply-accumulate and rounds to a tenth.

    Patches of 28 and 14 pixels do not divide 384; its figures are those of the whole patches within. Nobody's head is
    in them.
    """
    for side, published in zip(pixels, gigaflops, strict=True):
        actual = 2 * cost(architecture(name, image_size=side, num_classes=1)).macs / 1e9
        assert abs(actual - published) < 0.05 + 0.015 * published


@pytest.mark.parametrize(
    "config",
    [
        TINY,
        replace(TINY, stem_stages=(1,), stem_width=32),
        replace(TINY, position="relative", position_injection="stem", relative_per_layer=False),
        replace(TINY, position_injection="every_layer", num_registers=2, pool="map", qk_norm=True),
        replace(TINY, attention="axial", pool="gap"),
        replace(TINY, mlp="swiglu", position="rope", layer_scale=0.1),
        replace(TINY, stem_stages=(1,), stem_width=32, stem_numerics="timm", pool="gap", representation_size=24),
    ],
    ids=["plain", "hybrid", "relative", "every layer", "axial", "swiglu", "timm hybrid"],
)
def test_any_depth_is_computed_from_shallow_models(config: ViTConfig) -> None:
    deep = replace(config, depth=6)
    model = build(deep)
    assert cost(deep).parameters == sum(parameter.numel() for parameter in model.parameters())
    # attention as plain products, as PyTorch 2.11 does not count the fused one on a CPU
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        model(torch.zeros(1, 3, 32, 32))
    assert forward_macs(deep) == counter.get_total_flops() // 2


def test_a_resnet_costs_what_pytorch_counts() -> None:
    model = build(RESNET)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(torch.zeros(1, 3, 32, 32))
    assert cost(RESNET).macs == forward_macs(RESNET) == counter.get_total_flops() // 2
    assert cost(RESNET).parameters == sum(parameter.numel() for parameter in model.parameters())


def test_forward_carries_only_the_class_token_through_the_last_block() -> None:
    """Of the others it needs keys and values: not their queries, what attention makes of them, nor their MLP."""
    width, hidden, tokens = 48, 96, 17
    unread = tokens - 1
    assert cost(TINY).macs - forward_macs(TINY) == unread * (width * width + 2 * width * hidden + 2 * tokens * width)
    gap = replace(TINY, pool="gap")
    assert cost(gap).macs == forward_macs(gap)


def test_tokens_are_class_token_registers_and_patches() -> None:
    assert cost(replace(TINY, num_registers=4)).tokens == 1 + 4 + 16
    assert cost(replace(TINY, pool="gap")).tokens == 16
    assert cost(RESNET).tokens is None


@contextmanager
def gpu_autocast() -> Iterator[None]:
    """The CPU's autocast to bfloat16, with norms in float32 whatever they are given, as a GPU's has them."""
    with torch.autocast("cpu", torch.bfloat16), pytest.MonkeyPatch.context() as patch:
        for name in ("layer_norm", "group_norm"):
            norm = getattr(F, name)
            patch.setattr(F, name, lambda x, *rest, norm=norm, **named: norm(x.float(), *rest, **named))
        yield


def saved_bytes(config: ViTConfig | ResNetConfig, batch: int, *, bfloat16: bool) -> int:
    """Bytes that autograd keeps when a step really runs."""
    model = build(config).train()
    uncounted = {tensor.untyped_storage().data_ptr() for tensor in (*model.parameters(), *model.buffers())}
    saved: dict[int, torch.Tensor] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        saved[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    arithmetic = gpu_autocast() if bfloat16 else nullcontext()
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor), arithmetic:
        output = model(torch.randn(batch, 3, *config.image_hw))
    assert output.requires_grad
    return sum(tensor.untyped_storage().nbytes() for address, tensor in saved.items() if address not in uncounted)


@pytest.mark.parametrize("bfloat16", [False, True])
@pytest.mark.parametrize(
    "config",
    [
        TINY,
        replace(TINY, depth=5, drop_path=0.2),
        replace(TINY, depth=5, stem_stages=(1,), stem_width=32),
        replace(TINY, depth=5, attention="axial", pool="map"),
        replace(TINY, depth=5, position="relative", qk_norm=True),
        RESNET,
    ],
    ids=["plain", "stochastic depth", "hybrid", "axial", "relative", "resnet"],
)
def test_memory_is_what_autograd_really_keeps(config: ViTConfig | ResNetConfig, bfloat16: bool) -> None:
    memory = activation_memory(config, bfloat16=bfloat16, recompute=False)
    for batch in (2, 5):
        assert memory.of(batch) == saved_bytes(config, batch, bfloat16=bfloat16)


def test_recomputing_keeps_one_block_and_the_inputs_of_all() -> None:
    pooled = replace(TINY, pool="gap", depth=5)  # all blocks are alike: with a class token, less goes through the last
    stored = activation_memory(pooled, bfloat16=False, recompute=False)
    one = activation_memory(replace(pooled, depth=1), bfloat16=False, recompute=False)
    again = activation_memory(pooled, bfloat16=False, recompute=True)
    inputs = 5 * 16 * 48 * 4
    block = (stored.per_image - one.per_image) / 4
    assert again.per_image == pytest.approx(stored.per_image - 4 * block + inputs, rel=0.02)


def test_dropout_of_attention_stays_fused_on_a_gpu() -> None:
    """A CPU saves the probabilities."""
    plain, dropped = (replace(TINY, attention_dropout=rate) for rate in (0.0, 0.1))
    on_gpu, on_cpu = (
        [activation_memory(config, bfloat16=bfloat16, recompute=False) for config in (plain, dropped)]
        for bfloat16 in (True, False)
    )
    assert on_gpu[0] == on_gpu[1]
    assert on_cpu[0].per_image < on_cpu[1].per_image


@pytest.mark.parametrize(
    "config", [TINY, replace(TINY, dropout=0.3, attention_dropout=0.3), RESNET], ids=["plain", "dropout", "resnet"]
)
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
