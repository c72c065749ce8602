"""Commands that use a model: eval, predict, inspect, recipes; standard streams, and memory."""

import csv
import io
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import vitral
from cli.screen import Screen
from models import small_card, small_model
from photographs import CLASSES, add_unreadable_files, write_photographs
from vitral.cli import main
from vitral.errors import UserError
from vitral.recipes import RECIPES
from vitral.serve.predictor import Predictor
from vitral.vit_config import ViTConfig
from vitral.weights.folder import load_model, save_model
from vitral.weights.save import save_as

PHOTOGRAPHIC = ViTConfig(
    image_size=32, patch_size=8, width=12, depth=8, num_heads=3, mlp_dim=24, num_classes=len(CLASSES), pool="gap"
)


@pytest.fixture
def digits_run(trained: Path, tmp_path: Path) -> Path:
    """A copy of the run on digits, to be written to."""
    return Path(shutil.copytree(trained, tmp_path / "digits"))


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A random model of photographs, without the record of a run."""
    vit = small_model(PHOTOGRAPHIC)
    card = small_card(PHOTOGRAPHIC)
    save_model(tmp_path / "model", vit, type(card)(preprocessing=card.preprocessing, classes=CLASSES))
    return tmp_path / "model"


def readable_picture(path: Path) -> bool:
    with Image.open(path) as picture:
        picture.load()
        return picture.format == "PNG"


# eval


def test_eval_equals_the_evaluation_of_training(screen: Screen, digits_run: Path) -> None:
    figures = screen.json("eval", digits_run)
    card = load_model(digits_run).card
    for name in ("top1", "top5", "loss", "ece"):
        assert figures[name] == pytest.approx(card.metrics[f"test/{name}"], abs=1e-6)
    assert (figures["run"], figures["split"], figures["num_images"]) == (str(digits_run), "test", 359)
    assert [row["name"] for row in figures["classes"]] == [str(digit) for digit in range(10)]
    confusion = np.array(figures["confusion"])
    assert confusion.sum(1).tolist() == [row["num_images"] for row in figures["classes"]]
    assert confusion.trace() / confusion.sum() == pytest.approx(figures["top1"])
    assert figures["unreadable"] == []
    assert readable_picture(digits_run / "confusion.png")


def test_eval_prints_tables(screen: Screen, digits_run: Path, tmp_path: Path) -> None:
    output = screen.run("eval", digits_run, "--split", "train", "--out", tmp_path / "there.png")
    for text in ("train images", "1,438", "top-1 accuracy", "calibration error", str(tmp_path / "there.png")):
        assert text in output
    assert readable_picture(tmp_path / "there.png")
    assert not (digits_run / "confusion.png").exists()


def test_eval_writes_its_table_in_each_form(screen: Screen, digits_run: Path, tmp_path: Path) -> None:
    """Beside the pictures, which then lie where they do by default."""
    for name in ("table.md", "table.csv", "table.json"):
        result = screen.json("eval", digits_run, "--out", tmp_path / name)
    assert json.loads((tmp_path / "table.json").read_text()) == result
    rows = list(csv.DictReader((tmp_path / "table.csv").read_text().splitlines()))
    assert [row["class"] for row in rows] == ["all", *map(str, range(10))]
    assert (rows[0]["top-1"], rows[0]["images"]) == (f"{result['top1']:.2%}", "359")
    assert float(rows[0]["seconds"]) > 0
    assert [int(row["images"]) for row in rows[1:]] == [row["num_images"] for row in result["classes"]]
    assert rows[4]["top-1"] == f"{result['classes'][3]['accuracy']:.2%}"
    assert (tmp_path / "table.md").read_text().startswith("| class | top-1 | top-5 | loss | ECE | images | seconds |")
    assert readable_picture(digits_run / "confusion.png")


def test_eval_of_a_moved_model_takes_all_images_of_a_folder(screen: Screen, model: Path, photographs: Path) -> None:
    figures = screen.json("eval", model, "--data.source", "folder", "--data.root", photographs)
    assert figures["split"] == "all"
    assert figures["num_images"] == 12 * len(CLASSES)
    held_out = screen.json("eval", model, "--data.root", photographs, "--split", "test")
    assert held_out["num_images"] == 2 * len(CLASSES)


def test_eval_matches_classes_by_name(screen: Screen, model: Path, photographs: Path) -> None:
    sorted_order = screen.json("eval", model, "--data.root", photographs)
    vit = load_model(model)
    order = np.roll(np.arange(len(CLASSES)), 2)
    card = vit.card
    vit.head.weight.data, vit.head.bias.data = vit.head.weight.data[order], vit.head.bias.data[order]
    classes = tuple(CLASSES[index] for index in order)
    save_model(model, vit, type(card)(preprocessing=card.preprocessing, classes=classes))
    rolled_order = screen.json("eval", model, "--data.root", photographs)
    assert rolled_order["top1"] == sorted_order["top1"]
    assert rolled_order["loss"] == pytest.approx(sorted_order["loss"], rel=1e-5)
    assert sorted(rolled_order["classes"], key=lambda row: row["name"]) == sorted_order["classes"]
    assert [row["name"] for row in rolled_order["classes"]] == list(classes)


def test_eval_of_a_folder_that_lacks_classes(screen: Screen, model: Path, photographs: Path, tmp_path: Path) -> None:
    shutil.copytree(photographs / "cat", tmp_path / "some" / "cat")
    figures = screen.json("eval", model, "--data.root", tmp_path / "some")
    assert figures["num_images"] == 12
    accuracy = {row["name"]: row["accuracy"] for row in figures["classes"]}
    assert accuracy["cat"] == figures["top1"]
    assert accuracy["coffee"] is None
    assert "-" in screen.run("eval", model, "--data.root", tmp_path / "some", "--out", tmp_path / "some.json")
    rows = json.loads((tmp_path / "some.json").read_text())["classes"]
    assert {row["name"]: row["accuracy"] for row in rows} == accuracy


def test_eval_of_a_runs_weights_is_that_of_the_run(screen: Screen, digits_run: Path) -> None:
    """Heads, normalisation and classes come from the folder; the weights alone look like another library's."""
    words = ("--data.source", "digits", "--data.root", "None")
    result = screen.json("eval", digits_run / "model.safetensors", *words, "--out", digits_run / "c.png")
    assert screen.errors == ""
    expected = screen.json("eval", digits_run, "--out", digits_run / "c.png")
    for figures in (result, expected):
        figures.pop("seconds"), figures.pop("run", None), figures.pop("model", None)
    assert result == expected


