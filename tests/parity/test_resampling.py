"""Positions are resampled as by the functions of the other projects."""

import math

import pytest
import torch
import torchvision
import transformers
from timm.layers import resample_abs_pos_embed
from transformers.models.dinov2.modeling_dinov2 import Dinov2Embeddings
from transformers.models.vit.modeling_vit import ViTEmbeddings

from vitral.layers.resample import resample_grid

TARGETS = [(24, 24), (7, 7), (16, 9), (20, 31)]
WIDTH = 6


def position_embeddings(side: int = 14) -> torch.Tensor:
    """Position embeddings: a row for the class token and a square grid."""
    return torch.randn(1, 1 + side * side, WIDTH, generator=torch.Generator().manual_seed(3))


def resampled(positions: torch.Tensor, target: tuple[int, int], method: str) -> torch.Tensor:
    side = math.isqrt(positions.shape[1] - 1)
    grid = positions[:, 1:].reshape(1, side, side, WIDTH)
    return torch.cat([positions[:, :1], resample_grid(grid, target, method=method).flatten(1, 2)], dim=1)


@pytest.mark.parametrize("target", TARGETS)
def test_timm(target: tuple[int, int]) -> None:
    expected = resample_abs_pos_embed(position_embeddings(), new_size=list(target), num_prefix_tokens=1)
    torch.testing.assert_close(resampled(position_embeddings(), target, "timm"), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("target", TARGETS)
def test_huggingface(target: tuple[int, int]) -> None:
    config = transformers.ViTConfig(hidden_size=WIDTH, image_size=56, patch_size=4, num_attention_heads=1)
    embeddings = ViTEmbeddings(config)
    with torch.no_grad():
        embeddings.position_embeddings.copy_(position_embeddings())
    expected = embeddings.interpolate_pos_encoding(
        torch.zeros(1, 1 + math.prod(target), WIDTH), target[0] * 4, target[1] * 4
    )
    torch.testing.assert_close(resampled(position_embeddings(), target, "huggingface"), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("target", TARGETS)
def test_transformers_dinov2_resamples_as_its_vit_unlike_the_original(target: tuple[int, int]) -> None:
    config = transformers.Dinov2Config(hidden_size=WIDTH, image_size=56, patch_size=4, num_attention_heads=1)
    embeddings = Dinov2Embeddings(config)
    with torch.no_grad():
        embeddings.position_embeddings.copy_(position_embeddings())
    expected = embeddings.interpolate_pos_encoding(
        torch.zeros(1, 1 + math.prod(target), WIDTH), target[0] * 4, target[1] * 4
    )
    torch.testing.assert_close(resampled(position_embeddings(), target, "huggingface"), expected, rtol=0, atol=1e-6)
    assert (resampled(position_embeddings(), target, "dinov2") - expected).abs().max() > 1e-3


@pytest.mark.parametrize("side", [24, 7])
def test_torchvision(side: int) -> None:
    state = {"encoder.pos_embedding": position_embeddings()}
    expected = torchvision.models.vision_transformer.interpolate_embeddings(side * 4, 4, state)["encoder.pos_embedding"]
    torch.testing.assert_close(
        resampled(position_embeddings(), (side, side), "torchvision"), expected, rtol=0, atol=1e-6
    )


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_timm_in_half_precision(dtype: torch.dtype) -> None:
    positions = position_embeddings().to(dtype)
    expected = resample_abs_pos_embed(positions, new_size=[20, 9], num_prefix_tokens=1)
    assert torch.equal(resampled(positions, (20, 9), "timm"), expected)
