"""`vitral eval --suite`: evaluation of features on the command line."""

import csv
import json
import re
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import vitral
from cli.screen import Screen
from unit.datasets.vtab.test_damaged import small
from unit.datasets.vtab.test_structured import write_small_norb
from vitral.commands.evaluate.suite import Options, open_data_task
from vitral.commands.evaluate.tables import print_suite, suite_table
from vitral.data.config import DataConfig
from vitral.data.images.decode import UnreadableImage
from vitral.data.sources.source import ArraySource, Source, Subset
from vitral.datasets.data_set import Task
from vitral.datasets.registry import TASKS, tasks_of
from vitral.errors import UserError
from vitral.suites.finetuning import PROTOCOLS, Protocol
from vitral.suites.transfer import GRID_SUFFIX, Score
from vitral.train.config import RunConfig
from vitral.weights.folder import save_model


@pytest.fixture
def digits_run(trained: Path, tmp_path: Path) -> Path:
    """A copy of the run on digits, to be written to."""
    return Path(shutil.copytree(trained, tmp_path / "digits"))


def test_a_model_with_the_baselines(screen: Screen, digits_run: Path) -> None:
    result = screen.json("eval", digits_run, "--suite", "knn", "--baselines")
    accuracy = {row["of"]: row["accuracy"] for row in result["tasks"]}
    assert set(accuracy) == {"model", "random weights", "raw pixels"}
    assert min(accuracy.values()) > 0.3, "chance is 0.1"
    assert all(row["num_images"] == 359 for row in result["tasks"])
    assert result["means"]["model"]["mean"]["kNN"] == accuracy["model"]


def test_few_shot_classifiers_in_one_table(screen: Screen, digits_run: Path) -> None:
    words = ("eval", digits_run, "--suite", "fewshot", "--max-train", "500")
    alone = {row["method"]: row["seeds"] for row in screen.json(*words)["tasks"]}
    rows = screen.json(*words, "--few-shot", "least-squares", "knn", "logistic")["tasks"]
    seeds = {row["method"]: row["seeds"] for row in rows}
    assert alone.items() < seeds.items()
    kinds = [f"{shots}-shot{kind}" for kind in ("", " kNN", " logistic") for shots in (1, 5, 10, 25)]
    assert list(seeds) == kinds
    assert all(min(seeds[f"25-shot{kind}"]) > 0.3 for kind in ("", " kNN", " logistic")), "chance is 0.1"


def test_features_are_cached(screen: Screen, digits_run: Path) -> None:
    first = screen.json("eval", digits_run, "--suite", "fewshot", "--max-train", "500")
    files = {path: path.stat().st_mtime_ns for path in (digits_run / "features").iterdir()}
    assert sorted(path.suffix for path in files) == [".json", *[".safetensors"] * 3]
    again = screen.json("eval", digits_run, "--suite", "fewshot", "--max-train", "500")
    assert {path: path.stat().st_mtime_ns for path in (digits_run / "features").iterdir()} == files
    assert [row["seeds"] for row in again["tasks"]] == [row["seeds"] for row in first["tasks"]]
    assert [row["method"] for row in first["tasks"]] == ["1-shot", "5-shot", "10-shot", "25-shot"]
    assert all(len(row["seeds"]) == 3 for row in first["tasks"])
    victim = next(path for path in files if path.suffix == ".safetensors")
    victim.write_bytes(victim.read_bytes()[:100])
    screen.json("eval", digits_run, "--suite", "linear", "--max-train", "500")
    assert victim.stat().st_size > 100


