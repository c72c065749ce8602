"""Every kind of position embeddings is what the paper or its owner says, in each way of adding it."""

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode

from vitral.inspection.attention import attention_weights
from vitral.layers.positions import INJECTIONS, POSITIONS, PositionState
from vitral.layers.positions.in_attention import Rotary
from vitral.models import blank_model, give_buffers
from vitral.vit import ViT
from vitral.vit_config import ViTConfig

TINY = ViTConfig(
    image_size=(8, 12), patch_size=(4, 3), channels=2, width=24, depth=3, num_heads=3, mlp_dim=40, num_classes=5
)
LEARNED_2D = ("learned_2d", "factorized_2d")
SINCOS = ("sincos_2d", "sincos_2d_mae")
PAIRS = [
    (kind, injection) for kind, positions in POSITIONS.items() for injection in positions.injections
]  # fmt: skip


def random_model(**changes: Any) -> ViT:
    """A float64 model in evaluation mode whose every parameter is random, the head's too."""
    model = ViT(replace(TINY, **changes)).double().eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.4, generator=generator)
    return model


def images(*hw: int, batch: int = 2) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.rand(batch, 2, *(hw or (8, 12)), generator=generator, dtype=torch.float64) * 2 - 1


def added_at_stem(model: ViT, grid: tuple[int, int] = (2, 4)) -> Tensor:
    """What the stem adds to the tokens of a grid, one row per token."""
    zeros = torch.zeros(1, model.config.num_prefix_tokens + math.prod(grid), 24, dtype=torch.float64)
    stem, _ = model.positions.at_grid(model.pos_embed, grid)
    return stem.add(zeros)[0]


# Which pairs there are


def test_the_pairs_are_those_of_table_8_and_their_like() -> None:
    everywhere = {"learned_1d", *LEARNED_2D}
    assert {kind for kind, injection in PAIRS if injection == "every_layer"} == everywhere
    assert {kind for kind, injection in PAIRS if injection == "every_layer_shared"} == everywhere | set(SINCOS)
    assert {kind for kind, injection in PAIRS if injection == "stem"} == set(POSITIONS)


