"""Batches of uint8 images: item k of a data set is the whole k-th batch, so any number of workers gives the same."""

import signal
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Int64, UInt8
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from vitral.data.augment.config import AugmentConfig
from vitral.data.augment.crop import crop_box, crop_place
from vitral.data.augment.draws import Draws, draw
from vitral.data.images.decode import UnreadableImage
from vitral.data.images.jpeg import FILTERS, Jpeg
from vitral.data.images.preprocess import Preprocessing
from vitral.data.order import repeated_at, sample_at
from vitral.data.sources.source import Source, read_from
from vitral.errors import UserError

__all__ = ["UNREADABLE", "Batch", "EvaluationBatches", "TrainingBatches", "load", "translate_worker_errors"]

UNREADABLE = -100
"""Label of an image that could not be read: losses and metrics leave it out."""


BOXED = ("inception", "inception_tf", "square")
"""Crops that are boxes of the stored image."""


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Images and labels as read, with the randomness of their augmentation."""

    images: UInt8[Tensor, "b h w c"]
    labels: Int64[Tensor, " b"]
    """Class of each image, or UNREADABLE."""
    draws: Draws | None = None
    """None in evaluation."""
    unreadable: tuple[str, ...] = ()
    """One sentence for each image that could not be read."""
    seconds: float = 0.0
    """Time it took to read, in training."""

    def pin_memory(self) -> "Batch":
        """A copy in page-locked memory; the loader calls it when the device is a GPU."""
        return type(self)(
            images=self.images.pin_memory(),
            labels=self.labels.pin_memory(),
            draws=None if self.draws is None else self.draws.pin_memory(),
            unreadable=self.unreadable,
            seconds=self.seconds,
        )


@dataclass(frozen=True, kw_only=True)
class TrainingBatches(Dataset[Batch]):
    """The endless, shuffled, augmented run through a source; item `step` is that step's batch."""

    source: Source
    preprocessing: Preprocessing
    augment: AugmentConfig
    batch_size: int
    seed: int
    share: range | None = None
    """Which images of each batch to read, where several processes share it; None: all."""

    def __getitem__(self, step: int) -> Batch:
        start = time.perf_counter()
        position = step * self.batch_size + np.array(self.share or range(self.batch_size))
        where = dict(size=len(self.source), seed=self.seed)
        if self.augment.repeats > 1:
            own = dict(batch_size=self.batch_size, repeats=self.augment.repeats)
            epoch, index = repeated_at(position, **own, **where)
        else:
            epoch, index = sample_at(position, **where)

        def pixels(row: int) -> UInt8[np.ndarray, "h w c"]:
            number = int(index[row])
            sample = dict(seed=self.seed, epoch=int(epoch[row]), index=number)
            if self.augment.crop in BOXED and (found := self._of_jpeg(number, sample)) is not None:
                return found
            image = read_from(self.source, number, channels=self.preprocessing.channels)
            if self.augment.crop == "none":
                return self.preprocessing.pixels(image)
            if self.augment.crop == "simple":
                return self.preprocessing.simple_crop(image, crop_place(**sample))
            box = crop_box(self.augment, image.size, **sample)
            return self.preprocessing.crop(image, box)

        by_pair = self.augment.mix_per == "pair"
        pairs = position[::2] // 2 if by_pair else np.full((len(position) + 1) // 2, step)
        draws = draw(self.augment, seed=self.seed, epoch=epoch, index=index, pairs=pairs)
        batch = _read(self.source, index, self.preprocessing, pixels, draws)
        return replace(batch, seconds=time.perf_counter() - start)

    def _of_jpeg(self, number: int, sample: dict[str, int]) -> UInt8[np.ndarray, "h w c"] | None:
        """A random part of a JPEG, decoded no larger than needed; None where the image is another."""
        wanted = self.preprocessing
        if wanted.channels != 3 or wanted.interpolation not in FILTERS:
            return None
        try:
            jpeg = Jpeg.of(self.source.stored(number))
        except OSError:
            return None  # what reads any image says why
        if jpeg is None:
            return None
        box = crop_box(self.augment, jpeg.size, **sample)
        return jpeg.crop(box, image_size=wanted.image_size, interpolation=wanted.interpolation)


@dataclass(frozen=True, kw_only=True)
class EvaluationBatches(Dataset[Batch]):
    """Every image of a source exactly once, in order; the last batch may be smaller."""

    source: Source
    preprocessing: Preprocessing
    batch_size: int

    def __len__(self) -> int:
        return -(-len(self.source) // self.batch_size)

    def __getitem__(self, number: int) -> Batch:
        start = number * self.batch_size
        index = np.arange(start, min(start + self.batch_size, len(self.source)))

        def pixels(row: int) -> UInt8[np.ndarray, "h w c"]:
            return self.preprocessing.pixels(
                read_from(self.source, int(index[row]), channels=self.preprocessing.channels)
            )

        return _read(self.source, index, self.preprocessing, pixels, None)


def _read(
    source: Source,
    index: Int64[np.ndarray, " b"],
    preprocessing: Preprocessing,
    pixels: Callable[[int], UInt8[np.ndarray, "h w c"]],
    draws: Draws | None,
) -> Batch:
    """Reads the samples `index` with `pixels`, by row; a broken one leaves a black image that nothing counts."""
    images = np.empty((len(index), *preprocessing.image_size, preprocessing.channels), np.uint8)
    labels = source.labels[index]
    broken = []
    for row in range(len(index)):
        try:
            images[row] = pixels(row)
        except UnreadableImage as error:
            images[row], labels[row] = 0, UNREADABLE
            broken.append(str(error))
    return Batch(
        images=torch.from_numpy(images), labels=torch.from_numpy(labels), draws=draws, unreadable=tuple(broken)
    )


def load(dataset: Dataset[Batch], numbers: Sequence[int], *, workers: int, pin: bool) -> Iterator[Batch]:
    """Yields the batches `numbers` of a data set in that order, read by `workers` processes (0: this one).

    Raises:
        UserError: one of the processes was killed.
    """
    with warnings.catch_warnings():
        # more workers than cores are the user's choice, and right where the disk is what is slow
        warnings.filterwarnings("ignore", message="This DataLoader will create")
        batches = iter(
            DataLoader(
                dataset,
                batch_size=None,
                sampler=numbers,  # pyright: ignore[reportArgumentType]
                num_workers=workers,
                pin_memory=pin,
                worker_init_fn=_leave_signals_to_the_trainer,
            )
        )
    with translate_worker_errors():
        yield from batches


@contextmanager
def translate_worker_errors() -> Iterator[None]:
    """Turns PyTorch's error of a reading process that was killed, which may come up anywhere, into a UserError."""
    try:
        yield
    except RuntimeError as error:
        if not str(error).startswith("DataLoader worker"):
            raise
        raise UserError(
            "a process that reads images was killed, most often because memory ran out: lower --data.workers"
        ) from error


def _leave_signals_to_the_trainer(_: int) -> None:
    """Ctrl-C, and SIGTERM from `timeout`, reach the whole process group; the first process decides what they mean."""
    for signum in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signum, signal.SIG_IGN)
