"""Batches of images as read. Item k of a data set is the whole k-th batch, so it does not depend on the workers."""

import re
import signal
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from jaxtyping import Bool, Float32, Int64
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from vitral.data.augment.config import AugmentConfig
from vitral.data.augment.crop import Box, crop_box, crop_offset
from vitral.data.augment.params import AugmentParams, sample_params
from vitral.data.balanced import BalancedOrder
from vitral.data.images import memory
from vitral.data.images.decode import UnreadableImage
from vitral.data.images.errors import NotRead
from vitral.data.images.jpeg import FILTERS, LazyJpeg
from vitral.data.images.preprocess import PixelBatch, Pixels, Preprocessing
from vitral.data.notes import buffer_notes, note_first, take_notes
from vitral.data.open_files import allow_open_files
from vitral.data.order import LENGTH, repeated_at, sample_at, uniform
from vitral.data.orphans import die_with_parent
from vitral.data.sources.source import Source, read_ahead
from vitral.errors import UserError

__all__ = [
    "UNREADABLE",
    "Batch",
    "EvaluationBatches",
    "Targets",
    "TrainingBatches",
    "load",
    "readable",
    "translate_worker_errors",
]

UNREADABLE = -100
"""Class of an unreadable image; losses and metrics ignore it. Where targets are numbers, theirs are NaN."""

Targets = Int64[Tensor, " b"] | Float32[Tensor, "b k"]
"""Class of each image, or UNREADABLE; or 1 for each of its labels and 0 for the others, or its number, or NaN."""

BOX_CROPS = ("inception", "inception_tf", "square")
"""Crops that are a box of the stored image."""


