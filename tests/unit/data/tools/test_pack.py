"""Copies that are fast to read."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import datasets
import numpy as np
import pytest
from PIL import Image

import vitral.data.tools.pack
from photographs import add_unreadable_files, write_photographs
from vitral.data.config import DataConfig
from vitral.data.sources.source import ArraySource, FileSource, Source, read_from
from vitral.data.sources.tables import PACKED
from vitral.data.tools.pack import PackConfig, Packed, pack
from vitral.datasets.opening import open_data, open_stored


def packed(root: Path, target: Path, *, threads: int = 2, **values) -> Packed:
    splits = open_stored(DataConfig(source="folder", root=root))
    return pack(splits, target, PackConfig(**values), root=root, threads=threads, advance=lambda count: None)


def opened(target: Path) -> Source:
    return open_stored(DataConfig(source="hub", root=target))["train"]


def contents(target: Path) -> dict[str, bytes]:
    return {str(file.relative_to(target)): file.read_bytes() for file in target.rglob("*.*") if file.is_file()}


@pytest.fixture
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vitral.data.tools.pack, "SHARD", 7)
    monkeypatch.setattr(vitral.data.tools.pack, "BATCH", 3)


def test_files_that_are_not_shrunk_stay_as_they_are(photographs: Path, tmp_path: Path, small_shards: None) -> None:
    result = packed(photographs, tmp_path / "packed")
    assert (result.num_images, result.unreadable, result.fresh) == ({"train": 72}, (), True)
    before = open_stored(DataConfig(source="folder", root=photographs))["train"]
    after = opened(tmp_path / "packed")
    assert after.classes == before.classes
    assert after.labels.tolist() == before.labels.tolist()
    for index in range(72):
        assert after.stored(index) == before.stored(index).read_bytes()
    assert len(list((tmp_path / "packed" / "train").glob("*.arrow"))) == 11


def test_held_out_images_stay_the_same(photographs: Path, tmp_path: Path) -> None:
    packed(photographs, tmp_path / "packed")
    one, other = (
        open_data(DataConfig(source=source, root=root, split_seed=3))["test"]
        for source, root in (("folder", photographs), ("hub", tmp_path / "packed"))
    )
    assert [one.stored(index).read_bytes() for index in range(len(one))] == [
        other.stored(index) for index in range(len(other))
    ]


def test_large_images_are_shrunk_upright_and_stay_grey(photographs: Path, tmp_path: Path) -> None:
    packed(photographs, tmp_path / "packed", short_side=64)
    before, after = open_stored(DataConfig(source="folder", root=photographs))["train"], opened(tmp_path / "packed")
    for index in range(72):
        whole, small = read_from(before, index, channels=3), read_from(after, index, channels=3)
        assert min(small.size) == 64
        assert small.width / small.height == pytest.approx(whole.width / whole.height, rel=0.02)
        again = whole.resize(small.size, Image.Resampling.BICUBIC)
        assert np.abs(np.asarray(small, float) - np.asarray(again, float)).mean() < 6
        with Image.open(BytesIO(after.stored(index))) as image:
            assert image.format == "JPEG"
            assert image.mode == ("L" if "grey" in before.name(index) else "RGB")


def test_small_images_are_not_enlarged_and_arrays_lose_nothing(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (5, 20, 30, 3), np.uint8)
    source = ArraySource(title="noise", images=pixels, labels=np.arange(5) % 2, classes=("a", "b"))
    pack({"train": source}, tmp_path / "p", PackConfig(short_side=20), root=None, threads=1, advance=lambda count: None)
    after = opened(tmp_path / "p")
    assert all((np.asarray(read_from(after, index, channels=3)) == pixels[index]).all() for index in range(5))


def test_threads_and_interruptions_leave_the_same_bytes(photographs: Path, tmp_path: Path, small_shards: None) -> None:
    for name, threads in (("one", 1), ("other", 4), ("third", 2)):
        packed(photographs, tmp_path / name, threads=threads, short_side=64)
    whole = contents(tmp_path / "one")
    assert contents(tmp_path / "other") == whole
    shards = sorted((tmp_path / "third" / "train").glob("*.arrow"))
    finished = {shard: shard.stat().st_mtime_ns for shard in shards[4:]}
    for lost in (*shards[:3], shards[3].with_suffix(".json"), tmp_path / "third" / "dataset_dict.json"):
        lost.unlink()
    (tmp_path / "third" / "train" / f".{shards[0].name}.1.tmp").write_bytes(b"half")
    assert packed(photographs, tmp_path / "third", short_side=64).fresh
    assert contents(tmp_path / "third") == whole
    assert {shard: shard.stat().st_mtime_ns for shard in finished} == finished
    assert not packed(photographs, tmp_path / "third", short_side=64).fresh


def test_a_copy_that_was_killed_in_its_first_moment_goes_on(photographs: Path, tmp_path: Path) -> None:
    packed(photographs, tmp_path / "whole", short_side=64)
    (tmp_path / "packed").mkdir()
    (tmp_path / "packed" / f".{PACKED}.1.tmp").write_text("{")
    assert packed(photographs, tmp_path / "packed", short_side=64).fresh
    assert contents(tmp_path / "packed") == contents(tmp_path / "whole")


def test_a_copy_that_was_killed_goes_on(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (2400, 24, 24), np.uint8)
    (tmp_path / "idx").mkdir()
    header = bytes([0, 0, 8, 3]) + b"".join(size.to_bytes(4) for size in images.shape)
    (tmp_path / "idx" / "train-images-idx3-ubyte").write_bytes(header + images.tobytes())
    labels = bytes([0, 0, 8, 1]) + (2400).to_bytes(4) + bytes(number % 3 for number in range(2400))
    (tmp_path / "idx" / "train-labels-idx1-ubyte").write_bytes(labels)
    words = ["-m", "vitral", "data", "pack", str(tmp_path / "idx"), str(tmp_path / "packed"), "--workers", "1"]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    first = subprocess.Popen([sys.executable, *words], env=environment)
    shard = tmp_path / "packed" / "train" / "data-00000-of-00003.json"
    while not shard.is_file():
        assert first.poll() is None, "it ended before it could be killed"
        time.sleep(0.005)
    first.send_signal(signal.SIGKILL)
    first.wait()
    with pytest.raises(ValueError, match="packed is an incomplete copy: run `vitral data pack` again"):
        opened(tmp_path / "packed")
    splits = open_stored(DataConfig(source="idx", root=tmp_path / "idx"))
    for target in ("packed", "fresh"):
        pack(splits, tmp_path / target, PackConfig(), root=tmp_path / "idx", threads=1, advance=lambda count: None)
    assert contents(tmp_path / "packed") == contents(tmp_path / "fresh")


def test_unreadable_images_stop_or_are_listed(tmp_path: Path) -> None:
    root = write_photographs(tmp_path / "photos", per_class=2)
    unreadable = add_unreadable_files(root)
    with pytest.raises(ValueError, match=r"broken-cut\.jpg cannot be read .* skip such images with --data\.on-error"):
        packed(root, tmp_path / "packed")
    result = packed(root, tmp_path / "packed", on_error="skip")
    assert result.num_images == {"train": 12}
    assert [sentence.split(" cannot")[0] for sentence in result.unreadable] == [str(file) for file in unreadable]
    source = opened(tmp_path / "packed")
    assert all(read_from(source, index, channels=3) for index in range(12))
    assert np.bincount(source.labels).tolist() == [2] * 6


def test_a_copy_without_images_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And can be tried again."""
    root = write_photographs(tmp_path / "photos", per_class=1)
    with monkeypatch.context() as patch:
        patch.setenv("VITRAL_MEMORY", "1KB")
        with pytest.raises(ValueError, match=r"none of the images can be packed: .*--data\.memory"):
            packed(root, tmp_path / "packed", on_error="skip")
    assert not (tmp_path / "packed").exists()
    assert packed(root, tmp_path / "packed", on_error="skip").num_images == {"train": 6}


