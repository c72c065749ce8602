"""`vitral data` on the command line."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cli.screen import Screen
from photographs import CLASSES, add_unreadable_files, write_photographs
from vitral.card import ModelCard
from vitral.data.images.preprocess import Preprocessing
from vitral.models import create
from vitral.weights.folder import save_model


def test_list(screen: Screen) -> None:
    every = {one["name"]: one for one in screen.json("data", "list")["data"]}
    assert every["imagenet1k"]["num_images"] == {"train": 1_281_167, "test": 50_000}
    assert {name: one["val_fraction"] for name, one in every.items() if one["val_fraction"]} == {
        "cifar10": 0.02,
        "cifar100": 0.02,
        "imagenet1k": 0.01,
        "pets": 0.1,
    }
    assert "14,197,122" in screen.run("data", "list")
    output = screen.run("data", "list", "pets")
    assert "https://www.robots.ox.ac.uk/~vgg/data/pets/" in output
    assert "--data.val-fraction 0.1" in output
    assert screen.json("data", "list", "flowers")["num_images"]["val"] == 1020
    assert screen.refusal("data", "list", "mnist").startswith("no data set is called 'mnist'")


def test_actions(screen: Screen) -> None:
    assert "vitral data pack DATA FOLDER" in screen.run("data", "--help")
    assert "vitral data pack DATA FOLDER" in screen.run("data", code=2)
    assert screen.refusal("data", "unpack").startswith(
        "unknown action 'unpack' (did you mean pack?): choose one of list, show, pack"
    )


def test_show(screen: Screen, photographs: Path, tmp_path: Path) -> None:
    picture = tmp_path / "sheet.png"
    shown = screen.json("data", "show", photographs, "--count", "3", "--out", picture)
    assert shown["picture"] == str(picture)
    assert len({image["class"] for image in shown["images"]}) == 3, "classes take turns"
    with Image.open(picture) as drawn:
        assert drawn.width > drawn.height > 300
    assert screen.run("data", "show", "digits", "--count", "1", "--out", picture).strip() == str(picture)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--count", "0"], "--count must be between 1 and 40, not 0"),
        (["--like", "foldr"], "unknown recipe 'foldr' (did you mean folder?)"),
        (["--split", "validation"], "unknown split 'validation'"),
        (["--out", "sheet.jpg"], "sheet.jpg is not a .png file"),
    ],
)
def test_show_refuses(screen: Screen, words: list[str], sentence: str) -> None:
    assert screen.refusal("data", "show", "digits", *words).startswith(sentence)


def test_pack_then_train(screen: Screen, photographs: Path, tmp_path: Path) -> None:
    target = tmp_path / "packed"
    result = screen.json("data", "pack", photographs, target, "--short-side", "32", "--workers", "2")
    assert result["num_images"] == {"train": 72}
    assert result["fresh"]
    assert "nothing to do: the copy is complete" in screen.run(
        "data", "pack", photographs, target, "--short-side", "32"
    )
    words = ["--model.image-size", "16", "--model.patch-size", "8", "--model.width", "12", "--model.depth", "1"]
    words += ["--model.num-heads", "2", "--model.mlp-dim", "12", "--train.steps", "2", "--train.batch-size", "8"]
    run = tmp_path / "run"
    screen.run("train", "folder", "--data.source", "hub", "--data.root", target, "--out", run, *words)
    assert screen.json("eval", run)["num_images"] == 12
    again = screen.refusal("data", "pack", photographs, target, "--short-side", "48")
    assert again.startswith(f"{target} contains a copy of other data or with other settings")


def test_pack_and_unreadable_images(screen: Screen, tmp_path: Path) -> None:
    root = write_photographs(tmp_path / "photos", per_class=2)
    unreadable = add_unreadable_files(root)
    sentence = screen.refusal("data", "pack", root, tmp_path / "packed")
    assert sentence.startswith(f"{unreadable[0]} cannot be read as an image: ")
    assert "12 train images" in screen.run("data", "pack", root, tmp_path / "packed", "--data.on-error", "skip")
    assert screen.errors.count("skipped: ") == 3


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["pack"], "vitral data pack takes DATA FOLDER and then flags"),
        (["pack", "nowhere", "x"], "nowhere does not exist: give a folder, a data set's name"),
        (["pack", "nobody/nothing", "x"], "nobody/nothing is neither a local path nor available on the Hub"),
        (["pack", "digits", "x", "--workers", "0"], "--workers must be at least 1, not 0"),
        (["pack", "digits", "x", "--quality", "200"], "--quality must be 1 to 100, not 200"),
        (["pack", "digits", "x", "--speed", "9"], "unknown option --speed"),
    ],
)
def test_wrong_use(screen: Screen, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list, sentence: str) -> None:
    monkeypatch.chdir(tmp_path)
    assert sentence in screen.refusal("data", *words)
    assert not (tmp_path / "x").exists()


def test_check(screen: Screen, photographs: Path, tmp_path: Path) -> None:
    output = screen.run("data", "check", photographs)
    assert f"{photographs}: 72 images" in output
    assert output.endswith("no problems\n")
    assert screen.json("data", "check", photographs, "--strict")["findings"] == []
    root = write_photographs(tmp_path / "photos", per_class=3)
    unreadable = add_unreadable_files(root)
    listed = tmp_path / "broken.txt"
    output = screen.run("data", "check", root, "--write", listed, "--workers", "2")
    assert "cannot be read as an image" in output
    assert all(str(file) in output for file in unreadable)
    assert listed.read_text().splitlines() == [str(file.relative_to(root)) for file in unreadable]
    found = screen.json("data", "check", root, "--strict", code=1)
    assert found["num_images"] == {"train": 21}
    assert [finding["kind"] for finding in found["findings"]] == ["unreadable"] * 3
    assert screen.json("data", "check", root, "--data.exclude", listed)["findings"] == []
    page = tmp_path / "check.html"
    assert screen.json("data", "check", root, "--page", page)["summary"]["properties"]["format"]["PNG"] > 0
    text = page.read_text()
    assert "cannot be read as an image" in text
    assert all(f">{name}</th>" in text for name in CLASSES)
    assert screen.refusal("data", "check", root, "--page", "check.txt").endswith("--page must end in .html")


@pytest.fixture
def leaking(tmp_path: Path) -> Path:
    """Training photographs, of which three lie among the test ones: recompressed, shrunk, cropped."""
    root = tmp_path / "leaking"
    for split, seed in (("train", 0), ("test", 7)):
        write_photographs(root / split, per_class=3, seed=seed)
    copies = {
        "cat/000-plain.png": lambda image: image,
        "coffee/001-plain.tiff": lambda image: image.resize((image.width // 2, image.height // 2)),
        "rocket/000-plain.gif": lambda image: image.crop((4, 3, image.width - 2, image.height)),
    }
    for number, (name, copy) in enumerate(copies.items()):
        with Image.open(root / "train" / name) as image:
            copy(image.convert("RGB")).save(root / "test" / name.split("/")[0] / f"copy-{number}.jpg", quality=80)
    return root


def test_near(screen: Screen, leaking: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    listed = tmp_path / "near.txt"
    result = screen.json("data", "near", leaking, "--write", listed, "--workers", "2")
    assert result["num_images"] == {"train": 18, "other": 21}
    assert sorted((Path(pair["train"]).parent.name, Path(pair["like"]).name) for pair in result["pairs"]) == [
        ("cat", "copy-0.jpg"),
        ("coffee", "copy-1.jpg"),
        ("rocket", "copy-2.jpg"),
    ]
    names = ["train/cat/000-plain.png", "train/coffee/001-plain.tiff", "train/rocket/000-plain.gif"]
    assert listed.read_text().splitlines() == names
    with Image.open(tmp_path / result["picture"]) as picture:
        assert picture.width > 3 * picture.height / 2
    output = screen.run("data", "near", leaking, "--out", tmp_path / "pairs.png")
    assert f"{leaking}: 3 of 18 training images nearly duplicate one of 21 other images" in output
    assert "0 of 15 training" in screen.run("data", "near", leaking, "--data.exclude", listed)
    words = ["--train.steps", "1", "--train.batch-size", "4", "--model.depth", "1", "--model.width", "12"]
    words += ["--model.num-heads", "2", "--model.mlp-dim", "12", "--model.image-size", "16", "--model.patch-size", "8"]
    screen.run("train", "folder", "--data.root", leaking, "--data.exclude", listed, "--out", tmp_path / "run", *words)
    assert screen.json("eval", tmp_path / "run", "--split", "train")["num_images"] == 15


def test_near_against_other_data_and_by_a_model(screen: Screen, leaking: Path, tmp_path: Path) -> None:
    out = ["--out", str(tmp_path / "pairs.png")]
    result = screen.json("data", "near", leaking / "train", "--against", leaking, *out)
    assert len(result["pairs"]) == 3
    assert result["num_images"] == {"train": 18, "other": 21}
    vit = create("ViT-Ti/16", num_classes=len(CLASSES), image_size=32)
    card = ModelCard(preprocessing=Preprocessing(image_size=(32, 32), channels=3), classes=CLASSES)
    save_model(tmp_path / "model", vit, card)
    by_model = screen.json("data", "near", leaking, "--model", tmp_path / "model", "--threshold", "0.999", *out)
    likes = {Path(pair["like"]).name for pair in by_model["pairs"]}
    assert {"copy-0.jpg", "copy-1.jpg"} <= likes
    assert all(pair["distance"] <= 0.001 + 1e-6 for pair in by_model["pairs"])


def test_near_leaves_out_plain_images_and_lists_pairs_across_classes_apart(
    screen: Screen, leaking: Path, tmp_path: Path
) -> None:
    out = ["--out", str(tmp_path / "pairs.png")]
    brightness = np.linspace(120, 190, 64)[:, None].repeat(64, axis=1)
    for split, shift in (("train", 0), ("test", 9)):
        Image.fromarray((brightness + shift).astype(np.uint8)).save(leaking / split / "cat" / "sky.png")
    (leaking / "test" / "cat" / "copy-0.jpg").rename(leaking / "test" / "rocket" / "copy-0.jpg")
    result = screen.json("data", "near", leaking, *out)
    skies = {str(leaking / split / "cat" / "sky.png") for split in ("train", "test")}
    assert skies <= set(result["featureless"])
    assert not any("sky" in pair["train"] for pair in result["pairs"])
    across = [pair for pair in result["pairs"] if pair["across_classes"]]
    assert [(Path(pair["like"]).name, pair["classes"]) for pair in across] == [("copy-0.jpg", ["cat", "rocket"])]
    output = screen.run("data", "near", leaking, *out)
    assert f"left out {len(result['featureless'])} images of nearly one colour" in screen.errors
    assert output.index("copy-1.jpg") < output.index("across classes") < output.index("copy-0.jpg")


def test_near_and_unreadable_images(screen: Screen, leaking: Path, tmp_path: Path) -> None:
    unreadable = add_unreadable_files(leaking / "train")
    out = ["--out", str(tmp_path / "pairs.png")]
    sentence = screen.refusal("data", "near", leaking, *out)
    assert sentence.startswith(f"{unreadable[0]} cannot be read as an image: ")
    assert len(screen.json("data", "near", leaking, "--data.on-error", "skip", *out)["pairs"]) == 3
    assert screen.errors.count("skipped: ") == 3
    wrong = {"0.9": "takes 0 to 32 bits for hashes, not 0.9", "40": "not 40"}
    for value, sentence in wrong.items():
        assert sentence in screen.refusal("data", "near", leaking, "--threshold", value, *out)


def test_check_by_a_model_finds_wrong_labels(screen: Screen, photographs: Path, tmp_path: Path) -> None:
    root = tmp_path / "photos"
    shutil.copytree(photographs, root)
    moved = root / "cat" / "moved.png"
    moved.write_bytes(next((root / "rocket").glob("*.png")).read_bytes())
    model = create("ViT-Ti/16", num_classes=len(CLASSES), image_size=32)
    save_model(tmp_path / "model", model, small_photograph_card())
    sheet, listed = tmp_path / "suspects.png", tmp_path / "suspects.csv"
    words = ["data", "check", root, "--model", tmp_path / "model", "--sheet", sheet, "--csv", listed]
    suspects = screen.json(*words)["suspects"]
    labels = [one for one in suspects if one["problem"] == "label"]
    assert len(labels) >= 7
    assert [one["score"] for one in labels[:7]] == sorted(one["score"] for one in labels[:7])
    with Image.open(sheet) as picture:
        assert picture.width > 800
    text = listed.read_text()
    assert text.startswith("image,exclude,problem,label,likely,score\n")
    excluded = sum(one["exclude"] for one in suspects)
    rest = screen.json("data", "check", root, "--data.exclude", listed)["num_images"]["train"]
    assert rest == 73 - excluded
    output = screen.run(*words)
    assert "label: the label is probably wrong" in output
    assert "contact sheet" in screen.errors


def small_photograph_card() -> ModelCard:
    return ModelCard(preprocessing=Preprocessing(image_size=(32, 32), channels=3), classes=CLASSES)


def test_check_by_a_model_refuses(screen: Screen, photographs: Path, tmp_path: Path) -> None:
    assert "--csv needs --model" in screen.refusal("data", "check", photographs, "--csv", tmp_path / "x.csv")
    assert "nowhere" in screen.refusal("data", "check", photographs, "--model", "nowhere")
    other = tmp_path / "other.csv"
    other.write_text("name,class\nx.png,a\n")
    assert "no columns image and exclude" in screen.refusal("data", "check", photographs, "--data.exclude", other)
