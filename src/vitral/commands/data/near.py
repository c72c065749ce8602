"""`vitral data near`: finds training images that nearly duplicate test images."""

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro
from einops import reduce
from jaxtyping import Float32
from rich.console import Console
from rich.table import Table
from rich.text import Text

from vitral.commands.arguments.checks import check_model, picture_path
from vitral.commands.arguments.weights import pop_source_options, source_options
from vitral.commands.data.arguments import DataOptions, check_pictures, check_workers, parse_options
from vitral.commands.loading import load_and_note
from vitral.commands.output import note, print_json, printable, progress_bar
from vitral.data.images.decode import UnreadableImage
from vitral.data.sources.exclude import relative_name, write_list
from vitral.data.sources.source import Source, Subset, read_from
from vitral.data.tools.near_duplicates import (
    embedding_pairs,
    hash_images,
    hash_pairs,
    is_featureless,
    thumbnail,
)
from vitral.data.tools.parallel_map import parallel_map
from vitral.datasets.infer import infer_source
from vitral.datasets.opening import open_data, open_stored
from vitral.errors import UserError
from vitral.inspection.pairs import ShownPair, draw_pairs, evenly_spaced_pairs
from vitral.serve.predictor import Predictor

__all__ = ["Options", "main"]

MAX_BITS = 8
"""Default of `--threshold` for hashes: different photographs differ in more bits."""

MIN_COSINE = 0.95
"""Default of `--threshold` for features; a good value depends on the model, so check the picture."""

BATCH_SIZE = 64

MAX_PRINTED = 20
"""Pairs that are printed."""


@dataclass(frozen=True, kw_only=True)
class Options(DataOptions):
    """Find training images that nearly duplicate test images: recompressed, resized or slightly cropped copies."""

    against: str | None = None
    """Other data, whose test images to compare with; by default the data's test and validation images."""
    threshold: float | None = None
    """Maximum number of the 64 bits of hashes that differ (default 8), or with a model the minimum cosine similarity of
    features (default 0.95)."""
    model: str | None = None
    """Compare features of this model, given as for `vitral eval`, instead of hashes."""
    write: Path | None = None
    """File to write the names of these training images to, for --data.exclude."""
    out: Path | None = None
    """Picture of the pairs, by default near-duplicates.png in the current folder."""
    workers: int = os.cpu_count() or 1
    """Number of threads that read images."""
    device: str = "auto"
    """Device of the model: cpu, cuda, cuda:1, mps, xpu; auto: a GPU if there is one."""
    json: tyro.conf.FlagCreatePairsOff[bool] = False
    """Print one JSON object."""


@dataclass(frozen=True, kw_only=True)
class Near:
    """A training image and the image that it nearly duplicates."""

    train: str
    like: str
    distance: float
    classes: tuple[str, str] | None
    """Of both; None where the data have no classes in common."""

    @property
    def across_classes(self) -> bool:
        """Whether the two have different classes, so that one of them may be wrong."""
        return self.classes is not None and self.classes[0] != self.classes[1]


ReadImage = Callable[[Source, int], np.ndarray]
"""Reads an image of a source in the form that is compared."""


def main(arguments: list[str]) -> None:
    """Searches, and prints pairs; with `--json`, one object."""
    source, arguments = pop_source_options(arguments, "vitral data near")
    reading = source_options(source)
    options, words = parse_options(Options, arguments, program="vitral data near", positionals=("DATA",))
    check(options)
    picture = picture_path(options.out, default=Path("near-duplicates.png"))
    train, others = open_sources(options)
    if options.model is None and reading:
        raise UserError(f"--{next(iter(reading)).replace('_', '-')} helps to read a model's file: name it with --model")
    find = find_by_hash if options.model is None else partial(find_by_features, reading=reading)
    readers, matches = find(options, train, others)
    sources = [reader.readable() for reader in readers]
    featureless = [reader.source.name(index) for reader in readers for index in reader.featureless]
    pairs = [as_near(sources[0], sources[number + 1], pair) for number, pair in matches]
    if pairs:
        draw_pairs(pairs_to_draw(options, sources, matches), picture)
    if options.write is not None:
        write_list(options.write, {pair.train for pair in pairs}, root=options.data.root)
    if options.json:
        counts = {"train": readers[0].num_read, "other": sum(reader.num_read for reader in readers[1:])}
        drawn = str(picture) if pairs else None
        listed = [asdict(pair) | {"across_classes": pair.across_classes} for pair in pairs]
        print_json({"num_images": counts, "pairs": listed, "featureless": featureless, "picture": drawn})
    else:
        if featureless:
            note(
                f"left out {len(featureless):,} images of nearly one colour or a plain gradient, first {featureless[0]}"
            )
        print_pairs(words[0], options.data.root, readers, pairs, picture)


