"""Data sets by name, from tiny files laid out as their authors' are."""

import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat
from torchvision.datasets import CIFAR10, Flowers102, OxfordIIITPet

from processes import SOURCES
from vitral.data.config import DataConfig
from vitral.data.sources.source import Source, read_from
from vitral.datasets.data_set import Task
from vitral.datasets.opening import open_data
from vitral.datasets.originals.flowers import FLOWERS
from vitral.datasets.registry import DATA_SETS, TASKS, find, tasks_of


def opened(name: str, root: Path, **values) -> dict[str, Source]:
    return open_data(DataConfig(source=name, root=root, **values))


def refused(name: str, root: Path | None, sentence: str, **values) -> None:
    with pytest.raises(ValueError, match=r"^[^\n]+$") as caught:
        open_data(DataConfig(source=name, root=root, **values))
    assert sentence in str(caught.value)


def write_jpeg(file: Path, shade: int) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", (8, 8), shade).save(file)


def shade(source: Source, index: int) -> int:
    return read_from(source, index, channels=1).getpixel((4, 4))


PIXELS = np.random.default_rng(0).integers(0, 256, (12, 3, 32, 32), np.uint8)
"""Images as CIFAR stores them: red, green and blue planes."""


def write_cifar10(root: Path) -> Path:
    """Two images a file, labelled 0, 1, 2, ..."""
    folder = root / "cifar-10-batches-bin"
    folder.mkdir(parents=True)
    names = [*(f"data_batch_{number}.bin" for number in range(1, 6)), "test_batch.bin"]
    for number, name in enumerate(names):
        records = [bytes([place % 10]) + PIXELS[place].tobytes() for place in (2 * number, 2 * number + 1)]
        (folder / name).write_bytes(b"".join(records))
    (folder / "batches.meta.txt").write_text("\n".join(CIFAR_CLASSES) + "\n\n")
    return folder


CIFAR_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


@pytest.mark.parametrize("inside", ["", "cifar-10-batches-bin"])
def test_cifar10(tmp_path: Path, inside: str) -> None:
    write_cifar10(tmp_path)
    data = opened("cifar10", tmp_path / inside)
    assert data["train"].classes == CIFAR_CLASSES
    assert data["train"].labels.tolist() == list(range(10))
    assert data["test"].labels.tolist() == [0, 1]
    pixels = np.asarray(read_from(data["train"], 7, channels=3))
    assert (pixels == PIXELS[7].transpose(1, 2, 0)).all()
    assert (np.asarray(read_from(data["test"], 1, channels=3)) == PIXELS[11].transpose(1, 2, 0)).all()


def write_cifar100(root: Path) -> Path:
    for name, numbers in (("train", (0, 1, 2)), ("test", (3,))):
        content = b"".join(bytes([9, number]) + PIXELS[number].tobytes() for number in numbers)
        (root / f"{name}.bin").write_bytes(content)
    (root / "fine_label_names.txt").write_text("apple\naquarium_fish\nbaby\nbear\n")
    return root


def test_cifar100_counts_fine_labels(tmp_path: Path) -> None:
    data = opened("cifar100", write_cifar100(tmp_path))
    assert data["train"].labels.tolist() == [0, 1, 2]
    assert data["test"].classes[data["test"].labels[0]] == "bear"
    assert (np.asarray(read_from(data["test"], 0, channels=3)) == PIXELS[3].transpose(1, 2, 0)).all()


def test_cifar_that_is_not_whole(tmp_path: Path) -> None:
    folder = write_cifar10(tmp_path / "bin")
    file = folder / "data_batch_3.bin"
    file.write_bytes(file.read_bytes()[:-1])
    refused("cifar10", folder, f"{file} is truncated or not a file of CIFAR")
    file.unlink()
    refused("cifar10", folder, f"{file} cannot be read: No such file")
    python = tmp_path / "cifar-10-batches-py"
    python.mkdir()
    (python / "data_batch_1").write_bytes(b"\x80\x02}q\x01.")
    refused("cifar10", python, f"{python} has no data_batch_1.bin, nor has {python}/cifar-10-batches-bin: unpack")
    refused("cifar10", python, "the binary version; the others are pickles")
    refused("cifar10", python, "CIFAR-10 needs data_batch_1.bin to data_batch_5.bin, test_batch.bin and")
    refused("cifar10", python, ", from https://www.cs.toronto.edu/~kriz/cifar.html")


