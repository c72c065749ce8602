"""VTAB's structured tasks: labels at the edges of their classes, and files laid out as their authors'."""

import gzip
import io
import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from vitral.data.images.decode import UnreadableImage
from vitral.data.sources.source import Source, read_from
from vitral.datasets.vtab.clevr import count_class, distance_class, open_clevr
from vitral.datasets.vtab.dmlab import open_dmlab
from vitral.datasets.vtab.dsprites import FILE, location_class, open_dsprites, orientation_class
from vitral.datasets.vtab.kitti import CLASSES, open_kitti, vehicle_class
from vitral.datasets.vtab.small_norb import COLUMNS, STEMS, open_small_norb


def at_depths(*depths: float) -> list[dict[str, Any]]:
    return [{"pixel_coords": [10, 20, depth], "shape": "cube"} for depth in depths]


@pytest.mark.parametrize(("objects", "label"), [(3, 0), (4, 1), (9, 6), (10, 7)])
def test_clevr_counts(objects: int, label: int) -> None:
    assert count_class(at_depths(*[9.0] * objects)) == label


@pytest.mark.parametrize(
    ("depth", "label"),
    [
        *((0.01, 0), (7.9, 0), (8.0, 0), (8.0001, 1), (8.5, 1), (8.51, 2)),
        *((9.0, 2), (9.5, 3), (9.6, 4), (10.0, 4), (10.001, 5), (99.0, 5)),
    ],
)
def test_clevr_distances(depth: float, label: int) -> None:
    """The nearest object decides; one that is exactly on a threshold is below it."""
    assert distance_class(at_depths(depth)) == label
    assert distance_class(at_depths(depth + 5, depth, depth + 0.3)) == label


@pytest.mark.parametrize("depth", [0.0, -1.0, 100.5, float("nan"), float("inf")])
def test_clevr_has_no_class_for_other_distances(depth: float, tmp_path: Path) -> None:
    write_clevr(tmp_path)
    file = tmp_path / "scenes" / "CLEVR_val_scenes.json"
    file.write_text(json.dumps({"scenes": [{"image_filename": "a.png", "objects": at_depths(depth)}]}))
    with pytest.raises(
        ValueError, match=rf"^{file} has scenes of other than 3 to 10 objects, or beyond a depth of 100"
    ):
        clevr(tmp_path)


def test_clevr_distances_to_100_are_the_last_class() -> None:
    assert distance_class(at_depths(100.0)) == 5


def test_dsprites_labels() -> None:
    """16 classes each; of angles two and three by turns."""
    assert location_class(np.array([0, 1, 2, 30, 31])).tolist() == [0, 0, 1, 15, 15]
    assert orientation_class(np.array([0, 2, 3, 4, 5, 37, 38, 39])).tolist() == [0, 0, 1, 1, 2, 14, 15, 15]
    assert orientation_class(np.arange(40)).tolist() == [int(turn / 2.5) for turn in range(40)]


@pytest.mark.parametrize(
    ("objects", "label"),
    [
        ([("Car", 8.0)], 0),
        ([("Car", 8.01)], 1),
        ([("Van", 20.0)], 1),
        ([("Truck", 20.5), ("Car", 31.0)], 2),
        ([("Truck", 20.5), ("Car", 3.0)], 0),
        ([("Pedestrian", 2.0), ("Tram", 3.0), ("DontCare", -1000.0)], 3),
        ([("Car", 20.01)], 2),
        ([("Car", 900.0)], 2),
        ([("Car", 999.0)], 2),
        ([("Car", -3.0)], 0),
        ([("Car", -99.99)], 0),
        ([("Person_sitting", 2.0), ("Cyclist", 3.0), ("Misc", 4.0)], 3),
        ([], 3),
    ],
)
def test_kitti_distances(objects: list[tuple[str, float]], label: int) -> None:
    """Cars, vans and trucks alone count, and where there is none that is a class of its own."""
    assert vehicle_class([kitti_line(kind, z) for kind, z in objects]) == label


def kitti_line(kind: str, z: float) -> str:
    return f"{kind} 0.00 0 -1.58 587.0 173.3 614.1 200.1 1.65 1.67 3.64 -0.65 1.71 {z:.2f} -1.59"


