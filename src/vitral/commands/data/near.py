"""`vitral data near`: training images that are nearly test images."""

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
from vitral.commands.data.arguments import DataOptions, parsed
from vitral.commands.output import note, picture_path, print_json, printable, progress_bar
from vitral.data.images.decode import UnreadableImage
from vitral.data.sources.exclude import listed_name, write_list
from vitral.data.sources.source import Source, Subset, read_from
from vitral.data.tools.near_duplicates import embedding_pairs, hash_pairs, hashes_of, thumbnail
from vitral.data.tools.threads import in_threads
from vitral.datasets.guess import guessed
from vitral.datasets.opening import open_data, open_stored
from vitral.errors import UserError
from vitral.inspection.pairs import ShownPair, draw_pairs, spread
from vitral.serve.predictor import Predictor

__all__ = ["Options", "main"]

MOST_BITS = 8
"""Default of `--threshold` for hashes: on photographs, what different ones keep clear of."""

LEAST_COSINE = 0.95
"""Default of `--threshold` for embeddings; what it is worth depends on the model, so look at the picture."""

BATCH = 64
"""Images that a model sees at a time."""

SHOWN = 20
"""Pairs that are printed."""


@dataclass(frozen=True, kw_only=True)
class Options(DataOptions):
    """Finds training images that are nearly test images: recompressed, resized or slightly cropped copies."""

    against: str | None = None
    """Other data whose test images are not to be trained on; by default the data's own test and validation images."""
    threshold: float | None = None
    """Most bits of 64 in which hashes may differ (8), or with a model the least cosine of embeddings (0.95)."""
    model: str | None = None
    """Compares embeddings of this model, as `vitral eval` takes one, instead of hashes."""
    write: Path | None = None
    """File to list the training images in, for --data.exclude."""
    out: Path | None = None
    """Picture of the pairs, by default near-duplicates.png here."""
    workers: int = os.cpu_count() or 1
    """Images that are read at once."""
    device: str = "auto"
    """Where the model computes: cpu, cuda, cuda:1; auto takes a GPU where there is one."""
    json: tyro.conf.FlagCreatePairsOff[bool] = False
    """Print one JSON object."""


@dataclass(frozen=True, kw_only=True)
class Near:
    """A training image and the image that it is nearly."""

    train: str
    like: str
    distance: float


Look = Callable[[Source, int], np.ndarray]
"""What is read of an image to compare it."""


def main(arguments: list[str]) -> None:
    """Searches, and prints pairs; with `--json`, one object."""
    options, words = parsed(Options, arguments, program="vitral data near", places=("DATA",))
    check(options)
    picture = picture_path(options.out, default=Path("near-duplicates.png"))
    train, others = collections(options)
    find = by_hash if options.model is None else by_embedding
    sources, found = find(options, train, others)
    pairs = [
        Near(train=sources[0].name(pair.one), like=sources[number + 1].name(pair.other), distance=pair.distance)
        for number, pair in found
    ]
    if pairs:
        draw_pairs(shown(options, sources, found), picture)
    if options.write is not None:
        write_list(options.write, {pair.train for pair in pairs}, root=options.data.root)
    if options.json:
        counts = {"train": len(sources[0]), "other": sum(map(len, sources[1:]))}
        drawn = str(picture) if pairs else None
        print_json({"num_images": counts, "pairs": [asdict(pair) for pair in pairs], "picture": drawn})
    else:
        print_pairs(words[0], options.data.root, sources, pairs, picture)


def check(options: Options) -> None:
    """Refuses values out of range, before anything is read.

    Raises:
        UserError: as it says.
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
    """The training images, and those that they are not to be like.

    Raises:
        UserError: either is not there.
    """
    if options.against is None:
        data = open_data(options.data)
        return data["train"], [source for split, source in data.items() if split != "train"]
    other = open_stored(guessed(options.against))
    held_out = [source for split, source in other.items() if split != "train"]
    return open_stored(options.data)["train"], held_out or [other["train"]]


def by_hash(options: Options, train: Source, others: list[Source]) -> tuple[list[Source], list[tuple[int, Any]]]:
    """Pairs by perceptual hash: sources without unreadable images, and pairs with the number of the other source."""
    threshold = MOST_BITS if options.threshold is None else int(options.threshold)
    sources, hashes = [], []
    for source in (train, *others):
        reader = Reader(source, thumbnail, options)
        hashes.append(hashes_of(reader))
        sources.append(reader.readable())
    found = [(number, hash_pairs(hashes[0], other, threshold=threshold)) for number, other in enumerate(hashes[1:])]
    return sources, nearest_first(sources, found)


def by_embedding(options: Options, train: Source, others: list[Source]) -> tuple[list[Source], list[tuple[int, Any]]]:
    """The same by a model's embeddings."""
    assert options.model is not None
    predictor = Predictor(load_checkpoint(options.model), device=options.device)
    preprocessing = predictor.card.preprocessing
    threshold = LEAST_COSINE if options.threshold is None else options.threshold

    def look(source: Source, index: int) -> np.ndarray:
        return preprocessing.pixels(read_from(source, index, channels=preprocessing.channels))

    sources, vectors = [], []
    for source in (train, *others):
        reader = Reader(source, look, options)
        vectors.append(embeddings(predictor, iter(reader)))
        sources.append(reader.readable())
    found = [
        (number, embedding_pairs(vectors[0], other, threshold=threshold)) for number, other in enumerate(vectors[1:])
    ]
    return sources, nearest_first(sources, found)