def check(options: Options) -> None:
    """Checks ranges, and that the model exists, before anything is read.

    Raises:
        UserError: a value is out of range, or there is no such model.
    """
    check_workers(options.workers)
    check_pictures(options.data, program="vitral data near")
    if options.model is not None:
        check_model(options.model)
    threshold = options.threshold
    if threshold is None:
        return
    if options.model is None and not (0 <= threshold <= 32 and threshold == int(threshold)):
        raise UserError(f"--threshold takes 0 to 32 bits for hashes, not {threshold:g}: a cosine needs --model")
    if options.model is not None and not -1 < threshold <= 1:
        raise UserError(f"--threshold takes a cosine up to 1 with --model, not {threshold:g}")


def open_sources(options: Options) -> tuple[Source, list[Source]]:
    """The training images, and the images to compare them with.

    Raises:
        UserError: data is missing.
    """
    if options.against is None:
        data = open_data(options.data)
        return data["train"], [source for split, source in data.items() if split != "train"]
    other = open_stored(infer_source(options.against))
    held_out = [source for split, source in other.items() if split != "train"]
    return open_stored(options.data)["train"], held_out or [other["train"]]


def as_near(train: Source, other: Source, pair: Any) -> Near:
    """A pair with the names of its images and their classes."""
    classes = None
    if train.classes == other.classes and train.classes and train.labels.ndim == 1:
        classes = (train.classes[train.labels[pair.one]], train.classes[other.labels[pair.other]])
    return Near(train=train.name(pair.one), like=other.name(pair.other), distance=pair.distance, classes=classes)


def find_by_hash(options: Options, train: Source, others: list[Source]) -> tuple[list["Reader"], list[tuple[int, Any]]]:
    """Finds pairs by perceptual hash: the readers of the sources, and pairs with the other source's number."""
    threshold = MAX_BITS if options.threshold is None else int(options.threshold)
    readers, hashes = [Reader(source, thumbnail, options) for source in (train, *others)], []
    for reader in readers:
        hashes.append(hash_images(reader))
    pairs = [(number, hash_pairs(hashes[0], other, threshold=threshold)) for number, other in enumerate(hashes[1:])]
    return readers, nearest_first([reader.readable() for reader in readers], pairs)


def find_by_features(
    options: Options, train: Source, others: list[Source], *, reading: Mapping[str, Any]
) -> tuple[list["Reader"], list[tuple[int, Any]]]:
    """Finds pairs by a model's features."""
    assert options.model is not None
    predictor = Predictor(load_and_note(options.model, **reading), device=options.device)
    preprocessing = predictor.card.preprocessing
    threshold = MIN_COSINE if options.threshold is None else options.threshold

    def read(source: Source, index: int) -> np.ndarray:
        return preprocessing.pixels(read_from(source, index, channels=preprocessing.channels))

    readers = [Reader(source, read, options) for source in (train, *others)]
    vectors = [extract(predictor, iter(reader)) for reader in readers]
    pairs = [
        (number, embedding_pairs(vectors[0], other, threshold=threshold)) for number, other in enumerate(vectors[1:])
    ]
    return readers, nearest_first([reader.readable() for reader in readers], pairs)


@torch.inference_mode()
def extract(predictor: Predictor, images: Iterator[np.ndarray]) -> Float32[np.ndarray, "n d"]:
    """The model's features of each image, computed in batches."""
    features, batch = [], []
    for image in images:
        batch.append(image)
        if len(batch) == BATCH_SIZE:
            features.append(pooled_features(predictor, batch))
            batch = []
    if batch:
        features.append(pooled_features(predictor, batch))
    return np.concatenate(features)


def pooled_features(predictor: Predictor, batch: list[np.ndarray]) -> Float32[np.ndarray, "b d"]:
    """The pooled features of a batch; the mean of the patches if the model does not pool."""
    pixels = predictor.card.preprocessing.normalise(torch.from_numpy(np.stack(batch)).to(predictor.device))
    pooled = predictor.model.features(pixels).pooled.float().cpu().numpy()
    return pooled if pooled.ndim == 2 else reduce(pooled, "b n d -> b d", "mean")


