"""`vitral train` on the command line: the files it writes, and one sentence for every wrong use."""

import contextlib
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from checkpoints import metadata, tensors, truncate
from photographs import CLASSES, add_unreadable_files, write_photographs
from processes import records, steps_taken, vitral
from vitral.cli import main
from vitral.weights.folder import load_model

SMALL = ["--model.width", "16", "--model.depth", "1", "--model.num-heads", "2", "--model.mlp-dim", "32"]
DIGITS = ["train", "digits", *SMALL, "--train.steps", "4", "--checkpoint.every", "2steps", "--out", "run"]
PHOTOS = ["--data.root", "photos", "--data.workers", "0", "--train.batch-size", "8", "--train.steps", "3"]


class Typed:
    """Runs `vitral` in this process, in a new folder, and captures its output."""

    def __init__(self, capture: pytest.CaptureFixture[str]) -> None:
        self.capture = capture
        self.errors = ""

    def __call__(self, *words: str | Path, code: int = 0) -> str:
        """Standard output of `vitral WORDS`, which must end with exit status `code`."""
        try:
            main([str(word) for word in words])
            ended: Any = 0
        except SystemExit as stop:
            ended = stop.code
        output, self.errors = self.capture.readouterr()
        assert ended == code, self.errors
        return output

    def refusal(self, *words: str | Path) -> str:
        """The error of `vitral WORDS`: its last line, or the box of the argument parser as one line."""
        assert self(*words, code=2) == ""
        assert "Traceback" not in self.errors
        last = self.errors.strip().splitlines()[-1]
        if last.startswith("vitral: "):
            return last.removeprefix("vitral: ")
        assert "For full helptext, " in self.errors
        return " ".join(self.errors.split())


@pytest.fixture
def typed(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Typed:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "400")
    return Typed(capsys)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A few photographs of each class."""
    return write_photographs(tmp_path / "photos", per_class=4)


@pytest.fixture(scope="module")
def trained_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `run`, trained by DIGITS, and `base`, trained on photographs; for reading only."""
    folder = tmp_path_factory.mktemp("trained")
    write_photographs(folder / "photos", per_class=4)
    with contextlib.chdir(folder):
        main(DIGITS)
        main(["train", "folder", *SMALL, *PHOTOS, "--out", "base"])
    return folder


@pytest.fixture
def run(trained_once: Path, tmp_path: Path) -> Path:
    """A finished run on the digits, in the folder that commands run in."""
    return Path(shutil.copytree(trained_once / "run", tmp_path / "run"))


@pytest.fixture
def base(trained_once: Path, tmp_path: Path) -> Path:
    """A finished run on photographs, in the folder that commands run in."""
    return Path(shutil.copytree(trained_once / "base", tmp_path / "base"))


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


