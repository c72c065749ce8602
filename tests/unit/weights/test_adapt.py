"""A model is loaded for other classes, sizes and channels than it was trained for, and every change is told."""

import logging
from pathlib import Path

import pytest
import torch

import vitral
from models import small_model
from vitral.models import build
from vitral.resnet import ResNetConfig
from vitral.weights.adapt import adapted
from vitral.weights.folder import save_model


def saved(folder: Path, **changes: int) -> Path:
    model = small_model(image_size=16, **changes)
    save_model(folder, model, model.card)
    return folder


def test_everything_asked_is_done_and_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    where = saved(tmp_path / "model", representation_size=5)
    model = vitral.load(where, num_classes=7, image_size=(24, 36), patch_size=12, channels=1)
    assert (model.config.num_classes, model.config.grid, model.config.channels) == (7, (2, 3), 1)
    assert model.config.representation_size is None
    assert torch.equal(model(torch.rand(2, 1, 24, 36)), torch.zeros(2, 7))
    assert model.card is not None
    assert model.card.classes == tuple(f"class {label}" for label in range(7))
    assert (model.card.preprocessing.image_size, model.card.preprocessing.channels) == ((24, 36), 1)
    assert [record.message.removeprefix(f"{where}: ") for record in caplog.records] == [
        "new zero head for 7 classes",
        "input channels adapted from 3 to 1",
        "patch embedding resized from 8x8 to 12x12 pixels",
        "positions interpolated from 2x2 to 2x3 patches",
    ]
    assert {record.levelno for record in caplog.records} == {logging.WARNING}


def test_what_is_so_already_stays_and_nothing_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    where, images = saved(tmp_path / "model"), torch.rand(2, 3, 16, 16)
    same = vitral.load(where, num_classes=3, image_size=16, patch_size=(8, 8), channels=3)
    assert torch.equal(same(images), vitral.load(where)(images))
    assert caplog.records == []


def test_the_head_stays_at_another_resolution(tmp_path: Path) -> None:
    source = vitral.load(saved(tmp_path / "model"))
    model, said = adapted(source, image_size=32)
    assert said == ["head kept: the classes are the same", "positions interpolated from 2x2 to 4x4 patches"]
    assert torch.equal(model.head.weight, source.head.weight)
    assert model.card is not None
    assert source.card is not None
    assert model.card.classes == source.card.classes
    wide = torch.rand(1, 3, 16, 16).repeat_interleave(2, 2).repeat_interleave(2, 3)
    assert model(wide).isfinite().all()


def test_a_grey_image_gives_what_it_gave_in_colour(tmp_path: Path) -> None:
    where, grey = saved(tmp_path / "model"), torch.rand(2, 1, 16, 16)
    torch.testing.assert_close(vitral.load(where, channels=1)(grey), vitral.load(where)(grey.expand(-1, 3, -1, -1)))


def test_channels_that_no_image_file_has_leave_no_card(tmp_path: Path) -> None:
    model, said = adapted(vitral.load(saved(tmp_path / "model")), channels=4)
    assert model.card is None
    assert said[-1] == "no card: image files are read with 1 or 3 channels, not 4"


def test_what_does_not_fit_is_refused(tmp_path: Path) -> None:
    where = saved(tmp_path / "model")
    with pytest.raises(ValueError, match="20"):
        vitral.load(where, image_size=20)
    with pytest.raises(ValueError, match="num_classes"):
        vitral.load(where, num_classes=0)
    with pytest.raises(ValueError, match="a ResNet has no patch_size to change"):
        adapted(build(ResNetConfig(image_size=32, stages=(1,), root_width=32)), patch_size=8)