class Reader:
    """Reads a source once, and records which images are readable and show anything."""

    def __init__(self, source: Source, read: ReadImage, options: Options) -> None:
        """
        Args:
            source: the images.
            read: reads one of them.
            options: `workers`, and `data.on_error` for unreadable images.
        """
        self.source, self.read, self.options = source, read, options
        self.read_indices: list[int] = []
        self.featureless: list[int] = []
        """Images that resemble others only because they are plain."""

    def __iter__(self) -> Iterator[np.ndarray]:
        with progress_bar() as bar:
            task = bar.add_task("reading", total=len(self.source))
            results = parallel_map(self.read_or_explain, range(len(self.source)), threads=self.options.workers)
            for index, result in enumerate(results):
                bar.advance(task)
                if isinstance(result, str):
                    note(f"skipped: {result}")
                    continue
                if is_featureless(result):
                    self.featureless.append(index)
                    continue
                self.read_indices.append(index)
                yield result
        if self.featureless and not self.read_indices:
            raise UserError("every image is nearly of one colour or a plain gradient, so that none can be compared")
        if not self.read_indices:
            raise UserError("none of the images can be read: see vitral data check")

    def read_or_explain(self, index: int) -> np.ndarray | str:
        """Image `index`, or one sentence on why it cannot be read."""
        try:
            return self.read(self.source, index)
        except UnreadableImage as error:
            if self.options.data.on_error == "stop":
                raise UserError(f"{error}; remove it, or skip such images with --data.on-error skip") from error
            return str(error)

    @property
    def num_read(self) -> int:
        """Images that are readable, plain ones included."""
        return len(self.read_indices) + len(self.featureless)

    def readable(self) -> Source:
        """The images that were read and compared."""
        return Subset(source=self.source, indices=np.array(self.read_indices, np.int64))


def nearest_first(sources: list[Source], pairs_by_source: list[tuple[int, list[Any]]]) -> list[tuple[int, Any]]:
    """Pairs with all other sources in one list, without pairs of an image and itself."""
    pairs = [
        (number, pair)
        for number, some in pairs_by_source
        for pair in some
        if sources[0].name(pair.one) != sources[number + 1].name(pair.other)
    ]
    return sorted(pairs, key=lambda item: item[1].distance)


def pairs_to_draw(options: Options, sources: list[Source], matches: list[tuple[int, Any]]) -> list[ShownPair]:
    """Pairs to draw, from the most to the least similar."""
    drawn = []
    for index in evenly_spaced_pairs(len(matches)):
        number, pair = matches[index]
        one, other = sources[0], sources[number + 1]
        images = (read_from(one, pair.one, channels=3), read_from(other, pair.other, channels=3))
        root = options.data.root
        names = (relative_name(one.name(pair.one), root), relative_name(other.name(pair.other), root))
        drawn.append(
            ShownPair(images=images, names=names, note=format_distance(options.model is not None, pair.distance))
        )
    return drawn


def format_distance(cosine: bool, distance: float) -> str:
    """A distance as text."""
    return f"cosine {1 - distance:.3f}" if cosine else f"{distance:g} of 64 bits differ"


def print_pairs(data: str, root: Path | None, readers: list["Reader"], pairs: list[Near], picture: Path) -> None:
    """Prints the number of such training images, and the most similar pairs."""
    console = Console(highlight=False)
    train, other = readers[0].num_read, sum(reader.num_read for reader in readers[1:])
    count = len({pair.train for pair in pairs})
    console.print(
        printable(f"{data}: {count:,} of {train:,} training images nearly duplicate one of {other:,} other images"),
        markup=False,
        soft_wrap=True,
    )
    if not pairs:
        return
    print_table([pair for pair in pairs if not pair.across_classes], root, console)
    if across := [pair for pair in pairs if pair.across_classes]:
        console.print(f"\nacross classes, so that one of the two labels may be wrong: {len(across):,}", style="bold")
        print_table(across, root, console)
    console.print(printable(f"picture of the pairs: {picture}"), markup=False, soft_wrap=True)


def print_table(pairs: list[Near], root: Path | None, console: Console) -> None:
    """Prints the most similar of some pairs."""
    if not pairs:
        return
    table = Table("training image", "other image")
    table.add_column("distance", justify="right")
    for pair in pairs[:MAX_PRINTED]:
        names = (Text(printable(relative_name(name, root)), overflow="fold") for name in (pair.train, pair.like))
        table.add_row(*names, f"{pair.distance:.3g}")
    console.print(table)
    if len(pairs) > MAX_PRINTED:
        console.print(f"and {len(pairs) - MAX_PRINTED:,} more, which --json lists")