class TestRuns:
    def test_digits(self, typed, tmp_path):
        assert typed(*DIGITS) == "model, metrics and report are in run\nnext: vitral inspect run\n"
        assert load_model(tmp_path / "run").card.classes == tuple("0123456789")

    def test_commands_to_type_quote_the_folder(self, typed):
        assert typed(*DIGITS[:-1], "my run").endswith("next: vitral inspect 'my run'\n")

    def test_json_is_one_object_and_nothing_else(self, typed):
        output = typed(*DIGITS, "--json")
        assert output.count("\n") == 1
        figures = json.loads(output)
        assert figures["run"] == "run"
        assert 0 <= figures["test/top1"] <= 1

    def test_a_run_on_a_folder_is_compared_with_simple_methods(self, typed, trained_once, tmp_path):
        shutil.copytree(trained_once / "photos", tmp_path / "photos")
        figures = json.loads(typed("train", "folder", *SMALL, *PHOTOS, "--out", "run", "--json"))
        compared = figures["assessment"]
        assert compared["accuracy"] == pytest.approx(figures["test/top1"])
        assert 0 <= compared["baselines"]["nearest_neighbour"] <= 1
        metrics = json.loads((tmp_path / "run" / "config.json").read_text())["card"]["metrics"]
        assert metrics["test/majority_class"] == compared["baselines"]["majority_class"]
        assert "beside simple methods" in typed.errors
        assert "Beside simple methods" in (tmp_path / "run" / "report.html").read_text()

    def test_minutes_set_the_number_of_steps(self, typed, trained_once, tmp_path, monkeypatch):
        """The run keeps the number, so that it resumes and repeats exactly."""
        shutil.copytree(trained_once / "photos", tmp_path / "photos")
        monkeypatch.setattr("vitral.train.budget.SECONDS", 0.0)
        typed("train", "folder", *SMALL, *PHOTOS[:-2], "--minutes", "0.01", "--out", "run")
        config = json.loads((tmp_path / "run" / "run.json").read_text())
        assert config["train"]["steps"] == 1
        assert config["command"][0].endswith("--train.steps 1")
        assert "--minutes" not in config["command"][0]
        assert "length: 1 steps" in typed.errors
        assert "0.01 minutes are not enough" in typed.errors

    def test_self_supervision_on_own_images_fits_a_desk(self, typed, trained_once, tmp_path):
        shutil.copytree(trained_once / "photos", tmp_path / "photos")
        typed("train", "mae", *PHOTOS[:4], "--model.depth", "1", "--train.steps", "1", "--out", "run")
        config = json.loads((tmp_path / "run" / "run.json").read_text())
        assert config["train"]["batch_size"] == 64
        assert config["model"]["architecture"]["width"] == 192

    def test_the_batch_is_split_to_fit_into_memory(self, typed, tmp_path):
        typed("train", "digits", *SMALL, "--train.steps", "1", "--train.batch-size", "auto", "--out", "run")
        config = json.loads((tmp_path / "run" / "run.json").read_text())
        assert (config["train"]["batch_size"], config["train"]["accumulate"]) == (128, 1)
        assert "batches of 128 images in 1 parts" in typed.errors

    def test_what_does_not_fit_is_refused_before_the_first_step(self, typed, tmp_path, monkeypatch):
        monkeypatch.setattr("vitral.train.memory.free_memory", lambda _: 10**7)
        assert "choose a smaller" in typed.refusal("train", "digits", "--out", "run")
        assert not (tmp_path / "run").exists()

    def test_each_run_has_a_folder_of_its_own(self, typed, tmp_path):
        for _ in range(2):
            typed(*DIGITS[:-2])
        assert sorted(path.name for path in (tmp_path / "runs").iterdir()) == ["digits-1", "digits-2"]

    @pytest.mark.parametrize(
        ("flags", "message"),
        [
            (["folder", "--minutes", "0"], "--minutes must be a number above 0, not 0"),
            (["folder", "--minutes", "ten"], "--minutes must be a number above 0, not ten"),
            (["folder", "--minutes", "5", "--train.epochs", "3"], "--minutes and --train.epochs both set the length"),
            (["--resume", "run", "--minutes", "5"], "leave out --minutes"),
        ],
    )
    @pytest.mark.usefixtures("run")
    def test_wrong_minutes(self, typed, flags, message):
        assert message in typed.refusal("train", *flags)

    @pytest.mark.usefixtures("run")
    def test_a_finished_run_resumed_stays_finished(self, typed, tmp_path):
        before = files(tmp_path / "run")
        typed("train", "--resume", "run")
        after = files(tmp_path / "run")
        for name in (
            "model.safetensors",
            "config.json",
            "metrics.jsonl",
            "run.json",
            "checkpoints/step_000000004/state.json",
        ):
            assert after[name] == before[name], name

    @pytest.mark.usefixtures("run")
    def test_a_finished_run_is_resumed_for_more_steps(self, typed, tmp_path):
        typed("train", "--resume", "run", "--train.steps", "7")
        assert steps_taken(tmp_path / "run") == 7
        assert json.loads((tmp_path / "run" / "run.json").read_text())["train"]["steps"] == 7

    def test_help_without_arguments(self, typed):
        assert "vitral train RECIPE" in typed("train", code=2)
        assert "vitral train RECIPE" in typed("train", "--help")

    def test_help_of_a_recipe_lists_every_key(self, typed):
        output = typed("train", "digits", "--help-all")
        for key in ("--seed", "--optim.lr", "--train.steps", "--data.on-error", "--model.width", "--checkpoint.every"):
            assert key in output

    @pytest.mark.usefixtures("base", "photos")
    def test_fine_tuning_from_a_folder_of_photographs(self, typed, tmp_path):
        typed("train", "finetune", "--model.weights", "base", "--model.image-size", "160", *PHOTOS, "--out", "tuned")
        assert "positions interpolated from 6x6 to 10x10 patches" in typed.errors
        assert "head kept: the classes are the same" in typed.errors
        model = load_model(tmp_path / "tuned")
        assert model.card.preprocessing.image_size == (160, 160)
        assert model.card.classes == CLASSES
        assert model.config.width == 16
        assert model.card.provenance["weights"] == "base"
        before, after = (load_model(tmp_path / run).blocks[0].mlp.fc1.weight for run in ("base", "tuned"))
        assert 0 < (before - after).norm() / before.norm() < 0.1

    @pytest.mark.usefixtures("base")
    def test_fine_tuning_on_other_classes(self, typed, photos):
        shutil.rmtree(photos / CLASSES[0])
        typed("train", "finetune", "--model.weights", "base", *PHOTOS, "--out", "tuned")
        assert f"new zero head for {len(CLASSES) - 1} classes" in typed.errors

    @pytest.mark.usefixtures("photos")
    def test_a_fine_tuning_run_is_resumed_without_its_initial_weights(self, typed, base, tmp_path):
        typed("train", "finetune", "--model.weights", "base", *PHOTOS, "--out", "tuned")
        shutil.rmtree(base)
        typed("train", "--resume", "tuned", "--train.steps", "5")
        assert steps_taken(tmp_path / "tuned") == 5