def test_eval_of_a_folder_that_cannot_be_written_draws_here(
    screen: Screen, digits_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever may write everywhere sees no folder that cannot be written, so the system's answer is set here."""
    monkeypatch.setattr("os.access", lambda path, _: path != digits_run)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert "confusion matrix: confusion.png" in screen.run("eval", digits_run)
    assert readable_picture(tmp_path / "here" / "confusion.png")
    assert not (digits_run / "confusion.png").exists()


def test_eval_and_unreadable_images(screen: Screen, model: Path, tmp_path: Path) -> None:
    root = write_photographs(tmp_path / "photographs", per_class=3)
    unreadable = add_unreadable_files(root)
    stopped = screen.refusal("eval", model, "--data.root", root)
    assert str(unreadable[0]) in stopped
    assert "--data.on-error skip" in stopped
    figures = screen.json("eval", model, "--data.root", root, "--data.on-error", "skip")
    assert figures["num_images"] == 3 * len(CLASSES)
    assert len(figures["unreadable"]) == len(unreadable)
    assert all(str(path) in screen.errors for path in unreadable)


def test_eval_with_workers_is_the_same(screen: Screen, model: Path, photographs: Path) -> None:
    alone = screen.json("eval", model, "--data.root", photographs)
    result = screen.json("eval", model, "--data.root", photographs, "--data.workers", "1")
    assert result | {"seconds": alone["seconds"]} == alone


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--split", "val"], "the data has no val split, only train and test: choose --split test"),
        (["--split", "all"], "--split all is for folders of images"),
        (["--out", "missing/a.png"], "missing does not exist"),
        (["--out", "a.pdf"], "--out must end in .png, .md, .csv or .json"),
        (["--device", "abacus"], "device 'abacus' is not available"),
        (["--device", "meta"], "device 'meta' is not available: choose auto, cpu, cuda, cuda:1, mps or xpu"),
    ],
)
def test_eval_refuses(screen: Screen, trained: Path, words: list[str], sentence: str) -> None:
    assert sentence in screen.refusal("eval", trained, *words)


