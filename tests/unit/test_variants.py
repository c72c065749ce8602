"""Properties of every model, whatever its parts."""

import math
from dataclasses import replace
from inspect import signature
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from models import small_card
from tiny import tiny_run
from vitral.layers.positions import POSITIONS
from vitral.models import Architecture, Model, build, repeated
from vitral.resnet import ResNetConfig
from vitral.runs.metrics import read_metrics
from vitral.runs.run import Run
from vitral.train.config import ModelSetup, RunConfig
from vitral.train.fit import fit
from vitral.vit_config import ViTConfig
from vitral.weights.folder import load_model, save_model

PLAIN = ViTConfig(image_size=8, patch_size=4, channels=1, width=24, depth=2, num_heads=3, mlp_dim=32, num_classes=10)
HYBRID: dict[str, Any] = dict(stem_width=32, patch_size=4)

VARIANTS: dict[str, Architecture] = {
    **{
        f"{kind} {injection}": replace(PLAIN, position=kind, position_injection=injection)
        for kind, positions in POSITIONS.items()
        for injection in positions.injections
    },
    "relative, all shared": replace(PLAIN, position="relative", relative_per_layer=False),
    "relative, none shared": replace(PLAIN, position="relative", relative_per_head=True),
    "gap": replace(PLAIN, pool="gap"),
    "map": replace(PLAIN, pool="map"),
    "class token and mean, registers": replace(PLAIN, pool="cls_gap", num_registers=2),
    "no final norm": replace(PLAIN, pool="gap", final_norm=False),
    "registers": replace(PLAIN, num_registers=2),
    "distillation, registers": replace(PLAIN, num_registers=2, distillation=True),
    "norm before the blocks": replace(PLAIN, pre_norm=True, qkv_bias=False, patch_bias=False, gelu="quick"),
    "norm after pooling, no bias of the head": replace(PLAIN, pool="gap", pooled_norm=True, head_bias=None),
    "axial": replace(PLAIN, attention="axial", pool="gap"),
    "QK-norm, LayerScale, SwiGLU": replace(PLAIN, qk_norm=True, layer_scale=0.1, mlp="swiglu"),
    "representation layer": replace(PLAIN, representation_size=12, head_bias=-6.9),
    "hybrid of a root": replace(PLAIN, stem_stages=(), **HYBRID),
    "hybrid of two stages": replace(PLAIN, stem_stages=(1, 2), image_size=16, **{**HYBRID, "patch_size": 8}),
    "dropouts": replace(PLAIN, dropout=0.2, attention_dropout=0.3, patch_dropout=0.5, drop_path=0.4),
    "subsets": replace(PLAIN, drop_path=0.5, drop_path_form="batch"),
    "axial, stochastic depth": replace(PLAIN, attention="axial", pool="gap", drop_path=0.4),
    "BiT": ResNetConfig(image_size=16, channels=1, stages=(1, 1), root_width=32, num_classes=10),
}
RANDOM = ("dropouts", "subsets", "axial, stochastic depth")
every_variant = pytest.mark.parametrize("name", VARIANTS)


def random_model(name: str) -> Model:
    """Every parameter random, the head's too; float64, in evaluation mode."""
    model = build(VARIANTS[name]).double().eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.3, generator=generator)
    return model


def images(name: str, batch: int = 3) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.rand(batch, 1, *VARIANTS[name].image_hw, generator=generator, dtype=torch.float64) * 2 - 1


LABELS = torch.tensor([0, 4, 2])


@every_variant
def test_forward_is_the_head_over_the_features(name: str) -> None:
    model = random_model(name)
    expected = model.classify(model.features(images(name)).pooled)
    torch.testing.assert_close(model(images(name)), expected, rtol=0, atol=1e-12)
    assert expected.std() > 1e-3


@every_variant
def test_init_weights_reaches_every_tensor(name: str) -> None:
    with torch.device("meta"):
        model = build(VARIANTS[name])
    model.to_empty(device="cpu")
    tensors = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    with torch.no_grad():
        for tensor in tensors.values():
            tensor.fill_(math.nan)
    model.init_weights(torch.Generator().manual_seed(0))
    assert [name for name, tensor in tensors.items() if tensor.isnan().any()] == []
    direct = build(VARIANTS[name])
    direct.init_weights(torch.Generator().manual_seed(0))
    assert all(torch.equal(tensor, direct.state_dict()[key]) for key, tensor in model.state_dict().items())


