"""Batches: the same for any number of workers, every image counted once, unreadable ones ignored."""

import errno
import json
import multiprocessing
import os
import signal
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch
from PIL import Image

from photographs import add_unreadable_files, write_photographs
from processes import SOURCES
from vitral.data.augment.config import AugmentConfig
from vitral.data.augment.crop import crop_box
from vitral.data.augment.geometry import flip
from vitral.data.batches import UNREADABLE, Batch, EvaluationBatches, TrainingBatches, load
from vitral.data.config import DataConfig
from vitral.data.images.preprocess import Preprocessing
from vitral.data.order import sample_at
from vitral.data.sources.source import ArraySource, FileSource, read_from
from vitral.datasets.opening import open_data

GREY = Preprocessing(image_size=(5, 4), channels=1)
COLOUR = Preprocessing(image_size=(16, 24), channels=3)
EVERYTHING = AugmentConfig(crop="inception", flip=True, shift=2, rotate=10.0, scale=0.1)


def numbered(count: int) -> ArraySource:
    """Images whose every pixel is their own number."""
    images = np.repeat(np.arange(count, dtype=np.uint8), 20).reshape(count, 5, 4)
    return ArraySource(title="numbered", images=images, labels=np.arange(count) % 3, classes=("a", "b", "c"))


def training(source, *, size: int = 7, augment: AugmentConfig | None = None, preprocessing=GREY) -> TrainingBatches:
    return TrainingBatches(
        source=source, preprocessing=preprocessing, augment=augment or AugmentConfig(), batch_size=size, seed=3
    )


def evaluation(source, *, size: int, preprocessing=GREY) -> EvaluationBatches:
    return EvaluationBatches(source=source, preprocessing=preprocessing, batch_size=size)


def assert_same(one: Batch, other: Batch) -> None:
    assert torch.equal(one.images, other.images)
    assert torch.equal(one.labels, other.labels)
    assert one.unreadable == other.unreadable
    assert (one.augment_params is None) == (other.augment_params is None)
    if one.augment_params and other.augment_params:
        assert torch.equal(one.augment_params.flips, other.augment_params.flips)
        assert torch.equal(one.augment_params.warps, other.augment_params.warps)


@pytest.fixture(scope="module")
def partly_unreadable_photographs(tmp_path_factory) -> FileSource:
    """Photographs, three of them unreadable."""
    root = tmp_path_factory.mktemp("photographs") / "photos"
    write_photographs(root, per_class=3)
    add_unreadable_files(root)
    source = open_data(DataConfig(source="folder", root=root, test_fraction=0.3))["train"].source
    assert len(source) == 21
    return source


