"""`vitral predict --isolate`: the same answers, and one image less where a decoder fails."""

import sys
from pathlib import Path

import pytest

import hostile
from cli.screen import Screen
from models import small_card, small_model
from vitral.card import ModelCard
from vitral.serve import decoding
from vitral.vit_config import ViTConfig
from vitral.weights.folder import save_model

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="--isolate needs Linux")

CONFIG = ViTConfig(image_size=32, patch_size=8, width=12, depth=1, num_heads=3, mlp_dim=24, num_classes=2, pool="gap")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A random model of pictures."""
    card = ModelCard(preprocessing=small_card(CONFIG).preprocessing, classes=("a", "b"))
    save_model(tmp_path / "model", small_model(CONFIG), card)
    return tmp_path / "model"


def test_the_answers_are_the_same(
    screen: Screen, model: Path, photographs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("VITRAL_MEMORY", raising=False)
    expected = screen.json("predict", model, photographs)
    assert screen.json("predict", model, photographs, "--isolate") == expected
    assert "images are decoded in 4 processes, with 2 GiB of memory and 30 s for each image" in screen.errors


def test_an_image_whose_decoder_crashes_is_counted_as_unreadable(
    screen: Screen, model: Path, photographs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decoding, "read_arrays", hostile.read_or_crash)
    for way in ("crash", "allocate"):
        (tmp_path / f"{way}.png").write_text(way)
    paths = [tmp_path / "crash.png", photographs / "cat", tmp_path / "allocate.png"]
    answer = screen.json("predict", model, *paths, "--isolate", code=1)
    assert len(answer["predictions"]) == len(list((photographs / "cat").iterdir()))
    reasons = [failure["reason"] for failure in answer["failures"]]
    for reason, part in zip(reasons, ("SIGSEGV", "memory limit"), strict=True):
        assert part in reason
    assert "2 of " in screen.errors
    assert "Traceback" not in screen.errors
