"""Image folders: every layout, and a sentence for every one that cannot be used."""

from collections import Counter
from pathlib import Path

import pytest
from PIL import Image

from vitral.data.config import DataConfig
from vitral.data.sources import folder
from vitral.data.sources.folder import list_folder
from vitral.data.sources.source import read_from
from vitral.datasets.opening import open_data


def write(root: Path, *files: str) -> Path:
    for file in files:
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (2, 2), 9).save(root / file)
    return root


def files(*classes: str, count: int = 2, under: str = "") -> list[str]:
    return [str(Path(under, name, f"{number}.png")) for name in classes for number in range(count)]


def test_one_folder_a_class(tmp_path):
    write(tmp_path, "dog/b.png", "dog/a.PNG", "cat/x.png", "cat/deep/er/y.png", "cat/.hidden.png", "cat/.git/z.png")
    (tmp_path / "cat" / "notes.txt").write_text("no image")
    (tmp_path / "readme.md").write_text("no image")
    (tmp_path / ".cache").mkdir()
    found = list_folder(tmp_path)
    assert list(found) == ["train"]
    assert list(found["train"].items()) == [
        ("cat", [str(Path("cat/deep/er/y.png")), str(Path("cat/x.png"))]),
        ("dog", [str(Path("dog/a.PNG")), str(Path("dog/b.png"))]),
    ]


def test_the_order_on_disk_does_not_matter(tmp_path):
    names = files("a", "b", count=9)
    write(tmp_path / "one", *names)
    write(tmp_path / "other", *reversed(names))
    one, other = (open_data(DataConfig(source="folder", root=tmp_path / root)) for root in ("one", "other"))
    for split in ("train", "test"):
        paths = [
            [Path(data[split].name(index)).relative_to(tmp_path / root) for index in range(len(data[split]))]
            for root, data in (("one", one), ("other", other))
        ]
        assert paths[0] == paths[1]


@pytest.mark.parametrize("val", ["val", "valid", "validation", "Validation"])
def test_split_folders(tmp_path, val):
    write(tmp_path, *files("a", "b", under="train"), *files("b", under=val), *files("a", "b", count=1, under="test"))
    data = open_data(DataConfig(source="folder", root=tmp_path))
    assert list(data) == ["train", "val", "test"]
    assert {source.classes for source in data.values()} == {("a", "b")}
    assert data["train"].labels.tolist() == [0, 0, 1, 1]
    assert data["val"].labels.tolist() == [1, 1]
    assert data["test"].labels.tolist() == [0, 1]
    assert data["test"].name(1) == str(tmp_path / "test" / "b" / "0.png")
    assert read_from(data["test"], 1, channels=1).getpixel((0, 0)) == 9


def test_only_train(tmp_path):
    write(tmp_path, *files("a", "b", count=5, under="train"))
    data = open_data(DataConfig(source="folder", root=tmp_path))
    assert {split: len(source) for split, source in data.items()} == {"train": 8, "test": 2}


def test_only_train_and_val(tmp_path):
    write(tmp_path, *files("a", "b", under="train"), *files("a", under="val"))
    assert list(open_data(DataConfig(source="folder", root=tmp_path))) == ["train", "val"]


def test_other_folders_beside_the_splits_are_no_classes(tmp_path):
    write(tmp_path, *files("a", "b", under="train"), *files("a", under="test"), *files("unlabelled"))
    assert open_data(DataConfig(source="folder", root=tmp_path))["train"].classes == ("a", "b")


def test_images_without_classes_are_left_out_with_a_note(tmp_path, caplog):
    """As competitions publish their test images, and as collections keep new images."""
    write(tmp_path, *files("a", "b", count=5, under="train"), "test/1.png", "test/2.png", "new/1.png")
    data = open_data(DataConfig(source="folder", root=tmp_path))
    assert {split: len(source) for split, source in data.items()} == {"train": 8, "test": 2}
    assert all("/train/" in source.name(index) for source in data.values() for index in range(len(source)))
    assert sorted(record.message.split(" has ")[0] for record in caplog.records) == [
        str(tmp_path / "new"),
        str(tmp_path / "test"),
    ]
    open_data(DataConfig(source="folder", root=tmp_path))
    assert len(caplog.records) == 2, "a note is printed once"


