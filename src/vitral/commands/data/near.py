"""`vitral data near`: finds training images that are near-duplicates of test images."""

import os
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
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

from vitral.commands.checkpoint import load_checkpoint
from vitral.commands.data.arguments import DataOptions, parse
from vitral.commands.output import note, picture_path, print_json, printable, progress_bar
from vitral.data.images.decode import UnreadableImage
from vitral.data.sources.exclude import relative_name, write_list
from vitral.data.sources.source import Source, Subset, read_from
from vitral.data.tools.near_duplicates import embedding_pairs, hash_images, hash_pairs, thumbnail
from vitral.data.tools.parallel_map import parallel_map
from vitral.datasets.infer import infer_source
from vitral.datasets.opening import open_data, open_stored
from vitral.errors import UserError
from vitral.inspection.pairs import ShownPair, draw_pairs, spread
from vitral.serve.predictor import Predictor

__all__ = ["Options", "main"]

MOST_BITS = 8
"""Default of `--threshold` for hashes; different photographs differ in more bits."""

LEAST_COSINE = 0.95
"""Default of `--threshold` for embeddings; its meaning depends on the model, so check the picture."""

BATCH = 64
"""Images per batch of the model."""

MAX_PRINTED = 20
"""Pairs that are printed; `--json` prints all."""


@dataclass(frozen=True, kw_only=True)
class Options(DataOptions):
    """Finds near-duplicates of test images among training images: recompressed, resized or slightly cropped copies."""

    against: str | None = None
    """Other data to compare with (its test images); by default the data's own test and validation images."""
    threshold: float | None = None
    """Largest number of the 64 bits in which hashes may differ (8), or with a model the smallest cosine (0.95)."""
    model: str | None = None
    """Compare embeddings of this model instead of hashes; given as for `vitral eval`."""
    write: Path | None = None
    """File for the names of the training images, for --data.exclude."""
    out: Path | None = None
    """Picture of the pairs, by default near-duplicates.png in the current folder."""
    workers: int = os.cpu_count() or 1
    """Images that are read concurrently."""
    device: str = "auto"
    """Device of the model: cpu, cuda, cuda:1; auto is a GPU if there is one."""
    json: tyro.conf.FlagCreatePairsOff[bool] = False
    """Print one JSON object."""


@dataclass(frozen=True, kw_only=True)
class Near:
    """A training image and its near-duplicate."""

    train: str
    like: str
    distance: float


ReadImage = Callable[[Source, int], np.ndarray]
"""Reads what is compared of image `index`."""


def main(arguments: list[str]) -> None:
    """Searches and prints pairs; with `--json`, one object."""
    options, words = parse(Options, arguments, program="vitral data near", places=("DATA",))
    check(options)
    picture = picture_path(options.out, default=Path("near-duplicates.png"))
    train, others = collections(options)
    find = by_hash if options.model is None else by_embedding
    sources, matches = find(options, train, others)
    pairs = [
        Near(train=sources[0].name(pair.one), like=sources[number + 1].name(pair.other), distance=pair.distance)
        for number, pair in matches
    ]
    if pairs:
        draw_pairs(sample_pairs(options, sources, matches), picture)
    if options.write is not None:
        write_list(options.write, {pair.train for pair in pairs}, root=options.data.root)
    if options.json:
        counts = {"train": len(sources[0]), "other": sum(map(len, sources[1:]))}
        drawn = str(picture) if pairs else None
        print_json({"num_images": counts, "pairs": [asdict(pair) for pair in pairs], "picture": drawn})
    else:
        print_pairs(words[0], options.data.root, sources, pairs, picture)


def check(options: Options) -> None:
    """Checks the options before anything is read.

    Raises:
        UserError: a value is out of range.
    """
    if options.workers < 1:
        raise UserError(f"--workers must be at least 1, not {options.workers}")
    threshold = options.threshold
    if threshold is None:
        return
    if options.model is None and not (0 <= threshold <= 32 and threshold == int(threshold)):
        raise UserError(f"--threshold takes 0 to 32 bits for hashes, not {threshold:g}: cosines need --model")
    if options.model is not None and not -1 < threshold <= 1:
        raise UserError(f"--threshold takes a cosine up to 1 with --model, not {threshold:g}")


def collections(options: Options) -> tuple[Source, list[Source]]:
    """The training images, and the sources that they are compared with.

    Raises:
        UserError: either does not exist.
    """
    if options.against is None:
        data = open_data(options.data)
        return data["train"], [source for split, source in data.items() if split != "train"]
    other = open_stored(infer_source(options.against))
    held_out = [source for split, source in other.items() if split != "train"]
    return open_stored(options.data)["train"], held_out or [other["train"]]


def by_hash(options: Options, train: Source, others: list[Source]) -> tuple[list[Source], list[tuple[int, Any]]]:
    """The sources without unreadable images, and pairs by perceptual hash with the number of the other source."""
    threshold = MOST_BITS if options.threshold is None else int(options.threshold)
    sources, hashes = [], []
    for source in (train, *others):
        reader = Reader(source, thumbnail, options)
        hashes.append(hash_images(reader))
        sources.append(reader.readable())
    matches = [(number, hash_pairs(hashes[0], other, threshold=threshold)) for number, other in enumerate(hashes[1:])]
    return sources, nearest_first(sources, matches)


