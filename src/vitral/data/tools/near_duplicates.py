"""Near-duplicates between two collections of images: by perceptual hash, or by a model's embeddings."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Int64, UInt8
from PIL import Image

from vitral.data.extra import optional
from vitral.data.sources.source import Source, read_from
from vitral.data.tools.hashing import SIDE, perceptual_hashes
from vitral.errors import UserError

__all__ = ["Pair", "embedding_pairs", "hash_images", "hash_pairs", "is_featureless", "thumbnail"]

FEATURELESS = 3.0
"""Standard deviation of grey levels, of 255, about a gradient of brightness, below which an image shows nothing."""

BLOCK = 4096
"""Queries at a time, which limits memory."""


@dataclass(frozen=True, kw_only=True)
class Pair:
    """Two images that may be near-duplicates."""

    one: int
    """Index in the first collection."""
    other: int
    """Index in the second."""
    distance: float
    """Hamming distance of their 64-bit hashes, or 1 minus the cosine of their embeddings."""


def thumbnail(source: Source, index: int) -> UInt8[np.ndarray, "side side"]:
    """Image `index` as a grey thumbnail for hashing.

    Raises:
        UnreadableImage: the image cannot be read.
    """
    image = read_from(source, index, channels=1)
    return np.asarray(image.resize((SIDE, SIDE), Image.Resampling.BILINEAR))


def is_featureless(pixels: UInt8[np.ndarray, "h w"] | UInt8[np.ndarray, "h w c"]) -> bool:
    """Whether an image is nearly of one colour, or one smooth gradient such as a plain sky.

    Such images resemble one another without being copies.
    """
    grey = pixels.astype(np.float64)
    grey = grey.mean(axis=2) if grey.ndim == 3 else grey
    rows, columns = (np.linspace(-1, 1, length) for length in grey.shape)
    grey = grey - grey.mean()
    # the gradients are orthogonal, so each is removed by itself
    grey -= np.outer(rows, np.ones_like(columns)) * _slope(grey.mean(axis=1), rows)
    grey -= np.outer(np.ones_like(rows), columns) * _slope(grey.mean(axis=0), columns)
    return bool(grey.std() < FEATURELESS)


def _slope(means: np.ndarray, positions: np.ndarray) -> float:
    return float(means @ positions / max(positions @ positions, 1e-12))


def hash_images(thumbnails: Iterable[UInt8[np.ndarray, "side side"]]) -> UInt8[np.ndarray, "n views 8"]:
    """Hashes of many thumbnails, computed in blocks."""
    hashes, block = [], []
    for one in thumbnails:
        block.append(one)
        if len(block) == BLOCK:
            hashes.append(perceptual_hashes(np.stack(block)))
            block = []
    if block:
        hashes.append(perceptual_hashes(np.stack(block)))
    return np.concatenate(hashes)


def hash_pairs(
    one: UInt8[np.ndarray, "n views 8"], other: UInt8[np.ndarray, "m views 8"], *, threshold: int
) -> list[Pair]:
    """Pairs whose hashes differ in at most `threshold` bits: the whole of one image against any view of the other.

    Returns:
        Pairs, the nearest first.

    Raises:
        UserError: there are more than MOST_PAIRS.
    """
    best: dict[tuple[int, int], float] = {}
    views = one.shape[1]
    # views of the first against the second whole, then the first whole against views of the second
    for rows, columns, distances in _binary_matches(one.reshape(-1, 8), other[:, 0], threshold):
        _keep_best(best, columns // views, rows, distances)
    for rows, columns, distances in _binary_matches(one[:, 0], other.reshape(-1, 8), threshold):
        _keep_best(best, columns, rows // views, distances)
    return _sorted(best)


def embedding_pairs(
    one: Float32[np.ndarray, "n d"], other: Float32[np.ndarray, "m d"], *, threshold: float
) -> list[Pair]:
    """Pairs whose embeddings have a cosine of at least `threshold`.

    Returns:
        Pairs, the nearest first.

    Raises:
        UserError: there are more than MOST_PAIRS.
    """
    faiss = optional("faiss", purpose="finding near-duplicates")
    index = faiss.IndexFlatIP(one.shape[1])
    index.add(_unit(one))
    best: dict[tuple[int, int], float] = {}
    for start in range(0, len(other), BLOCK):
        limits, cosines, columns = index.range_search(_unit(other[start : start + BLOCK]), threshold)
        rows = start + np.repeat(np.arange(len(limits) - 1), np.diff(limits.astype(np.int64)))
        _keep_best(best, columns, rows, 1 - cosines)
    return _sorted(best)


def _binary_matches(
    index_codes: UInt8[np.ndarray, "n 8"], query_codes: UInt8[np.ndarray, "m 8"], threshold: int
) -> Iterable[tuple[Int64[np.ndarray, " k"], Int64[np.ndarray, " k"], np.ndarray]]:
    """Indices of queries and of indexed codes, and their Hamming distances."""
    faiss = optional("faiss", purpose="finding near-duplicates")
    index = faiss.IndexBinaryFlat(64)
    index.add(np.ascontiguousarray(index_codes))
    for start in range(0, len(query_codes), BLOCK):
        queries = np.ascontiguousarray(query_codes[start : start + BLOCK])
        limits, distances, columns = index.range_search(queries, threshold + 1)  # faiss excludes the radius itself
        rows = start + np.repeat(np.arange(len(limits) - 1), np.diff(limits.astype(np.int64)))
        yield rows, columns, distances


MOST_PAIRS = 1_000_000
"""With more, the threshold does not separate copies from other images."""


def _keep_best(best: dict[tuple[int, int], float], one: np.ndarray, other: np.ndarray, distances: np.ndarray) -> None:
    for first, second, distance in zip(one.tolist(), other.tolist(), distances.tolist(), strict=True):
        key = (first, second)
        best[key] = min(distance, best.get(key, distance))
    if len(best) > MOST_PAIRS:
        raise UserError(
            f"more than {MOST_PAIRS:,} pairs are within the threshold, as for small images of a single shape: "
            "choose a stricter --threshold, or compare by a model with --model"
        )


def _sorted(best: dict[tuple[int, int], float]) -> list[Pair]:
    pairs = [Pair(one=one, other=other, distance=float(distance)) for (one, other), distance in best.items()]
    return sorted(pairs, key=lambda pair: (pair.distance, pair.one, pair.other))


def _unit(vectors: Float32[np.ndarray, "n d"]) -> Float32[np.ndarray, "n d"]:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