@pytest.mark.parametrize("source", ["folder", "images"])
def test_files_of_other_formats_are_counted_by_ending(tmp_path, caplog, source):
    write(tmp_path, *files("a", "b"))
    for number in range(3):
        (tmp_path / "a" / f"{number}.DNG").write_bytes(b"photo")
    (tmp_path / "b" / "scan.pdf").write_bytes(b"photo")
    (tmp_path / "b" / "notes").write_text("no image")
    open_data(DataConfig(source=source, root=tmp_path))
    (record,) = caplog.records
    assert record.message.startswith(f"{tmp_path}: left out 5 files")
    assert record.message.endswith("3 .dng, 1 without an ending, 1 .pdf")


def test_a_note_names_the_extra_that_reads_more_formats(monkeypatch):
    assert "vitral[images]" not in folder.left_out(Counter({".heic": 2}))
    monkeypatch.setattr(folder, "INSTALLABLE_SUFFIXES", frozenset({".heic"}))
    assert folder.left_out(Counter({".heic": 2})).endswith(
        "2 .heic; pip install 'vitral[images]' reads HEIC and JPEG XL"
    )


def test_a_class_may_be_called_train(tmp_path):
    write(tmp_path, *files("bus", "plane", "train"))
    assert open_data(DataConfig(source="folder", root=tmp_path))["train"].classes == ("bus", "plane", "train")


def test_an_empty_class_in_a_test_split_is_a_class_that_it_lacks(tmp_path):
    write(tmp_path, *files("a", "b", under="train"), *files("a", under="test"))
    (tmp_path / "test" / "b").mkdir()
    assert open_data(DataConfig(source="folder", root=tmp_path))["test"].labels.tolist() == [0, 0]


def test_links_are_followed_but_not_in_circles(tmp_path):
    root = write(tmp_path / "photos", *files("a", "b"))
    elsewhere = write(tmp_path / "elsewhere", "more.png")
    (root / "a" / "linked").symlink_to(elsewhere)
    (root / "a" / "again").symlink_to(elsewhere)
    (root / "a" / "self").symlink_to(root / "a")
    (root / "a" / "up").symlink_to(root)
    (root / "a" / "further-up").symlink_to(tmp_path)
    (root / "a" / "nowhere").symlink_to(tmp_path / "gone")
    (root / "a" / "itself").symlink_to(root / "a" / "itself")
    (elsewhere / "back").symlink_to(root / "a")
    assert list_folder(root)["train"] == {
        "a": [str(Path(name)) for name in ("a/0.png", "a/1.png", "a/again/more.png")],
        "b": [str(Path(name)) for name in ("b/0.png", "b/1.png")],
    }


def test_a_link_to_a_missing_image_is_not_passed_over(tmp_path):
    root = write(tmp_path, *files("a", "b"))
    (root / "a" / "lost.jpg").symlink_to(tmp_path / "gone.jpg")
    assert str(Path("a/lost.jpg")) in list_folder(root)["train"]["a"]