@every_variant
def test_a_saved_model_is_read_back(name: str, tmp_path: Path) -> None:
    config = VARIANTS[name]
    model = random_model(name).float()
    save_model(tmp_path / "model", model, small_card(config))
    again = load_model(tmp_path / "model")
    assert again.config == config
    assert torch.equal(again(images(name).float()), model(images(name).float()))


@every_variant
def test_every_parameter_learns(name: str) -> None:
    torch.manual_seed(0)
    model = random_model(name).train()
    cross_entropy(model(images(name)), LABELS).backward()
    still = [key for key, parameter in model.named_parameters() if parameter.grad is None or not parameter.grad.any()]
    assert still == [] or name in RANDOM, still
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters() if parameter.grad is not None)


@pytest.mark.parametrize("name", [name for name, config in VARIANTS.items() if isinstance(config, ViTConfig)])
def test_tokens_are_in_sixteen_bits_under_autocast(name: str) -> None:
    model = random_model(name).float()
    exact = model.features(images(name).float())
    with torch.autocast("cpu", torch.bfloat16):
        features = model.features(images(name).float())
    for landmark in ("embedded", *(f"blocks.{index}" for index in range(model.config.depth))):
        assert features.landmarks[landmark].dtype == torch.bfloat16, landmark
        expected = exact.landmarks[landmark]
        error = (features.landmarks[landmark] - expected).norm() / expected.norm()
        assert 0 < error < 0.05, landmark


@pytest.mark.parametrize("name", [*VARIANTS, "recomputed"])
def test_every_model_trains_by_the_same_loop(name: str, tmp_path: Path) -> None:
    config: RunConfig = tiny_run(tmp_path / "run", steps=2, batch_size=16, recompute=name == "recomputed")
    architecture = VARIANTS.get(name, PLAIN)
    config = replace(config, model=ModelSetup(architecture=architecture))
    run = Run.create(config.out, recipe=config.recipe)
    try:
        figures = fit(run, config)
    finally:
        run.close()
    assert math.isfinite(figures["test/loss"])
    assert [line["step"] for line in read_metrics(run.metrics_path) if "train/loss" in line] == [1, 2]
    assert load_model(tmp_path / "run").config == architecture


def test_repeated_parts_are_the_blocks_and_units() -> None:
    assert len(repeated(build(PLAIN))) == 2
    assert len(repeated(build(replace(VARIANTS["BiT"], stages=(2, 1))))) == 3


# Compilation and export; run without the shape checks, which a traced graph cannot hold


@pytest.mark.compile
@every_variant
def test_a_compiled_model_is_the_eager_one(name: str) -> None:
    torch.compiler.reset()
    model = random_model(name)
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    parameters = list(model.parameters())
    eager = [model(images(name)), *torch.autograd.grad(cross_entropy(model(images(name)), LABELS), parameters)]
    graph = [compiled(images(name)), *torch.autograd.grad(cross_entropy(compiled(images(name)), LABELS), parameters)]
    for one, other in zip(graph, eager, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-10)


@pytest.mark.compile
@pytest.mark.parametrize("name", RANDOM)
def test_a_model_that_draws_at_random_is_one_graph_in_training(name: str) -> None:
    torch.compiler.reset()
    model = random_model(name).train()
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    loss = cross_entropy(compiled(images(name)), LABELS)
    loss.backward()
    assert loss.isfinite()


@pytest.mark.compile
@every_variant
def test_an_exported_model_is_the_eager_one_at_any_batch(name: str) -> None:
    model = random_model(name)
    any_batch = {next(iter(signature(model.forward).parameters)): {0: torch.export.Dim("batch", min=1, max=64)}}
    exported = torch.export.export(model, (images(name),), dynamic_shapes=any_batch).module()
    for batch in (3, 1, 5):
        some = images(name, batch)
        torch.testing.assert_close(exported(some), model(some), rtol=0, atol=1e-12)