@torch.inference_mode()
def embeddings(predictor: Predictor, images: Iterator[np.ndarray]) -> Float32[np.ndarray, "n d"]:
    """The model's representation of each image, a batch at a time."""
    found, batch = [], []
    for image in images:
        batch.append(image)
        if len(batch) == BATCH:
            found.append(embed(predictor, batch))
            batch = []
    if batch:
        found.append(embed(predictor, batch))
    return np.concatenate(found)


def embed(predictor: Predictor, batch: list[np.ndarray]) -> Float32[np.ndarray, "b d"]:
    """The pooled features of a batch; the mean of its patches where a model pools none."""
    pixels = predictor.card.preprocessing.normalise(torch.from_numpy(np.stack(batch)).to(predictor.device))
    pooled = predictor.model.features(pixels).pooled.float().cpu().numpy()
    return pooled if pooled.ndim == 2 else reduce(pooled, "b n d -> b d", "mean")


class Reader:
    """Goes through a source once and keeps in mind which images could not be read."""

    def __init__(self, source: Source, look: Look, options: Options) -> None:
        """
        Args:
            source: the images.
            look: what is read of each.
            options: workers, and what an unreadable image does.
        """
        self.source, self.look, self.options = source, look, options
        self.kept: list[int] = []

    def __iter__(self) -> Iterator[np.ndarray]:
        with progress_bar() as bar:
            task = bar.add_task("reading", total=len(self.source))
            results = in_threads(self.one, range(len(self.source)), threads=self.options.workers)
            for index, result in enumerate(results):
                bar.advance(task)
                if isinstance(result, str):
                    note(f"left out: {result}")
                    continue
                self.kept.append(index)
                yield result
        if not self.kept:
            raise UserError("none of the images can be read: check them with vitral data check")

    def one(self, index: int) -> np.ndarray | str:
        """What is read of image `index`, or one sentence on why it cannot be."""
        try:
            return self.look(self.source, index)
        except UnreadableImage as error:
            if self.options.data.on_error == "stop":
                raise UserError(f"{error}; remove it, or leave such images out with --data.on-error skip") from error
            return str(error)

    def readable(self) -> Source:
        """The images that were read."""
        return Subset(source=self.source, indices=np.array(self.kept, np.int64))


def nearest_first(sources: list[Source], found: list[tuple[int, list[Any]]]) -> list[tuple[int, Any]]:
    """Pairs of all the other sources in one list; an image is no copy of itself."""
    pairs = [
        (number, pair)
        for number, some in found
        for pair in some
        if sources[0].name(pair.one) != sources[number + 1].name(pair.other)
    ]
    return sorted(pairs, key=lambda item: item[1].distance)


def shown(options: Options, sources: list[Source], found: list[tuple[int, Any]]) -> list[ShownPair]:
    """Pairs to draw, from the nearest to the farthest."""
    drawn = []
    for place in spread(len(found)):
        number, pair = found[place]
        one, other = sources[0], sources[number + 1]
        images = (read_from(one, pair.one, channels=3), read_from(other, pair.other, channels=3))
        root = options.data.root
        names = (listed_name(one.name(pair.one), root), listed_name(other.name(pair.other), root))
        drawn.append(ShownPair(images=images, names=names, note=measure(options.model is not None, pair.distance)))
    return drawn


def measure(cosine: bool, distance: float) -> str:
    """A distance in words."""
    return f"cosine {1 - distance:.3f}" if cosine else f"{distance:g} of 64 bits differ"


def print_pairs(data: str, root: Path | None, sources: list[Source], pairs: list[Near], picture: Path) -> None:
    """How many training images are concerned, and the nearest pairs."""
    console = Console(highlight=False)
    train, other = len(sources[0]), sum(map(len, sources[1:]))
    concerned = len({pair.train for pair in pairs})
    console.print(
        printable(f"{data}: {concerned:,} of {train:,} training images are nearly one of {other:,} other images"),
        markup=False,
        soft_wrap=True,
    )
    if not pairs:
        return
    table = Table("training image", "is nearly")
    table.add_column("distance", justify="right")
    for pair in pairs[:SHOWN]:
        names = (Text(printable(listed_name(name, root)), overflow="fold") for name in (pair.train, pair.like))
        table.add_row(*names, f"{pair.distance:.3g}")
    console.print(table)
    if len(pairs) > SHOWN:
        console.print(f"and {len(pairs) - SHOWN:,} more, which --json lists")
    console.print(printable(f"pairs to judge by eye: {picture}"), markup=False, soft_wrap=True)
