"""Fingerprints change with names, labels or contents of images."""

import hashlib
from pathlib import Path

import numpy as np
from PIL import Image

from vitral.data.sources.source import ArraySource, ConcatSource, FileSource, MappedSource, Source, Subset
from vitral.runs.fingerprint import CHUNK, contents, fingerprint

LABELS = np.array([0, 1])


def in_memory(value: int) -> ArraySource:
    images = np.full((2, 4, 4), value, np.uint8)
    return ArraySource(title="two", images=images, labels=LABELS, classes=("a", "b"))


def test_images_in_files(tmp_path: Path) -> None:
    files = ("one.png", "two.png")
    for name in files:
        Image.new("L", (4, 4)).save(tmp_path / name)
    source: Source = FileSource(root=tmp_path, files=files, labels=LABELS, classes=("a", "b"))
    source = Subset(source=MappedSource(source=source, transform=lambda image: image), indices=np.array([1]))
    before, named = contents(source), fingerprint(source)
    assert contents(source) == before
    Image.new("L", (40, 40), 7).save(tmp_path / "one.png")
    assert contents(source) == before, "the subset does not contain it"
    Image.new("L", (40, 40), 7).save(tmp_path / "two.png")
    assert contents(source) != before
    assert fingerprint(source) == named
    (tmp_path / "two.png").unlink()
    assert contents(source) != before


def test_files_of_joined_sources(tmp_path: Path) -> None:
    def joined(last: str) -> Source:
        first, second = (
            FileSource(root=tmp_path, files=files, labels=LABELS, classes=("a", "b"))
            for files in (("one.png", "two.png"), ("three.png", last))
        )
        return Subset(source=ConcatSource(first=first, second=second), indices=np.arange(4))

    assert fingerprint(joined("four.png")) == fingerprint(joined("four.png")) != fingerprint(joined("five.png"))


def test_images_in_memory() -> None:
    assert contents(in_memory(1)) == contents(in_memory(1)) != contents(in_memory(2))


def test_hashing_in_chunks_equals_hashing_at_once() -> None:
    """Saved runs have this fingerprint."""
    count = 2 * CHUNK + 3
    labels, files = np.arange(count) % 2, [f"a/{number}.png" for number in range(count)]
    indices = np.arange(0, count, 2)
    source: Source = FileSource(root=Path(), files=files, labels=labels, classes=("a", "b"))
    digest = hashlib.sha256(b"a\0b" + labels[indices].tobytes() + indices.tobytes() + "\0".join(files).encode())
    expected = f"{len(indices)} images, 2 classes, {digest.hexdigest()[:16]}"
    assert fingerprint(Subset(source=source, indices=indices)) == expected