def by_embedding(options: Options, train: Source, others: list[Source]) -> tuple[list[Source], list[tuple[int, Any]]]:
    """The same by the model's embeddings."""
    assert options.model is not None
    predictor = Predictor(load_checkpoint(options.model), device=options.device)
    preprocessing = predictor.card.preprocessing
    threshold = LEAST_COSINE if options.threshold is None else options.threshold

    def read(source: Source, index: int) -> np.ndarray:
        return preprocessing.pixels(read_from(source, index, channels=preprocessing.channels))

    sources, vectors = [], []
    for source in (train, *others):
        reader = Reader(source, read, options)
        vectors.append(embeddings(predictor, iter(reader)))
        sources.append(reader.readable())
    matches = [
        (number, embedding_pairs(vectors[0], other, threshold=threshold)) for number, other in enumerate(vectors[1:])
    ]
    return sources, nearest_first(sources, matches)


@torch.inference_mode()
def embeddings(predictor: Predictor, images: Iterator[np.ndarray]) -> Float32[np.ndarray, "n d"]:
    """The model's features of each image, computed in batches."""
    features, batch = [], []
    for image in images:
        batch.append(image)
        if len(batch) == BATCH:
            features.append(embed(predictor, batch))
            batch = []
    if batch:
        features.append(embed(predictor, batch))
    return np.concatenate(features)


def embed(predictor: Predictor, batch: list[np.ndarray]) -> Float32[np.ndarray, "b d"]:
    """The pooled features of a batch; the mean of the patches if the model does not pool."""
    pixels = predictor.card.preprocessing.normalise(torch.from_numpy(np.stack(batch)).to(predictor.device))
    pooled = predictor.model.features(pixels).pooled.float().cpu().numpy()
    return pooled if pooled.ndim == 2 else reduce(pooled, "b n d -> b d", "mean")


class Reader:
    """Reads all images of a source once, and remembers which were readable."""

    def __init__(self, source: Source, read: ReadImage, options: Options) -> None:
        """
        Args:
            source: the images.
            read: reads one image.
            options: workers, and how to handle unreadable images.
        """
        self.source, self.read, self.options = source, read, options
        self.readable_indices: list[int] = []

    def __iter__(self) -> Iterator[np.ndarray]:
        with progress_bar() as bar:
            task = bar.add_task("reading", total=len(self.source))
            results = parallel_map(self.one, range(len(self.source)), threads=self.options.workers)
            for index, result in enumerate(results):
                bar.advance(task)
                if isinstance(result, str):
                    note(f"skipped: {result}")
                    continue
                self.readable_indices.append(index)
                yield result
        if not self.readable_indices:
            raise UserError("none of the images is readable: check them with vitral data check")

    def one(self, index: int) -> np.ndarray | str:
        """The result for image `index`, or one sentence on why it is unreadable."""
        try:
            return self.read(self.source, index)
        except UnreadableImage as error:
            if self.options.data.on_error == "stop":
                raise UserError(f"{error}; remove it, or skip such images with --data.on-error skip") from error
            return str(error)

    def readable(self) -> Source:
        """The readable images."""
        return Subset(source=self.source, indices=np.array(self.readable_indices, np.int64))


def nearest_first(sources: list[Source], matches: list[tuple[int, list[Any]]]) -> list[tuple[int, Any]]:
    """Pairs with all sources in one list, sorted by distance; an image is not compared with itself."""
    pairs = [
        (number, pair)
        for number, pairs in matches
        for pair in pairs
        if sources[0].name(pair.one) != sources[number + 1].name(pair.other)
    ]
    return sorted(pairs, key=lambda item: item[1].distance)


def sample_pairs(options: Options, sources: list[Source], matches: list[tuple[int, Any]]) -> list[ShownPair]:
    """Pairs for the picture, evenly spaced from the nearest to the farthest."""
    drawn = []
    for rank in spread(len(matches)):
        number, pair = matches[rank]
        one, other = sources[0], sources[number + 1]
        images = (read_from(one, pair.one, channels=3), read_from(other, pair.other, channels=3))
        root = options.data.root
        names = (relative_name(one.name(pair.one), root), relative_name(other.name(pair.other), root))
        drawn.append(ShownPair(images=images, names=names, note=measure(options.model is not None, pair.distance)))
    return drawn


def measure(cosine: bool, distance: float) -> str:
    """The distance in words."""
    return f"cosine {1 - distance:.3f}" if cosine else f"{distance:g} of 64 bits differ"


def print_pairs(data: str, root: Path | None, sources: list[Source], pairs: list[Near], picture: Path) -> None:
    """Prints the number of affected training images, and the nearest pairs."""
    console = Console(highlight=False)
    train, other = len(sources[0]), sum(map(len, sources[1:]))
    affected = len({pair.train for pair in pairs})
    console.print(
        printable(
            f"{data}: {affected:,} of {train:,} training images are near-duplicates of one of {other:,} other images"
        ),
        markup=False,
        soft_wrap=True,
    )
    if not pairs:
        return
    table = Table("training image", "near-duplicate of")
    table.add_column("distance", justify="right")
    for pair in pairs[:MAX_PRINTED]:
        names = (Text(printable(relative_name(name, root)), overflow="fold") for name in (pair.train, pair.like))
        table.add_row(*names, f"{pair.distance:.3g}")
    console.print(table)
    if len(pairs) > MAX_PRINTED:
        console.print(f"and {len(pairs) - MAX_PRINTED:,} more (see --json)")
    console.print(printable(f"picture of the pairs: {picture}"), markup=False, soft_wrap=True)