class TestWrongUse:
    @pytest.mark.parametrize(
        ("words", "sentence"),
        [
            (["digit"], "unknown recipe 'digit' (did you mean digits?)"),
            (["digits", "--optim.learning-rate", "1"], "--optim.learning-rate"),
            (["digits", "--optim.name", "adagrad"], "adagrad"),
            (["digits", "--optim.lr", "fast"], "fast"),
            (["digits", "--optim.lr", "-1"], "lr must be above 0"),
            (["digits", "--seed", "-1"], "seed must be at least 0"),
            (["digits", "--train.batch-size", "0"], "--train.batch-size must be at least 1, not 0"),
            (["digits", "--checkpoint.every", "often"], "'often' is not a duration"),
            (["digits", "--schedule.warmup", "5min"], "schedule.warmup must be in steps"),
            (["digits", "--model.patch-size", "3"], "image size 8x8 is not divisible by patch size 3x3: choose 6x6"),
            (["digits", "--train.device", "cuda:99"], "device 'cuda:99' is not available"),
            (["digits", "--data.source", "folder", "--data.root", "nowhere"], "nowhere does not exist"),
            (["digits", "--data.source", "folder", "--data.root", "empty"], "empty"),
            (["digits", "--data.source", "folder", "--data.root", "single"], "single has only one class, 'cats'"),
            (["folder"], "needs --data.root"),
            (["finetune", "--data.root", "nowhere"], "name it with --model.weights"),
            (["finetune", "--model.weights", "nowhere"], "nowhere does not exist"),
            (["finetune", "--model.weights", "empty"], "empty is not a Vitral model"),
        ],
    )
    def test_of_a_new_run_leaves_nothing(self, typed, tmp_path, words, sentence):
        (tmp_path / "empty").mkdir()
        for name in ("single/cats/1.png", "single/cats/2.png"):
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"")
        assert sentence in typed.refusal("train", *words, "--out", "run")
        assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "single"]

    def test_weights_without_a_folder(self, typed):
        assert "--model.weights: expected one argument" in typed.refusal("train", "finetune", "--model.weights")

    def test_a_gpu_that_is_not_there(self, typed, tmp_path):
        name = "cuda:99" if torch.cuda.is_available() else "cuda"
        assert f"device '{name}' is not available" in typed.refusal(*DIGITS, "--train.device", name)
        assert not (tmp_path / "run").exists()

    @pytest.mark.usefixtures("run")
    def test_an_existing_folder(self, typed, tmp_path):
        before = files(tmp_path)
        error = typed.refusal(*DIGITS)
        assert error.startswith("run exists and is not empty")
        assert "--out" in error
        assert "--resume" in error
        assert files(tmp_path) == before

    def test_a_folder_that_cannot_be_made(self, typed, tmp_path):
        (tmp_path / "file").write_bytes(b"kept")
        refusal = typed.refusal(*DIGITS[:-1], "file/run")
        assert refusal == "file/run cannot be made (Not a directory): give another folder with --out"
        assert (tmp_path / "file").read_bytes() == b"kept"

    @pytest.mark.parametrize("name", ["nowhere", "empty"])
    def test_nothing_to_resume(self, typed, tmp_path, name):
        (tmp_path / "empty").mkdir()
        error = typed.refusal("train", "--resume", name)
        assert error.startswith(f"{name} has no run to resume")
        assert "run.json" in error

    @pytest.mark.parametrize(
        ("change", "sentence"),
        [
            (
                ["--seed", "9"],
                "seed was 0 and cannot become 9 when a run resumes, because samples would be repeated or skipped",
            ),
            (
                ["--model.depth", "2"],
                "model.architecture.depth was 1 and cannot become 2 when a run resumes, because it would",
            ),
            (["--optim.name", "sgd"], "optim.name was muon and cannot become sgd"),
            (["--train.ema", "None"], "train.ema was 0.99 and cannot become None"),
            (["--train.device", "teapot"], "device 'teapot' is not available"),
            (["--train.steps", "3"], "the run has already taken 4 steps: give --train.steps 4 or more"),
            (["--data.root", "nowhere"], "data.root was None and cannot become nowhere"),
            (["--data.source", "idx"], "data.source was digits and cannot become idx"),
            (["--data.test-fraction", "0.3"], "data.test_fraction was 0.2 and cannot become 0.3"),
            (["--data.split-seed", "1"], "data.split_seed was 0 and cannot become 1"),
            (["--data.limit", "700"], "data.limit was None and cannot become 700"),
            (["--augment.repeats", "3"], "augment.repeats was 1 and cannot become 3"),
            (
                ["--train.batch-size", "64"],
                "train.batch_size was 128 and cannot become 64 when a run resumes, because samples would be repeated "
                "or skipped: remove it, raise --train.accumulate to save memory, or start a new run",
            ),
            (
                ["--optim.lr", "0.5"],
                "the run has taken all of its 4 steps, so optim.lr 0.5 instead of 0.01 would have no effect: "
                "remove it, or give --train.steps above 4",
            ),
            (["--out", "elsewhere"], "a run is resumed in its own folder, run: leave out --out"),
            (["--optim.lr", "0"], "lr must be above 0"),
        ],
    )
    @pytest.mark.usefixtures("run")
    def test_of_an_old_run_changes_nothing(self, typed, tmp_path, change, sentence):
        before = files(tmp_path)
        assert sentence in typed.refusal("train", "--resume", "run", *change)
        assert "the run is saved" not in typed.errors
        assert files(tmp_path) == before

    def test_a_damaged_configuration(self, typed, run):
        (run / "run.json").write_text("{")
        assert typed.refusal("train", "--resume", "run").startswith("run/run.json is not JSON")

    def test_no_checkpoint_that_can_be_read(self, typed, run):
        for path in (run / "checkpoints").iterdir():
            truncate(path)
        assert typed.refusal("train", "--resume", "run").startswith("no checkpoint in run/checkpoints can be read")


