"""A model is adapted to other classes, sizes and channels, and every change is logged."""

import logging
from pathlib import Path

import pytest
import torch

import vitral
from models import small_model
from vitral.models import build
from vitral.resnet import ResNetConfig
from vitral.weights.adapt import adapt_model
from vitral.weights.folder import save_model


def saved_model(folder: Path, **changes: int) -> Path:
    model = small_model(image_size=16, **changes)
    save_model(folder, model, model.card)
    return folder


def test_every_change_is_made_and_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = saved_model(tmp_path / "model", representation_size=5)
    model = vitral.load(folder, num_classes=7, image_size=(24, 36), patch_size=12, channels=1)
    assert (model.config.num_classes, model.config.grid, model.config.channels) == (7, (2, 3), 1)
    assert model.config.representation_size is None
    assert torch.equal(model(torch.rand(2, 1, 24, 36)), torch.zeros(2, 7))
    assert model.card is not None
    assert model.card.classes == tuple(f"class {label}" for label in range(7))
    assert (model.card.preprocessing.image_size, model.card.preprocessing.channels) == ((24, 36), 1)
    assert [record.message.removeprefix(f"{folder}: ") for record in caplog.records] == [
        "new zero head for 7 classes",
        "input channels adapted from 3 to 1",
        "patch embedding resized from 8x8 to 12x12 pixels",
        "positions interpolated from 2x2 to 2x3 patches",
    ]
    assert {record.levelno for record in caplog.records} == {logging.WARNING}


def test_without_changes_the_model_stays_and_nothing_is_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder, images = saved_model(tmp_path / "model"), torch.rand(2, 3, 16, 16)
    unchanged = vitral.load(folder, num_classes=3, image_size=16, patch_size=(8, 8), channels=3)
    assert torch.equal(unchanged(images), vitral.load(folder)(images))
    assert caplog.records == []


def test_the_head_stays_at_another_resolution(tmp_path: Path) -> None:
    source = vitral.load(saved_model(tmp_path / "model"))
    model, notes = adapt_model(source, image_size=32)
    assert notes == ["head kept: the classes are the same", "positions interpolated from 2x2 to 4x4 patches"]
    assert torch.equal(model.head.weight, source.head.weight)
    assert model.card is not None
    assert source.card is not None
    assert model.card.classes == source.card.classes
    wide = torch.rand(1, 3, 16, 16).repeat_interleave(2, 2).repeat_interleave(2, 3)
    assert model(wide).isfinite().all()


def test_a_grey_image_gives_the_same_logits_as_in_colour(tmp_path: Path) -> None:
    folder, grey = saved_model(tmp_path / "model"), torch.rand(2, 1, 16, 16)
    torch.testing.assert_close(vitral.load(folder, channels=1)(grey), vitral.load(folder)(grey.expand(-1, 3, -1, -1)))


def test_channels_that_no_image_file_has_remove_the_card(tmp_path: Path) -> None:
    model, notes = adapt_model(vitral.load(saved_model(tmp_path / "model")), channels=4)
    assert model.card is None
    assert "no card" in notes[-1]
    assert "not 4" in notes[-1]


def test_invalid_sizes_are_refused(tmp_path: Path) -> None:
    folder = saved_model(tmp_path / "model")
    with pytest.raises(ValueError, match="20"):
        vitral.load(folder, image_size=20)
    with pytest.raises(ValueError, match="num_classes"):
        vitral.load(folder, num_classes=0)
    with pytest.raises(ValueError, match="a ResNet has no patch_size to change"):
        adapt_model(build(ResNetConfig(image_size=32, stages=(1,), root_width=32)), patch_size=8)
