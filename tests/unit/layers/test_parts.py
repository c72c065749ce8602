"""Parts that the paper does not have."""

import math
from collections import Counter
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vitral.layers.depth import DropPath, SubsetBlock, add_to_subset
from vitral.layers.linear import FusedLinear
from vitral.layers.mlp import SwiGLU
from vitral.layers.patch_dropout import PatchDropout
from vitral.layers.pooling import AttentionPool, ClassAndMean
from vitral.layers.positions import PositionState
from vitral.layers.scale import LayerScale
from vitral.vit import MLP, Attention, Block, ViT
from vitral.vit_config import ViTConfig

NO_POSITIONS = PositionState(grid=(1, 5))
CONFIG = ViTConfig(image_size=8, patch_size=4, channels=1, width=24, depth=4, num_heads=3, mlp_dim=32, num_classes=3)


def random_block() -> Block:
    block = Block(
        norm=lambda: nn.LayerNorm(8),
        attn=Attention(width=8, num_heads=2, dropout=0.0),
        mlp=MLP(width=8, hidden=16, gelu="tanh", dropout=0.0),
    ).double()
    for parameter in block.parameters():
        nn.init.normal_(parameter, std=0.5)
    return block


def tokens(batch: int = 8) -> Tensor:
    return torch.randn(batch, 5, 8, dtype=torch.float64)


# Stochastic depth


def test_a_dropped_path_is_all_or_nothing_for_an_image() -> None:
    layer = DropPath(0.3)
    x = torch.ones(20_000, 1, 2)
    out = layer(x)
    assert out.flatten().unique().tolist() == pytest.approx([0, 1 / 0.7])
    assert torch.equal(out[:, :, 0], out[:, :, 1])
    assert (out[:, 0, 0] == 0).double().mean().item() == pytest.approx(0.3, abs=0.02)
    assert layer.eval()(x) is x


def test_rates_grow_linearly_to_the_last_block() -> None:
    model = ViT(ViTConfig(**{**CONFIG.__dict__, "drop_path": 0.3}))
    rates = [getattr(block.drop_path1, "rate", 0.0) for block in model.blocks]
    assert rates == pytest.approx([0, 0.1, 0.2, 0.3])
    subsets = ViT(ViTConfig(**{**CONFIG.__dict__, "drop_path": 0.3, "drop_path_form": "batch"}))
    assert [getattr(block, "rate", 0.0) for block in subsets.blocks] == pytest.approx([0, 0.1, 0.2, 0.3])
    assert isinstance(subsets.blocks[0], Block)


def test_a_subset_saves_the_computation_of_the_rest() -> None:
    block = SubsetBlock(random_block(), 0.4).train()
    rows = Counter()
    for name in ("attn", "mlp"):
        part = getattr(block, name)
        part.register_forward_pre_hook(lambda _, arguments, name=name: rows.update({name: len(arguments[0])}))
    block(tokens(10), NO_POSITIONS)
    assert rows == {"attn": 6, "mlp": 6}
    block.eval()(tokens(10), NO_POSITIONS)
    assert rows == {"attn": 16, "mlp": 16}


def test_in_evaluation_a_subset_block_is_the_block() -> None:
    block = random_block()
    subset, x = SubsetBlock(block, 0.4), tokens()
    assert set(subset.state_dict()) == set(block.state_dict())
    for queries in (slice(None), slice(0, 1)):
        assert torch.equal(subset.eval()(x, NO_POSITIONS, queries), block.eval()(x, NO_POSITIONS, queries))


def test_each_branch_adds_its_mean_over_many_draws() -> None:
    block, x = random_block(), tokens(4)
    branch = block.mlp(block.norm2(x))
    total = torch.zeros_like(x)
    for _ in range(4000):
        total += add_to_subset(x, x, lambda some: block.mlp(block.norm2(some)), 0.5) - x
    error = (total / 4000 - branch).abs().max()
    assert error < 5 * branch.abs().max() / math.sqrt(4000)


def test_images_outside_the_subset_stay() -> None:
    x = tokens(6)
    added = add_to_subset(x, x, torch.ones_like, 0.5)
    assert sorted((added - x).amax(dim=(1, 2)).tolist()) == pytest.approx([0, 0, 0, 2, 2, 2])


