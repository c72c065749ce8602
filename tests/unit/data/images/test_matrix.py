"""One picture in hundreds of files: training, evaluation and prediction show it the same way up, equally bright."""

from pathlib import Path

import numpy as np
import pytest
import torch

from models import small_model
from picture_files import SIZE, PictureFile, picture_files
from vitral.data.augment.config import AugmentConfig
from vitral.data.batches import Batch, EvaluationBatches, TrainingBatches
from vitral.data.images.preprocess import Preprocessing
from vitral.data.sources.source import FileSource
from vitral.serve.predictor import Predictor

PREPROCESSING = Preprocessing(image_size=SIZE, channels=3)
WHOLE = AugmentConfig(crop="inception", crop_area=(1.0, 1.0), crop_aspect=(2.0, 2.0))
"""A random crop that is always the whole picture, so that JPEGs take the way of training."""


@pytest.fixture(scope="module")
def files() -> list[PictureFile]:
    return picture_files()


@pytest.fixture(scope="module")
def source(files: list[PictureFile], tmp_path_factory: pytest.TempPathFactory) -> FileSource:
    """One class for each file, so that a label says which file an image of a batch is."""
    root = tmp_path_factory.mktemp("matrix")
    for file in files:
        (root / file.name).write_bytes(file.content)
    names = [file.name for file in files]
    return FileSource(root=root, files=names, labels=np.arange(len(names)), classes=tuple(names))


def wrong(file: PictureFile, pixels: np.ndarray) -> str | None:
    """How pixels differ from what the file shows; None: they do not."""
    difference = np.abs(pixels.astype(int) - file.shown)
    if file.tolerance > 1:  # edges of lossy formats ring
        difference = difference[4::8, 4::8][[0, -1]][:, [0, -1]]
    return f"{file.name}: differs by {difference.max()} levels" if difference.max() > file.tolerance else None


def check(files: list[PictureFile], batch: Batch) -> None:
    assert batch.unreadable == ()
    assert sorted(batch.labels.tolist()) == list(range(len(files)))
    images = batch.images.numpy()
    found = [wrong(files[label], images[row]) for row, label in enumerate(batch.labels.tolist())]
    assert [text for text in found if text] == []


def test_there_are_enough_files(files: list[PictureFile]) -> None:
    assert len({file.name for file in files}) == len(files) >= 400
    print(f"{len(files)} files")


def test_training(files: list[PictureFile], source: FileSource) -> None:
    batches = TrainingBatches(source=source, preprocessing=PREPROCESSING, augment=WHOLE, batch_size=len(files), seed=0)
    check(files, batches[0])


def test_evaluation(files: list[PictureFile], source: FileSource) -> None:
    check(files, EvaluationBatches(source=source, preprocessing=PREPROCESSING, batch_size=len(files))[0])


def test_prediction(files: list[PictureFile], source: FileSource, monkeypatch: pytest.MonkeyPatch) -> None:
    """The images that reach the model, one batch of many files."""
    predictor = Predictor(small_model(image_size=SIZE), device="cpu", batch_size=len(files))
    seen = []

    def logits(images: torch.Tensor) -> torch.Tensor:
        seen.append(images)
        return torch.zeros(len(images), 3)

    monkeypatch.setattr(predictor, "logits", logits)
    list(predictor.predict([Path(source.root / file.name) for file in files]))
    check(files, Batch(images=torch.cat(seen), labels=torch.arange(len(files))))
