"""Every model leaves Vitral: one graph for every size and batch, in PyTorch and in ONNX. Without the shape checks."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

from parity.saved import google_files, official_files, timm_files, torchvision_files, tower_files, transformers_files
from parity.saved.case import Saved, randomised
from unit.export.test_exported_files import random_model
from unit.test_variants import PLAIN, VARIANTS
from vitral.export.graph import FeatureModel, trace
from vitral.export.onnx_file import to_onnx
from vitral.models import Architecture, Model
from vitral.resnet import ResNetConfig
from vitral.vit_config import ViTConfig
from vitral.weights.lineages.registry import LINEAGES
from vitral.weights.load import load_with_report

BOUND = 1e-4
"""Largest difference of outputs, as a fraction of the largest output."""

EVERY: dict[str, Architecture] = {
    **VARIANTS,
    **{
        f"resampled as {method}": replace(PLAIN, position_resample=method)
        for method in ("timm", "huggingface", "torchvision", "dinov2", "mae")
    },
    "relative, registers": replace(PLAIN, position="relative", num_registers=2),
}
LOADED: dict[str, Saved] = {
    name: module.CASES[name]
    for module, names in {
        google_files: ("google, hybrid with norms of four axes", "google-linen", "big_vision, inlined pooling"),
        official_files: (
            *("DINOv2, official, registers", "DINOv3, official", "MAE, official, encoder"),
            "MoCo v3, official, linear probe",
        ),
        timm_files: ("timm, QK-norm and LayerScale", "timm, class token of a rotary model"),
        torchvision_files: ("torchvision, tanh layer",),
        transformers_files: (
            *("transformers, ViT", "transformers, DeiT, two classifiers", "transformers, I-JEPA"),
            *("DINOv2, registers, classifier", "DINOv2, gated", "DINOv3, gated"),
        ),
        tower_files: ("SigLIP", "CLIP, projection", "OpenCLIP"),
    }.items()
    for name in names
}
QUICK = ("learned_2d stem", "rope stem", "SigLIP")
"""A few for `make test`; `make test-slow` runs the others."""


def assert_exported(network: nn.Module, model: Model) -> None:
    """Compares the graphs with the network at the model's own size and two others, with batches of 1, 3 and 16."""
    program = trace(network, model, dynamic=True)
    graph = program.module(check_guards=False)
    session = onnxruntime.InferenceSession(to_onnx(program, outputs=["logits"]).SerializeToString())
    (h, w), (p, q) = model.config.image_hw, (1, 1) if isinstance(model.config, ResNetConfig) else model.config.patch_hw
    generator = torch.Generator().manual_seed(0)
    for size in ((h, w), (h + p, w + 3 * q), (h + 2 * p, w)):
        for batch in (1, 3, 16):
            images = torch.rand(batch, model.config.channels, *size, generator=generator) * 2 - 1
            with torch.no_grad():
                expected: Tensor = network(images)
                in_torch = graph(images)
            in_onnx = session.run(None, {"images": images.numpy()})[0]
            assert np.isfinite(in_onnx).all()
            scale = BOUND * expected.abs().max()
            assert (in_torch - expected).abs().max() < scale, (size, batch)
            assert (torch.from_numpy(in_onnx) - expected).abs().max() < scale, (size, batch)


def cases(names: object) -> list[object]:
    return [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in names]


@pytest.mark.compile
@pytest.mark.parametrize("name", cases(EVERY))
def test_every_variant_is_right_at_every_size_and_batch(name: str) -> None:
    model = random_model(EVERY[name])
    assert_exported(model, model)


@pytest.mark.compile
@pytest.mark.parametrize("name", cases(LOADED))
def test_models_of_every_lineage_are_right_at_every_size_and_batch(name: str, tmp_path: Path) -> None:
    case = LOADED[name]
    model, report = load_with_report(case.save(randomised(case.build), tmp_path), **case.options)
    assert report is not None
    assert report.lineage == case.lineage
    model.eval()
    assert_exported(model if case.compare == "logits" else FeatureModel(model), model)


def test_the_matrix_has_every_lineage_and_the_guide_names_them() -> None:
    assert {case.lineage for case in LOADED.values()} == set(LINEAGES)
    guide = (Path(__file__).parents[3] / "docs" / "export.md").read_text()
    names = {*LINEAGES, *(config.position for config in EVERY.values() if isinstance(config, ViTConfig))}
    names |= {config.position_resample for config in EVERY.values() if isinstance(config, ViTConfig)}
    assert sorted(name for name in names if f"`{name}`" not in guide) == []