@pytest.mark.parametrize("command", ["eval", "inspect"])
def test_a_picture_that_cannot_be_written_is_refused_before_anything_is_computed(
    screen: Screen, command: str, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vitral.vit.ViT.forward", lambda *_: pytest.fail("computed"))
    folder = tmp_path / "folder.png"
    folder.mkdir()
    error = screen.refusal(command, trained, "--out", folder)
    assert error.startswith(f"{folder} is a folder")
    assert error.endswith("--out")
    monkeypatch.setattr("os.access", lambda *_: False)  # an administrator may write anywhere
    error = screen.refusal(command, trained, "--out", tmp_path / "a.png")
    assert error.startswith(f"{tmp_path} cannot be written to")
    assert error.endswith("--out")


def test_eval_prints_its_figures_before_it_draws(
    screen: Screen, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device", "a.png")

    monkeypatch.setattr("vitral.commands.evaluate.command.draw_confusion", full)
    assert "top-1 accuracy" in screen.run("eval", trained, "--out", tmp_path / "a.png", code=2)
    assert screen.errors == "vitral: a.png: No space left on device\n"
    assert "top1" in screen.json("eval", trained, "--out", tmp_path / "a.png", code=2)


def test_eval_on_data_of_another_kind_inherits_nothing(
    screen: Screen, trained: Path, photographs: Path, tmp_path: Path
) -> None:
    run = Path(shutil.copytree(trained, tmp_path / "run"))
    record = json.loads((run / "run.json").read_text())
    record["data"]["class_names"] = [f"digit {label}" for label in range(10)]
    (run / "run.json").write_text(json.dumps(record))
    words = ["--data.source", "folder", "--data.root", photographs, "--split", "all"]
    error = screen.refusal("eval", run, *words)
    assert "6 classes that the model does not know" in error
    assert "'astronaut'" in error


def test_eval_refuses_unknown_words(screen: Screen, trained: Path) -> None:
    for words in (["--split", "tset"], ["--data.rot", "x"]):
        assert screen.run("eval", trained, *words, code=2) == ""
        assert words[0] in screen.errors


def test_eval_refuses_data_that_is_not_there(screen: Screen, model: Path, photographs: Path, tmp_path: Path) -> None:
    assert "--data.root" in screen.refusal("eval", model)
    assert "nothing is not a folder" in screen.refusal("eval", model, "--data.root", tmp_path / "nothing")
    shutil.copytree(photographs / "cat", tmp_path / "data" / "dog")
    error = screen.refusal("eval", model, "--data.root", tmp_path / "data")
    assert "1 class that the model does not know" in error
    assert "'dog'" in error
    shutil.copytree(photographs, tmp_path / "split" / "train")
    shutil.copytree(photographs, tmp_path / "split" / "test")
    error = screen.refusal("eval", model, "--data.root", tmp_path / "split")
    assert error.startswith(f"{tmp_path / 'split'} has splits")
    assert "--split" in error


def test_eval_wants_the_folder_first(screen: Screen, trained: Path) -> None:
    assert "folder before --split" in screen.refusal("eval", "--split", "test", trained)


# predict


def test_predict_prints_a_table(screen: Screen, model: Path, photographs: Path) -> None:
    output = screen.run("predict", model, photographs / "cat", photographs / "china" / "000-plain.webp")
    for path in [*sorted((photographs / "cat").iterdir()), photographs / "china" / "000-plain.webp"]:
        assert path.name in output.replace("\n", "")
    assert "next guesses" in output
    assert "%" in output


def test_predict_as_json(screen: Screen, model: Path, photographs: Path) -> None:
    answer = screen.json("predict", model, photographs, "--top", "2")
    assert answer["failures"] == []
    names = [prediction["file"] for prediction in answer["predictions"]]
    assert names == [str(path) for name in CLASSES for path in sorted((photographs / name).iterdir())]
    for prediction in answer["predictions"]:
        assert len(prediction["top"]) == 2
        assert prediction["top"][0] == {"class": prediction["class"], "probability": prediction["probability"]}


def test_predict_as_csv(screen: Screen, model: Path, photographs: Path, tmp_path: Path) -> None:
    odd = tmp_path / 'a, "b" [red].jpg'
    shutil.copy(photographs / "cat" / "011-plain.jpg", odd)
    rows = list(csv.DictReader(io.StringIO(screen.run("predict", model, odd, photographs / "cat", "--csv"))))
    assert len(rows) == 13
    assert list(rows[0]) == ["file", "class", "probability", "class_2", "probability_2", "class_3", "probability_3"]
    assert rows[0]["file"] == str(odd)
    assert rows[0]["class"] in CLASSES
    assert float(rows[0]["probability"]) >= float(rows[0]["probability_2"]) >= float(rows[0]["probability_3"]) >= 0
    assert str(odd) in screen.run("predict", model, odd)


def test_predict_reads_paths_from_standard_input(
    screen: Screen, model: Path, photographs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = photographs / "cat" / "000-plain.png", photographs / "china"
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{first}\r\n\n{second}\n"))
    names = [prediction["file"] for prediction in screen.json("predict", model, "-")["predictions"]]
    assert names == [str(first), *(str(path) for path in sorted(second.iterdir()))]
    monkeypatch.setattr("sys.stdin", io.StringIO("\n"))
    assert "standard input has no paths" in screen.refusal("predict", model, "-")


def test_predict_reports_and_skips_unreadable_and_missing_files(screen: Screen, model: Path, tmp_path: Path) -> None:
    root = write_photographs(tmp_path / "photographs", per_class=1)
    unreadable = [*add_unreadable_files(root), tmp_path / "missing.jpg"]
    answer = screen.json("predict", model, root, tmp_path / "missing.jpg", code=1)
    assert len(answer["predictions"]) == len(CLASSES)
    assert {failure["file"] for failure in answer["failures"]} == {str(path) for path in unreadable}
    assert screen.errors.count("\n") == len(unreadable) + 1
    assert f"{len(unreadable)} of {len(unreadable) + len(CLASSES)} images could not be read" in screen.errors
    for failure in answer["failures"]:
        assert failure["reason"] in screen.errors


def test_predict_says_what_is_wrong_with_a_single_file(screen: Screen, model: Path, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no image")
    error = screen.refusal("predict", model, tmp_path / "notes.txt")
    assert "notes.txt cannot be read as an image: it is not a JPEG" in error
    assert screen.errors.count("notes.txt") == 1


def test_predict_counts_files_of_other_formats(screen: Screen, model: Path, photographs: Path, tmp_path: Path) -> None:
    shutil.copytree(photographs / "cat", tmp_path / "photos")
    (tmp_path / "photos" / "phone.DNG").write_bytes(b"photo")
    assert len(screen.json("predict", model, tmp_path / "photos")["predictions"]) > 0
    assert "left out 1 file of" in screen.errors
    assert "1 .dng" in screen.errors


def test_predict_fails_where_nothing_can_be_read(screen: Screen, model: Path, tmp_path: Path) -> None:
    answer = screen.json("predict", model, tmp_path / "a.jpg", tmp_path / "b.jpg", code=2)
    assert answer["predictions"] == []
    assert len(answer["failures"]) == 2
    assert "vitral: none of 2 images" in screen.errors
    assert screen.run("predict", model, tmp_path / "a.jpg", code=2) == ""
    assert screen.run("predict", model, tmp_path / "a.jpg", "--csv", code=2).count("\n") == 1


def test_predict_takes_many_files_in_batches(screen: Screen, model: Path, tmp_path: Path) -> None:
    shades = np.random.default_rng(0).integers(0, 256, (530, 3))
    for number, shade in enumerate(shades.tolist()):
        folder = tmp_path / "many" / f"{number % 5}" / ".." / f"{number % 5}" / "deep"
        folder.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (5, 4), tuple(shade)).save(folder / f"{number}.png")
    (tmp_path / "many" / ".hidden").mkdir()
    Image.new("RGB", (5, 4)).save(tmp_path / "many" / ".hidden" / "a.png")
    (tmp_path / "many" / "notes.txt").write_text("no image")
    few = screen.json("predict", model, tmp_path / "many", "--batch-size", "3")["predictions"]
    many = screen.json("predict", model, tmp_path / "many", "--batch-size", "512")["predictions"]
    assert len(few) == 530
    assert [row["file"] for row in few] == [row["file"] for row in many]
    assert [row["probability"] for row in few] == pytest.approx([row["probability"] for row in many], abs=1e-5)


def test_predict_copes_with_file_names_that_are_no_text(screen: Screen, model: Path, tmp_path: Path) -> None:
    name = b"caf\xe9.png".decode(errors="surrogateescape")
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    (tmp_path / "a.png").rename(tmp_path / name)
    for form in ("--json", "--csv", "--top=1"):
        assert "caf" in screen.run("predict", model, tmp_path, form)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--top", "0"], "top-k must be from 1 to 6, not 0"),
        (["--top", "7"], "top-k must be from 1 to 6, not 7"),
        (["--batch-size", "0"], "batch_size must be at least 1, not 0"),
    ],
)
def test_predict_refuses(screen: Screen, model: Path, photographs: Path, words: list[str], sentence: str) -> None:
    assert sentence in screen.refusal("predict", model, photographs, *words)


def test_predict_refuses_the_empty_name(screen: Screen, model: Path) -> None:
    assert screen.refusal("predict", model, "").startswith("an image has an empty name: ")


def test_predict_refuses_an_empty_folder(screen: Screen, model: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert "empty has no images" in screen.refusal("predict", model, tmp_path / "empty")


# inspect


@pytest.fixture
def headless(tmp_path: Path) -> Path:
    """Google's file of an encoder alone."""
    save_as(small_model(image_size=16), tmp_path / "whole.npz", "google")
    with np.load(tmp_path / "whole.npz") as archive:
        arrays = {name: array for name, array in archive.items() if not name.startswith("head/")}
    np.savez(tmp_path / "encoder.npz", **arrays)
    return tmp_path / "encoder.npz"


def test_inspect_refuses_weights_that_are_not_finite(
    screen: Screen, model: Path, photographs: Path, tmp_path: Path
) -> None:
    broken = vitral.load(model)
    with torch.no_grad():
        broken.blocks[3].norm1.weight[0] = torch.nan
    save_model(tmp_path / "broken", broken, broken.card)
    for figure in ("attention", "filters", "positions"):
        error = screen.refusal("inspect", tmp_path / "broken", photographs / "cat", "--figure", figure)
        assert "outputs are not finite" in error
    assert not list(tmp_path.glob("broken/*.png"))


@pytest.mark.parametrize("form", ["google", "vitral", "timm", "transformers"])
def test_a_model_without_a_head_names_no_classes(
    screen: Screen, headless: Path, photographs: Path, tmp_path: Path, form: str
) -> None:
    where, heads = headless, ("--num-heads", "3")
    if form != "google":
        where = tmp_path / form / ("x.safetensors" if form == "torchvision" else "folder")
        screen.run("convert", headless, where, "--to", form, *heads)
        assert vitral.load(where).card.classes == ()
    for words in (("predict", where, photographs), ("eval", where, "--data.root", photographs)):
        error = screen.refusal_after_notes(*words)
        assert f"{where} has no trained head" in error
        assert "predicts no classes" in error
        assert f"vitral eval {where} --suite knn" in error
        assert f"vitral train finetune --model.weights {where}" in error
    found = screen.json("inspect", where, photographs / "cat", "--out", tmp_path / "a.png")
    assert {(image["class"], image["probability"]) for image in found["images"]} == {(None, None)}
    page = tmp_path / "dry"
    screen.run("push", where, "me/encoder", "--dry-run", page)
    text = (page / "README.md").read_text()
    assert "It has no trained head." in text
    assert "pipeline_tag: image-feature-extraction" in text
    assert "Predictor" not in text


def test_a_predictor_of_a_model_without_a_head_gives_features_only(headless: Path, photographs: Path) -> None:
    predictor = Predictor(headless)
    with pytest.raises(UserError, match=r"the model has no trained head.* predicts no classes.* fine-tune"):
        predictor(next((photographs / "cat").iterdir()))
    assert predictor.extract_features(torch.zeros(1, 16, 16, 3, dtype=torch.uint8)).shape == (1, 12)


def test_inspect_draws_held_out_images_of_different_classes(screen: Screen, digits_run: Path) -> None:
    assert screen.run("inspect", digits_run) == f"{digits_run / 'attention.png'}\n"
    assert readable_picture(digits_run / "attention.png")
    answer = screen.json("inspect", digits_run, "--count", "10")
    assert {image["truth"] for image in answer["images"]} == {str(digit) for digit in range(10)}
    again, other = (screen.json("inspect", digits_run, "--seed", seed) for seed in ("0", "1"))
    assert again["images"] == answer["images"][:4]
    assert other["images"] != again["images"]


def test_inspect_draws_photographs(screen: Screen, model: Path, photographs: Path, tmp_path: Path) -> None:
    files = [photographs / "cat" / "005-rotated.jpeg", photographs / "rocket" / "003-palette.png"]
    answer = screen.json("inspect", model, *files, "--out", tmp_path / "a.png")
    assert [image["name"] for image in answer["images"]] == [file.name for file in files]
    assert all(image["truth"] is None and image["class"] in CLASSES for image in answer["images"])
    assert readable_picture(tmp_path / "a.png")


def test_inspect_draws_the_images_of_a_folder(screen: Screen, model: Path, photographs: Path, tmp_path: Path) -> None:
    names = sorted(path.name for path in (photographs / "cat").iterdir())
    answer = screen.json("inspect", model, photographs / "cat", "--out", tmp_path / "a.png")
    assert [image["name"] for image in answer["images"]] == names
    assert screen.errors == ""
    (tmp_path / "empty").mkdir()
    assert "empty has no images" in screen.refusal("inspect", model, tmp_path / "empty")
    many = screen.json("inspect", model, photographs, "--out", tmp_path / "a.png")
    assert len(many["images"]) == 32
    assert screen.errors == f"only the first 32 of {12 * len(CLASSES)} images are drawn\n"


def test_names_that_are_no_text_or_of_other_scripts_are_drawn(screen: Screen, model: Path, tmp_path: Path) -> None:
    classes = ("caf\udce9", "猫", "犬", "$x_1$", "e", "f")
    vit = load_model(model)
    save_model(model, vit, type(vit.card)(preprocessing=vit.card.preprocessing, classes=classes))
    for name in classes:
        (tmp_path / "photos" / name).mkdir(parents=True)
        for number in range(2):
            Image.new("RGB", (8, 8)).save(tmp_path / "photos" / name / f"{number}.png")
    odd = tmp_path / "photos" / "caf\udce9" / "図\udce9.png"
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    (tmp_path / "a.png").rename(odd)
    screen.run("eval", model, "--data.root", tmp_path / "photos", "--split", "all")
    assert screen.errors == ""
    assert readable_picture(model / "confusion.png")
    screen.run("inspect", model, odd)
    assert screen.errors == ""
    assert readable_picture(model / "attention.png")


@pytest.mark.slow
def test_inspect_passes_over_unreadable_images_where_the_run_did(screen: Screen, tmp_path: Path) -> None:
    root = tmp_path / "photographs"
    write_photographs(root / "train", per_class=1)
    unreadable = add_unreadable_files(write_photographs(root / "test", per_class=2))
    words = ["--model.width", "12", "--model.depth", "1", "--model.mlp-dim", "12", "--train.steps", "1"]
    run = tmp_path / "run"
    screen.run("train", "folder", "--data.root", root, "--data.on-error", "skip", "--out", run, *words)
    assert len(screen.json("inspect", run, "--count", "32")["images"]) == 2 * len(CLASSES)
    assert all(f"skipped: {path}" in screen.errors for path in unreadable)


def test_inspect_draws_each_figure_and_all_of_them(screen: Screen, digits_run: Path, tmp_path: Path) -> None:
    answer = screen.json("inspect", digits_run, "--figure", "distance", "--out", tmp_path / "d.svg")
    assert (answer["figures"], answer["distance_images"]) == (["distance"], 128)
    assert all(0 < value < 11.4 for layer in answer["distances"] for value in layer)
    assert "<svg" in (tmp_path / "d.svg").read_text()
    assert "images" not in screen.json("inspect", digits_run, "--figure", "filters", "--out", tmp_path / "f.png")
    assert screen.run("inspect", digits_run, "--figure", "relevance") == f"{digits_run / 'relevance.png'}\n"
    assert readable_picture(digits_run / "relevance.png")
    everything = screen.json("inspect", digits_run, "--all", "--count", "2")
    assert (everything["picture"], len(everything["images"])) == (str(digits_run / "inspection.html"), 2)
    assert len(everything["figures"]) == (digits_run / "inspection.html").read_text().count("<img") == 7


def test_figures_of_weights_need_no_images(screen: Screen, model: Path) -> None:
    for name in ("positions", "filters"):
        assert screen.run("inspect", model, "--figure", name) == f"{model / name}.png\n"
    assert "give images to draw" in screen.refusal("inspect", model, "--figure", "distance")


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["missing.jpg"], "missing.jpg cannot be read as an image: there is no such file"),
        (["--count", "0"], "between 1 and 32 images, not 0"),
        (["--count", "33"], "between 1 and 32 images, not 33"),
        (["--seed", "-1"], "--seed must be at least 0, not -1"),
        ([""], "an image has an empty name"),
        (["--out", "a.gif"], "--out must end in .png or .svg or .pdf"),
        (["--all", "--out", "a.png"], "--out must end in .html or .pdf"),
        (["--figure", "map"], "invalid choice: 'map'"),
        (["--all", "--figure", "tokens"], "not allowed with argument"),
        ([], "has no run.json"),
        (["--all"], "has no run.json"),
    ],
)
def test_inspect_refuses(screen: Screen, model: Path, words: list[str], sentence: str) -> None:
    assert sentence in screen.refusal("inspect", model, *words)


