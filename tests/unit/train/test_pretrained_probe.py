"""The linear probe of a pretrained model in the Hub's cache: which model, and what it reaches."""

import json
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file

from vitral.data.config import DataConfig
from vitral.data.sources.source import ArraySource
from vitral.train.pretrained_probe import choose_cached, probe_pretrained
from vitral.weights.pretrained import list_pretrained

TINY, SMALL, BASE, LARGE = (f"ViT-{size}/16@augreg-in21k" for size in ("Ti", "S", "B", "L"))
DATA = DataConfig(source="digits")


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, and no Hub."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    return tmp_path / "cache"


def cached(cache: Path, name: str, *, weights: bool = True) -> Path:
    """The folder of a checkpoint in the cache, as the Hub's client lays it out; its weights are empty."""
    folder = cache / f"models--{list_pretrained()[name].hub_id.replace('/', '--')}"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text("0" * 40)
    snapshot = folder / "snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").touch()
    if weights:
        (snapshot / "model.safetensors").touch()
    return snapshot


def images(count: int) -> ArraySource:
    """Dark images and bright ones."""
    labels = np.arange(count) % 2
    noise = np.random.PCG64(count).random_raw(count * 16 * 16 * 3).reshape(count, 16, 16, 3) % 64
    pixels = (noise + 150 * labels[:, None, None, None]).astype(np.uint8)
    return ArraySource(title="t", images=pixels, labels=labels, classes=("dark", "bright"))


@pytest.mark.parametrize(
    ("names", "device", "chosen"),
    [
        ([], "cpu", None),
        ([TINY], "cpu", TINY),
        ([TINY, SMALL, BASE], "cpu", SMALL),
        ([BASE], "cpu", BASE),
        ([LARGE], "cpu", None),
        ([TINY, SMALL, LARGE], "cuda", LARGE),
    ],
)
def test_the_largest_that_is_fast_enough(cache: Path, names: list[str], device: str, chosen: str | None) -> None:
    for name in names:
        cached(cache, name)
    found = choose_cached(device)
    assert (found and found[0].name) == chosen


def test_a_checkpoint_without_weights_is_not_in_the_cache(cache: Path) -> None:
    cached(cache, TINY, weights=False)
    assert choose_cached("cpu") is None
    assert probe_pretrained(images(4), images(4), data=DATA, device=torch.device("cpu")) is None


def test_the_probe_separates_dark_and_bright(cache: Path) -> None:
    """By logistic regression on features, on images of the model's own size."""
    folder = cached(cache, TINY)
    model = timm.create_model("vit_tiny_patch16_224", num_classes=3, depth=1)
    save_file(model.state_dict(), folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps({"architecture": "vit_tiny_patch16_224", "num_classes": 3}))
    found = probe_pretrained(images(16), images(6), data=DATA, device=torch.device("cpu"))
    assert found is not None
    assert (found.model, found.accuracy, found.num_train, found.num_test) == (TINY, 1.0, 16, 6)


def test_a_damaged_checkpoint_is_left_out(cache: Path, caplog: pytest.LogCaptureFixture) -> None:
    cached(cache, TINY)
    assert probe_pretrained(images(4), images(4), data=DATA, device=torch.device("cpu")) is None
    assert f"{TINY}, which is in the Hub's cache, is left out of the comparison" in caplog.text
