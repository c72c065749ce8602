"""What is wrong with data: files that cannot be read, copies, classes that disagree, odd sizes."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np

from vitral.data.images.decode import UnreadableImage
from vitral.data.sources.source import Source, read_from
from vitral.data.tools.threads import in_threads
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
"""What can be found, worst first, and what it means."""


@dataclass(frozen=True, kw_only=True)
class CheckConfig:
    """What counts as odd.

    Raises:
        UserError: a value is out of range.
    """

    smallest: int = 32
    """Pixels of the short side below which an image is tiny."""
    largest: int = 50_000_000
    """Pixels in all above which an image is huge."""

    def __post_init__(self) -> None:
        if self.smallest < 1 or self.largest < 1:
            raise UserError(f"--smallest and --largest must be at least 1, not {self.smallest} and {self.largest}")


@dataclass(frozen=True, kw_only=True)
class Finding:
    """Something that is wrong with some images, or with a class."""

    kind: str
    """One of `KINDS`."""
    names: tuple[str, ...]
    """The images, or the class."""
    detail: str
    """What is wrong with them."""


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What one image turned out to be."""

    split: str
    index: int
    size: tuple[int, int] = (0, 0)
    digest: bytes = b""
    """Hash of its pixels."""
    trouble: str = ""
    """Why it cannot be read."""


def check(
    splits: Mapping[str, Source], config: CheckConfig, *, threads: int, advance: Callable[[int], None]
) -> list[Finding]:
    """Reads every image once.

    Args:
        splits: the data.
        config: what counts as odd.
        threads: images that are read at once.
        advance: called with the number of images done, as they are.

    Returns:
        ReportData, worst kind first, in the order of the data within each kind.
    """
    findings = _classes(splits)
    by_pixels: dict[bytes, list[Seen]] = {}
    for split, source in splits.items():
        for seen in in_threads(partial(_look, split, source), range(len(source)), threads=threads):
            advance(1)
            if seen.trouble:
                findings.append(Finding(kind="unreadable", names=(source.name(seen.index),), detail=seen.trouble))
                continue
            by_pixels.setdefault(seen.digest, []).append(seen)
            findings += _size(source.name(seen.index), seen.size, config)
    findings += [_copies(splits, group) for group in by_pixels.values() if len(group) > 1]
    order = list(KINDS)
    return sorted(findings, key=lambda finding: order.index(finding.kind))


def _classes(splits: Mapping[str, Source]) -> list[Finding]:
    train = splits["train"]
    counts = np.bincount(train.labels, minlength=len(train.classes)).tolist()
    kinds = {0: "no image", 1: "one image"}
    return [
        Finding(kind=kinds[count], names=(name,), detail=f"class {name} has {kinds[count]} to train on")
        for name, count in zip(train.classes, counts, strict=True)
        if count in kinds
    ]


def _look(split: str, source: Source, index: int) -> Seen:
    try:
        image = read_from(source, index, channels=3)
    except UnreadableImage as error:
        return Seen(split=split, index=index, trouble=str(error))
    digest = hashlib.blake2b(f"{image.width}x{image.height} ".encode(), digest_size=16)
    digest.update(image.tobytes())
    return Seen(split=split, index=index, size=image.size, digest=digest.digest())


def _size(name: str, size: tuple[int, int], config: CheckConfig) -> list[Finding]:
    width, height = size
    if min(size) < config.smallest:
        return [Finding(kind="tiny", names=(name,), detail=f"{name} has only {width}x{height} pixels")]
    if width * height > config.largest:
        return [Finding(kind="huge", names=(name,), detail=f"{name} has {width}x{height} pixels")]
    return []


def _copies(splits: Mapping[str, Source], group: list[Seen]) -> Finding:
    """Images of equal pixels, as the worst thing that can be said of them."""
    names = tuple(splits[seen.split].name(seen.index) for seen in group)
    classes = [splits[seen.split].classes[splits[seen.split].labels[seen.index]] for seen in group]
    if len(set(classes)) > 1:
        detail = " = ".join(f"{name} ({label})" for name, label in zip(names, classes, strict=True))
        return Finding(kind="two classes", names=names, detail=detail)
    if len({seen.split for seen in group}) > 1:
        detail = " = ".join(f"{name} ({seen.split})" for name, seen in zip(names, group, strict=True))
        return Finding(kind="two splits", names=names, detail=detail)
    return Finding(kind="duplicate", names=names, detail=" = ".join(names))