@pytest.mark.parametrize("depth", [-100.0, -1000.0, 999.01, 1000.0, float("nan"), float("inf")])
def test_kitti_has_no_vehicle_at_an_impossible_depth(depth: float, tmp_path: Path) -> None:
    """Beyond 999 m it would count as none."""
    with pytest.raises(ValueError, match="a vehicle is not between -100 and 999 m away"):
        vehicle_class([kitti_line("Car", 5.0), kitti_line("Van", depth)])
    assert vehicle_class([kitti_line("Tram", depth)]) == 3
    file = write_kitti(tmp_path) / "training" / "label_2" / "000007.txt"
    file.write_text(kitti_line("Truck", depth))
    with pytest.raises(ValueError, match=rf"^{file} is damaged, or not one of KITTI's \(a vehicle is not between"):
        open_kitti(tmp_path)


@pytest.mark.parametrize("line", ["Car 0.00 near", kitti_line("Car", 5.0).rpartition(" ")[0], kitti_line("Bus", 5.0)])
def test_kitti_refuses_lines_that_describe_no_object(line: str) -> None:
    with pytest.raises(ValueError, match="a line describes no object"):
        vehicle_class([line])


def write_image(file: Path, shade: int, size: tuple[int, int] = (12, 8)) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (shade, shade, shade)).save(file)