@pytest.mark.parametrize(
    ("paths", "sentence"),
    [
        ([], "{root} has no class folders: give a folder with one folder of images per class"),
        (["1.png", "2.png"], "{root} has images but no class folders: put them into one folder per class, such as"),
        (["train/1.png"], "{root}/train has images but no class folders: it needs one folder of images per class"),
        (["train/a/1.png", "val/2.png"], "{root}/val has images but no class folders"),
        (files("a", "b", under="train") + files("a", under="evals"), "{root}/evals is beside train, but evals is not"),
        (["test/a/1.png", "val/a/1.png"], "{root} has test, val but no train folder: add it"),
        (files("a", "b", under="train") + files("c", "d", under="val"), "{root}/val has classes that {root}/train"),
        (
            files("a", "b", under="train") + files("b", "c", under="test"),
            "{root}/test has classes that {root}/train lacks, 'c': rename these folders or remove them",
        ),
        (
            [f"{split}/a/1.png" for split in ("train", "val", "valid")],
            "{root} has both val and valid, which mean the same split",
        ),
        (files("a"), "{root} has only one class, 'a': a classifier needs at least two"),
        (files("a", under="train"), "{root} has only one class, 'a': a classifier needs at least two"),
        (files("a") + files("b", count=1), "class 'b' has a single image, so none can be held out: add images to it"),
    ],
)
def test_folders_that_cannot_be_used(tmp_path, paths, sentence):
    write(tmp_path, *paths)
    with pytest.raises(ValueError, match=r"^[^\n]+$") as caught:
        open_data(DataConfig(source="folder", root=tmp_path))
    assert str(caught.value).startswith(sentence.format(root=tmp_path))


def test_a_class_without_images(tmp_path):
    write(tmp_path, *files("a", "b"))
    (tmp_path / "c").mkdir()
    with pytest.raises(ValueError, match=r"c has no training images.* add some"):
        list_folder(tmp_path)


def test_class_folders_without_any_images(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    with pytest.raises(ValueError, match=r"has no images in its class folders.* add some"):
        list_folder(tmp_path)


def test_a_folder_that_cannot_be_listed(tmp_path):
    with pytest.raises(ValueError, match="gone cannot be listed: No such file or directory"):
        list_folder(tmp_path / "gone")


def test_images_beside_the_class_folders_are_noted(tmp_path, caplog):
    write(tmp_path, *files("a", "b"), "loose.png")
    (tmp_path / "__MACOSX").mkdir()
    assert list_folder(tmp_path)["train"].keys() == {"a", "b"}
    (record,) = caplog.records
    assert record.message.startswith(f"{tmp_path}: left out 1 images ")
    assert "loose.png" in record.message


@pytest.mark.parametrize("inner", ["test", "unknown"])
def test_unlabelled_test_images_in_one_folder(tmp_path, caplog, inner):
    """As torchvision's ImageFolder needs them."""
    write(tmp_path, *files("a", "b", count=5, under="train"), f"test/{inner}/1.png")
    assert list(open_data(DataConfig(source="folder", root=tmp_path))) == ["train", "test"]
    assert f"{tmp_path / 'test'} has images without classes and is left out" in caplog.text


def test_flat_splits_are_no_classes(tmp_path):
    write(tmp_path, "train/1.png", "train/2.png", "test/1.png", "test/2.png")
    (tmp_path / "train.csv").write_text("id,label\n1,a\n2,b\n")
    with pytest.raises(ValueError, match=r"train has images but no class folders.*train\.csv .*--data\.source csv"):
        open_data(DataConfig(source="folder", root=tmp_path))


def test_a_class_with_files_of_other_formats_only(tmp_path):
    write(tmp_path, *files("a", "b"))
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "1.xyz").write_bytes(b"photo")
    with pytest.raises(ValueError, match=r"not read \(1 \.xyz\).* convert them"):
        list_folder(tmp_path)


def test_a_class_that_differs_in_case_between_splits(tmp_path):
    write(tmp_path, *files("Cat", "dog", under="train"), *files("cat", "dog", under="val"))
    with pytest.raises(ValueError, match=r"'cat': rename .* 'Cat' differs from 'cat'"):
        list_folder(tmp_path)


def test_metadata_beside_class_folders_is_noted(tmp_path, caplog):
    write(tmp_path, *files("a", "b"))
    (tmp_path / "metadata.csv").write_text("file_name,caption\na/0.png,x\n")
    assert open_data(DataConfig(source="folder", root=tmp_path))["train"].classes == ("a", "b")
    assert "metadata.csv is not read" in caplog.text
    assert "class folders" in caplog.text
