"""`vitral compare`: runs side by side, and which cannot be."""

import csv
import json
import shutil
from pathlib import Path

import pytest
from PIL import Image

from vitral.runs.predictions import PREDICTIONS, SavedPredictions, load_predictions, save_predictions


@pytest.fixture
def runs(trained: Path, tmp_path: Path) -> tuple[Path, Path]:
    """A finished run, and a better one with another learning rate: ten of its mistakes are set right."""
    one, other = (shutil.copytree(trained, tmp_path / name) for name in ("one", "other"))
    saved = load_predictions(other)
    assert saved is not None
    result = saved.predictions
    wrong = (result.top[:, 0] != result.truth).nonzero()[:10, 0]
    result.top[wrong, 0] = result.truth[wrong]
    save_predictions(other, saved)
    config = json.loads((other / "run.json").read_text())
    config["optim"]["lr"] = 0.125
    (other / "run.json").write_text(json.dumps(config))
    return one, other


def test_figures_differences_and_settings(screen, runs):
    result = screen.json("compare", *runs)
    one, other = result["runs"]
    assert result["baseline"] == one["run"] == str(runs[0])
    assert one["difference"] is None
    assert (other["gained"], other["lost"]) == (10, 0)
    assert other["difference"]["mean"] == pytest.approx(10 / 359)
    assert 0 < other["difference"]["low"] < 10 / 359 < other["difference"]["high"]
    assert one["accuracy"]["mean"] == pytest.approx(one["metrics"]["test/top1"], abs=1e-6)
    assert one["steps"] == 2
    assert one["num_images"] == other["num_images"] == 359
    assert one["parameters"] == 52_106
    assert one["seconds"] > 0
    assert list(result["settings"]) == ["optim.lr"]
    assert result["settings"]["optim.lr"][1] == 0.125


def test_the_screen_and_the_files(screen, runs, tmp_path):
    files = [tmp_path / f"comparison.{ending}" for ending in ("md", "csv", "png")]
    shown = screen.run("compare", *runs, *(word for path in files for word in ("--out", path)))
    for text in (shown, files[0].read_text()):
        assert "+2.79 (+" in text
        assert "optim.lr" in text
    with files[1].open() as file:
        rows = list(csv.DictReader(file))
    assert [row["run"] for row in rows] == list(map(str, runs))
    assert [row["gained"] for row in rows] == ["", "10"]
    assert rows[1]["optim.lr"] == "0.125"
    with Image.open(files[2]) as picture:
        assert picture.width > 1000


def test_a_run_without_predictions_has_no_interval(screen, runs, tmp_path):
    (runs[1] / PREDICTIONS).unlink()
    result = screen.json("compare", *runs, "--out", tmp_path / "c.png")
    assert [run["difference"] for run in result["runs"]] == [None, None]
    assert result["runs"][1]["accuracy"] is None
    assert "Traceback" not in screen.run("compare", *reversed(runs))


def test_damaged_files_are_named(screen, runs):
    """Predictions that cannot be read, and a model without its training record."""
    (runs[1] / PREDICTIONS).write_bytes(b"cut")
    refusal = screen.refusal("compare", *runs)
    assert refusal.startswith(f"{runs[1] / PREDICTIONS} is damaged: remove it")
    assert f"vitral report {runs[1]}" in refusal
    (runs[1] / PREDICTIONS).unlink()
    config = json.loads((runs[1] / "config.json").read_text())
    (runs[1] / "config.json").write_text(json.dumps(config | {"card": config["card"] | {"provenance": {}}}))
    assert f"{runs[1] / 'config.json'} does not state the number of training steps" in screen.refusal("compare", *runs)


def test_other_images_are_refused(screen, runs):
    saved = load_predictions(runs[1])
    save_predictions(runs[1], SavedPredictions(split="val", images="others", predictions=saved.predictions))
    error = screen.refusal("compare", *runs)
    assert all(text in error for text in (str(runs[0]), str(runs[1]), "different images", "digits, 359 test images"))
    assert "359 val images" in error


def test_wrong_use(screen, runs, tmp_path):
    one, other = runs
    for paths in ((), (one,)):
        assert "at least two runs" in screen.refusal("compare", *paths)
    assert screen.refusal("compare", one, tmp_path / "one").startswith(f"{one} is given twice")
    assert "it has no run.json" in screen.refusal("compare", one, tmp_path)
    assert "--out must end in .md, .csv or .png" in screen.refusal("compare", one, other, "--out", "table.pdf")
    assert "does not exist" in screen.refusal("compare", one, other, "--out", tmp_path / "no" / "table.md")
    (tmp_path / "a.md").mkdir()
    assert "is a folder" in screen.refusal("compare", one, other, "--out", tmp_path / "a.md")
    (other / "config.json").unlink()
    assert "holds an unfinished run" in screen.refusal("compare", one, other)


def as_cifar(run: Path) -> None:
    """Says that a run's images were CIFAR-10's."""
    config = json.loads((run / "run.json").read_text())
    config["data"]["source"] = "cifar10"
    (run / "run.json").write_text(json.dumps(config))


def test_published_rows_stand_below_the_runs(screen, runs, tmp_path):
    for run in runs:
        as_cifar(run)
    files = [tmp_path / f"comparison.{ending}" for ending in ("md", "csv", "png")]
    shown = screen.run("compare", *runs, "--published", *(word for path in files for word in ("--out", path)))
    assert "ViT-L/16, ImageNet-21k (Table 2)" in shown
    assert "99.15%" in shown
    with files[1].open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2 + 14 + 3
    assert rows[-1] == {**dict.fromkeys(rows[0], ""), "run": "ViT-H/14, JFT (Table 2)", "accuracy_mean": "0.995"}
    result = screen.json("compare", *runs, "--published")["published"]
    assert result[0] == {"name": "ViT-B/32, ImageNet (Table 5)", "accuracy": pytest.approx(0.9777)}
    assert screen.json("compare", *runs)["published"] == []


def test_data_of_which_nothing_is_published(screen, runs):
    error = screen.refusal("compare", *runs, "--published")
    assert "digits" in error
    assert "--published" in error