def readable(labels: Targets) -> Bool[Tensor, " b"]:
    """Which images could be read."""
    return labels != UNREADABLE if labels.ndim == 1 else ~labels[:, 0].isnan()


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Decoded images, their labels, and the parameters of their augmentation."""

    images: PixelBatch
    labels: Targets
    """See `Targets`."""
    augment_params: AugmentParams | None = None
    """None in evaluation."""
    unreadable: tuple[str, ...] = ()
    """One sentence for each unreadable image."""
    notes: tuple[tuple[str, str], ...] = ()
    """Facts to note, each with the name of an image, of a process that reads for another."""
    seconds: float = 0.0
    """Time it took to read the batch, in training."""

    def pin_memory(self) -> "Batch":
        """A copy in page-locked memory; the loader calls this if the device is a GPU."""
        return type(self)(
            images=self.images.pin_memory(),
            labels=self.labels.pin_memory(),
            augment_params=None if self.augment_params is None else self.augment_params.pin_memory(),
            unreadable=self.unreadable,
            notes=self.notes,
            seconds=self.seconds,
        )


@dataclass(frozen=True, kw_only=True)
class TrainingBatches(Dataset[Batch]):
    """Endless, shuffled, augmented batches of a source; item `step` is the batch of that step."""

    source: Source
    preprocessing: Preprocessing
    augment: AugmentConfig
    batch_size: int
    seed: int
    rows: range | None = None
    """The rows of each batch that this process reads; None: all."""
    balanced: BalancedOrder | None = None
    """The order with as many images of each class; None: each image once in an epoch."""

    def __getitem__(self, step: int) -> Batch:
        if lengths := self.augment.sequence_lengths:
            length = lengths[int(uniform(LENGTH, self.seed, step)[0] * len(lengths))]
            preprocessing = replace(self.preprocessing, max_patches=length)
            return replace(self, preprocessing=preprocessing, augment=replace(self.augment, sequence_lengths=()))[step]
        start = time.perf_counter()
        position = step * self.batch_size + np.array(self.rows or range(self.batch_size))
        run = dict(size=len(self.source), seed=self.seed)
        if self.balanced is not None:
            epoch, index = self.balanced.sample_at(position, seed=self.seed)
        elif self.augment.repeats > 1:
            repeats = dict(batch_size=self.batch_size, repeats=self.augment.repeats)
            epoch, index = repeated_at(position, **repeats, **run)
        else:
            epoch, index = sample_at(position, **run)

        def pixels(row: int) -> Pixels:
            number = int(index[row])
            sample = dict(seed=self.seed, epoch=int(epoch[row]), index=number)
            if self.augment.crop in BOX_CROPS and (crop := self._crop_jpeg(number, sample)) is not None:
                return crop
            image = self.preprocessing.read(self.source.stored(number), name=self.source.name(number))
            if self.augment.crop == "none":
                return self.preprocessing.pixels(image)
            if self.augment.crop == "simple":
                return self.preprocessing.simple_crop(image, crop_offset(**sample))
            return self.preprocessing.crop(image, self._crop_box(image.size, sample))

        by_pair = self.augment.mix_per == "pair"
        pairs = position[::2] // 2 if by_pair else np.full((len(position) + 1) // 2, step)
        params = sample_params(self.augment, seed=self.seed, epoch=epoch, index=index, pairs=pairs)
        batch = _read(self.source, index, self.preprocessing, pixels, params)
        return replace(batch, seconds=time.perf_counter() - start)

    def _crop_box(self, size: tuple[int, int], sample: dict[str, int]) -> Box:
        """The crop of an image of this width and height; aspect ratios are relative to its own where that is kept."""
        return crop_box(self.augment, (1, 1) if self.preprocessing.keeps_aspect else size, **sample)

    def _crop_jpeg(self, number: int, sample: dict[str, int]) -> Pixels | None:
        """A random crop of a JPEG, decoded no larger than needed; None if the image is no JPEG."""
        target = self.preprocessing
        if target.bands or target.channels != 3 or target.interpolation not in FILTERS:
            return None
        try:
            jpeg = LazyJpeg.open(self.source.stored(number), name=self.source.name(number))
        except OSError:
            return None  # `read` raises the error
        if jpeg is None:
            return None
        box = self._crop_box(jpeg.size, sample)
        try:
            crop = jpeg.crop(box, image_size=target.crop_hw(box, jpeg.size), interpolation=target.interpolation)
        except NotRead:
            return None  # `read` says why
        return None if crop is None else target.arrange(crop)


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

        def pixels(row: int) -> Pixels:
            number = int(index[row])
            image = self.preprocessing.read(self.source.stored(number), name=self.source.name(number))
            return self.preprocessing.pixels(image)

        return _read(self.source, index, self.preprocessing, pixels, None)


def _read(
    source: Source,
    index: Int64[np.ndarray, " b"],
    preprocessing: Preprocessing,
    pixels: Callable[[int], Pixels],
    augment_params: AugmentParams | None,
) -> Batch:
    """Reads the samples `index` with `pixels`, by row; an unreadable image becomes zero, and its target says so."""
    read_ahead(source, index)
    images = np.empty((len(index), *preprocessing.shape), preprocessing.dtype)
    labels = source.labels[index]
    unreadable = []
    for row in range(len(index)):
        try:
            images[row] = pixels(row)
        except UnreadableImage as error:
            images[row], labels[row] = 0, UNREADABLE if labels.ndim == 1 else np.nan
            unreadable.append(str(error))
    return Batch(
        images=torch.from_numpy(images),
        labels=torch.from_numpy(labels),
        augment_params=augment_params,
        unreadable=tuple(unreadable),
        notes=take_notes(),
    )


def load(dataset: Dataset[Batch], numbers: Sequence[int], *, workers: int, pin: bool) -> Iterator[Batch]:
    """Yields the batches `numbers` of a data set in that order, read by `workers` processes (0: this process).

    Raises:
        UserError: a worker was killed, or there are too many workers for the limit of open files.
        OSError: a worker could not read for a reason that is not the image's.
    """
    allow_open_files(workers)
    with memory.shared(workers) as shared:
        yield from _load(dataset, numbers, workers=workers, pin=pin, shared=shared)


def _load(
    dataset: Dataset[Batch], numbers: Sequence[int], *, workers: int, pin: bool, shared: str | None
) -> Iterator[Batch]:
    with warnings.catch_warnings():
        # more workers than cores are the user's choice, and useful if the disk is slow
        warnings.filterwarnings("ignore", message="This DataLoader will create")
        batches = iter(
            DataLoader(
                dataset,
                batch_size=None,
                sampler=numbers,  # pyright: ignore[reportArgumentType]
                num_workers=workers,
                pin_memory=pin,
                worker_init_fn=partial(_start_worker, shared=shared),
            )
        )
    try:
        with translate_worker_errors():
            for batch in batches:
                for fact, name in batch.notes:
                    note_first(fact, name)
                yield batch
    finally:
        if workers:
            # An error's traceback keeps the iterator and its workers alive. They ignore the SIGTERM that
            # multiprocessing sends at exit, so the process would wait for them forever.
            batches._shutdown_workers()  # pyright: ignore[reportAttributeAccessIssue]


@contextmanager
def translate_worker_errors() -> Iterator[None]:
    """Turns PyTorch's errors about its worker processes, which any call may raise, into errors of one sentence.

    A worker that was killed is a UserError. An OSError of a worker comes back as one, without the worker's traceback.
    """
    try:
        yield
    except OSError as error:
        if not str(error).startswith("Caught "):
            raise
        # the last line of the worker's traceback, without the name of the error's class
        reason = re.sub(r"^[\w.]+: ", "", str(error).strip().splitlines()[-1])
        raise OSError(f"reading images failed: {reason}") from error
    except RuntimeError as error:
        if not str(error).startswith("DataLoader worker"):
            raise
        raise UserError(
            "a process that reads images was killed, most often because memory ran out: lower --data.workers"
        ) from error


def _start_worker(_: int, *, shared: str | None) -> None:
    """Ctrl-C, a closed terminal and `timeout` signal the whole process group; only the main process handles them.

    It prints the notes too.
    """
    die_with_parent()
    buffer_notes()
    memory.start_sharing(shared)
    for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP, signal.SIGQUIT):
        signal.signal(signum, signal.SIG_IGN)