def test_a_loss_that_is_not_finite(typed, tmp_path):
    wild = [*DIGITS, "--train.steps", "60", "--optim.name", "sgd", "--optim.lr", "1e9", "--optim.clip", "None"]
    sentence = typed.refusal(*wild)
    assert sentence.startswith("the ")
    assert " at step " in sentence
    assert " with learning rate " in sentence
    saved = sorted((tmp_path / "run" / "checkpoints").glob("step_*"))
    if saved:
        assert "the run is saved; resume it with: vitral train --resume run" in typed.errors
    for path in saved:
        assert all(tensor.isfinite().all() for tensor in tensors(path, "model").values())


def test_a_run_finds_its_data_from_any_folder(typed, trained_once, tmp_path):
    """Not another folder of the same name."""
    shutil.copytree(trained_once, tmp_path / "first", symlinks=True)
    started = tmp_path / "first" / "base" / "run.json"
    started.write_text(started.read_text().replace(str(trained_once), str(tmp_path / "first")))
    write_photographs(tmp_path / "photos", per_class=2)  # another one of the same name
    here = json.loads(typed("eval", "first/base", "--json"))
    with contextlib.chdir(tmp_path / "first"):
        there = json.loads(typed("eval", "base", "--json"))
    assert here["num_images"] == there["num_images"]
    assert here["top1"] == there["top1"]
    typed("train", "--resume", "first/base", "--train.steps", "4")
    assert records(tmp_path / "first" / "base")[-1]["step"] == 4
    shutil.rmtree(tmp_path / "first" / "photos")
    assert typed.refusal("eval", "first/base").startswith(f"{tmp_path / 'first' / 'photos'} does not exist")


