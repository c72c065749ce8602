"""Official files are written back as they were."""

from pathlib import Path

import pytest
import timm
import torch

from parity.saved.case import randomised
from parity.saved.official_files import OFFICIAL, official_tensors
from vitral.errors import UserError
from vitral.weights.convert import LINEAGES, load_upstream, upstream_state_dict
from vitral.weights.load import load


@pytest.mark.parametrize("name", OFFICIAL)
def test_official_files_come_back_bit_for_bit(name: str, tmp_path: Path) -> None:
    lineage, architecture, _, args = OFFICIAL[name]
    tensors = official_tensors(name, randomised(lambda: timm.create_model(architecture, **args)))
    torch.save(tensors, tmp_path / "official.pth")
    model, report = load_upstream(tmp_path / "official.pth")
    assert report.lineage == lineage
    written, notes = upstream_state_dict(LINEAGES[lineage], model)
    assert notes == []
    if not args.get("num_classes"):  # the zero head of a file without one
        written = {key: tensor for key, tensor in written.items() if not key.startswith("head.")}
    assert set(written) == set(tensors)
    assert all(torch.equal(written[key], tensors[key]) for key in tensors)


@pytest.mark.parametrize(("registers", "resample"), [("", "dinov2"), (", registers", "timm")])
def test_dinov2_resamples_positions_as_its_hub_models_do(registers: str, resample: str, tmp_path: Path) -> None:
    """Those with registers antialias and need no offset."""
    name = f"DINOv2, official{registers}"
    _, architecture, _, args = OFFICIAL[name]
    tensors = official_tensors(name, randomised(lambda: timm.create_model(architecture, **args)))
    torch.save(tensors, tmp_path / "official.pth")
    assert load(tmp_path / "official.pth").config.position_resample == resample


def test_registers_are_not_dropped_where_tensors_may_be_missing(tmp_path: Path) -> None:
    name = "DINOv2, official, registers"
    _, architecture, _, args = OFFICIAL[name]
    tensors = official_tensors(name, randomised(lambda: timm.create_model(architecture, **args)))
    torch.save(tensors, tmp_path / "official.pth")
    model, report = load_upstream(tmp_path / "official.pth", allow_missing=True)
    assert (report.missing, report.unexpected) == ((), ())
    assert model.config.num_registers == 4


def test_other_positions_are_not_written_as_mae(tmp_path: Path) -> None:
    torch.save(timm.create_model("test_vit").state_dict(), tmp_path / "plain.pth")
    model, _ = load_upstream(tmp_path / "plain.pth")
    for lineage in ("mae", "moco-v3"):
        with pytest.raises(UserError, match="would be detected as another format"):
            upstream_state_dict(LINEAGES[lineage], model)
