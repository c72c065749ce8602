"""Axial attention: along rows, then along columns."""

from dataclasses import replace

import pytest
import torch
from einops import rearrange
from torch import Tensor

from vitral.layers.positions import PositionState
from vitral.models import architecture
from vitral.vit import ViT
from vitral.vit_config import ViTConfig

TINY = ViTConfig(
    image_size=(8, 12),
    patch_size=(4, 3),
    channels=2,
    width=24,
    depth=2,
    num_heads=3,
    mlp_dim=40,
    num_classes=5,
    pool="gap",
    attention="axial",
)


@pytest.fixture
def model() -> ViT:
    model = ViT(TINY).double().eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.4)
    return model


def tokens(count: int) -> Tensor:
    return torch.randn(3, count, 24, dtype=torch.float64)


def test_a_block_is_one_block_for_each_row_then_one_for_each_column(model: ViT) -> None:
    block, x = model.blocks[0], tokens(8)
    grid = rearrange(x, "b (gh gw) d -> b gh gw d", gh=2)
    rows = torch.stack([block.rows(grid[:, row], PositionState(grid=(1, 4))) for row in range(2)], dim=1)
    both = torch.stack([block.columns(rows[:, :, column], PositionState(grid=(2, 1))) for column in range(4)], dim=2)
    torch.testing.assert_close(block(x, PositionState(grid=(2, 4))), both.flatten(1, 2), rtol=0, atol=1e-12)


def test_in_one_block_a_patch_reaches_its_row_and_then_every_column(model: ViT) -> None:
    x = tokens(8)
    changed = x.clone()
    changed[:, 0] *= -1  # row 0, column 0
    pos = PositionState(grid=(2, 4))
    once = (model.blocks[0](changed, pos) - model.blocks[0](x, pos)).abs().amax(dim=(0, 2))
    assert once.min() > 1e-9, "attention along the row, then along each column, reaches every patch"
    along_rows = model.blocks[0].rows
    row = (
        along_rows(changed[:, 4:], PositionState(grid=(1, 4))) - along_rows(x[:, 4:], PositionState(grid=(1, 4)))
    ).abs()
    assert row.max() == 0


def test_on_a_single_row_the_columns_attend_to_one_token(model: ViT) -> None:
    """The softmax over one token is 1: attention is then a dense layer of the token itself."""
    columns, x = model.blocks[0].columns, tokens(5)
    outputs = columns(rearrange(x, "b n d -> (b n) 1 d"), PositionState(grid=(1, 1))).reshape(x.shape)
    normed = columns.norm1(x)
    attn = columns.attn.attn
    after = x + attn.proj(attn.qkv(normed)[..., 48:])
    torch.testing.assert_close(outputs, after + columns.mlp(columns.norm2(after)), rtol=0, atol=1e-12)


def test_axial_blocks_double_the_parameters_of_the_blocks() -> None:
    axial = sum(parameter.numel() for parameter in ViT(TINY).blocks.parameters())
    plain = sum(parameter.numel() for parameter in ViT(replace(TINY, attention="global")).blocks.parameters())
    assert axial == 2 * plain


@pytest.mark.parametrize("form", ["sample", "batch"])
def test_stochastic_depth_skips_images_not_their_rows(form: str) -> None:
    torch.manual_seed(0)
    model = ViT(replace(TINY, drop_path=0.5, drop_path_form=form)).double().train()
    block, x = model.blocks[1].rows, torch.ones(64, 8, 24, dtype=torch.float64)
    torch.nn.init.ones_(block.mlp.fc2.bias)
    torch.nn.init.zeros_(block.mlp.fc2.weight)
    torch.nn.init.zeros_(block.attn.attn.proj.weight)
    added = block(x, PositionState(grid=(2, 4))) - x
    assert (added == added[:, :1, :1]).all(), "all patches of an image are dropped together"
    assert set(added[:, 0, 0].tolist()) == {0.0, 2.0}


def test_images_of_another_aspect_go_through(model: ViT) -> None:
    assert model(torch.randn(2, 2, 16, 6, dtype=torch.float64)).shape == (2, 5)


@pytest.mark.parametrize("patch", [16, 32])
def test_the_papers_axial_models_have_names(patch: int) -> None:
    config = architecture(f"Axial-ViT-B/{patch}")
    assert (config.attention, config.pool, config.patch_size, config.depth) == ("axial", "gap", patch, 12)
