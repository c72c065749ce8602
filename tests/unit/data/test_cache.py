"""A cache of decoded images gives what the images themselves give."""

import os
import pickle
from collections import namedtuple
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from photographs import write_photographs
from vitral.data import cache
from vitral.data.augment.config import AugmentConfig
from vitral.data.batches import EvaluationBatches, TrainingBatches, load
from vitral.data.cache import CachedSource, cache_images
from vitral.data.config import DataConfig
from vitral.data.images.decode import UnreadableImage
from vitral.data.images.preprocess import Preprocessing
from vitral.data.notes import note_once
from vitral.data.sources.source import ArraySource, Source, Subset, read_from
from vitral.datasets.opening import open_data
from vitral.errors import UserError
from vitral.runs.fingerprint import contents, fingerprint


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Photographs in every form that people have."""
    return write_photographs(tmp_path_factory.mktemp("photographs"))


@pytest.fixture(autouse=True)
def forget_notes() -> None:
    note_once.cache_clear()


def opened(root: Path, **values) -> dict[str, Source]:
    return open_data(DataConfig(source="folder", root=root, **values))


def cached(splits: dict[str, Source], place: Path | str, side: int | None = None) -> dict[str, Source]:
    return cache_images(splits, DataConfig(source="folder", cache=str(place), cache_side=side))


def training_images(source: Source, crop: str, channels: int, workers: int = 0) -> torch.Tensor:
    batches = TrainingBatches(
        source=source,
        preprocessing=Preprocessing(image_size=(24, 32), channels=channels),
        augment=AugmentConfig(crop=crop, flip=True),
        batch_size=8,
        seed=3,
    )
    return torch.cat([batch.images for batch in load(batches, range(8), workers=workers, pin=False)])


@pytest.mark.parametrize(
    ("place", "crop", "channels"),
    [("ram", "inception", 3), ("ram", "none", 1), ("disk", "simple", 3), ("disk", "inception", 1)],
)
def test_results_are_the_same(tmp_path: Path, photographs: Path, place: str, crop: str, channels: int) -> None:
    plain = opened(photographs)
    cached_data = cached(plain, "ram" if place == "ram" else tmp_path / "cache")
    assert set(cached_data["train"].kinds.tolist()) == {cache.FILE, cache.COLOUR}
    assert training_images(cached_data["train"], crop, channels).equal(training_images(plain["train"], crop, channels))
    for index in range(len(plain["test"])):
        ours, theirs = (read_from(data["test"], index, channels=channels) for data in (cached_data, plain))
        assert ours.tobytes() == theirs.tobytes()
        assert ours.size == theirs.size
    assert fingerprint(cached_data["train"]) == fingerprint(plain["train"])
    assert contents(cached_data["train"]) == contents(plain["train"])


def test_only_training_images_are_shrunk(tmp_path: Path, photographs: Path) -> None:
    plain = opened(photographs)
    cached_data = cached(plain, "ram", side=40)
    for index in range(len(cached_data["train"])):
        image, original = (read_from(data["train"], index, channels=3) for data in (cached_data, plain))
        assert min(image.size) == min(40, *original.size) or cached_data["train"].kinds[index] == cache.FILE
        assert image.width / image.height == pytest.approx(original.width / original.height, abs=0.05)
    assert read_from(cached_data["test"], 0, channels=3).size == read_from(plain["test"], 0, channels=3).size


def test_a_disk_cache_is_used_again_until_the_images_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = write_photographs(tmp_path / "photographs")
    folder = tmp_path / "cache"
    first = cached(opened(root), folder, side=64)
    with monkeypatch.context() as patch:
        patch.setattr(cache, "_entry", lambda *_: pytest.fail("an image was decoded again"))
        again = cached(opened(root), folder, side=64)
    assert training_images(again["train"], "inception", 3).equal(training_images(first["train"], "inception", 3))
    files = set(folder.glob("*.images"))
    assert len(files) == 2
    cached(opened(root), folder, side=32)
    assert len(set(folder.glob("*.images")) - files) == 1
    changed = opened(root)["train"].stored(0)
    Image.new("RGB", (50, 50), "red").save(changed)
    assert read_from(cached(opened(root), folder, side=64)["train"], 0, channels=3).size == (50, 50)


def test_an_incomplete_cache_is_written_again(tmp_path: Path, photographs: Path) -> None:
    folder = tmp_path / "cache"
    plain = opened(photographs)
    cached(plain, folder)
    for change in (lambda file: file.unlink(), lambda file: file.write_bytes(file.read_bytes()[:-9])):
        for suffix in ("*.images", "*.npz"):
            change(next(folder.glob(suffix)))
            cached_data = cached(plain, folder)
            assert training_images(cached_data["train"], "none", 3).equal(training_images(plain["train"], "none", 3))


def test_other_processes_share_it(tmp_path: Path, photographs: Path) -> None:
    cached_data = cached(opened(photographs), "ram")["train"]
    assert isinstance(cached_data, CachedSource)
    assert training_images(cached_data, "none", 3, workers=2).equal(training_images(cached_data, "none", 3))
    copied = pickle.dumps(cached_data.file)
    assert len(copied) < 500
    assert np.array_equal(pickle.loads(copied).bytes, cached_data.file.bytes)


def test_memory_is_freed(photographs: Path) -> None:
    cached_data = cached(opened(photographs), "ram")["train"]
    descriptor = int(cached_data.file.path.rpartition("/")[2])
    os.fstat(descriptor)
    del cached_data
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)


def test_unreadable_images_stay_unreadable(tmp_path: Path) -> None:
    root = write_photographs(tmp_path / "photographs")
    source = opened(root)["train"]
    source.stored(1).write_bytes(b"\xff\xd8\xffdamaged")
    source.stored(2).write_bytes(b"damaged")
    cached_data = cached({"train": source}, "ram")["train"]
    for index in (1, 2):
        with pytest.raises(UnreadableImage, match=source.stored(index).name):
            read_from(cached_data, index, channels=3)


def test_arrays(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (6, 5, 4), np.uint8)
    source = ArraySource(title="a", images=images, labels=np.arange(6) % 2, classes=("0", "1"))
    part = Subset(source=source, indices=np.array([4, 2, 0]))
    cached_data = cached({"train": part, "test": source}, tmp_path)["train"]
    assert np.array_equal(np.stack([np.asarray(cached_data.stored(index)) for index in range(3)]), images[[4, 2, 0]])
    assert cached_data.labels.tolist() == [0, 0, 0]
    assert cached_data.name(1) == "a[2]"


def test_images_of_many_channels_stay_files(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for number in range(8):
        folder = tmp_path / "fields" / "ab"[number % 2]
        folder.mkdir(parents=True, exist_ok=True)
        np.save(folder / f"{number}.npy", rng.integers(0, 9999, (5, 8, 9), np.uint16))
    data = open_data(DataConfig(source="folder", root=tmp_path / "fields", channels=5))
    cached_data = cache_images(data, DataConfig(source="folder", cache="ram", channels=5))
    for index in range(len(data["train"])):
        assert cached_data["train"].stored(index) == data["train"].stored(index).read_bytes()
    target = Preprocessing(image_size=(8, 8), channels=5, bands=True, mean=(5000.0,), std=(5000.0,))
    ours, theirs = (
        EvaluationBatches(source=part["train"], preprocessing=target, batch_size=6)[0] for part in (cached_data, data)
    )
    assert ours.images.equal(theirs.images)
    with pytest.raises(UserError, match=r"leave it out with --data\.channels"):
        DataConfig(source="folder", cache="ram", cache_side=8, channels=5)


def test_evaluation_batches(photographs: Path) -> None:
    plain = opened(photographs)["test"]
    cached_data = cached({"train": plain}, "ram")["train"]
    target = Preprocessing(image_size=(24, 24), channels=3, resize="crop")
    ours, theirs = (
        EvaluationBatches(source=data, preprocessing=target, batch_size=4)[0] for data in (cached_data, plain)
    )
    assert ours.images.equal(theirs.images)


def test_the_size_is_said_first(
    tmp_path: Path, photographs: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    data = opened(photographs)
    cached(data, tmp_path / "cache", side=32)
    count = sum(map(len, data.values()))
    assert f"caching: {count} images take about " in caplog.text
    monkeypatch.setattr(cache, "free_memory", lambda: 1000)
    with pytest.raises(UserError, match=r"^\d+ images take about [\d.]+ MB of 0\.0 MB free in memory: give a smaller"):
        cached(data, "ram")
    usage = namedtuple("usage", "free")
    monkeypatch.setattr(cache.shutil, "disk_usage", lambda _: usage(1000))
    with pytest.raises(UserError, match=rf"free in {tmp_path}/other: give a smaller --data\.cache-side"):
        cached(data, tmp_path / "other")


def test_wrong_use(photographs: Path) -> None:
    data = opened(photographs)
    with pytest.raises(UserError, match="once in each training process: give a folder"):
        cache_images(data, DataConfig(source="folder", cache="ram"), processes=2)
    with pytest.raises(UserError, match=r"--data\.cache-side must be at least 1 pixel"):
        DataConfig(source="folder", cache="ram", cache_side=0)
    with pytest.raises(UserError, match=r"give --data\.cache ram or a folder"):
        DataConfig(source="folder", cache_side=64)
    with pytest.raises(UserError, match=r"is a file: give ram or a folder as --data\.cache"):
        cached(data, data["train"].stored(0))
    assert cache_images(data, DataConfig(source="folder")) == data
