"""What is found to be wrong with data."""

import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from photographs import add_unreadable_files, write_photographs
from vitral.data.config import DataConfig
from vitral.data.sources.source import ArraySource
from vitral.data.tools.check import KINDS, CheckConfig, Finding, check
from vitral.datasets.opening import open_stored


def found(root: Path, *, threads: int = 2, **values) -> list[Finding]:
    done = Counter()
    splits = open_stored(DataConfig(source="folder", root=root))
    result = check(splits, CheckConfig(**values), threads=threads, advance=lambda count: done.update(images=count))
    assert done["images"] == sum(map(len, splits.values()))
    return result.findings


def test_nothing_is_wrong_with_the_photographs(photographs: Path) -> None:
    assert found(photographs) == []


@pytest.fixture
def flawed(tmp_path: Path) -> Path:
    """Photographs, with one flaw of each kind."""
    root = tmp_path / "photos"
    for split in ("train", "test"):
        write_photographs(root / split, per_class=2, seed=len(split))
    train = root / "train"
    add_unreadable_files(train)
    shutil.copy(train / "cat" / "001-plain.webp", train / "cat" / "again.webp")
    with Image.open(train / "cat" / "000-plain.png") as image:
        image.save(train / "coffee" / "other-file-same-pixels.bmp")
    shutil.copy(train / "rocket" / "000-plain.gif", root / "test" / "rocket" / "seen.gif")
    (train / "zebra").mkdir()
    Image.new("RGB", (40, 8), "red").save(train / "zebra" / "only.png")
    Image.new("RGB", (900, 700), "blue").save(train / "cat" / "wide.png")
    return root


def test_every_kind_of_flaw(flawed: Path) -> None:
    findings = found(flawed, smallest=16, largest=600_000)
    train = f"{flawed}/train"
    named = {finding.kind: set(finding.names) for finding in findings if finding.kind != "unreadable"}
    assert named == {
        "two classes": {f"{train}/cat/000-plain.png", f"{train}/coffee/other-file-same-pixels.bmp"},
        "two splits": {f"{train}/rocket/000-plain.gif", f"{flawed}/test/rocket/seen.gif"},
        "duplicate": {f"{train}/cat/001-plain.webp", f"{train}/cat/again.webp"},
        "one image": {"zebra"},
        "tiny": {f"{train}/zebra/only.png"},
        "huge": {f"{train}/cat/wide.png"},
    }
    unreadable = [finding for finding in findings if finding.kind == "unreadable"]
    assert [finding.names[0].rpartition("/")[2] for finding in unreadable] == [
        "broken-cut.jpg",
        "broken-empty.jpg",
        "broken-text.png",
    ]
    assert findings[0] == unreadable[0]
    details = {finding.kind: finding.detail for finding in findings}
    assert details["two classes"].startswith(f"{train}/cat/000-plain.png (cat) = {train}/coffee/")
    assert details["two splits"].endswith(f"{flawed}/test/rocket/seen.gif (test)")
    assert details["tiny"] == f"{train}/zebra/only.png has only 40x8 pixels"
    assert set(details) <= set(KINDS)


def test_the_number_of_threads_changes_nothing(flawed: Path) -> None:
    assert found(flawed, threads=1) == found(flawed, threads=4)


def test_classes_of_one_image_and_of_none() -> None:
    pixels = np.zeros((3, 64, 64), np.uint8) + np.arange(3, dtype=np.uint8)[:, None, None]
    source = ArraySource(title="greys", images=pixels, labels=np.array([0, 0, 2]), classes=("a", "b", "c"))
    findings = check({"train": source}, CheckConfig(), threads=1, advance=lambda count: None).findings
    assert [(finding.kind, finding.names) for finding in findings] == [("one image", ("c",)), ("no image", ("b",))]


def test_values_out_of_range() -> None:
    with pytest.raises(ValueError, match="--smallest and --largest must be at least 1, not 0 and 50000000"):
        CheckConfig(smallest=0)