@pytest.mark.parametrize(
    ("kind", "injection"),
    [(kind, injection) for kind in POSITIONS for injection in INJECTIONS if (kind, injection) not in PAIRS],
)
def test_an_unsupported_pair_raises(kind: str, injection: str) -> None:
    with pytest.raises(ValueError, match=f"position {kind} cannot go with position_injection {injection}: choose stem"):
        replace(TINY, position=kind, position_injection=injection)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (
            dict(position="learned_2d", width=9, num_heads=3),
            "learned_2d needs vectors whose width is a multiple of 2, not 9",
        ),
        (
            dict(position="sincos_2d", width=18, num_heads=3),
            "sincos_2d needs vectors whose width is a multiple of 4, not 18",
        ),
        (dict(position="rope", width=30, num_heads=3), "rope needs vectors whose width is a multiple of 4, not 10"),
        (dict(position="rope", rope_periods=(1.0,)), "rope_periods has 1 values, but heads of width 8 need 2"),
        (dict(position="rope", rope_periods=(1.0, 0.0)), "rope_periods must be above 0, not 0.0"),
        (dict(rope_periods=(1.0, 10.0)), "rope_periods are those of position rope, not of learned_1d"),
        (dict(attention="axial"), "without class token or registers: choose pool gap, map or none"),
        (dict(attention="axial", pool="gap", num_registers=1), "without class token or registers"),
        (dict(attention="axial", pool="gap", position="rope"), "axial attention cannot go with position rope"),
        (dict(patch_dropout=0.5, position="relative"), "patch_dropout leaves gaps in the grid"),
        (dict(patch_dropout=0.5, position_injection="every_layer"), "patch_dropout leaves gaps in the grid"),
        (dict(patch_dropout=0.5, attention="axial", pool="gap"), "patch_dropout leaves gaps in the grid"),
    ],
)
def test_parts_that_do_not_fit_raise(changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        replace(TINY, **changes)


# What is learned, and how much of it


@pytest.mark.parametrize(
    ("changes", "count"),
    [
        (dict(position="none"), 0),
        (dict(position="learned_1d"), (8 + 1) * 24),
        (dict(position="learned_1d", position_injection="every_layer"), 3 * (8 + 1) * 24),
        (dict(position="learned_1d", position_injection="every_layer_shared"), (8 + 1) * 24),
        (dict(position="learned_2d"), (2 + 4) * 12 + 24),
        (dict(position="learned_2d", pool="gap"), (2 + 4) * 12),
        (dict(position="learned_2d", position_injection="every_layer"), 3 * ((2 + 4) * 12 + 24)),
        (dict(position="factorized_2d"), (2 + 4) * 24 + 24),
        (dict(position="relative"), 3 * (2 * 8 - 1) * 8),
        (dict(position="relative", relative_per_layer=False), (2 * 8 - 1) * 8),
        (dict(position="relative", relative_per_head=True), 3 * 3 * (2 * 8 - 1) * 8),
        (dict(position="relative", relative_per_layer=False, relative_per_head=True), 3 * (2 * 8 - 1) * 8),
        (dict(position="sincos_2d"), 0),
        (dict(position="rope"), 0),
    ],
)
def test_learned_positions_have_the_expected_number_of_parameters(changes: dict[str, Any], count: int) -> None:
    def parameters(config: ViTConfig) -> int:
        return sum(parameter.numel() for parameter in ViT(config).parameters())

    config = replace(TINY, **changes)
    bare = replace(config, position="none", position_injection="stem")
    assert parameters(config) - parameters(bare) == count
    assert ("pos_embed" in ViT(config).state_dict()) == (count > 0)


@pytest.mark.parametrize("kind", [kind for kind, positions in POSITIONS.items() if positions.learned])
def test_learned_positions_start_normal_with_deviation_0_02(kind: str) -> None:
    model = ViT(replace(TINY, position=kind, image_size=(64, 48), width=96))
    assert model.pos_embed.std().item() == pytest.approx(0.02, rel=0.1)


# What is added


@pytest.mark.parametrize(("kind", "injection"), [pair for pair in PAIRS if pair[0] not in ("none", "relative", "rope")])
def test_positions_are_added_where_the_injection_says(kind: str, injection: str) -> None:
    model = random_model(position=kind, position_injection=injection, num_registers=2)
    stem, blocks = model.positions.at_grid(model.pos_embed, (2, 4))
    zeros = torch.zeros(1, 1 + 2 + 8, 24, dtype=torch.float64)
    at_stem = stem.add(zeros)
    assert not at_stem[0, 1:3].any(), "registers have no position"
    assert len(at_stem[0, 3:].unique(dim=0)) == 8, "every patch gets another vector"
    first, *later = (pos.add(zeros) for pos in blocks)
    assert not first.any()
    for added in later:
        if injection == "stem":
            assert not added.any()
        elif injection == "every_layer_shared":
            assert torch.equal(added, at_stem)
        else:
            assert added.any()
            assert not torch.equal(added, at_stem)


@pytest.mark.parametrize("injection", INJECTIONS)
def test_a_block_adds_its_positions_to_its_input(injection: str) -> None:
    model = random_model(position_injection=injection)
    features = model.features(images())
    x = features.landmarks["embedded"]
    table = model.pos_embed
    for index, block in enumerate(model.blocks):
        added = {"stem": 0 * table[0], "every_layer": table[index % len(table)], "every_layer_shared": table[0]}
        x = x if index == 0 else x + added[injection]
        x = block(x, PositionState(grid=(2, 4)))
        torch.testing.assert_close(features.landmarks[f"blocks.{index}"], x, rtol=0, atol=1e-12)


def test_2d_positions_are_column_and_row_side_by_side() -> None:
    model = random_model(position="learned_2d")
    x, y, own = model.pos_embed[0].split([4, 2, 2])
    added = added_at_stem(model)
    assert torch.equal(added[0], own.flatten())
    for row in range(2):
        for column in range(4):
            assert torch.equal(added[1 + 4 * row + column], torch.cat([x[column], y[row]]))


def test_factorized_positions_are_the_sum_of_column_and_row() -> None:
    model = random_model(position="factorized_2d", pool="gap")
    x, y = model.pos_embed[0].split([4, 2])
    for row in range(2):
        for column in range(4):
            assert torch.equal(added_at_stem(model)[4 * row + column], x[column] + y[row])


@pytest.mark.parametrize(("kind", "divisor"), [("sincos_2d", 5), ("sincos_2d_mae", 6)])
@pytest.mark.parametrize("grid", [(2, 4), (3, 5)])
def test_sines_and_cosines_are_the_formulas(kind: str, divisor: int, grid: tuple[int, int]) -> None:
    added = added_at_stem(random_model(position=kind), grid)
    assert not added[0].any()
    frequencies = [10_000 ** -(index / divisor) for index in range(6)]
    for row in range(grid[0]):
        for column in range(grid[1]):
            formula = [
                wave(place * frequency)
                for place, wave in ((column, math.sin), (column, math.cos), (row, math.sin), (row, math.cos))
                for frequency in frequencies
            ]
            assert added[1 + grid[1] * row + column].tolist() == pytest.approx(formula, abs=1e-6)


# What is in attention


@pytest.mark.parametrize("per_layer", [True, False])
@pytest.mark.parametrize("per_head", [True, False])
@pytest.mark.parametrize(("pool", "registers"), [("cls", 0), ("gap", 0), ("cls", 2)])
def test_relative_attention_adds_the_query_times_the_offsets_embedding(
    per_layer: bool, per_head: bool, pool: str, registers: int
) -> None:
    model = random_model(
        position="relative",
        relative_per_layer=per_layer,
        relative_per_head=per_head,
        pool=pool,
        num_registers=registers,
    )
    weights = attention_weights(model, images())
    x, positions = model.embed(images())
    first = int(pool == "cls") + registers
    for index, block in enumerate(model.blocks):
        q, k, _ = block.attn.project_qkv(block.norm1(x))
        logits = q @ k.mT
        table = model.pos_embed[index if per_layer else 0].expand(3, -1, -1)
        for query in range(8):
            for key in range(8):
                embedding = table[:, query - key + 8 - 1]
                logits[:, :, first + query, first + key] += (q[:, :, first + query] * embedding).sum(-1)
        torch.testing.assert_close(weights[index], (logits / math.sqrt(8)).softmax(-1), rtol=0, atol=1e-12)
        x = block(x, positions[index])
    torch.testing.assert_close(model(images()), model.classify(model.features(images()).pooled), rtol=0, atol=1e-12)


def test_relative_attention_with_zero_embeddings_is_plain_attention() -> None:
    model, bare = random_model(position="relative"), ViT(replace(TINY, position="none")).double().eval()
    bare.load_state_dict({name: tensor for name, tensor in model.state_dict().items() if name != "pos_embed"})
    assert (model(images()) - bare(images())).abs().max() > 1e-3
    with torch.no_grad():
        model.pos_embed.zero_()
    torch.testing.assert_close(model(images()), bare(images()), rtol=0, atol=1e-12)


def test_relative_attention_depends_on_offsets_alone() -> None:
    """Moving all patches by one place moves the bias with them."""
    model = random_model(position="relative", pool="gap")
    _, (pos, *_) = model.positions.at_grid(model.pos_embed, (2, 4))
    q = torch.randn(1, 3, 8, 8, dtype=torch.float64)
    bias, moved = pos.bias(q), pos.bias(q.roll(1, dims=2))
    torch.testing.assert_close(moved[:, :, 1:, 1:], bias[:, :, :-1, :-1], rtol=0, atol=1e-12)


def test_rotary_attention_depends_on_differences_of_position_alone() -> None:
    """If all patches have the same query and key, the logit of a pair depends only on the offset between them."""
    model = random_model(position="rope", image_size=(16, 12))
    _, (pos, *_) = model.positions.at_grid(model.pos_embed, (4, 4))
    same = torch.randn(1, 3, 1, 8, dtype=torch.float64).expand(-1, -1, 17, -1)
    q, k = pos.rotate(same, same)
    assert pos.bias(q) is None
    logits = (q @ k.mT)[0, 0]
    torch.testing.assert_close(q[:, :, 0], same[:, :, 0], rtol=0, atol=0)
    patches = logits[1:, 1:].reshape(4, 4, 4, 4)
    torch.testing.assert_close(patches[1:, 1:, 1:, 1:], patches[:-1, :-1, :-1, :-1], rtol=0, atol=1e-6)
    torch.testing.assert_close(q.norm(dim=-1), same.norm(dim=-1), rtol=0, atol=1e-6)
    assert (patches[0, 0, 0] - patches[0, 0, 0, 0]).abs()[1:].min() > 1e-3


def test_rotary_positions_have_the_periods_that_are_given() -> None:
    model = random_model(position="rope")
    usual = replace(model.config, rope_periods=(1.0, 10.0)).positions
    torch.testing.assert_close(
        usual.resampled(model.pos_embed, (3, 5)), model.positions.resampled(model.pos_embed, (3, 5))
    )
    given = replace(model.config, rope_periods=(2.0, 8.0)).positions
    assert isinstance(given, Rotary)
    cos, sin = given.compute((1, 4))
    for patch, coordinate in enumerate((-0.75, -0.25, 0.25, 0.75), start=1):
        angles = torch.tensor([0, 0, coordinate / 2, coordinate / 8] * 2, dtype=torch.float64) * 2 * math.pi
        torch.testing.assert_close(cos[patch], angles.cos(), rtol=0, atol=1e-12)
        torch.testing.assert_close(sin[patch], angles.sin(), rtol=0, atol=1e-12)


@pytest.mark.parametrize("kind", POSITIONS)
@pytest.mark.parametrize("pool", ["cls", "gap", "map"])
def test_forward_is_the_head_over_the_features(kind: str, pool: str) -> None:
    model = random_model(position=kind, pool=pool, num_registers=2)
    torch.testing.assert_close(model(images()), model.classify(model.features(images()).pooled), rtol=0, atol=1e-12)
    features = model.features(images())
    assert (features.registers.shape, features.patches.shape) == ((2, 2, 24), (2, 8, 24))


# Other grids


@pytest.mark.parametrize(("kind", "injection"), PAIRS)
def test_a_model_takes_any_grid_as_one_built_for_it_would(kind: str, injection: str) -> None:
    model = random_model(position=kind, position_injection=injection, num_registers=1)
    other = ViT(replace(model.config, image_size=(16, 6))).double().eval()
    state = model.state_dict()
    if "pos_embed" in state:
        state["pos_embed"] = model.positions.resampled(state["pos_embed"], (4, 2))
    other.load_state_dict(state)
    torch.testing.assert_close(model(images(16, 6)), other(images(16, 6)), rtol=0, atol=1e-6)
    assert model.positions.resampled(model.pos_embed, (2, 4)) is model.pos_embed


def test_relative_offsets_keep_their_middle_and_ends() -> None:
    model = random_model(position="relative")
    assert torch.equal(model.positions.resampled(model.pos_embed, (1, 1)), model.pos_embed[:, :, 7:8])
    old, twice = model.pos_embed, model.positions.resampled(model.pos_embed, (4, 8))
    for new_rows, new_columns, rows, columns in (
        (0, 2, 0, 1),
        (0, -2, 0, -1),
        (2, 0, 1, 0),
        (2, 2, 1, 1),
        (0, 4, 0, 2),
    ):
        torch.testing.assert_close(twice[:, :, 31 + 8 * new_rows + new_columns], old[:, :, 7 + 4 * rows + columns])
    torch.testing.assert_close(twice[:, :, 31 + 1], (old[:, :, 7] + old[:, :, 8]) / 2)
    wider = model.positions.resampled(model.pos_embed, (4, 4))
    assert wider.shape == (3, 1, 31, 8)
    for own, other in ((0, 0), (7, 15), (14, 30)):
        torch.testing.assert_close(wider[:, :, other], model.pos_embed[:, :, own], rtol=0, atol=1e-12)


# Fixed positions, and their cache

FIXED = [kind for kind, positions in POSITIONS.items() if not positions.learned and kind != "none"]
OTHER_GRIDS = [(rows, columns) for rows in range(3, 7) for columns in range(1, 7)]


@pytest.mark.parametrize("kind", [*FIXED, "none"])
@pytest.mark.parametrize("pool", ["cls", "gap"])
def test_a_fixed_table_has_the_shape_that_is_computed(kind: str, pool: str) -> None:
    positions = replace(TINY, position=kind, pool=pool, num_registers=2).positions
    assert positions.shape == positions.compute((2, 4)).shape


@pytest.mark.parametrize("kind", FIXED)
def test_a_blank_model_leaves_its_table_to_be_filled(kind: str) -> None:
    config = replace(TINY, position=kind)
    model = blank_model(config)
    assert model.pos_embed.is_meta
    give_buffers(model, torch.device("cpu"))
    assert torch.equal(model.pos_embed, ViT(config).pos_embed)


@pytest.mark.parametrize("kind", FIXED)
def test_a_fixed_table_is_computed_once_per_grid_dtype_and_device(kind: str) -> None:
    model = random_model(position=kind)
    double, single, meta = (model.pos_embed.to(dtype) for dtype in (torch.float64, torch.float32, "meta"))
    tables = [model.positions.resampled(table, (5, 3)) for table in (double, single, meta)]
    assert [(table.dtype, table.device.type) for table in tables] == [
        (torch.float64, "cpu"),
        (torch.float32, "cpu"),
        (torch.float64, "meta"),
    ]
    for table, source in zip(tables, (double, single, meta), strict=True):
        assert model.positions.resampled(source, (5, 3)) is table
    assert torch.equal(tables[1], tables[0].float())


@pytest.mark.parametrize("kind", FIXED)
def test_cached_tables_of_models_and_grids_are_not_mixed_up(kind: str) -> None:
    models = [random_model(position=kind, width=width, num_registers=1) for width in (24, 48)]
    for _ in range(2):
        for grid in OTHER_GRIDS:  # more than the cache holds
            for model in models:
                assert torch.equal(model.positions.resampled(model.pos_embed, grid), model.positions.compute(grid))


@pytest.mark.parametrize("kind", FIXED)
def test_a_table_cached_in_inference_mode_can_be_trained_with(kind: str) -> None:
    model = random_model(position=kind, num_registers=3)
    with torch.inference_mode():
        before = model(images(20, 9))
    logits = model(images(20, 9))
    logits.sum().backward()
    assert torch.equal(logits.detach(), before.clone())


@pytest.mark.parametrize("kind", FIXED)
def test_fake_tensors_do_not_enter_the_cache(kind: str) -> None:
    model = random_model(position=kind, num_registers=4)
    with FakeTensorMode():
        fake = {name: torch.empty(value.shape, dtype=value.dtype) for name, value in model.named_parameters()}
        fake["pos_embed"] = torch.empty(model.pos_embed.shape, dtype=torch.float64)
        logits = torch.func.functional_call(model, fake, (torch.empty(2, 2, 28, 9, dtype=torch.float64),))
    assert isinstance(logits, FakeTensor)
    assert not isinstance(model(images(28, 9)), FakeTensor)


@pytest.mark.compile
@pytest.mark.parametrize("kind", FIXED)
def test_one_compiled_graph_serves_all_grids(kind: str) -> None:
    torch.compiler.reset()
    model = random_model(position=kind)
    graphs: list[torch.fx.GraphModule] = []

    def backend(graph: torch.fx.GraphModule, _: object) -> Any:
        graphs.append(graph)
        return graph.forward

    compiled = torch.compile(model, fullgraph=True, dynamic=True, backend=backend)
    for hw in ((12, 15), (20, 9), (24, 30)):
        torch.testing.assert_close(compiled(images(*hw)), model(images(*hw)), rtol=0, atol=1e-12)
    assert len(graphs) == 1


@pytest.mark.compile
@pytest.mark.parametrize("kind", FIXED)
def test_a_model_can_be_exported_at_another_grid(kind: str) -> None:
    model = random_model(position=kind, num_registers=5)
    expected = model(images(20, 9))
    exported = torch.export.export(model, (images(20, 9),)).module()
    torch.testing.assert_close(exported(images(20, 9)), expected, rtol=0, atol=1e-12)
    assert torch.equal(model(images(20, 9)), expected)
