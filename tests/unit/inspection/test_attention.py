"""Attention weights equal those inside the model; rollout and distance follow the paper."""

from typing import Any

import pytest
import torch
from einops import rearrange
from torch.testing import assert_close

from models import SMALL, small_model
from vitral.inspection.attention import attention_distance, attention_over_image, attention_weights, rollout


@pytest.mark.parametrize(
    "changes",
    [
        dict(pool="cls"),
        dict(pool="gap"),
        dict(num_registers=2, qk_norm=True),
        dict(position_injection="every_layer"),
        dict(position="relative", relative_per_head=True),
        dict(position="rope"),
    ],
)
def test_recomputed_weights_give_the_output_of_each_blocks_attention(changes: dict[str, Any]) -> None:
    model = small_model(**changes)
    images = torch.rand(2, 3, 16, 24)
    landmarks = model.features(images).landmarks
    _, positions = model.positions.at_grid(model.pos_embed, model.config.grid)
    weights = attention_weights(model, images)
    assert len(weights) == 2
    for index, (block, pos) in enumerate(zip(model.blocks, positions, strict=True)):
        x = block.norm1(pos.add(landmarks["embedded" if index == 0 else f"blocks.{index - 1}"]))
        values = block.attn.project_qkv(x)[2]
        mixed = rearrange(weights[index] @ values, "b heads t k -> b t (heads k)")
        assert_close(block.attn.proj(mixed), block.attn(x, pos))


def test_axial_attention_raises() -> None:
    with pytest.raises(ValueError, match="this model attends along rows and columns"):
        attention_weights(small_model(pool="gap", attention="axial"), torch.rand(2, 3, 16, 24))


def test_rows_sum_to_one() -> None:
    model = small_model()
    weights = attention_weights(model, torch.rand(2, 3, 16, 24))
    assert [layer.shape for layer in weights] == [(2, 3, 7, 7)] * 2
    for attention in (*weights, rollout(weights)):
        assert_close(attention.sum(-1), torch.ones(attention.shape[:-1]))


def test_rollout_by_hand() -> None:
    heads = torch.tensor([[[1.0, 0.0], [0.0, 1.0]], [[0.0, 1.0], [1.0, 0.0]]])  # averaged: half and half
    first = heads[None]
    second = torch.tensor([[[[0.0, 1.0], [1.0, 0.0]]]])
    # first: (half + identity) / 2 = [[3/4, 1/4], [1/4, 3/4]]; second: (swap + identity) / 2 = half everywhere
    assert_close(rollout([first]), torch.tensor([[[0.75, 0.25], [0.25, 0.75]]]))
    assert_close(rollout([first, second]), torch.full((1, 2, 2), 0.5))


def test_rollout_multiplies_later_layers_from_the_left() -> None:
    first = torch.tensor([[[[1.0, 0.0], [1.0, 0.0]]]])  # mixed: [[1, 0], [1/2, 1/2]]
    second = torch.tensor([[[[0.0, 1.0], [0.0, 1.0]]]])  # mixed: [[1/2, 1/2], [0, 1]]
    assert_close(rollout([first, second]), torch.tensor([[[0.75, 0.25], [0.5, 0.5]]]))


def test_rollout_of_identities_is_the_identity() -> None:
    assert_close(rollout([torch.eye(3).expand(2, 4, 3, 3)] * 5), torch.eye(3).expand(2, 3, 3))


def test_the_class_tokens_row_becomes_a_map_of_the_image() -> None:
    attention = torch.arange(49.0).reshape(1, 7, 7)
    assert attention_over_image(attention, grid=(2, 3), queries=slice(0, 1)).tolist() == [[[1, 2, 3], [4, 5, 6]]]


def test_without_a_class_token_rows_are_averaged() -> None:
    attention = torch.tensor([[[0.2, 0.8], [0.6, 0.4]]])
    assert_close(attention_over_image(attention, grid=(1, 2), queries=slice(0, None)), torch.tensor([[[0.4, 0.6]]]))


@pytest.mark.parametrize(
    ("side", "patch", "pixels"), [(14, 16, 116.4922), (7, 32, 115.5029), (16, 14, 116.5651), (24, 16, 200.0480)]
)
def test_distance_of_uniform_attention(side: int, patch: int, pixels: float) -> None:
    tokens = side * side
    weights = torch.full((1, 2, tokens, tokens), 1 / tokens)
    distance = attention_distance(weights, grid=(side, side), patch_size=(patch, patch))
    assert distance.tolist() == pytest.approx([pixels, pixels], abs=1e-3)


def test_distance_of_the_identity_is_zero() -> None:
    weights = torch.eye(7).expand(2, 3, 7, 7)
    assert attention_distance(weights, grid=(2, 3), patch_size=(8, 8)).tolist() == [0, 0, 0]


def test_distance_leaves_the_class_token_out_and_supports_tall_patches() -> None:
    weights = torch.zeros(1, 1, 3, 3)
    weights[0, 0, 1] = torch.tensor([0.5, 0.0, 0.5])  # half to the class token, half to the other patch
    weights[0, 0, 2] = torch.tensor([0.0, 1.0, 0.0])
    # distances weighted: 0.5 * 10 and 1 * 10, averaged over the two patches
    assert attention_distance(weights, grid=(2, 1), patch_size=(10, 4)).item() == pytest.approx(7.5)


def test_too_few_tokens_for_the_grid_raise() -> None:
    with pytest.raises(AssertionError, match="5 tokens are fewer than a 2x3 grid"):
        attention_over_image(torch.zeros(1, 5, 5), grid=(2, 3), queries=slice(0, 1))


def test_the_small_model_has_the_grid_that_these_tests_use() -> None:
    assert SMALL.grid == (2, 3)