def test_notes_with_the_old_key_are_read(tmp_path: Path) -> None:
    """Copies that were made before the key "broken" became "unreadable"."""
    root = write_photographs(tmp_path / "photos", per_class=2)
    add_unreadable_files(root)
    result = packed(root, tmp_path / "packed", on_error="skip")
    (notes,) = (tmp_path / "packed" / "train").glob("data-*.json")
    values = json.loads(notes.read_text())
    assert set(values) == {"num_images", "unreadable"}
    notes.write_text(json.dumps({"num_images": values["num_images"], "broken": values["unreadable"]}))
    assert packed(root, tmp_path / "packed", on_error="skip") == replace(result, fresh=False)


def test_the_owner_of_the_form_reads_it(photographs: Path, tmp_path: Path) -> None:
    packed(photographs, tmp_path / "packed")
    table = datasets.load_from_disk(tmp_path / "packed")["train"]
    assert table.features["label"].names[0] == "astronaut"
    assert table[0]["image"].size == read_from(opened(tmp_path / "packed"), 0, channels=3).size


def test_other_copies_are_not_touched(photographs: Path, tmp_path: Path) -> None:
    packed(photographs, tmp_path / "packed", short_side=64)
    with pytest.raises(ValueError, match=r"contains a copy of other data or with other settings.* another folder"):
        packed(photographs, tmp_path / "packed", short_side=32)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").touch()
    with pytest.raises(ValueError, match=r"mine already exists and is not an incomplete copy.* another folder"):
        packed(photographs, tmp_path / "mine")
    with pytest.raises(ValueError, match="--quality must be 1 to 100, not 0"):
        PackConfig(quality=0)
    with pytest.raises(ValueError, match="--short-side must be at least 1 pixel, not 0"):
        PackConfig(short_side=0)


def test_file_sources_of_the_same_files_are_the_same_data(photographs: Path, tmp_path: Path) -> None:
    moved = tmp_path / "moved"
    moved.symlink_to(photographs)
    packed(photographs, tmp_path / "packed")
    assert isinstance(open_stored(DataConfig(source="folder", root=moved))["train"], FileSource)
    assert not packed(moved, tmp_path / "packed").fresh
