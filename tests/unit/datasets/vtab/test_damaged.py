"""VTAB's loaders on files that are missing, cut short or garbage: images, or one sentence that names a file."""

import random
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from unit.datasets.test_registry import write_cifar100, write_flowers, write_pets
from unit.datasets.vtab.test_photographs import (
    write_caltech101,
    write_camelyon,
    write_dtd,
    write_folders,
    write_retinopathy,
    write_sun397,
    write_svhn,
)
from unit.datasets.vtab.test_structured import write_clevr, write_dmlab, write_dsprites, write_kitti, write_small_norb
from vitral.data.images.decode import UnreadableImage
from vitral.data.sources.source import Source, read_from
from vitral.datasets.transfer_task import TransferTask
from vitral.datasets.vtab.tasks import VTAB1K

LAYOUTS: dict[str, Callable[[Path], Path]] = {
    "caltech101": write_caltech101,
    "cifar100": write_cifar100,
    "dtd": write_dtd,
    "flowers102": write_flowers,
    "pets": write_pets,
    "sun397": write_sun397,
    "svhn": write_svhn,
    "camelyon": write_camelyon,
    "eurosat": partial(write_folders, folder="2750", first="AnnualCrop"),
    "resisc45": partial(write_folders, folder="NWPU-RESISC45", first="airplane"),
    "retinopathy": write_retinopathy,
    "clevr-count": write_clevr,
    "clevr-distance": write_clevr,
    "dmlab": partial(write_dmlab, shards=2),
    "dsprites-location": write_dsprites,
    "dsprites-orientation": write_dsprites,
    "kitti-distance": write_kitti,
    "smallnorb-azimuth": write_small_norb,
    "smallnorb-elevation": write_small_norb,
}
"""What writes the few images of each task as its authors do."""
IMAGES = {".jpg", ".jpeg", ".png"}
READ = 2
"""Images of each split that are read."""


def small(name: str, root: Path) -> TransferTask:
    """A task whose data set is written into its folder, and complete with that."""
    opened = VTAB1K[name].open
    assert isinstance(opened, partial)
    original, folder = opened.keywords["original"], opened.keywords["folder"]
    (root / folder).mkdir(parents=True)
    splits = original.open(LAYOUTS[name](root / folder))
    complete = replace(
        original,
        num_images={split: len(source) for split, source in splits.items()},
        num_classes=len(splits["train"].classes),
    )
    return replace(VTAB1K[name], open=partial(opened.func, original=complete, folder=folder))


def read_some(splits: dict[str, Source]) -> list[str]:
    """Reads the first images of each split; a sentence for each that cannot be read."""
    told = []
    for source in splits.values():
        for index in range(min(len(source), READ)):
            try:
                read_from(source, index, channels=3)
            except UnreadableImage as error:
                told.append(str(error))
    return told


def damages(content: bytes, chance: random.Random) -> Iterator[bytes]:
    """A file's content in several states."""
    yield from (b"", content[:10], content[: len(content) // 2], content[:-7], chance.randbytes(300), content * 2)
    for changes in (1, 3, 20) if content else ():
        damaged = bytearray(content)
        for _ in range(changes):
            damaged[chance.randrange(min(len(damaged), 2000))] = chance.randrange(256)
        yield bytes(damaged)


def sentences(task: TransferTask, root: Path) -> list[str]:
    """What is said when a task is opened and read; each a line that names something in the folder."""
    try:
        told = read_some(task.open(root))
    except ValueError as error:
        told = [str(error)]
    for sentence in told:
        assert "\n" not in sentence
        assert str(root) in sentence
    return told


def tables(root: Path) -> list[Path]:
    """Files that tell of images or hold many; of KITTI's texts about one image each, the first."""
    files = {path for path in root.rglob("*") if path.is_file() and path.suffix not in IMAGES | {".txt"}}
    texts = {path for path in root.rglob("*.txt") if path.parent.name != "label_2" or path.stem == "000000"}
    return sorted(
        path for path in files | texts if path.name != "train2.txt"
    )  # of DTD's ten divisions, the first is read


@pytest.mark.parametrize("name", LAYOUTS)
def test_each_file_missing_or_damaged(name: str, tmp_path: Path) -> None:
    task, chance = small(name, tmp_path), random.Random(name)
    assert sentences(task, tmp_path) == []
    for file in tables(tmp_path):
        kept = file.read_bytes()
        for damaged in damages(kept, chance):
            file.write_bytes(damaged)
            sentences(task, tmp_path)
        file.unlink()
        assert sentences(task, tmp_path)
        file.mkdir()
        assert sentences(task, tmp_path)
        file.rmdir()
        file.write_bytes(kept)
    assert sentences(task, tmp_path) == []


@pytest.mark.parametrize("name", LAYOUTS)
def test_images_that_were_never_unpacked(name: str, tmp_path: Path) -> None:
    """Found when the task is opened, with where they come from."""
    task = small(name, tmp_path)
    folders = [path.parent for path in tmp_path.rglob("*") if path.suffix in IMAGES]
    for folder in set(folders):
        shutil.rmtree(folder)
    if folders:
        with pytest.raises(ValueError, match=r"; .* needs .*, from https?://"):
            task.open(tmp_path)


def test_every_task_is_damaged() -> None:
    assert list(LAYOUTS) == list(VTAB1K)