def test_a_subset_of_all_images_is_the_block() -> None:
    block, x = random_block(), tokens(4)
    subset = SubsetBlock(block, 0.1).train()
    for queries in (slice(None), slice(0, 1)):
        torch.testing.assert_close(
            subset(x, NO_POSITIONS, queries), block(x, NO_POSITIONS, queries), rtol=0, atol=1e-12
        )


def test_a_single_image_is_never_skipped() -> None:
    block, x = random_block(), tokens(1)
    torch.testing.assert_close(
        SubsetBlock(block, 0.9).train()(x, NO_POSITIONS), block(x, NO_POSITIONS), rtol=0, atol=1e-12
    )


def test_reduced_precision_leaves_the_tokens_in_theirs() -> None:
    block, x = SubsetBlock(random_block().float(), 0.5).train(), tokens(4).float()
    with torch.autocast("cpu", torch.bfloat16):
        out = block(x, NO_POSITIONS)
    assert out.dtype == torch.float32
    gradients = torch.autograd.grad(out.sum(), list(block.parameters()))
    assert all(gradient.isfinite().all() and gradient.dtype == torch.float32 for gradient in gradients)


# Dropout of attention


def test_attention_probabilities_are_dropped_and_scaled_up() -> None:
    """With the identity as values, the output is the dropped probabilities themselves."""
    layer = Attention(width=64, num_heads=1, dropout=0.0)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.zero_()
        layer.qkv.weight[128:] = torch.eye(64)
        layer.proj.weight.copy_(torch.eye(64))
    x = torch.eye(64).expand(20, -1, -1)  # tokens; queries and keys are zero, so every probability is 1/64
    layer.attention_dropout = 0.3
    out = layer(x, NO_POSITIONS)
    assert (out * 64).unique().tolist() == pytest.approx([0, 1 / 0.7], abs=1e-5)
    assert (out == 0).double().mean().item() == pytest.approx(0.3, abs=0.02)
    assert out[0].ne(out[1]).any(), "each image drops other pairs"
    torch.testing.assert_close(layer.eval()(x, NO_POSITIONS), torch.full_like(x, 1 / 64))


@pytest.mark.parametrize(
    "form", [{}, {"position": "relative"}, {"position": "rope"}, {"attention": "axial", "pool": "gap"}], ids=str
)
def test_every_form_of_attention_has_dropout_in_training_only(form: dict) -> None:
    plain, dropped = (ViT(ViTConfig(**{**CONFIG.__dict__, **form, "attention_dropout": rate})) for rate in (0.0, 0.5))
    dropped.load_state_dict(plain.state_dict())
    images = torch.randn(2, 1, 8, 8)
    first, second, without = (model.features(images).pooled for model in (dropped, dropped, plain))
    assert not torch.allclose(first, second)
    assert not torch.allclose(first, without)
    torch.testing.assert_close(dropped.eval().features(images).pooled, without)


# Patch dropout


@pytest.mark.parametrize("prefix", [0, 2])
def test_patches_are_dropped_and_stay_in_order(prefix: int) -> None:
    x = torch.arange(prefix + 10.0)[None, :, None].expand(50, -1, 4)
    out = PatchDropout(0.6)(x, prefix)
    assert out.shape == (50, prefix + 4, 4)
    assert torch.equal(out[:, :prefix], x[:, :prefix])
    remaining = out[:, prefix:, 0]
    assert (remaining.diff(dim=1) > 0).all()
    assert len(remaining.unique(dim=0)) > 20, "each image drops different patches"
    assert remaining.unique().tolist() == list(range(prefix, prefix + 10))


def test_evaluation_keeps_all_patches() -> None:
    x = torch.randn(2, 5, 4)
    assert PatchDropout(0.6).eval()(x, 1) is x
    assert PatchDropout(0.0)(x, 1) is x


def test_a_model_learns_from_some_patches() -> None:
    model = ViT(ViTConfig(**{**CONFIG.__dict__, "patch_dropout": 0.5, "num_registers": 2}))
    images = torch.randn(2, 1, 8, 8)
    assert model.features(images).landmarks["norm"].shape == (2, 1 + 2 + 2, 24)
    assert model.eval().features(images).landmarks["norm"].shape == (2, 1 + 2 + 4, 24)