class TestTraining:
    def test_follows_the_order(self):
        source, batches = numbered(40), training(numbered(40))
        for step in (0, 5, 6, 1000):
            _, index = sample_at(np.arange(step * 7, step * 7 + 7), size=40, seed=3)
            batch = batches[step]
            assert batch.images[:, 0, 0, 0].tolist() == index.tolist()
            assert batch.labels.tolist() == source.labels[index].tolist()
            assert not batch.unreadable

    def test_an_epoch_holds_every_image_once(self):
        batches = training(numbered(42))
        assert sorted(torch.cat([batches[step].images[:, 0, 0, 0] for step in range(6)]).tolist()) == list(range(42))

    def test_a_batch_may_hold_more_than_one_epoch(self):
        shown = training(numbered(3), size=10)[0].images[:, 0, 0, 0].tolist()
        assert sorted(shown[:9]) == [0, 0, 0, 1, 1, 1, 2, 2, 2]

    def test_an_image_and_its_augmentation_do_not_depend_on_the_batch_size(self, partly_unreadable_photographs):
        def stream(size: int) -> list[torch.Tensor]:
            batches = training(partly_unreadable_photographs, size=size, augment=EVERYTHING, preprocessing=COLOUR)
            parts = [batches[step] for step in range(12 // size)]
            return [
                torch.cat([part.images for part in parts]),
                torch.cat([part.labels for part in parts]),
                torch.cat([part.augment_params.flips for part in parts]),
                torch.cat([part.augment_params.warps for part in parts]),
            ]

        for one, other in zip(stream(3), stream(6), strict=True):
            assert torch.equal(one, other)

    def test_crops_are_cut_from_the_image_that_is_read(self, partly_unreadable_photographs):
        augment = AugmentConfig(crop="inception")
        batch = training(partly_unreadable_photographs, augment=augment, preprocessing=COLOUR)[4]
        epoch, index = sample_at(np.arange(28, 35), size=21, seed=3)
        for row in range(7):
            if batch.labels[row] != UNREADABLE:
                image = read_from(partly_unreadable_photographs, int(index[row]), channels=3)
                box = crop_box(augment, image.size, seed=3, epoch=int(epoch[row]), index=int(index[row]))
                assert np.array_equal(batch.images[row], COLOUR.crop(image, box))

    def test_mirroring_is_left_to_the_device(self):
        plain = training(numbered(40))[0]
        drawn = training(numbered(40), augment=AugmentConfig(flip=True))[0]
        assert torch.equal(plain.images, drawn.images)
        assert drawn.augment_params.flips.any()
        assert flip(drawn.images, drawn.augment_params.flips).shape == drawn.images.shape

    @pytest.mark.parametrize("resize", ["squash", "crop"])
    def test_without_augmentation_pixels_are_those_of_evaluation(self, partly_unreadable_photographs, resize):
        geometry = replace(COLOUR, resize=resize)
        batch = training(partly_unreadable_photographs, size=21, preprocessing=geometry)[0]
        _, index = sample_at(np.arange(21), size=21, seed=3)
        expected = evaluation(partly_unreadable_photographs, size=21, preprocessing=geometry)[0].images[index]
        assert torch.equal(batch.images, expected)

    def test_pins_everything_that_goes_to_the_device(self, monkeypatch):
        pinned = []
        monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: pinned.append(tensor) or tensor)
        batch = training(numbered(40), augment=EVERYTHING)[0]
        copy = batch.pin_memory()
        assert {id(tensor) for tensor in pinned} == {
            id(tensor) for tensor in (batch.images, batch.labels, batch.augment_params.keys, batch.augment_params.warps)
        }
        assert_same(batch, copy)

    @pytest.mark.parametrize("workers", [2, 4])
    def test_any_number_of_workers_gives_the_same(self, partly_unreadable_photographs, workers):
        batches = training(partly_unreadable_photographs, augment=EVERYTHING, preprocessing=COLOUR)
        alone = list(load(batches, range(3, 9), workers=0, pin=False))
        together = list(load(batches, range(3, 9), workers=workers, pin=False))
        assert any(batch.unreadable for batch in alone)
        for one, other in zip(alone, together, strict=True):
            assert_same(one, other)


@dataclass(frozen=True, kw_only=True, eq=False)
class Deadly(ArraySource):
    """Kills the process that reads it."""

    def stored(self, index: int) -> Image.Image:
        os.kill(os.getpid(), signal.SIGKILL)
        return super().stored(index)


def test_a_killed_worker_is_reported_with_advice():
    whole = numbered(40)
    deadly = Deadly(title="deadly", images=whole.images, labels=whole.labels, classes=whole.classes)
    with pytest.raises(ValueError, match=r"a process that reads images was killed, .*: lower --data\.workers$"):
        list(load(evaluation(deadly, size=7), range(6), workers=1, pin=False))


@dataclass(frozen=True, kw_only=True, eq=False)
class Failing(ArraySource):
    """Its images are sound, but the machine cannot open one more file."""

    def stored(self, index: int) -> Image.Image:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE), self.name(index))


@pytest.mark.parametrize("workers", [0, 1])
def test_errors_of_the_machine_end_the_reading(workers):
    """Images must not be skipped because the machine was busy."""
    whole = numbered(40)
    failing = Failing(title="photos", images=whole.images, labels=whole.labels, classes=whole.classes)
    with pytest.raises(OSError, match=r"Too many open files: 'photos\[0\]'") as caught:
        list(load(evaluation(failing, size=7), range(6), workers=workers, pin=False))
    assert "\n" not in str(caught.value)
    assert not multiprocessing.active_children()  # else the process would hang at exit
    with pytest.raises(OSError, match=r"Too many open files: 'photos\[\d+\]'"):
        list(load(training(failing), range(6), workers=workers, pin=False))


