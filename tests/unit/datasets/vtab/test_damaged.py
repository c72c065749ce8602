"""VTAB's loaders on files that are missing, truncated or garbage: images, or one sentence that names a file."""

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
from vitral.datasets.data_set import Task
from vitral.datasets.registry import TASKS, tasks_of

LAYOUTS: dict[str, Callable[[Path], Path]] = {
    "vtab-caltech101": write_caltech101,
    "vtab-cifar100": write_cifar100,
    "vtab-dtd": write_dtd,
    "vtab-flowers102": write_flowers,
    "vtab-pets": write_pets,
    "vtab-sun397": write_sun397,
    "vtab-svhn": write_svhn,
    "vtab-camelyon": write_camelyon,
    "vtab-eurosat": partial(write_folders, folder="2750", first="AnnualCrop"),
    "vtab-resisc45": partial(write_folders, folder="NWPU-RESISC45", first="airplane"),
    "vtab-retinopathy": write_retinopathy,
    "vtab-clevr-count": write_clevr,
    "vtab-clevr-distance": write_clevr,
    "vtab-dmlab": partial(write_dmlab, shards=2),
    "vtab-dsprites-location": write_dsprites,
    "vtab-dsprites-orientation": write_dsprites,
    "vtab-kitti-distance": write_kitti,
    "vtab-smallnorb-azimuth": write_small_norb,
    "vtab-smallnorb-elevation": write_small_norb,
}
"""What writes the few images of each task as its authors do."""
IMAGES = {".jpg", ".jpeg", ".png"}
READ = 2
"""Images of each split that are read."""


def small(name: str, root: Path) -> Task:
    """A task whose data set is written into its folder, and complete with that."""
    task = TASKS[name]
    folder = root / task.folder
    folder.mkdir(parents=True)
    splits = task.data.reader(LAYOUTS[name](folder))
    complete = replace(
        task.data,
        num_images={split: len(source) for split, source in splits.items()},
        num_classes=len(splits["train"].classes),
    )
    return replace(task, data=complete)


def read_some(splits: dict[str, Source]) -> list[str]:
    """Reads the first images of each split; a sentence for each that cannot be read."""
    messages = []
    for source in splits.values():
        for index in range(min(len(source), READ)):
            try:
                read_from(source, index, channels=3)
            except UnreadableImage as error:
                messages.append(str(error))
    return messages


def damages(content: bytes, rng: random.Random) -> Iterator[bytes]:
    """A file's content in several states."""
    yield from (b"", content[:10], content[: len(content) // 2], content[:-7], rng.randbytes(300), content * 2)
    for changes in (1, 3, 20) if content else ():
        damaged = bytearray(content)
        for _ in range(changes):
            damaged[rng.randrange(min(len(damaged), 2000))] = rng.randrange(256)
        yield bytes(damaged)


def sentences(task: Task, root: Path) -> list[str]:
    """The messages when a task is opened and read; each a line that names something in the folder."""
    try:
        messages = read_some(task.open(root))
    except ValueError as error:
        messages = [str(error)]
    for sentence in messages:
        assert "\n" not in sentence
        assert str(root) in sentence
    return messages


def tables(root: Path) -> list[Path]:
    """Files that describe images or contain many; of KITTI's texts about one image each, the first."""
    files = {path for path in root.rglob("*") if path.is_file() and path.suffix not in IMAGES | {".txt"}}
    texts = {path for path in root.rglob("*.txt") if path.parent.name != "label_2" or path.stem == "000000"}
    return sorted(
        path for path in files | texts if path.name != "train2.txt"
    )  # of DTD's ten divisions, the first is read


@pytest.mark.parametrize("name", LAYOUTS)
def test_each_file_missing_or_damaged(name: str, tmp_path: Path) -> None:
    task, rng = small(name, tmp_path), random.Random(name)
    assert sentences(task, tmp_path) == []
    for file in tables(tmp_path):
        original = file.read_bytes()
        for damaged in damages(original, rng):
            file.write_bytes(damaged)
            sentences(task, tmp_path)
        file.unlink()
        assert sentences(task, tmp_path)
        file.mkdir()
        assert sentences(task, tmp_path)
        file.rmdir()
        file.write_bytes(original)
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
    assert list(LAYOUTS) == list(tasks_of("vtab1k"))
