"""Checks data: unreadable files, duplicates, contradicting labels, unusual sizes."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np

from vitral.data.images.bands import read_bands
from vitral.data.images.decode import UnreadableImage
from vitral.data.sources.source import Source, read_from
from vitral.data.tools.parallel_map import parallel_map
from vitral.errors import UserError

__all__ = ["KINDS", "CheckConfig", "Finding", "check"]

KINDS = {
    "unreadable": "cannot be read as an image",
    "two classes": "the same pixels under different classes",
    "two splits": "the same pixels in different splits",
    "duplicate": "the same pixels more than once",
    "one image": "classes with a single image",
    "no image": "classes without any image",
    "tiny": "smaller than the smallest size allowed",
    "huge": "more pixels than the largest size allowed",
}
"""Kinds of findings, the worst first, and their meaning."""


@dataclass(frozen=True, kw_only=True)
class CheckConfig:
    """Limits of image sizes.

    Raises:
        UserError: a value is out of range.
    """

    smallest: int = 32
    """Images with a shorter side below this are tiny, in pixels."""
    largest: int = 50_000_000
    """Images with more pixels than this are huge."""

    def __post_init__(self) -> None:
        if self.smallest < 1 or self.largest < 1:
            raise UserError(f"--smallest and --largest must be at least 1, not {self.smallest} and {self.largest}")


@dataclass(frozen=True, kw_only=True)
class Finding:
    """A problem with some images, or with a class."""

    kind: str
    """One of `KINDS`."""
    names: tuple[str, ...]
    """The images, or the class."""
    detail: str
    """The problem in words."""


@dataclass(frozen=True, kw_only=True)
class ImageInfo:
    """What was read from one image."""

    split: str
    index: int
    size: tuple[int, int] = (0, 0)
    digest: bytes = b""
    """Hash of its pixels."""
    error: str = ""
    """Why it cannot be read; empty: it can."""


def check(
    splits: Mapping[str, Source],
    config: CheckConfig,
    *,
    threads: int,
    advance: Callable[[int], None],
    channels: int | None = None,
) -> list[Finding]:
    """Reads every image once.

    Args:
        splits: the data.
        config: limits of sizes.
        threads: images that are read concurrently.
        advance: called with the number of images done.
        channels: of images that are no pictures; None: pictures.

    Returns:
        Every problem, the worst kind first, in the order of the data within each kind.
    """
    findings = _classes(splits)
    by_pixels: dict[bytes, list[ImageInfo]] = {}
    for split, source in splits.items():
        for info in parallel_map(partial(_read_info, split, source, channels), range(len(source)), threads=threads):
            advance(1)
            if info.error:
                findings.append(Finding(kind="unreadable", names=(source.name(info.index),), detail=info.error))
                continue
            by_pixels.setdefault(info.digest, []).append(info)
            findings += _size(source.name(info.index), info.size, config)
    findings += [_copies(splits, group) for group in by_pixels.values() if len(group) > 1]
    order = list(KINDS)
    return sorted(findings, key=lambda finding: order.index(finding.kind))


def _classes(splits: Mapping[str, Source]) -> list[Finding]:
    train = splits["train"]
    counts = np.bincount(train.labels, minlength=len(train.classes)).tolist()
    kinds = {0: "no image", 1: "one image"}
    return [
        Finding(kind=kinds[count], names=(name,), detail=f"class {name} has {kinds[count]} for training")
        for name, count in zip(train.classes, counts, strict=True)
        if count in kinds
    ]


def _read_info(split: str, source: Source, channels: int | None, index: int) -> ImageInfo:
    try:
        if channels is None:
            image = read_from(source, index, channels=3)
            size, pixels = image.size, image.tobytes()
        else:
            bands = read_bands(source.stored(index), channels=channels, name=source.name(index))
            size, pixels = bands.size, bands.values.tobytes()
    except UnreadableImage as error:
        return ImageInfo(split=split, index=index, error=str(error))
    digest = hashlib.blake2b("{}x{} ".format(*size).encode(), digest_size=16)
    digest.update(pixels)
    return ImageInfo(split=split, index=index, size=size, digest=digest.digest())


def _size(name: str, size: tuple[int, int], config: CheckConfig) -> list[Finding]:
    width, height = size
    if min(size) < config.smallest:
        return [Finding(kind="tiny", names=(name,), detail=f"{name} has only {width}x{height} pixels")]
    if width * height > config.largest:
        return [Finding(kind="huge", names=(name,), detail=f"{name} has {width}x{height} pixels")]
    return []


def _copies(splits: Mapping[str, Source], group: list[ImageInfo]) -> Finding:
    """Images with equal pixels, as the worst kind that applies."""
    names = tuple(splits[info.split].name(info.index) for info in group)
    classes = [splits[info.split].classes[splits[info.split].labels[info.index]] for info in group]
    if len(set(classes)) > 1:
        detail = " = ".join(f"{name} ({label})" for name, label in zip(names, classes, strict=True))
        return Finding(kind="two classes", names=names, detail=detail)
    if len({info.split for info in group}) > 1:
        detail = " = ".join(f"{name} ({info.split})" for name, info in zip(names, group, strict=True))
        return Finding(kind="two splits", names=names, detail=detail)
    return Finding(kind="duplicate", names=names, detail=" = ".join(names))
