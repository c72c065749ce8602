"""Official files are written back as they were."""

from pathlib import Path

import pytest
import timm
import torch

from parity.saved.case import randomised
from parity.saved.official_files import OFFICIAL, official_tensors
from vitral.errors import UserError
from vitral.weights.folder import save_model
from vitral.weights.lineages.registry import LINEAGES
from vitral.weights.load import load
from vitral.weights.read import load_upstream
from vitral.weights.write import upstream_state_dict


@pytest.mark.parametrize("name", OFFICIAL)
def test_official_files_come_back_bit_for_bit(name: str, tmp_path: Path) -> None:
    lineage, architecture, _, args = OFFICIAL[name]
    tensors = official_tensors(name, randomised(lambda: timm.create_model(architecture, **args)))
    torch.save(tensors, tmp_path / "official.pth")
    model, report = load_upstream(tmp_path / "official.pth")
    assert report.lineage == lineage
    written, notes = upstream_state_dict(LINEAGES[lineage], model)
    assert [note for note in notes if not note.startswith("the head is zero")] == []
    if not args.get("num_classes"):  # the zero head of a file without one
        written = {key: tensor for key, tensor in written.items() if not key.startswith("head.")}
    assert set(written) == set(tensors)
    assert all(torch.equal(written[key], tensors[key]) for key in tensors)


def test_rounded_periods_of_dinov3_are_kept_and_other_formats_say_so(tmp_path: Path) -> None:
    name = "DINOv3, official"
    lineage, architecture, _, args = OFFICIAL[name]
    tensors = official_tensors(name, randomised(lambda: timm.create_model(architecture, **args)))
    rounded = tensors["rope_embed.periods"].bfloat16()
    torch.save(tensors | {"rope_embed.periods": rounded}, tmp_path / "official.pth")
    model, _ = load_upstream(tmp_path / "official.pth")
    assert model.config.rope_periods == tuple(rounded.tolist())
    written, _ = upstream_state_dict(LINEAGES[lineage], model)
    assert torch.equal(written["rope_embed.periods"], rounded.float())
    _, notes = upstream_state_dict(LINEAGES["dinov3"], model)
    assert "periods" in " ".join(notes)
    assert model.card is not None
    save_model(tmp_path / "vitral", model, model.card)
    assert load(tmp_path / "vitral").config == model.config


@pytest.mark.parametrize(("registers", "resample"), [("", "dinov2"), (", registers", "timm")])
def test_dinov2_resamples_positions_as_its_hub_models_do(registers: str, resample: str, tmp_path: Path) -> None:
    """Those with registers antialias and need no offset."""
    name = f"DINOv2, official{registers}"
    _, architecture, _, args = OFFICIAL[name]
    tensors = official_tensors(name, randomised(lambda: timm.create_model(architecture, **args)))
    torch.save(tensors, tmp_path / "official.pth")
    model, _ = load_upstream(tmp_path / "official.pth")
    assert model.config.position_resample == resample


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


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("MAE, official, encoder", {"pos_embed": torch.zeros(17, 64)}),
        ("DINOv3, official", {"blocks.0.attn.qkv.bias_mask": torch.ones(5)}),
        ("DINOv3, official", {"rope_embed.periods": torch.ones(0)}),
        ("DINOv2, official", {"register_tokens": torch.zeros(3)}),
    ],
)
def test_damaged_files_are_refused_in_a_sentence(name: str, damage: dict[str, torch.Tensor], tmp_path: Path) -> None:
    _, architecture, _, args = OFFICIAL[name]
    tensors = official_tensors(name, randomised(lambda: timm.create_model(architecture, **args)))
    torch.save(tensors | damage, tmp_path / "damaged.pth")
    with pytest.raises(UserError):
        load_upstream(tmp_path / "damaged.pth")
