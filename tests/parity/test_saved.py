"""Checkpoints exactly as their owners save them: each gives the owner's outputs, or is refused in one sentence."""

from importlib import import_module
from pathlib import Path

import pytest
import torch

from parity.saved.case import Saved, owner_output, randomised
from vitral.errors import UserError
from vitral.vit import ViT
from vitral.weights.load import load_with_report

OWNERS = (
    "timm_files",
    "torchvision_files",
    "official_files",
    "transformers_files",
    "tower_files",
    "wrapped_files",
    "everyday_files",
    "stated_files",
    "google_files",
    "larger_files",
)
MODULES = [import_module(f"parity.saved.{owner}") for owner in OWNERS]
CASES: dict[str, Saved] = {name: case for module in MODULES for name, case in module.CASES.items()}


def test_at_least_ninety_files_have_unique_names() -> None:
    assert len(CASES) >= 90
    assert len(CASES) == sum(len(module.CASES) for module in MODULES), "two cases have the same name"


@pytest.mark.parametrize("name", CASES)
def test_a_file_is_read_right_or_refused(name: str, tmp_path: Path) -> None:
    case = CASES[name]
    owner = randomised(case.build)
    path = case.save(owner, tmp_path)
    if case.refusal is not None:
        with pytest.raises(UserError) as caught:
            load_with_report(path, **case.options)
        sentence = str(caught.value)
        assert case.refusal in sentence
        assert "\n" not in sentence
        assert "\x1b" not in sentence
        return
    model, report = load_with_report(path, **case.options)
    assert report is not None
    assert isinstance(model, ViT)
    assert report.lineage == case.lineage
    notes = " ".join(report.notes)
    assert all(part in notes for part in case.notes), notes
    images = torch.rand(2, 3, *model.config.image_hw, generator=torch.Generator().manual_seed(1)) * 2 - 1
    with torch.inference_mode():
        expected = (case.output or owner_output)(owner, images)
        actual = model(images) if case.compare == "logits" else model.features(images).pooled
    assert expected.std() > 0.01, "outputs this uniform would be equal whatever the models compute"
    assert (actual - expected).norm() <= 1e-5 * expected.norm()