# all that take a model


@pytest.mark.parametrize("command", ["eval", "predict", "inspect"])
def test_a_model_that_cannot_be_used_is_refused(screen: Screen, command: str, model: Path, tmp_path: Path) -> None:
    def refusal(folder: Path) -> str:
        return screen.refusal(command, folder, *(["a.jpg"] if command != "eval" else []))

    assert "does not exist: give the folder of a trained model" in refusal(tmp_path / "nothing")
    assert "is not a Vitral model" in refusal(tmp_path)
    unfinished = tmp_path / "unfinished"
    unfinished.mkdir()
    (unfinished / "run.json").write_text("{}")
    assert refusal(unfinished).endswith(f"finish it with: vitral train --resume {unfinished}")
    (model / "config.json").write_text("[]")
    assert "config.json" in refusal(model)


@pytest.mark.parametrize("command", ["eval", "predict", "inspect", "models", "plan", "recipes"])
def test_help(screen: Screen, command: str) -> None:
    assert f"vitral {command}" in screen.run(command, "--help")


def test_help_of_eval_lists_the_runs_own_data(screen: Screen, trained: Path) -> None:
    output = screen.run("eval", trained, "--help")
    for text in ("--split", "--data.root", "--data.on-error", "digits", "--json"):
        assert text in output


