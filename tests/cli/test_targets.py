"""Images with several labels, and numbers, through every command that takes them."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cli.screen import Screen
from vitral.cli import main
from vitral.serve.predictor import Predictor
from vitral.weights.folder import read_config

SMALL = (
    *("--model.image-size", "16", "--model.patch-size", "8", "--model.width", "32", "--model.depth", "1"),
    *("--model.num-heads", "2", "--model.mlp-dim", "64", "--model.dropout", "0", "--augment.crop", "none"),
    *("--augment.no-flip", "--train.batch-size", "16", "--train.track", "none", "--data.workers", "0"),
    *("--train.device", "cpu", "--train.epochs", "12", "--data.val-fraction", "0.2"),
)
LABELS = ("left", "right", "top")

COUNT = 90


@pytest.fixture(scope="session")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures with a bright half for each label, their labels in a cell, and a number: their brightness."""
    root, rng = tmp_path_factory.mktemp("data") / "halves", np.random.default_rng(0)
    root.mkdir()
    labels, numbers = [["image", "label"]], [["image", "level"]]
    for number in range(COUNT):
        pixels = rng.integers(0, 40, (16, 16), np.uint8)
        names = [name for name in LABELS if rng.random() < 0.5]
        for name in names:
            rows, columns = {"left": (16, slice(8)), "right": (16, slice(8, 16)), "top": (4, slice(16))}[name]
            pixels[:rows, columns] += 90
        Image.fromarray(pixels).save(root / f"{number}.png")
        labels.append([f"{number}.png", ";".join(names)])
        numbers.append([f"{number}.png", f"{1900 + pixels.mean():.2f}"])
    for name, rows in (("labels", labels), ("numbers", numbers)):
        with (root / f"{name}.csv").open("w", newline="") as file:
            csv.writer(file).writerows(rows)
    return root