def shades(source: Source) -> list[int]:
    """The grey of each image in the middle."""
    images = [read_from(source, index, channels=1) for index in range(len(source))]
    return [int(np.asarray(image)[image.height // 2, image.width // 2]) for image in images]


def write_clevr(root: Path, *, train: int = 20, val: int = 3) -> Path:
    """Scene i has 3 + i % 8 objects, and the shade 10 * i."""
    for split, count in (("train", train), ("val", val)):
        scenes = []
        for number in range(count):
            name = f"CLEVR_{split}_{number:06d}.png"
            write_image(root / "images" / split / name, 10 * number)
            scenes.append({"image_filename": name, "objects": at_depths(*[8.2 + number % 8 / 2] * (3 + number % 8))})
        (root / "scenes").mkdir(exist_ok=True)
        (root / "scenes" / f"CLEVR_{split}_scenes.json").write_text(json.dumps({"info": {}, "scenes": scenes}))
    return root


def test_clevr(tmp_path: Path) -> None:
    write_clevr(tmp_path / "CLEVR_v1.0")
    data = open_clevr(tmp_path, task="count")
    assert data["test"].classes == tuple(f"{count} objects" for count in range(3, 11))
    assert {split: len(source) for split, source in data.items()} == {"train": 18, "val": 2, "test": 3}
    assert shades(data["test"]) == [0, 10, 20]
    seen = shades(data["train"]) + shades(data["val"])
    assert sorted(seen) == list(range(0, 200, 10)), "each image once"
    assert seen != sorted(seen)
    labels = [*data["train"].labels, *data["val"].labels]
    assert labels == [shade // 10 % 8 for shade in seen]


def write_dsprites(root: Path) -> Path:
    """Ten images, whose corners encode their numbers."""
    images = np.zeros((10, 64, 64), np.uint8)
    images[np.arange(10), 0, np.arange(10)] = 1
    latents = np.zeros((10, 6), np.int64)
    latents[:, 3], latents[:, 4] = 4 * np.arange(10), 3 * np.arange(10)
    np.savez_compressed(root / FILE, imgs=images, latents_classes=latents, metadata=np.array({"title": "dSprites"}))
    return root


def test_dsprites(tmp_path: Path) -> None:
    write_dsprites(tmp_path)
    for task, factor in (("orientation", lambda n: int(4 * n / 2.5)), ("location", lambda n: 3 * n // 2)):
        data = open_dsprites(tmp_path, task=task)
        assert {split: len(source) for split, source in data.items()} == {"train": 8, "val": 1, "test": 1}
        for source in data.values():
            for index, label in enumerate(source.labels.tolist()):
                row = np.asarray(read_from(source, index, channels=3))[0]
                assert row.max() == 255
                assert label == factor(int(row[:, 0].argmax()))


def write_matrix(file: Path, values: np.ndarray, *, packed: bool = False) -> None:
    """As small NORB's authors do: sizes are three at least."""
    magic = {np.dtype("u1"): 0x1E3D4C55, np.dtype("<i4"): 0x1E3D4C54}[values.dtype]
    sizes = [*values.shape, *[1] * max(3 - values.ndim, 0)]
    content = struct.pack(f"<Ii{len(sizes)}i", magic, values.ndim, *sizes) + values.tobytes()
    file.with_name(f"{file.name}.gz" if packed else file.name).write_bytes(
        gzip.compress(content) if packed else content
    )


def write_small_norb(root: Path, *, train: int = 18, test: int = 6) -> Path:
    """Image i has elevation i % 9 and azimuth i % 18; the left one has the shade i, the right one 200."""
    for (split, stem), count in zip(STEMS.items(), (train, test), strict=True):
        images = np.full((count, 2, 96, 96), 200, np.uint8)
        images[:, 0] = np.arange(count, dtype=np.uint8)[:, None, None]
        info = np.array([[1, number % 9, 2 * (number % 18), 3] for number in range(count)], "<i4")
        write_matrix(root / f"{stem}-dat.mat", images, packed=split == "test")
        write_matrix(root / f"{stem}-info.mat", info)
    return root


def test_small_norb(tmp_path: Path) -> None:
    write_small_norb(tmp_path)
    for task, values in (("azimuth", 18), ("elevation", 9)):
        data = open_small_norb(tmp_path, task=task)
        assert len(data["train"].classes) == values
        assert {split: len(source) for split, source in data.items()} == {"train": 18, "val": 3, "test": 3}
        for source in data.values():
            assert [shade % values for shade in shades(source)] == source.labels.tolist()
        assert sorted(shades(data["val"]) + shades(data["test"])) == list(range(6)), "halves of the test images"


@pytest.mark.parametrize(("task", "value"), [("elevation", 9), ("elevation", -1), ("azimuth", 36), ("azimuth", 3)])
def test_small_norb_has_nine_heights_and_eighteen_sides(task: str, value: int, tmp_path: Path) -> None:
    write_small_norb(tmp_path)
    data = open_small_norb(tmp_path, task=task)
    assert set(data["train"].labels.tolist()) == set(range({"elevation": 9, "azimuth": 18}[task]))
    info = np.array([[1, 0, 0, 3]] * 18, "<i4")
    info[5, COLUMNS[task]] = value
    write_matrix(tmp_path / f"{STEMS['train']}-info.mat", info)
    with pytest.raises(ValueError, match=r"-info\.mat has positions that small NORB does not have"):
        open_small_norb(tmp_path, task=task)


def test_small_norb_is_pairs_of_photographs(tmp_path: Path) -> None:
    write_small_norb(tmp_path)
    write_matrix(tmp_path / f"{STEMS['train']}-dat.mat", np.zeros((18, 2, 96, 95), np.uint8))
    with pytest.raises(ValueError, match=r"-dat\.mat and -info\.mat do not match"):
        small_norb(tmp_path)


def field(number: int, content: bytes) -> bytes:
    """A field of bytes of a protocol buffer."""
    return bytes([number << 3 | 2, *varint(len(content))]) + content


def varint(value: int) -> bytes:
    low, rest = value & 0x7F, value >> 7
    return bytes([low | 0x80]) + varint(rest) if rest else bytes([low])


def example(image: bytes, label: int, *, packed: bool) -> bytes:
    """A tf.train.Example of an image and its label, whose integers may be packed or not."""
    numbers = field(1, varint(label)) if packed else bytes([1 << 3]) + varint(label)
    features = {
        "label": field(3, numbers),
        "other": field(2, field(1, b"\0\0\x80\x3f")),
        "image": field(1, field(1, image)),
    }
    return field(1, b"".join(field(1, field(1, name.encode()) + field(2, value)) for name, value in features.items()))


def write_dmlab(root: Path, *, shards: int = 0) -> Path:
    """Image i has the label i % 6; whole files, or shards of them."""
    for name, count in (("train", 7), ("validation", 2), ("test", 3)):
        records = []
        for number in range(count):
            stream = io.BytesIO()
            Image.new("RGB", (48, 36), (10 * number,) * 3).save(stream, "JPEG", quality=95)
            data = example(stream.getvalue(), number % 6, packed=number % 2 == 0)
            records.append(struct.pack("<Q", len(data)) + b"crc4" + data + b"crc4")
        file = root / f"dmlab-{name}.tfrecord"
        parts = np.array_split(np.array(records, object), shards or 1)
        for number, part in enumerate(parts):
            written = file.with_name(f"{file.name}-{number:05d}-of-{shards:05d}") if shards else file
            written.write_bytes(b"".join(part))
    return root


def test_dmlab(tmp_path: Path) -> None:
    data = open_dmlab(write_dmlab(tmp_path))
    assert {split: source.labels.tolist() for split, source in data.items()} == {
        "train": [0, 1, 2, 3, 4, 5, 0],
        "val": [0, 1],
        "test": [0, 1, 2],
    }
    assert shades(data["train"]) == [0, 10, 20, 30, 40, 50, 60]
    assert read_from(data["test"], 1, channels=3).size == (48, 36)


@pytest.mark.parametrize("shards", [1, 2])
def test_dmlab_in_shards(shards: int, tmp_path: Path) -> None:
    """One after the other, without gaps."""
    data = open_dmlab(write_dmlab(makedirs(tmp_path / "dmlab"), shards=shards).parent)
    assert data["train"].labels.tolist() == [0, 1, 2, 3, 4, 5, 0]
    assert shades(data["train"]) == [0, 10, 20, 30, 40, 50, 60]
    assert shades(data["test"]) == [0, 10, 20]
    last = tmp_path / "dmlab" / f"dmlab-train.tfrecord-{shards - 1:05d}-of-{shards:05d}"
    assert data["train"].name(6) == f"{last}[{6 if shards == 1 else 2}]"
    lost = tmp_path / "dmlab" / f"dmlab-validation.tfrecord-00000-of-{shards:05d}"
    lost.unlink()
    words = "there is no" if shards > 1 else f"{tmp_path}/dmlab has no dmlab-validation.tfrecord, nor shards of it"
    with pytest.raises(ValueError, match=words):
        open_dmlab(tmp_path)


@pytest.mark.parametrize("length", [2**64 - 1, 2**63, 2**40, 10**6])
def test_dmlab_records_of_damaged_lengths(length: int, tmp_path: Path) -> None:
    """However long a record claims to be, no more is read than there is."""
    file = write_dmlab(tmp_path) / "dmlab-train.tfrecord"
    content = file.read_bytes()
    (first,) = struct.unpack_from("<Q", content)
    place = first + 16
    file.write_bytes(content[:place] + struct.pack("<Q", length) + content[place + 8 :])
    with pytest.raises(ValueError, match=rf"^{file} is damaged, or not DMLab's, after 1 images: download it again$"):
        open_dmlab(tmp_path)


@pytest.mark.parametrize("label", [6, 2**63, 2**64 - 1])
def test_dmlab_labels_are_six(label: int, tmp_path: Path) -> None:
    file = write_dmlab(tmp_path) / "dmlab-test.tfrecord"
    data = example(b"image", label, packed=True)
    file.write_bytes(struct.pack("<Q", len(data)) + b"crc4" + data + b"crc4")
    with pytest.raises(ValueError, match=rf"^{file} is damaged, or not DMLab's, after 0 images: download it again$"):
        open_dmlab(tmp_path)


def test_a_dmlab_file_that_has_gone_is_an_unreadable_image(tmp_path: Path) -> None:
    source = open_dmlab(write_dmlab(tmp_path))["train"]
    file = tmp_path / "dmlab-train.tfrecord"
    file.unlink()
    with pytest.raises(UnreadableImage, match=rf"^{file}\[3\] cannot be read as an image: there is no such file"):
        read_from(source, 3, channels=3)


def write_kitti(root: Path, drives: int = 12, frames: int = 3) -> Path:
    """Frames of a drive have its number as shade; every other one has a car 5 m away."""
    order = np.random.default_rng(0).permutation(drives * frames)
    listed = [f"2011_09_26 2011_09_26_drive_{line // frames:04d}_sync {line:010d}" for line in range(drives * frames)]
    (root / "mapping").mkdir(parents=True)
    (root / "mapping" / "train_mapping.txt").write_text("\n".join(listed) + "\n")
    (root / "mapping" / "train_rand.txt").write_text(",".join(str(line + 1) for line in order) + "\n")
    (root / "training" / "label_2").mkdir(parents=True)
    for number, line in enumerate(order.tolist()):
        write_image(root / "training" / "image_2" / f"{number:06d}.png", 10 * (line // frames), (40, 12))
        (root / "training" / "label_2" / f"{number:06d}.txt").write_text(kitti_line("Car", 5.0) if number % 2 else "")
    return root


def test_kitti(tmp_path: Path) -> None:
    """Whole drives are held out."""
    data = open_kitti(write_kitti(tmp_path))
    assert {split: len(source) for split, source in data.items()} == {"train": 30, "val": 3, "test": 3}
    drives = {split: set(shades(source)) for split, source in data.items()}
    assert [len(found) for found in drives.values()] == [10, 1, 1]
    assert len(set.union(*drives.values())) == 12
    assert data["train"].classes == CLASSES
    names = [data["train"].name(index) for index in range(30)]
    assert [0 if int(Path(name).stem) % 2 else 3 for name in names] == data["train"].labels.tolist()


def test_kitti_draws_the_drives_of_tensorflow_datasets(tmp_path: Path) -> None:
    """Test before validation, of sorted names, after `np.random.seed(123)`."""
    data = open_kitti(write_kitti(tmp_path, drives=25, frames=1))
    drives = {split: sorted(shade // 10 for shade in shades(source)) for split, source in data.items()}
    assert drives["test"] == [5, 21]
    assert drives["val"] == [14, 19]


def clevr(root: Path) -> dict[str, Source]:
    return open_clevr(root, task="distance")


def dsprites(root: Path) -> dict[str, Source]:
    return open_dsprites(root, task="orientation")


def small_norb(root: Path) -> dict[str, Source]:
    return open_small_norb(root, task="azimuth")


@pytest.mark.parametrize("opened", [clevr, dsprites, small_norb, open_dmlab, open_kitti])
def test_what_is_not_there_is_named(opened: Callable[[Path], dict[str, Source]], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=rf"^{tmp_path}.*(has no|cannot be read)"):
        opened(tmp_path)


def makedirs(folder: Path) -> Path:
    folder.mkdir(parents=True)
    return folder


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-7])


def test_damaged_files_are_named(tmp_path: Path) -> None:
    """One sentence each."""
    write_clevr(tmp_path / "clevr")
    cut(tmp_path / "clevr" / "scenes" / "CLEVR_val_scenes.json")
    (tmp_path / "sprites").mkdir()
    np.savez_compressed(
        tmp_path / "sprites" / FILE, imgs=np.zeros((4, 64, 64), np.uint8), latents_classes=np.zeros((3, 6), np.int64)
    )
    (tmp_path / "norb").mkdir()
    write_small_norb(tmp_path / "norb")
    cut(tmp_path / "norb" / f"{STEMS['train']}-dat.mat")
    (tmp_path / "dmlab").mkdir()
    write_dmlab(tmp_path / "dmlab")
    cut(tmp_path / "dmlab" / "dmlab-test.tfrecord")
    write_kitti(tmp_path / "kitti")
    (tmp_path / "kitti" / "training" / "label_2" / "000003.txt").write_text("Car 0.00 near\n")
    wrong = {
        clevr: ("clevr", "is damaged, or not CLEVR's: download it again"),
        dsprites: ("sprites", "its images and latent factors do not match"),
        small_norb: ("norb", "is damaged, or not in small NORB's binary format"),
        open_dmlab: ("dmlab", "is damaged, or not DMLab's, after 2 images"),
        open_kitti: ("kitti", "000003.txt is damaged, or not one of KITTI's"),
    }
    for opened, (folder, words) in wrong.items():
        with pytest.raises(ValueError, match=words):
            opened(tmp_path / folder)


def test_scenes_that_vtab_has_no_class_for(tmp_path: Path) -> None:
    write_clevr(tmp_path)
    file = tmp_path / "scenes" / "CLEVR_train_scenes.json"
    file.write_text(json.dumps({"scenes": [{"image_filename": "a.png", "objects": at_depths(9.0, 9.0)}]}))
    with pytest.raises(ValueError, match="scenes of other than 3 to 10 objects"):
        open_clevr(tmp_path, task="count")