# the streams, and memory


OWN_PACKAGE = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2] / "src"), "PYTHONUNBUFFERED": ""}
"""What finds this package, and buffers as in a terminal."""


def ended(*words: str | Path, env: dict[str, str] | None = None, **streams: Any) -> subprocess.CompletedProcess[bytes]:
    """`vitral WORDS` in a new process, with captured standard error."""
    command = [sys.executable, "-m", "vitral", *map(str, words)]
    return subprocess.run(command, stderr=subprocess.PIPE, check=False, env=OWN_PACKAGE | (env or {}), **streams)


@pytest.mark.parametrize("words", [["--help"], ["recipes"], ["recipes", "--json"], ["models", "--help"]])
def test_a_closed_pipe_ends_the_command_quietly(words: list[str]) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb") as pipe:
        result = ended(*words, stdout=pipe)
    assert (result.returncode, result.stderr) == (141, b"")


def test_standard_output_on_a_full_disk_is_one_sentence() -> None:
    with Path("/dev/full").open("wb") as full:
        result = ended("recipes", stdout=full)
    assert (result.returncode, result.stderr) == (2, b"vitral: No space left on device\n")


@pytest.mark.slow
def test_closed_streams_do_not_matter(trained: Path, tmp_path: Path) -> None:
    vitral = f"{sys.executable} -m vitral"
    for line, code in [
        (f"{vitral} predict {trained} - <&-", 2),
        (f"{vitral} inspect {trained} --out {tmp_path}/a.png >&-", 0),
        (f"{vitral} recipes >&- 2>&- <&-", 0),
        (f"{vitral} nothing 2>&-", 2),
    ]:
        result = subprocess.run(["sh", "-c", line], capture_output=True, check=False, env=OWN_PACKAGE)
        assert result.returncode == code, line
        assert b"Traceback" not in result.stderr
    assert readable_picture(tmp_path / "a.png")