@pytest.fixture(scope="session")
def labelled(tables: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "labels"
    table = str(tables / "labels.csv")
    main(["train", "folder", *SMALL, "--data.root", table, "--data.target", "multi-label", "--out", str(folder)])
    return folder


@pytest.fixture(scope="session")
def measured(tables: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "numbers"
    table = str(tables / "numbers.csv")
    main(["train", "folder", *SMALL, "--data.root", table, "--data.target", "regression", "--out", str(folder)])
    return folder


def printed(capsys: pytest.CaptureFixture[str], *command: str) -> dict:
    """The JSON object of a command."""
    capsys.readouterr()
    main([*command, "--json"])
    return json.loads(capsys.readouterr().out)


def test_several_labels_are_learned(labelled: Path) -> None:
    card = read_config(labelled).card
    assert (card.target, card.classes) == ("multi-label", LABELS)
    assert len(card.thresholds) == 3
    assert len(set(card.thresholds)) == 3, "each was chosen on validation images"
    assert card.metrics["test/map"] > 0.8
    page = (labelled / "report.html").read_text()
    assert "average precision" in page
    assert "Worst mistakes" in page or card.metrics["test/exact"] == 1


def test_labels_above_their_thresholds_are_predicted(
    labelled: Path, tables: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = [str(tables / f"{number}.png") for number in range(20)]
    answer = printed(capsys, "predict", str(labelled), *files)["predictions"]
    card = read_config(labelled).card
    everything = Predictor(labelled, device="cpu").predict(files, top_k=3)
    for row, whole in zip(answer, everything, strict=True):
        pairs = zip(whole.classes, whole.probabilities, strict=True)
        limits = dict(zip(card.classes, card.thresholds, strict=True))
        assert [label["label"] for label in row["labels"]] == [name for name, value in pairs if value >= limits[name]]
    capsys.readouterr()
    main(["predict", str(labelled), files[0], "--csv"])
    header, line = csv.reader(capsys.readouterr().out.splitlines())
    assert header == ["file", "labels", "probabilities"]
    assert line[1].split("|") == [label["label"] for label in answer[0]["labels"]] or not answer[0]["labels"]


def test_an_evaluation_equals_that_of_the_run(labelled: Path, measured: Path, capsys: pytest.CaptureFixture) -> None:
    for folder, names in ((labelled, ("map", "map_micro", "f1", "f1_micro", "exact")), (measured, ("r2", "mae"))):
        found, card = printed(capsys, "eval", str(folder), "--device", "cpu"), read_config(folder).card
        assert {name: found[name] for name in names} == pytest.approx(
            {name: card.metrics[f"test/{name}"] for name in names}, rel=1e-5
        )
    assert (measured / "scatter.png").is_file()


def test_a_number_with_many_digits_is_learned(measured: Path, tables: Path, capsys: pytest.CaptureFixture) -> None:
    card = read_config(measured).card
    assert (card.target, card.classes) == ("regression", ("level",))
    assert card.metrics["test/r2"] > 0.5
    (row,) = printed(capsys, "predict", str(measured), str(tables / "0.png"))["predictions"]
    assert row["value"] == pytest.approx(Predictor(measured, device="cpu")(tables / "0.png").value)
    assert 1900 < row["value"] < 2200
    assert "Predicted and true numbers" in (measured / "report.html").read_text()


@pytest.mark.parametrize("name", ["labelled", "measured"])
def test_an_exported_file_predicts_the_same(
    name: str, tables: Path, tmp_path: Path, request: pytest.FixtureRequest, capsys: pytest.CaptureFixture
) -> None:
    folder, file = request.getfixturevalue(name), tmp_path / "model.onnx"
    report = printed(capsys, "export", str(folder), str(file))
    assert report["agreement"] == 1
    exported, own = Predictor(file, device="cpu"), Predictor(folder, device="cpu")
    assert exported.card.thresholds == own.card.thresholds
    one, other = exported(tables / "0.png"), own(tables / "0.png")
    assert one.classes == other.classes
    assert one.value == pytest.approx(other.value)


def test_other_commands(labelled: Path, measured: Path, tmp_path: Path, screen: Screen, tables: Path) -> None:
    for folder in (labelled, measured):
        main(["inspect", str(folder), "--count", "2", "--out", str(tmp_path / "look.png")])
        main(["report", str(folder)])
    table = str(tables / "labels.csv")
    main(["data", "check", table, "--data.target", "multi-label", "--smallest", "4"])
    main(["data", "show", table, "--data.target", "multi-label", "--count", "2", "--out", str(tmp_path / "show.png")])


def test_what_does_not_fit_is_refused(labelled: Path, measured: Path, tables: Path, screen: Screen) -> None:
    table = str(tables / "labels.csv")
    train = ("train", "folder", *SMALL, "--data.root", table, "--data.target", "multi-label")
    for command, sentence in [
        (("eval", str(labelled), "--data.target", "class"), "give --data.target multi-label"),
        (("eval", str(labelled), "--suite", "knn"), "--suite knn needs one class for each image"),
        (("predict", str(measured), str(tables / "0.png"), "--top", "1"), "predicts a number, level"),
        (("data", "pack", table, "packed", "--data.target", "multi-label"), "stores one class for each image"),
        (("train", "mae", "--data.root", table, "--data.target", "multi-label"), "does not learn --data.target"),
        (("train", "digits", "--data.target", "regression"), "choose --data.source csv or folder, not digits"),
        ((*train, "--augment.mixup", "0.2"), "mixes two classes"),
        ((*train, "--data.sampling", "balanced"), "--objective.class-weights balanced"),
        ((*train, "--objective.class-weights", "1", "2"), "has 2 weights for 3 classes"),
        ((*train, "--objective.class-weights", "lots"), "none, balanced or a number for each class"),
    ]:
        assert sentence in screen.refusal_after_notes(*command)


def test_weights_and_balance_are_said(tables: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = (tables / "labels.csv").read_text().splitlines()
    kinds = ["common"] * 77 + ["rare"] * 7
    rows = [f"{line.split(',')[0]},{kind}" for line, kind in zip(lines[1:], kinds, strict=False)]
    (tables / "skewed.csv").write_text("\n".join(["image,label", *rows]) + "\n")
    train = ("train", "folder", *SMALL, "--data.root", str(tables / "skewed.csv"), "--train.steps", "2")
    main([*train, "--out", str(tmp_path / "plain")])
    text = " ".join(capsys.readouterr().err.split())
    assert "the classes are imbalanced: 'common' has" in text
    assert "--objective.class-weights balanced or --data.sampling balanced" in text
    main([*train, "--objective.class-weights", "balanced", "--out", str(tmp_path / "weighted")])
    assert "class weights: common 0.5" in capsys.readouterr().err
    weights = json.loads((tmp_path / "weighted" / "run.json").read_text())["objective"]["balanced_weights"]
    assert weights[1] > 5 * weights[0]
    main([*train, "--data.sampling", "balanced", "--out", str(tmp_path / "sampled")])
    assert "imbalanced" not in capsys.readouterr().err


def test_another_column_has_the_same_numbers(measured: Path, tables: Path, capsys: pytest.CaptureFixture) -> None:
    text = (tables / "numbers.csv").read_text().replace("level", "height")
    (tables / "renamed.csv").write_text(text)
    found = printed(
        capsys, "eval", str(measured), "--data.root", str(tables / "renamed.csv"), "--split", "all", "--device", "cpu"
    )
    assert found["num_images"] == COUNT