# LayerScale, gated MLP, attention pooling


def test_layer_scale_starts_from_its_initial_value() -> None:
    layer = LayerScale(4, initial=0.1)
    assert torch.equal(layer(torch.ones(1, 2, 4)), torch.full((1, 2, 4), 0.1))
    nn.init.zeros_(layer.gamma)
    layer.init_weights()
    assert torch.equal(layer.gamma, torch.full((4,), 0.1))


def test_swiglu_written_out() -> None:
    layer, x = SwiGLU(width=4, hidden=6, dropout=0.0).double(), torch.randn(2, 3, 4, dtype=torch.float64)
    gate, value = (
        x @ weight.T + bias for weight, bias in zip(layer.fc1.weight.chunk(2), layer.fc1.bias.chunk(2), strict=True)
    )
    expected = (gate / (1 + torch.exp(-gate)) * value) @ layer.fc2.weight.T + layer.fc2.bias
    torch.testing.assert_close(layer(x), expected, rtol=0, atol=1e-12)


def test_gated_weights_are_initialised_as_two_matrices() -> None:
    model = ViT(ViTConfig(**{**CONFIG.__dict__, "mlp": "swiglu", "width": 96, "mlp_dim": 200}))
    for half in model.blocks[0].mlp.fc1.weight.chunk(2):
        bound = math.sqrt(6 / (96 + 200))
        assert 0.99 * bound < half.abs().max().item() <= bound


def test_attention_pooling_is_initialised_as_in_big_vision() -> None:
    model = ViT(ViTConfig(**{**CONFIG.__dict__, "pool": "map", "width": 96}))
    pool = model.pool
    assert isinstance(pool, AttentionPool)
    bound = math.sqrt(6 / (96 + 96))
    for matrix in (pool.q.weight, *pool.kv.weight.chunk(2), pool.proj.weight):
        assert 0.99 * bound < matrix.abs().max().item() <= bound
    probe = math.sqrt(6 / (1 + 96))  # Flax: the last two of its axes are 1 input and 96 outputs
    assert 0.9 * probe < pool.latent.abs().max().item() <= probe
    assert pool.mlp.fc1.bias.std().item() == pytest.approx(1e-6, rel=0.5)


def test_attention_pooling_of_a_set_ignores_other_tokens() -> None:
    mlp = partial(MLP, width=8, hidden=16, gelu="tanh", dropout=0.0)
    pool = AttentionPool(width=8, num_heads=2, norm=partial(nn.LayerNorm, 8), mlp=mlp)
    for parameter in pool.double().parameters():
        nn.init.normal_(parameter)
    x = tokens(2)
    members = torch.tensor([[True, True, False, False, False], [False, False, True, True, True]])[None]
    both = pool.pool_sets(x, members)
    torch.testing.assert_close(both[:, 0], pool(x[:, :2]), rtol=0, atol=1e-12)
    torch.testing.assert_close(both[:, 1], pool(x[:, 2:]), rtol=0, atol=1e-12)


def test_a_fused_layer_is_its_projections() -> None:
    layer, x = FusedLinear(4, 3, projections=2), torch.randn(5, 4)
    parts = [F.linear(x, weight, bias) for weight, bias in zip(layer.weight.chunk(2), layer.bias.chunk(2), strict=True)]
    torch.testing.assert_close(layer(x), torch.cat(parts, dim=1))


def test_class_token_and_mean_of_the_patches_stand_side_by_side() -> None:
    x = torch.tensor([[[1.0, 2.0], [100.0, 100.0], [3.0, 5.0], [7.0, 9.0]]])  # class token, register, two patches
    assert ClassAndMean(num_prefix_tokens=2)(x).tolist() == [[1, 2, 5, 7]]


def test_a_final_norm_behind_pooling_needs_a_final_norm_and_one_vector() -> None:
    for changes in ({"final_norm": False}, {"pool": "cls_gap"}):
        with pytest.raises(ValueError, match="pooled_norm moves the final norm"):
            ViTConfig(**{**CONFIG.__dict__, "pool": "gap", "pooled_norm": True, **changes})