def test_letters_that_the_terminal_lacks_are_replaced(model: Path, tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "図.png")
    for form in ("--csv", "--top=1"):
        result = ended(
            "predict", model, tmp_path / "図.png", form, env={"PYTHONIOENCODING": "ascii"}, stdout=subprocess.PIPE
        )
        assert result.returncode == 0, result.stderr
        assert b"?.png" in result.stdout


class OutOfMemoryError(RuntimeError):
    """Named as PyTorch's."""


@pytest.mark.parametrize(
    "error", [MemoryError(), OutOfMemoryError("CUDA"), RuntimeError("DefaultCPUAllocator: can't allocate memory: 9")]
)
def test_too_little_memory_is_one_sentence(
    screen: Screen, error: Exception, model: Path, photographs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> None:
        raise error

    monkeypatch.setattr("vitral.vit.ViT.forward", fails)
    sentence = screen.refusal("predict", model, photographs)
    assert sentence.startswith("out of memory: choose a smaller --batch-size")


def test_another_error_of_the_program_is_not_hidden(
    model: Path, photographs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> None:
        raise RuntimeError("a fault of ours")

    monkeypatch.setattr("vitral.vit.ViT.forward", fails)
    with pytest.raises(RuntimeError, match="a fault of ours"):
        main(["predict", str(model), str(photographs)])


# lists


def test_recipes(screen: Screen) -> None:
    recipes = screen.json("recipes")["recipes"]
    assert [recipe["name"] for recipe in recipes] == list(RECIPES)
    for recipe in recipes:
        assert recipe["command"].startswith(f"vitral train {recipe['name']}")
        assert all(recipe[key] for key in ("summary", "expect", "time", "source"))
    output = screen.run("recipes")
    assert all(recipe["command"] in output for recipe in recipes)


@pytest.mark.parametrize("command", ["predict", "eval", "inspect", "push"])
def test_a_web_page_instead_of_a_model(screen: Screen, command: str) -> None:
    sentence = screen.refusal(command, "https://huggingface.co/google/vit-base-patch16-224", "x.png")
    assert "is a page of the Hub: name the model hf-hub:google/vit-base-patch16-224" in sentence
