"""`vitral eval --suite segmentation`: drawn squares, segmented by the patch tokens of random weights."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from cli.screen import Screen
from vitral.card import ModelCard
from vitral.data.images.preprocess import Preprocessing
from vitral.models import create
from vitral.weights.folder import save_model


@pytest.fixture
def model(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    vit = create("ViT-Ti/16", image_size=32, patch_size=4, channels=1, depth=1, num_classes=2)
    card = ModelCard(preprocessing=Preprocessing(image_size=(32, 32), channels=1), classes=("a", "b"))
    save_model(tmp_path / "model", vit, card)
    return tmp_path / "model"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Grey images with a bright square, class 1, and a dark one, class 2; their frames have no class."""
    numbers = np.random.default_rng(0)
    for part, count in (("train", 40), ("test", 11)):
        for folder in ("images", "masks"):
            (tmp_path / "data" / part / folder).mkdir(parents=True)
        for number in range(count):
            image, mask = numbers.integers(110, 140, (48, 64), np.uint8), np.zeros((48, 64), np.uint8)
            for label, shade in ((1, 90), (2, -90)):
                top, left = numbers.integers(0, 28), numbers.integers(0, 44)
                image[top : top + 20, left : left + 20] = 125 + shade
                mask[top : top + 20, left : left + 20] = label
            mask[:2] = 255
            Image.fromarray(image).save(tmp_path / "data" / part / "images" / f"{number}.png")
            Image.fromarray(mask).save(tmp_path / "data" / part / "masks" / f"{number}.png")
    return tmp_path / "data"


def test_squares_are_segmented(screen: Screen, model: Path, data: Path, tmp_path: Path) -> None:
    words = ("eval", model, "--suite", "segmentation", "--data.root", data, "--device", "cpu")
    result = screen.json(*words, "--baselines", "--out", tmp_path / "table.csv")
    own, random = result["results"]
    assert (own["of"], random["of"]) == ("model", "random weights")
    assert own["num_images"] == 11
    assert len(own["iou"]) == 3
    assert own["mean_iou"] == pytest.approx(np.mean(own["iou"]))
    assert min(own["mean_iou"], random["mean_iou"]) > 0.6, "chance is 0.25"
    assert (tmp_path / "table.csv").read_text().startswith("of,mean IoU,pixels right,classes,images,seconds\n")
    assert "random weights" not in screen.run(*words)


def test_wrong_use(screen: Screen, model: Path, data: Path, tmp_path: Path) -> None:
    words = ("eval", model, "--suite", "segmentation")
    error = screen.refusal(*words)
    assert all(fact in error for fact in ("images/", "masks/", "train/", "test/", "--data.root"))
    error = screen.refusal(*words, "--data.root", tmp_path)
    assert error.startswith(f"{tmp_path}/train/images does not exist: ")
    assert "--out must end in .md, .csv or .json" in screen.refusal(*words, "--data.root", data, "--out", "table.txt")
    wrong = data / "test" / "masks" / "3.png"
    Image.new("L", (64, 48), 7).save(wrong)
    assert screen.refusal(*words, "--data.root", data).startswith(f"{wrong} has pixels of class 7, but no mask")
    wrong.unlink()
    assert f"1 images have no mask, such as {wrong}" in screen.refusal(*words, "--data.root", data)


def test_files_that_cannot_be_read(screen: Screen, model: Path, data: Path) -> None:
    words = ("eval", model, "--suite", "segmentation", "--data.root", data, "--device", "cpu")
    whole = screen.json(*words)["results"][0]
    image, mask = data / "test" / "images" / "3.png", data / "train" / "masks" / "5.png"
    for unreadable in (image, mask):
        unreadable.write_bytes(unreadable.read_bytes()[:60])
    assert screen.refusal(*words).startswith(f"{mask} cannot be read as a mask: ")
    assert screen.refusal(*words).endswith("--data.on-error skip")
    result = screen.json(*words, "--data.on-error", "skip")["results"][0]
    assert (whole["num_images"], result["num_images"]) == (11, 10)
    assert result["mean_iou"] > 0.6
    assert f"skipped: {image} cannot be read as an image" in screen.errors
    assert f"skipped: {mask} cannot be read as a mask" in screen.errors
    for other in (data / "test" / "images").iterdir():
        other.write_bytes(b"")
    error = screen.refusal_after_notes(*words, "--data.on-error", "skip")
    assert "none of the 11 images" in error
    assert f"{data}/test/images" in error
    error = screen.refusal(*words, "--data.workers", "2")
    assert error.startswith("--suite segmentation uses only --data.root and --data.on-error")
    assert error.endswith("leave out --data.workers")


def test_a_resnet_has_no_patch_tokens(screen: Screen, data: Path, tmp_path: Path) -> None:
    resnet = create("BiT-R50x1", image_size=32, stages=(1, 1, 1, 1), num_classes=2)
    card = ModelCard(preprocessing=Preprocessing(image_size=(32, 32), channels=3), classes=("a", "b"))
    save_model(tmp_path / "resnet", resnet, card)
    error = screen.refusal("eval", tmp_path / "resnet", "--suite", "segmentation", "--data.root", data)
    assert error.endswith("has none: use a Vision Transformer")