def test_reported_images_are_not_trained_on(screen: Screen, digits_run: Path, photographs: Path) -> None:
    """Data with a validation split and no test split is evaluated on the validation split."""
    root = digits_run.parent / "split"
    for part, other in (("train", 0), ("val", 1)):
        for folder in sorted(photographs.iterdir()):
            for number, file in enumerate(sorted(folder.iterdir())):
                if number % 3 // 2 == other:
                    (root / part / folder.name).mkdir(parents=True, exist_ok=True)
                    shutil.copy(file, root / part / folder.name)
    held_out = sum(1 for file in (root / "val").rglob("*") if file.is_file())
    result = screen.json("eval", digits_run, "--suite", "knn", "--data.source", "folder", "--data.root", root)
    (row,) = result["tasks"]
    assert row["num_images"] == held_out
    options = Options(suite="knn", data=DataConfig(source="folder", root=root))
    tasks, _ = open_data_task(options)
    task = tasks["data"]
    names = {split: {source.name(index) for index in range(len(source))} for split, source in task.splits.items()}
    assert not names["test"] & (names["train"] | names["val"])
    assert names["val"]


def test_other_images_with_the_same_names_are_not_read_from_the_cache(
    screen: Screen, digits_run: Path, photographs: Path
) -> None:
    root = digits_run.parent / "same-names"
    shutil.copytree(photographs, root)
    words = ("eval", digits_run, "--suite", "knn", "--data.source", "folder", "--data.root", root)
    before, known = screen.json(*words)["tasks"], set((digits_run / "features").iterdir())
    assert screen.json(*words)["tasks"] == before, "to the seconds that it took"
    assert "1 results were read from the cache" in screen.errors
    assert set((digits_run / "features").iterdir()) == known
    for file in (file for file in root.rglob("*") if file.is_file()):
        Image.new("RGB", (8, 8)).save(file)
    screen.json(*words)
    assert "from the cache" not in screen.errors
    assert len(set((digits_run / "features").iterdir()) - known) == 4, "three splits and their score"


def test_a_grid_of_linear_probes_is_chosen_on_validation_images(screen: Screen, digits_run: Path) -> None:
    words = ("eval", digits_run, "--suite", "linear", "--grid", "--baselines", "--max-train", "300")
    rows = {row["of"]: row for row in screen.json(*words)["tasks"]}
    assert list(rows["model"]["grid"]) == ["mean patch, last block"], "one block, and no class token"
    assert list(rows["raw pixels"]["grid"]) == ["raw pixels"]
    assert all(len(row) == 6 for row in rows["model"]["grid"].values()), "learning rates"
    assert rows["model"]["accuracy"] > 0.3, "chance is 0.1"
    table = screen.run(*words)
    assert "3 results were read from the cache" in screen.errors
    best = max(value for row in rows["model"]["grid"].values() for value in row.values())
    assert table.count(" *") == 3, "one for the model and each baseline"
    assert f"{best:.1%} *" in table
    assert "by learning rate" in table