class TestUnreadableFiles:
    def test_unreadable_images_are_black_listed_and_have_no_label(self, partly_unreadable_photographs):
        labels = partly_unreadable_photographs.labels.copy()
        batch = evaluation(partly_unreadable_photographs, size=21, preprocessing=COLOUR)[0]
        unreadable = [index for index in range(21) if "broken" in partly_unreadable_photographs.files[index]]
        assert len(batch.unreadable) == 3
        for index, sentence in zip(unreadable, batch.unreadable, strict=True):
            assert sentence.startswith(f"{partly_unreadable_photographs.name(index)} cannot be read as an image")
        assert (batch.labels == UNREADABLE).nonzero().flatten().tolist() == unreadable
        assert not batch.images[unreadable].any()
        whole = [index for index in range(21) if index not in unreadable]
        assert batch.images[whole].flatten(1).any(1).all()
        assert batch.labels[whole].tolist() == labels[whole].tolist()

    def test_labels_of_the_source_stay(self, partly_unreadable_photographs):
        before = partly_unreadable_photographs.labels.copy()
        for step in range(3):
            evaluation(partly_unreadable_photographs, size=7, preprocessing=COLOUR)[step].labels.fill_(UNREADABLE)
            training(partly_unreadable_photographs, preprocessing=COLOUR)[step].labels.fill_(UNREADABLE)
        assert np.array_equal(partly_unreadable_photographs.labels, before)


class TestEvaluation:
    @pytest.mark.parametrize("count", [1, 6, 7, 8, 20, 21, 22])
    @pytest.mark.parametrize("workers", [0, 2])
    def test_every_image_comes_once_in_order(self, count, workers):
        batches = evaluation(numbered(count), size=7)
        read = list(load(batches, range(len(batches)), workers=workers, pin=False))
        assert torch.cat([batch.images[:, 0, 0, 0] for batch in read]).tolist() == list(range(count))
        assert torch.cat([batch.labels for batch in read]).tolist() == [index % 3 for index in range(count)]
        assert all(batch.augment_params is None for batch in read)
        assert [len(batch.labels) for batch in read[:-1]] == [7] * (len(read) - 1)

    def test_uses_the_geometry_of_evaluation(self, partly_unreadable_photographs):
        centre = replace(COLOUR, resize="crop")
        batch = evaluation(partly_unreadable_photographs, size=4, preprocessing=centre)[2]
        image = read_from(partly_unreadable_photographs, 9, channels=3)
        assert np.array_equal(batch.images[1], centre.pixels(image))


@pytest.mark.parametrize("processes", [2, 3, 6])
def test_rows_of_all_processes_make_up_the_batch(processes):
    """Images, labels and draws, in order."""
    batches = training(numbered(50), size=12, augment=EVERYTHING)
    count = 12 // processes
    parts = [replace(batches, rows=range(start, start + count))[7] for start in range(0, 12, count)]
    assert torch.equal(torch.cat([part.images for part in parts]), batches[7].images)
    assert torch.equal(torch.cat([part.labels for part in parts]), batches[7].labels)
    for name in ("flips", "warps"):
        assert torch.equal(
            torch.cat([getattr(part.augment_params, name) for part in parts]),
            getattr(batches[7].augment_params, name),
        )


class Recording(ArraySource):
    """Remembers what was read."""

    def stored(self, index: int) -> Image.Image:
        self.files.append(index)
        return super().stored(index)

    files: ClassVar[list[int]] = []


def test_resuming_after_a_billion_samples_reads_only_what_follows():
    whole, size, step = numbered(40), 8, 10**9 // 8
    source = Recording(title="numbered", images=whole.images, labels=whole.labels, classes=whole.classes)
    batch = next(iter(load(training(source, size=size), range(step, step + 100), workers=0, pin=False)))
    _, index = sample_at(np.arange(step * size, (step + 1) * size), size=40, seed=3)
    assert batch.images[:, 0, 0, 0].tolist() == index.tolist()
    assert set(source.files) == set(index.tolist())
    assert len(source.files) == size


@pytest.mark.parametrize(("repeats", "workers"), [(1, 0), (3, 0), (1, 2)])
def test_an_epoch_of_ten_million_images_starts_at_once_and_in_little_memory(repeats, workers):
    """In a process of its own: seconds to the first batch beyond those of 1,000 images, and what memory grows by."""
    script = Path(__file__).with_name("starting.py")
    command = [sys.executable, str(script), "10000000", str(repeats), str(workers)]
    environment = os.environ | {"PYTHONPATH": str(SOURCES)}
    added = json.loads(subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE).stdout)
    print(f"{repeats} repeats, {workers} workers: {added}")
    assert added["labels"] == 80e6, "the source itself, which is there before"
    assert added["seconds"] < 1
    # far below 100 MB, so that one copy of the labels, or a list of the order, would be noticed
    assert added["bytes"] < 40e6
    assert added["reading"] < 40e6
