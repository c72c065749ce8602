"""Suites give the same metrics on two processes as on one, also if the sizes do not divide."""

import csv
import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from cli import small_suite
from forks import pair, start
from vitral.distributed.world import SINGLE_PROCESS, World
from vitral.evals.loop import num_images_on_main


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trained model; the digits are 1,150, 288 and 359 images in batches of 256."""
    folder = tmp_path_factory.mktemp("suites")
    assert start("train", "digits", "--train.steps", "30", "--model.depth", "1", "--out", "run", cwd=folder).ended()
    return folder / "run"


def features(model: Path) -> dict[str, dict[str, torch.Tensor]]:
    return {path.name: load_file(path) for path in (model / "features").glob("*.safetensors")}


def test_two_processes_equal_one(run: Path, tmp_path: Path) -> None:
    """One row for each image, in order, written once; then cached features are used, or reported as damaged."""
    one, two = (Path(shutil.copytree(run, tmp_path / name / "run")) for name in ("one", "two"))
    words = ("eval", "run", "--suite", "knn", "--device", "cpu")
    start(*words, "--out", "table.json", cwd=one.parent).ended()
    expected = json.loads((one.parent / "table.json").read_text())["tasks"]
    for _ in range(2):
        processes = pair(*words, "--out", "table.json", cwd=two.parent)
        stderr = "".join(process.ended() for process in processes)
        assert [process.returncode for process in processes] == [0, 0], stderr
        found = json.loads((two.parent / "table.json").read_text())["tasks"]
        assert [row["seeds"] for row in found] == [row["seeds"] for row in expected]
        assert [row["num_images"] for row in found] == [359]
        ours, theirs = features(two), features(one)
        assert ours.keys() == theirs.keys()
        for name, tensors in theirs.items():
            for key, value in tensors.items():
                torch.testing.assert_close(ours[name][key], value, rtol=0, atol=1e-5)
        victim = max((two / "features").glob("*.safetensors"))
        victim.write_bytes(victim.read_bytes()[:200])
    assert stderr.count("cannot be used") == 1
    assert "its features are computed again" in stderr


def test_the_accuracy_of_two_processes_is_that_of_one(run: Path, tmp_path: Path) -> None:
    """Of 359 images each counts once; only the main process prints and draws."""
    one, two = (Path(shutil.copytree(run, tmp_path / name / "run")) for name in ("one", "two"))
    words = ("eval", "run", "--json", "--device", "cpu")
    alone = start(*words, cwd=one.parent)
    alone.ended()
    expected = json.loads(alone.output.read_text())
    processes = pair(*words, cwd=two.parent)
    stderr = "".join(process.ended() for process in processes)
    assert [process.returncode for process in processes] == [0, 0], stderr
    printed, nothing = (process.output.read_text() for process in processes)
    found = json.loads(printed)
    assert not nothing
    assert found["num_images"] == expected["num_images"] == 359
    assert found["confusion"] == expected["confusion"]
    assert [found[key] for key in ("loss", "ece")] == pytest.approx(
        [expected[key] for key in ("loss", "ece")], abs=1e-6
    )
    assert (two / "confusion.png").read_bytes() == (one / "confusion.png").read_bytes()


def test_a_task_that_fails_costs_no_other(run: Path, tmp_path: Path) -> None:
    """The others are measured and written, though the status, which ends all processes, is that of a failure."""
    model = shutil.copytree(run, tmp_path / "run")
    words = ("eval", model, "--suite", "vtab-mini", "--device", "cpu", "--out", "table.csv")
    processes = pair(*words, cwd=tmp_path, script=Path(small_suite.__file__), UNREADABLE="Tissue")
    stderr = "".join(process.ended() for process in processes)
    assert processes[0].returncode == 1, stderr
    assert "skipped: Tissue: image 0 is unreadable" in stderr
    with (tmp_path / "table.csv").open() as file:
        assert {row["task"] for row in csv.DictReader(file)} == {"Digits"}


def test_the_first_process_reads_whole_batches() -> None:
    assert [num_images_on_main(count, World(size=2)) for count in (0, 10, 359, 600, 1024)] == [0, 10, 256, 512, 512]
    assert num_images_on_main(359, SINGLE_PROCESS) == 359
