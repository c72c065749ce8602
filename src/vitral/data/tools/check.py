"""Checks data: unreadable files, duplicates, contradicting labels, unusual sizes."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np

from vitral.data.images.bands import read_bands
from vitral.data.images.decode import UnreadableImage
from vitral.data.images.facts import ImageFacts, read_facts
from vitral.data.images.values import parts
from vitral.data.sources.source import Source, read_from
from vitral.data.sources.targets import label_counts, label_text
from vitral.data.tools.parallel_map import parallel_map
from vitral.data.tools.summary import DataSummary, SummaryBuilder
from vitral.errors import UserError

__all__ = ["KINDS", "CheckConfig", "CheckResult", "Finding", "check"]

KINDS = {
    "unreadable": "cannot be read as an image",
    "two classes": "the same pixels under different classes",
    "two splits": "the same pixels in different splits",
    "duplicate": "the same pixels more than once",
    "one image": "classes with a single image",
    "no image": "classes without any image",
    "dark": "16-bit values that use 9 to 14 bits without saying so, which are shown almost black",
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
class CheckResult:
    """What was found."""

    findings: list[Finding]
    """Every problem, the worst kind first, in the order of the data within each kind."""
    summary: DataSummary
    """What the data consists of."""


@dataclass(frozen=True, kw_only=True)
class ImageInfo:
    """What was read from one image."""

    split: str
    index: int
    size: tuple[int, int] = (0, 0)
    digest: bytes = b""
    """Hash of its pixels."""
    facts: ImageFacts | None = None
    """What its file says; None for images that are no pictures."""
    error: str = ""
    """Why it cannot be read; empty: it can."""


def check(
    splits: Mapping[str, Source],
    config: CheckConfig,
    *,
    threads: int,
    advance: Callable[[int], None],
    channels: int | None = None,
) -> CheckResult:
    """Reads every image once.

    Args:
        splits: the data.
        config: limits of sizes.
        threads: images that are read concurrently.
        advance: called with the number of images done.
        channels: of images that are no pictures; None: pictures.
    """
    findings, summary = _classes(splits), SummaryBuilder(splits=splits)
    by_pixels: dict[bytes, list[ImageInfo]] = {}
    for split, source in splits.items():
        for info in parallel_map(partial(_read_info, split, source, channels), range(len(source)), threads=threads):
            advance(1)
            if info.error:
                findings.append(Finding(kind="unreadable", names=(source.name(info.index),), detail=info.error))
                continue
            by_pixels.setdefault(info.digest, []).append(info)
            summary.add(info.size, info.facts)
            findings += _size(source.name(info.index), info.size, config)
            if info.facts is not None and info.facts.is_dark:
                findings.append(_dark(source.name(info.index), info.facts))
    findings += [_copies(splits, group) for group in by_pixels.values() if len(group) > 1]
    order = list(KINDS)
    findings.sort(key=lambda finding: order.index(finding.kind))
    return CheckResult(findings=findings, summary=summary.build())


def _classes(splits: Mapping[str, Source]) -> list[Finding]:
    train = splits["train"]
    counts = label_counts(train).tolist()
    kinds = {0: "no image", 1: "one image"}
    return [
        Finding(kind=kinds[count], names=(name,), detail=f"class {name} has {kinds[count]} for training")
        for name, count in zip(train.classes, counts, strict=True)
        if count in kinds
    ]


def _read_info(split: str, source: Source, channels: int | None, index: int) -> ImageInfo:
    facts = None
    try:
        if channels is None:
            facts = read_facts(source.stored(index), name=source.name(index))
            image = read_from(source, index, channels=3)
            size, pixels = image.size, parts(image)
        else:
            bands = read_bands(source.stored(index), channels=channels, name=source.name(index))
            size, pixels = bands.size, parts(bands.values)
    except UnreadableImage as error:
        return ImageInfo(split=split, index=index, error=str(error))
    digest = hashlib.blake2b("{}x{} ".format(*size).encode(), digest_size=16)
    for _, rows in pixels:
        digest.update(np.ascontiguousarray(rows).data)
    return ImageInfo(split=split, index=index, size=size, digest=digest.digest(), facts=facts)


def _size(name: str, size: tuple[int, int], config: CheckConfig) -> list[Finding]:
    width, height = size
    if min(size) < config.smallest:
        return [Finding(kind="tiny", names=(name,), detail=f"{name} has only {width}x{height} pixels")]
    if width * height > config.largest:
        return [Finding(kind="huge", names=(name,), detail=f"{name} has {width}x{height} pixels")]
    return []


def _dark(name: str, facts: ImageFacts) -> Finding:
    detail = f"{name} has 16-bit values of at most {facts.bits} bits: multiply them by {2 ** (16 - (facts.bits or 16))}"
    return Finding(kind="dark", names=(name,), detail=detail)


def _copies(splits: Mapping[str, Source], group: list[ImageInfo]) -> Finding:
    """Images with equal pixels, as the worst kind that applies."""
    names = tuple(splits[info.split].name(info.index) for info in group)
    classes = [label_text(splits[info.split], info.index) for info in group]
    if len(set(classes)) > 1:
        detail = " = ".join(f"{name} ({label})" for name, label in zip(names, classes, strict=True))
        return Finding(kind="two classes", names=names, detail=detail)
    if len({info.split for info in group}) > 1:
        detail = " = ".join(f"{name} ({info.split})" for name, info in zip(names, group, strict=True))
        return Finding(kind="two splits", names=names, detail=detail)
    return Finding(kind="duplicate", names=names, detail=" = ".join(names))