def test_an_unreadable_image_stops_the_run_and_may_be_skipped(typed, photos, tmp_path):
    unreadable = add_unreadable_files(photos)
    run = ["train", "folder", *SMALL, *PHOTOS, "--train.steps", "12", "--out", "run"]
    sentence = typed.refusal(*run)
    assert any(sentence.startswith(f"{path.relative_to(tmp_path)} cannot be read as an image") for path in unreadable)
    assert sentence.endswith("--data.on-error skip")
    assert "the run is saved; resume it with: vitral train --resume run" in typed.errors
    before = steps_taken(tmp_path / "run")
    typed("train", "--resume", "run", "--data.on-error", "skip")
    assert "files could not be read and were skipped:" in typed.errors
    assert sum(str(path.relative_to(tmp_path)) in typed.errors for path in unreadable) == 3
    steps = [record["step"] for record in records(tmp_path / "run") if "train/loss" in record]
    assert steps == sorted(set(steps))
    assert before < steps[-1] == 12


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of two megabytes."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(disk)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("needs to mount a small file system: as root, where mounting is allowed")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def fill(disk: Path, *, leave: int) -> Path:
    """Takes up a disk's free space but for `leave` bytes."""
    usage = os.statvfs(disk)
    filler = disk / "filler"
    filler.write_bytes(bytes(usage.f_bavail * usage.f_frsize - leave))
    return filler


FULL = ["train", "digits", *SMALL, "--train.steps", "12", "--train.log", "1step", "--checkpoint.every", "2steps"]


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run that always had room."""
    run = tmp_path_factory.mktemp("uninterrupted") / "run"
    main([*FULL, "--out", str(run)])
    return run


@pytest.mark.parametrize("leave", [0, 4_096, 8_192, 12_288, *range(20_000, 220_000, 20_000)])
def test_a_full_disk(typed, small_disk, uninterrupted, leave):
    """Whichever file does not fit, the error names it, and the run can be resumed once there is room."""
    run = small_disk / "run"
    filler = fill(small_disk, leave=leave)
    sentence = typed.refusal(*FULL, "--out", run)
    assert sentence.startswith(f"{run}/")
    assert sentence.endswith(": No space left on device")
    assert not list(run.rglob("*.tmp"))
    saved = sorted((run / "checkpoints").glob("step_*"))
    assert all(metadata(path)["step"] for path in saved)
    assert bool(saved) == (f"the run is saved; resume it with: vitral train --resume {run}" in typed.errors)
    filler.unlink()
    typed(*(["train", "--resume", run] if (run / "run.json").exists() else [*FULL, "--out", run]))
    assert (run / "model.safetensors").read_bytes() == (uninterrupted / "model.safetensors").read_bytes()
    assert records(run) == records(uninterrupted)


def test_a_full_disk_as_a_process(small_disk, tmp_path):
    fill(small_disk, leave=100_000)
    errors = vitral(*FULL, "--out", small_disk / "run", cwd=tmp_path, code=2).stderr
    assert errors.splitlines()[-1].startswith(f"vitral: {small_disk}/run/")
    assert errors.splitlines()[-1].endswith(": No space left on device")
