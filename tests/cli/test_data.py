"""`data`, as typed."""

from pathlib import Path

import pytest

from cli.screen import Screen
from photographs import break_files, write_photographs


def test_list(screen: Screen) -> None:
    every = {one["name"]: one for one in screen.json("data", "list")["data"]}
    assert every["imagenet1k"]["num_images"] == {"train": 1_281_167, "test": 50_000}
    assert {name: one["val_share"] for name, one in every.items() if one["val_share"]} == {
        "cifar10": 0.02,
        "cifar100": 0.02,
        "imagenet1k": 0.01,
        "pets": 0.1,
    }
    assert "14,197,122" in screen.run("data", "list")
    output = screen.run("data", "list", "pets")
    assert "https://www.robots.ox.ac.uk/~vgg/data/pets/" in output
    assert "chosen by the paper with --data.val-share 0.1" in output
    assert screen.json("data", "list", "flowers")["num_images"]["val"] == 1020
    assert screen.refusal("data", "list", "mnist").startswith("no data set is called 'mnist': choose one of cifar10,")


def test_actions(screen: Screen) -> None:
    assert "vitral data pack DATA FOLDER" in screen.run("data", "--help")
    assert "vitral data pack DATA FOLDER" in screen.run("data", code=2)
    assert screen.refusal("data", "unpack").startswith("unknown action 'unpack': choose one of list, pack")


def test_pack_then_train(screen: Screen, photographs: Path, tmp_path: Path) -> None:
    target = tmp_path / "packed"
    result = screen.json("data", "pack", photographs, target, "--short-side", "32", "--workers", "2")
    assert result["num_images"] == {"train": 72}
    assert result["fresh"]
    assert "nothing to do: the copy is whole" in screen.run("data", "pack", photographs, target, "--short-side", "32")
    words = ["--model.image-size", "16", "--model.patch-size", "8", "--model.width", "12", "--model.depth", "1"]
    words += ["--model.num-heads", "2", "--model.mlp-dim", "12", "--train.steps", "2", "--train.batch-size", "8"]
    run = tmp_path / "run"
    screen.run("train", "folder", "--data.source", "hub", "--data.root", target, "--out", run, *words)
    assert screen.json("eval", run)["num_images"] == 12
    again = screen.refusal("data", "pack", photographs, target, "--short-side", "48")
    assert again == f"{target} holds a copy of other data or by other settings: choose another folder"


def test_pack_and_broken_images(screen: Screen, tmp_path: Path) -> None:
    root = write_photographs(tmp_path / "photos", per_class=2)
    broken = break_files(root)
    sentence = screen.refusal("data", "pack", root, tmp_path / "packed")
    assert sentence.startswith(f"{broken[0]} cannot be read as an image: ")
    assert "12 train images" in screen.run("data", "pack", root, tmp_path / "packed", "--data.on-error", "skip")
    assert screen.errors.count("left out: ") == 3


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["pack"], "vitral data pack takes DATA FOLDER and then flags: vitral data pack --help tells more"),
        (["pack", "nowhere", "x"], "nowhere does not exist: give a folder, a data set's name"),
        (["pack", "nobody/nothing", "x"], "nobody/nothing is neither here nor to be had from the Hub"),
        (["pack", "digits", "x", "--workers", "0"], "--workers must be at least 1, not 0"),
        (["pack", "digits", "x", "--quality", "200"], "--quality must be 1 to 100, not 200"),
        (["pack", "digits", "x", "--speed", "9"], "Unrecognized"),
    ],
)
def test_wrong_use(screen: Screen, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list, sentence: str) -> None:
    monkeypatch.chdir(tmp_path)
    assert sentence in screen.refusal("data", *words)
    assert not (tmp_path / "x").exists()


def test_check(screen: Screen, photographs: Path, tmp_path: Path) -> None:
    assert screen.run("data", "check", photographs) == f"{photographs}: 72 images, nothing to complain of\n"
    assert screen.json("data", "check", photographs, "--strict")["findings"] == []
    root = write_photographs(tmp_path / "photos", per_class=3)
    broken = break_files(root)
    listed = tmp_path / "broken.txt"
    output = screen.run("data", "check", root, "--write", listed, "--workers", "2")
    assert "cannot be read as an image" in output
    assert all(str(file) in output for file in broken)
    assert listed.read_text().splitlines() == [str(file.relative_to(root)) for file in broken]
    found = screen.json("data", "check", root, "--strict", code=1)
    assert found["num_images"] == {"train": 21}
    assert [finding["kind"] for finding in found["findings"]] == ["unreadable"] * 3
    assert screen.json("data", "check", root, "--data.exclude", listed)["findings"] == []