class MakesAFolder:
    """Its pickle makes a folder where it is read."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("source", ["cifar10", "folder"])
def test_the_pickles_of_cifar_are_not_opened(source: str, tmp_path: Path) -> None:
    python = tmp_path / "cifar-10-batches-py"
    python.mkdir()
    content = pickle.dumps(MakesAFolder(tmp_path / "executed"))
    for name in (*(f"data_batch_{number}" for number in range(1, 6)), "test_batch", "batches.meta"):
        (python / name).write_bytes(content)
    for root in (tmp_path, python):
        refused(source, root, str(root))
    assert not (tmp_path / "executed").exists()
    pickle.loads(content)
    assert (tmp_path / "executed").exists()


def write_pets(root: Path) -> Path:
    lines = {
        "trainval": ["Abyssinian_1 1 1 1", "american_bulldog_2 2 2 1", "Abyssinian_3 1 1 1"],
        "test": ["american_bulldog_9 2 2 1"],
    }
    (root / "annotations").mkdir(parents=True)
    for name, listed in lines.items():
        (root / "annotations" / f"{name}.txt").write_text("".join(f"{line}\n" for line in listed))
        for line in listed:
            write_jpeg(root / "images" / f"{line.split()[0]}.jpg", 10 * int(line.split()[0][-1]))
    return root


def test_pets(tmp_path: Path) -> None:
    data = opened("pets", write_pets(tmp_path))
    assert data["train"].classes == ("Abyssinian", "american_bulldog")
    assert data["train"].labels.tolist() == [0, 1, 0]
    assert data["test"].labels.tolist() == [1]
    assert [shade(data["train"], index) for index in range(3)] == [10, 20, 30]
    assert shade(data["test"], 0) == 90


def test_pets_are_those_of_torchvision(tmp_path: Path) -> None:
    write_pets(tmp_path / "oxford-iiit-pet")
    data, peer = opened("pets", tmp_path), OxfordIIITPet(tmp_path, split="trainval")
    assert [label for _, label in peer] == data["train"].labels.tolist()
    assert [image.getpixel((4, 4)) for image, _ in peer] == [(10, 10, 10), (20, 20, 20), (30, 30, 30)]


def test_pets_that_are_not_whole(tmp_path: Path) -> None:
    root = write_pets(tmp_path)
    (root / "annotations" / "test.txt").write_text("Abyssinian_7\n")
    refused("pets", root, "has lines unlike `Abyssinian_100 1 1 1`")
    (root / "annotations" / "test.txt").write_text("Siamese_7 4 1 1\n")
    refused("pets", root, "does not number its classes from 1")
    (root / "annotations" / "trainval.txt").unlink()
    folder = root / "oxford-iiit-pet"
    refused("pets", root, f"has no annotations/trainval.txt, nor has {folder}: unpack the authors' archive there; Ox")


def write_flowers(root: Path) -> Path:
    root.mkdir(parents=True, exist_ok=True)
    labels = np.array([[3, 1, 102, 1, 3, 2]], np.uint8)
    savemat(root / "imagelabels.mat", {"labels": labels})
    splits = {"trnid": [[2, 5, 6]], "valid": [[4]], "tstid": [[1, 3]]}
    savemat(root / "setid.mat", {key: np.array(ids, np.uint16) for key, ids in splits.items()})
    for number in range(1, 7):
        write_jpeg(root / "jpg" / f"image_{number:05d}.jpg", 10 * number)
    return root


def test_flowers(tmp_path: Path) -> None:
    data = opened("flowers", write_flowers(tmp_path / "flowers-102"))
    assert {split: part.labels.tolist() for split, part in data.items()} == {
        "train": [0, 2, 1],
        "val": [0],
        "test": [2, 101],
    }
    assert [shade(data["train"], index) for index in range(3)] == [20, 50, 60]
    assert data["test"].classes[101] == "blackberry lily"
    assert tuple(Flowers102.classes) == FLOWERS
    (tmp_path / "flowers-102" / "setid.mat").write_bytes(b"MATLAB 5.0 MAT-file, but no more")
    refused("flowers", tmp_path, "setid.mat is damaged, or no Matlab file with 'trnid'")
    savemat(tmp_path / "flowers-102" / "setid.mat", {"trnid": [0], "valid": [1], "tstid": [2]})
    refused("flowers", tmp_path, "imagelabels.mat and setid.mat do not match")
    (tmp_path / "flowers-102" / "setid.mat").unlink()
    refused("flowers", tmp_path, "setid.mat cannot be read: No such file or directory; Oxford Flowers-102 needs")


def write_imagenet(root: Path) -> Path:
    for number, name in enumerate(("n02000002", "n01000001", "n03000003")):
        for image in range(2):
            write_jpeg(root / "train" / name / f"{name}_{image}.JPEG", 10 * number + image)
    return root


SYNSETS = np.array(
    [(1, "n03000003", "c", 0), (2, "n01000001", "a", 0), (3, "n02000002", "b", 0), (4, "n00000000", "thing", 3)],
    [("ILSVRC2012_ID", "O"), ("WNID", "O"), ("words", "O"), ("num_children", "O")],
)


def test_imagenet_with_flat_validation_images(tmp_path: Path) -> None:
    root = write_imagenet(tmp_path)
    for number in range(1, 5):
        write_jpeg(root / "val" / f"ILSVRC2012_val_{number:08d}.JPEG", 50 * number)
    refused("imagenet1k", root, "has no class folders and no list of classes")
    kit = root / "ILSVRC2012_devkit_t12" / "data"
    kit.mkdir(parents=True)
    savemat(kit / "meta.mat", {"synsets": SYNSETS})
    (kit / "ILSVRC2012_validation_ground_truth.txt").write_text("2\n1\n3\n2\n")
    data = opened("imagenet1k", root)
    assert data["train"].classes == ("n01000001", "n02000002", "n03000003")
    assert data["test"].labels.tolist() == [0, 2, 1, 0]
    assert [shade(data["test"], index) for index in range(4)] == [50, 100, 150, 200]
    (kit / "ILSVRC2012_validation_ground_truth.txt").write_text("2\n1\n3\n")
    refused("imagenet1k", root, "lists 3 images, but val has 4")


def test_imagenet_as_kaggle_has_it(tmp_path: Path) -> None:
    root = write_imagenet(tmp_path / "ILSVRC" / "Data" / "CLS-LOC")
    for number in (1, 2):
        write_jpeg(root / "val" / f"ILSVRC2012_val_{number:08d}.JPEG", 50 * number)
    rows = ["ImageId,PredictionString", "ILSVRC2012_val_00000002,n03000003 85 1 499 272"]
    table = tmp_path / "LOC_val_solution.csv"
    table.write_text("\n".join(rows))
    refused("imagenet1k", tmp_path, "lacks ILSVRC2012_val_00000001.JPEG")
    table.write_text("\n".join([*rows, "ILSVRC2012_val_00000001,n02000002 1 2 3 4 n02000002 5 6 7 8"]))
    assert opened("imagenet1k", tmp_path)["test"].labels.tolist() == [1, 2]
    assert opened("imagenet1k", root)["test"].labels.tolist() == [1, 2]


def test_imagenet_with_validation_folders(tmp_path: Path) -> None:
    root = write_imagenet(tmp_path)
    refused("imagenet1k", root, "has no val folder")
    write_jpeg(root / "val" / "n03000003" / "ILSVRC2012_val_00000001.JPEG", 90)
    data = opened("imagenet1k", root, val_fraction=0.5)
    assert data["test"].labels.tolist() == [2]
    assert [len(data[split]) for split in ("train", "val", "test")] == [3, 3, 1]
    write_jpeg(root / "val" / "n09999999" / "ILSVRC2012_val_00000002.JPEG", 90)
    refused("imagenet1k", root, "has classes that train lacks, such as n09999999")


def test_imagenet21k_holds_out_a_fraction(tmp_path: Path) -> None:
    write_imagenet(tmp_path)
    data = opened("imagenet21k", tmp_path / "train", test_fraction=0.5)
    assert [len(data[split]) for split in ("train", "test")] == [3, 3]
    refused("imagenet21k", None, "ImageNet-21k needs --data.root, a folder with one folder per class")


def test_fashion_mnist(fashion_mnist: Path) -> None:
    data = opened("fashion-mnist", fashion_mnist)
    assert {split: len(part) for split, part in data.items()} == DATA_SETS["fashion-mnist"].num_images
    assert data["train"].classes[0] == "T-shirt/top"
    assert np.bincount(data["test"].labels).tolist() == [1000] * 10


def test_without_a_root_it_comes_from_the_hub_or_says_where_to_get_it() -> None:
    refused("cifar10", None, "uoft-cs/cifar10 is neither a local path nor available on the Hub")
    refused("cifar10", None, "or give --data.root, a folder with data_batch_1.bin")
    refused("cifar10", None, CIFAR10.url.rpartition("/")[0])
    refused("pets", Path("nowhere"), "nowhere is not a folder: Oxford-IIIT Pets needs images/")
    refused("pets", None, "names its classes itself", class_names=("a", "b"))


def test_every_data_set_is_a_source() -> None:
    for name, data in DATA_SETS.items():
        assert find(name) is data
        assert DataConfig(source=name).source == name
        assert data.origin.startswith("https://") or not data.files
        assert "train" in data.num_images


def test_every_name_is_of_one_entry() -> None:
    assert not set(DATA_SETS) & set(TASKS)
    assert list(TASKS) == [*tasks_of("vtab1k"), *tasks_of("vtab-mini")]
    assert len(tasks_of("vtab1k")) == 19


@pytest.mark.parametrize("name", [*DATA_SETS, *TASKS])
def test_every_reader_is_where_the_registry_says(name: str) -> None:
    entry = find(name)
    reader = entry.data.reader if isinstance(entry, Task) else entry.reader
    assert isinstance(reader, partial)
    for place in (reader.args[0], reader.keywords.get("reader", reader.args[0])):
        module, _, function = place.partition(":")
        assert callable(getattr(import_module(f"vitral.datasets.{module}"), function))


@pytest.mark.parametrize(
    ("name", "meant"),
    [("cifar", "cifar10"), ("Cifar100", "cifar100"), ("vtab-eurosta", "vtab-eurosat"), ("idxx", "idx")],
)
def test_a_mistyped_name_is_answered_by_the_closest(name: str, meant: str) -> None:
    refused(name, None, f"did you mean {meant}?")
    refused(name, Path("somewhere"), "`vitral data list`")


def test_a_name_that_is_like_no_other() -> None:
    refused(
        "zzz",
        None,
        "--data.source 'zzz' is not known: choose one of folder, images, idx, csv, hub, tars, tfrecord, or a name",
    )
    with pytest.raises(ValueError, match=r"^no data set is called 'zzz': `vitral data list`"):
        find("zzz")


def test_a_task_is_a_source() -> None:
    data = open_data(DataConfig(source="mini-tissue"))
    assert {split: len(source) for split, source in data.items()} == {"train": 800, "val": 200, "test": 1000}
    refused("vtab-dtd", None, "give their folder with --data.root")


def test_the_registry_is_read_without_heavy_modules() -> None:
    code = "import sys, vitral.datasets.registry; print(*sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], env={"PYTHONPATH": SOURCES}, capture_output=True, check=True)
    heavy = {"torch", "torchvision", "numpy", "scipy", "sklearn", "matplotlib", "PIL", "h5py", "datasets", "jaxtyping"}
    assert not heavy & set(out.stdout.decode().split())