def test_a_method_that_any_subject_has_is_a_column(
    screen: Screen, digits_run: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Fine-tuning fails for the model, and not for random weights."""

    def score(config: RunConfig, *_: Any, **__: Any) -> Score:
        if config.model.weights is not None:
            raise UserError("it diverged")
        return Score(method="fine-tuned", values=[0.5], num_images=359, seconds=1.0)

    monkeypatch.setattr("vitral.suites.runner.evaluate_finetuning", score)
    words = ("--suite", "knn", "--finetune", "light", "--baselines", "--max-train", "300")
    screen.run("eval", digits_run, *words, "--out", tmp_path / "table.csv", code=1)
    assert "stopped: data for model: it diverged" in screen.errors
    with (tmp_path / "table.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["fine-tuned"] for row in rows] == ["-", "50.0%", "-"]
    assert all(row["kNN"].endswith("%") for row in rows)


def test_a_run_trained_on_a_tasks_images_is_reported(
    screen: Screen, digits_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in set(tasks_of("vtab-mini")) - {"mini-digits"}:
        monkeypatch.delitem(TASKS, name)
    digits = TASKS["mini-digits"]
    monkeypatch.setitem(TASKS, "mini-digits", with_reader(digits, partial(few, digits)))
    screen.run("eval", digits_run, "--suite", "vtab-mini")
    assert "Digits: the run was trained on most of this task's test images" in screen.errors


def test_weights_that_are_not_finite_are_refused(screen: Screen, digits_run: Path, tmp_path: Path) -> None:
    damaged = shutil.copytree(digits_run, tmp_path / "damaged")
    model = vitral.load(damaged)
    with torch.no_grad():
        next(model.parameters()).fill_(torch.nan)
    save_model(damaged, model, model.card)
    for words in ((), ("--suite", "knn"), ("--suite", "fewshot")):
        assert "the model's outputs are not finite" in screen.refusal("eval", damaged, *words)


def test_the_table_in_each_form(screen: Screen, digits_run: Path, tmp_path: Path) -> None:
    for name in ("table.md", "table.csv", "table.json"):
        output = screen.run("eval", digits_run, "--suite", "linear", "--max-train", "400", "--out", tmp_path / name)
        assert "linear" in output
    rows = list(csv.reader((tmp_path / "table.csv").read_text().splitlines()))
    (row,) = json.loads((tmp_path / "table.json").read_text())["tasks"]
    cells = ["data", "model", f"{row['accuracy']:.1%}", "359"]
    assert rows[0] == ["task", "of", "linear", "images", "seconds"]
    marked = [cell.strip() for cell in (tmp_path / "table.md").read_text().splitlines()[2].strip("|").split("|")]
    for *words, seconds in (rows[1], marked):  # each table is of a run of its own, which took its own time
        assert words == cells
        assert float(seconds) == pytest.approx(row["seconds"], abs=5)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--suite", "knn", "--out", "table.txt"), "--out must end in .md, .csv or .json"),
        (("--suite", "knn", "--out", "no/table.md"), "no does not exist: make the folder"),
        (("--suite", "knn", "--cache", __file__), "is a file: give a folder with --cache"),
        (("--suite", "knn", "--grid"), "--grid is for --suite linear, fewshot, vtab-mini and vtab1k"),
        (("--suite", "linear", "--grid", "--finetune", "light"), "run --finetune by itself"),
        (("--suite", "knn", "--few-shot", "logistic"), "choose --suite fewshot, vtab-mini or vtab1k"),
        (("--suite", "fewshot", "--few-shot", "knn", "knn"), "--few-shot takes classifiers, each once"),
        (("--suite", "knn", "--max-train", "1"), "--max-train must be at least 2"),
        (("--suite", "vtab-mini", "--max-train", "50"), "every task of vtab-mini has 1,000 training images"),
        (("--suite", "vtab-mini", "--data.source", "digits"), "leave out --data.source"),
        (
            ("--suite", "vtab1k", "--data.root", "x", "--data.limit", "9"),
            "--suite vtab1k uses only --data.root, --data.on-error and --data.workers: leave out --data.limit",
        ),
        (
            ("--suite", "knn", "--max-train", "12"),
            "has a single image among the 12 training images, so none can be held out",
        ),
        (("--suite", "fewshot", "--seeds", "-1"), "--seeds takes numbers from 0 on, each once"),
        (("--suite", "fewshot", "--seeds", "0", "0"), "--seeds takes numbers from 0 on, each once"),
        (("--suite", "knn", "--out", "run.json"), "would be read as a model's own run.json: give another file"),
        (("--suite=top-7",), "unknown suite 'top-7': choose one of accuracy, knn"),
        (("--suite", "knn", "--data.source", "folder", "--data.root", "nowhere"), "nowhere does not exist"),
    ],
)
def test_wrong_arguments(screen: Screen, digits_run: Path, words: tuple[str, ...], sentence: str) -> None:
    assert sentence in screen.refusal("eval", digits_run, *words)


def test_a_folder_of_features_that_cannot_be_written(
    screen: Screen, digits_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever may write everywhere sees no folder that cannot be written, so the system's answer is set here."""
    monkeypatch.setattr("os.access", lambda path, _: path != digits_run)
    error = screen.refusal("eval", digits_run, "--suite", "knn")
    assert error.startswith(f"{digits_run} cannot be written to")
    assert "--cache" in error
    screen.run("eval", digits_run, "--suite", "knn", "--cache", tmp_path / "new" / "features")
    assert len(list((tmp_path / "new" / "features").iterdir())) == 4


def test_retrieval_without_its_package(screen: Screen, digits_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Refused before any feature is extracted."""
    monkeypatch.setitem(sys.modules, "faiss", None)
    error = screen.refusal("eval", digits_run, "--suite", "retrieval")
    assert error == "retrieval needs the package faiss: pip install 'vitral[data]'"
    assert not (digits_run / "features").exists()


def test_fewer_images_than_shots_are_reported(screen: Screen, digits_run: Path, photographs: Path) -> None:
    words = ("--suite", "fewshot", "--data.source", "folder", "--data.root", photographs)
    assert len(screen.json("eval", digits_run, *words)["tasks"]) == 4
    assert "data: the smallest class has 10 training images" in screen.errors
    screen.json("eval", digits_run, "--suite", "fewshot", "--max-train", "1000")
    assert screen.errors == ""


def arrays(**counts: int) -> dict[str, Source]:
    """Splits of three classes with so many images each."""

    def source(split: str, count: int) -> ArraySource:
        labels = np.repeat(np.arange(3), count)
        images = np.zeros((3 * count, 2, 2), np.uint8)
        return ArraySource(title=split, images=images, labels=labels, classes=("a", "b", "c"))

    return {split: source(split, count) for split, count in counts.items()}


@pytest.mark.parametrize(
    ("source", "words", "counts", "sizes"),
    [
        ("folder", {}, dict(train=50, test=9), (120, 30, 27)),
        ("folder", {}, dict(train=50, val=5, test=9), (150, 15, 27)),
        ("folder", {}, dict(train=50, val=5), (120, 30, 15)),
        ("folder", dict(finetune="paper"), dict(train=50, test=9), (135, 15, 27)),
        ("folder", dict(finetune="paper"), dict(train=50, val=5, test=9), (150, 15, 27)),
        ("folder", dict(finetune="paper"), dict(train=7000, test=9), (20580, 420, 27)),
        ("flowers", {}, dict(train=10, val=10, test=9), (30, 30, 27)),
        ("flowers", dict(finetune="paper"), dict(train=10, val=10, test=9), (27, 3, 27)),
        ("cifar10", dict(finetune="paper"), dict(train=5000, test=9), (14700, 300, 27)),
        ("cifar10", dict(finetune="light"), dict(train=5000, test=9), (7999, 2001, 27)),
        ("cifar10", dict(finetune="paper", max_train=300), dict(train=5000, test=9), (294, 6, 27)),
        ("imagenet1k", dict(finetune="paper"), dict(train=300, test=9), (891, 9, 27)),
    ],
)
def test_images_to_choose_by_are_as_many_as_the_papers(
    source: str,
    words: dict[str, Any],
    counts: dict[str, int],
    sizes: tuple[int, ...],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """2 % of CIFAR, 10 % of Pets and Flowers, 1 % of ImageNet; the final model is trained on all of train."""
    monkeypatch.setattr("vitral.commands.evaluate.suite.open_data", lambda _: arrays(**counts))
    options = Options(suite="finetune", data=DataConfig(source=source), **words)  # pyright: ignore[reportArgumentType]
    tasks, protocol = open_data_task(options)
    assert tuple(map(len, tasks["data"].splits.values())) == sizes
    by_size = "pets" if 3 * counts["train"] < 20_000 else "cifar10"
    like = by_size if source == "folder" else source
    assert protocol.table4_dataset == (like if "paper" in words.values() else None)


def test_a_model_trained_without_classes_names_suites_to_use(screen: Screen, photographs: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    small = ("--model.image-size", "8", "--model.patch-size", "2", "--model.width", "24", "--model.depth", "1")
    words = ("--data.source", "digits", "--data.root", "None", "--train.steps", "3", "--train.track", "none")
    screen.run("train", "fashion-mnist-mae", "--out", run, *small, *words)
    assert "evaluate it with --suite knn" in screen.refusal("eval", run)
    assert f"{run} has no trained head" in screen.refusal("predict", run, photographs / "cat")
    looks = screen.json("inspect", run, "--out", tmp_path / "a.png")["images"]
    assert all(image["class"] is None and image["truth"] is not None for image in looks)
    result = screen.json("eval", run, "--suite", "linear", "--max-train", "300")
    assert result["tasks"][0]["accuracy"] > 0.2


def test_fine_tuning_with_the_baseline(
    screen: Screen, digits_run: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    quick = Protocol(rates=(0.03,), steps=2, batch_size=16, image_size=None, augment=False)
    monkeypatch.setitem(PROTOCOLS, "light", quick)
    words = ("--max-train", "200", "--baselines", "--seeds", "0", "1", "--out", tmp_path / "table.csv")
    result = screen.json("eval", digits_run, "--suite", "finetune", *words)
    assert [(row["of"], row["method"], len(row["seeds"])) for row in result["tasks"]] == [
        ("model", "fine-tuned", 2),
        ("random weights", "fine-tuned", 2),
    ]
    rows = list(csv.reader((tmp_path / "table.csv").read_text().splitlines()))
    assert rows[0] == ["task", "of", "fine-tuned", "images", "seconds"]
    assert rows[3] == ["data", "raw pixels", "-", "-", "-"]


def test_tasks_of_vtab_with_published_accuracies(
    screen: Screen, digits_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With data sets of few images; missing ones are reported and skipped."""
    few_toys(tmp_path / "data", monkeypatch)
    words = ("eval", digits_run, "--suite", "vtab1k", "--data.root", tmp_path / "data")
    result = screen.json(*words)
    assert {row["task"] for row in result["tasks"]} == {"sNORB-Azim", "sNORB-Elev"}
    assert result["published"]["L/16, I21k"]["sNORB-Elev"] == pytest.approx(0.417)
    shown = screen.run(*words, "--out", tmp_path / "table.csv")
    assert "fine-tuned, published" in shown
    assert screen.errors.count(": there is no") == 15, "once for each data set"
    with (tmp_path / "table.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert rows[-1]["task"] == "all, mean"
    assert rows[-1]["H/14, JFT (published)"] == "42.2%", "of the two tasks that are there"


def few_toys(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Small NORB of 300 photographs, which VTAB takes for complete."""
    write_small_norb(makedirs(root / "smallnorb"), train=200, test=100)
    for name in ("vtab-smallnorb-azimuth", "vtab-smallnorb-elevation"):
        few = replace(TASKS[name].data, num_images={"train": 200, "val": 50, "test": 50})
        monkeypatch.setitem(TASKS, name, replace(TASKS[name], data=few))


def test_a_task_that_breaks_off_does_not_end_the_others(
    screen: Screen, digits_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its first images are readable, so it fails late; the error names the task and the file."""
    task = small("vtab-eurosat", tmp_path / "data")
    monkeypatch.setitem(TASKS, "vtab-eurosat", task)
    source = task.open(tmp_path / "data")["test"]
    Path(source.name(1)).write_bytes(b"no image")
    words = ("eval", digits_run, "--suite", "vtab1k", "--data.root", tmp_path / "data")
    sentence = f"{source.name(1)} cannot be read as an image: it is not a JPEG, PNG, WebP, BMP, TIFF, GIF"
    assert screen.refusal_after_notes(*words).startswith(sentence), "where no other task is there"
    few_toys(tmp_path / "data", monkeypatch)
    result = screen.json(*words, code=1)
    assert {row["task"] for row in result["tasks"]} == {"sNORB-Azim", "sNORB-Elev"}
    assert f"skipped: EuroSAT: {sentence}" in screen.errors
    assert "skipped: Clevr-Count and Clevr-Dist: there is no" in screen.errors


def test_vtab_needs_its_data(screen: Screen, digits_run: Path, tmp_path: Path) -> None:
    error = screen.refusal("eval", digits_run, "--suite", "vtab1k")
    assert "VTAB" in error
    assert "--data.root" in error
    error = screen.refusal("eval", digits_run, "--suite", "vtab1k", "--data.root", tmp_path / "nowhere")
    assert error.startswith(f"{tmp_path}/nowhere is not a folder")
    assert "--data.root" in error
    error = screen.refusal_after_notes("eval", digits_run, "--suite", "vtab1k", "--data.root", tmp_path)
    assert error.startswith(f"{tmp_path} has the images of no task")
    first, *others = screen.errors.splitlines()[:-1]
    assert first.startswith(f"skipped: Caltech101: there is no {tmp_path}/caltech101: Caltech-101 needs 101_ObjectC")
    assert len(others) == 15


def test_a_task_that_fails_is_skipped_with_exit_status_1(
    screen: Screen, digits_run: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The others are evaluated and written."""
    names = ("mini-digits", "mini-tissue", "mini-textures")
    for name in set(tasks_of("vtab-mini")) - set(names):
        monkeypatch.delitem(TASKS, name)
    for name in names:
        monkeypatch.setitem(TASKS, name, with_reader(TASKS[name], partial(few, TASKS[name])))
    unreadable = with_reader(
        TASKS["mini-tissue"], lambda root: {**few(TASKS["mini-digits"], root), "test": UnreadableSource()}
    )
    monkeypatch.setitem(TASKS, "mini-tissue", unreadable)
    words = ("eval", digits_run, "--suite", "vtab-mini")
    result = screen.json(*words, "--out", tmp_path / "table.csv", code=1)
    assert {row["task"] for row in result["tasks"]} == {"Digits", "Textures"}
    assert result["failures"].keys() == {"Tissue"}
    assert result["failures"]["Tissue"].startswith("the image is unreadable; remove the file, or leave such files out")
    assert "skipped: Tissue: the image is unreadable" in screen.errors
    assert result["means"]["model"].keys() == {"natural", "specialized", "mean"}
    with (tmp_path / "table.csv").open() as file:
        assert [row["task"] for row in csv.DictReader(file)][:2] == ["Digits", "Textures"]
    screen.json(*words, "--data.on-error", "skip", code=1)
    assert "skipped: Tissue: no test image could be read: the image is unreadable" in screen.errors


def few(task: Task, root: Path | None) -> dict[str, Source]:
    """A task of a few images."""
    return {split: Subset(source=source, indices=np.arange(40)) for split, source in task.open(root).items()}


def with_reader(task: Task, reader: Callable[[Path | None], dict[str, Source]]) -> Task:
    """The task with other images."""
    return replace(task, data=replace(task.data, reader=reader))


class UnreadableSource(ArraySource):
    """One image, which cannot be read."""

    def __init__(self) -> None:
        images, labels = np.zeros((1, 8, 8), np.uint8), np.zeros(1, np.int64)
        super().__init__(title="unreadable", images=images, labels=labels, classes=tuple("0123456789"))

    def stored(self, index: int) -> Image.Image:
        raise UnreadableImage("the image is unreadable")


@pytest.mark.parametrize("width", [80, 100, 120])
def test_the_screen_has_room_for_the_table(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, width: int
) -> None:
    """Columns that do not fit follow in a second table; no cell is cut or wrapped."""
    monkeypatch.setenv("COLUMNS", str(width))
    methods = ["kNN", "linear", "1-shot", "25-shot", "fine-tuned", f"25-shot{GRID_SUFFIX}"]
    row = {name: Score(method=name, values=[0.5, 0.6, 0.91], num_images=73_728, seconds=1234.5) for name in methods}
    groups = {"Retinopathy": "specialized", "Clevr-Count": "structured"}
    result = {name: {title: dict(row) for title in groups} for name in ("model", "random weights")}
    rows = suite_table(result, groups, {"H/14, JFT": {"Retinopathy": 0.766, "Clevr-Count": 0.917}})
    print_suite("title", rows)
    shown = capsys.readouterr().out
    assert max(map(len, shown.splitlines())) <= width
    cells = {cell.strip() for line in shown.splitlines() for cell in re.split("[│┃]", line)}
    assert cells >= {cell.removesuffix(GRID_SUFFIX).removesuffix(" (published)") for row in rows for cell in row}
    assert "title, continued" in shown
    assert rows[1][-3:-1] == ["73728", f"{6 * 1234.5:.2f}"]


def makedirs(folder: Path) -> Path:
    folder.mkdir(parents=True)
    return folder
