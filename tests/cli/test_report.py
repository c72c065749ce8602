"""`vitral report`: writes the page again, from the run's files."""

import json
import shutil

import pytest


@pytest.fixture
def run(trained, tmp_path):
    """A copy of a finished run."""
    return shutil.copytree(trained, tmp_path / "digits")


def test_the_same_page_again(screen, run):
    page = (run / "report.html").read_bytes()
    (run / "report.html").unlink()
    assert screen.run("report", run) == f"report: {run}/report.html\n"
    assert (run / "report.html").read_bytes() == page
    assert "evaluating" not in screen.errors


def test_missing_predictions_are_computed_again(screen, run):
    first = screen.run("report", run) and (run / "report.html").read_bytes()
    (run / "predictions.safetensors").unlink()
    result = screen.json("report", run)
    assert result["finished"]
    assert result["report"] == f"{run}/report.html"
    assert (run / "report.html").read_bytes() == first
    assert (run / "predictions.safetensors").is_file()


def test_a_run_that_has_not_finished(screen, run):
    for name in ("config.json", "model.safetensors", "predictions.safetensors", "speed.json", "report.html"):
        (run / name).unlink()
    assert screen.json("report", run)["finished"] is False
    assert "not finished yet" in (run / "report.html").read_text()


def test_without_its_images(screen, run):
    config = json.loads((run / "run.json").read_text())
    config["data"] |= {"source": "folder", "root": "gone"}
    (run / "run.json").write_text(json.dumps(config))
    screen.run("report", run)
    assert "without images" in screen.errors
    assert "gone does not exist" in screen.errors
    assert "The images are missing: gone does not exist" in (run / "report.html").read_text()


def test_a_folder_that_is_not_a_run(screen, tmp_path):
    error = screen.refusal("report", tmp_path)
    assert error.startswith(f"{tmp_path} is not a training run")
    assert "run.json" in error


@pytest.mark.parametrize("content", [b"{", b"3", b"{}", b"\xff"])
def test_a_damaged_speed_record(screen, run, content):
    (run / "speed.json").write_bytes(content)
    assert screen.refusal("report", run).startswith(f"{run}/speed.json is damaged: remove it")
