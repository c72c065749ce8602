"""The lifecycle of a run in one process: its files, resuming, errors and unreadable images."""

import shutil
import signal
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from checkpoints import metadata, newest, tensors, truncate
from photographs import add_unreadable_files, write_photographs
from tiny import ARCHITECTURE, tiny_run
from vitral import __version__
from vitral.data.config import DataConfig
from vitral.data.sources.source import Source
from vitral.files import write_json
from vitral.runs.metrics import read_metrics
from vitral.runs.run import Run
from vitral.train.config import RunConfig, read_run_config
from vitral.train.evaluation import SplitEvaluation, evaluate_split
from vitral.train.fit import fit
from vitral.train.interrupts import Interrupted
from vitral.train.session import Session
from vitral.weights.folder import load_model


@pytest.fixture
def train() -> Iterator:
    """Trains in a new folder, or resumes in an existing one; returns the metrics."""

    def fit_in(config: RunConfig, *, resume: bool = False) -> dict[str, float]:
        run = Run.open(config.out) if resume else Run.create(config.out, recipe=config.recipe)
        try:
            return fit(run, config)
        finally:
            run.close()

    return fit_in


def losses(folder: Path) -> dict[int, float]:
    return {
        record["step"]: record["train/loss"]
        for record in read_metrics(folder / "metrics.jsonl")
        if "train/loss" in record
    }


def same_weights(one: Path, other: Path) -> bool:
    return (one / "model.safetensors").read_bytes() == (other / "model.safetensors").read_bytes()


def test_a_finished_run_has_all_files(tmp_path, train):
    figures = train(tiny_run(tmp_path / "run", evaluate="5steps"))
    names = {path.name for path in (tmp_path / "run").iterdir()}
    assert names >= {"run.json", "config.json", "model.safetensors", "metrics.jsonl", "curves.png", "checkpoints"}
    assert [path.name for path in sorted((tmp_path / "run" / "checkpoints").iterdir())] == [
        "step_000000008",
        "step_000000012",
    ]
    model = load_model(tmp_path / "run")
    assert model.card.metrics == figures
    assert model.card.provenance["steps"] == 12
    assert model.card.provenance["seed"] == 5
    assert model.card.provenance["vitral"] == __version__
    assert "weights" not in model.card.provenance
    measured = [record["step"] for record in read_metrics(tmp_path / "run" / "metrics.jsonl") if "test/top1" in record]
    assert measured == [5, 10, 12]
    assert list(losses(tmp_path / "run")) == list(range(1, 13))
    assert (tmp_path / "run" / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_the_ema_is_saved(tmp_path, train):
    train(tiny_run(tmp_path / "run"))
    state = newest(tmp_path / "run")
    saved = load_file(tmp_path / "run" / "model.safetensors")
    assert all(torch.equal(saved[name], tensors(state, "average")[name]) for name in saved)
    assert not torch.equal(saved["head.weight"], tensors(state, "model")["head.weight"])


def test_resuming_a_finished_run_changes_nothing(tmp_path, train):
    config = tiny_run(tmp_path / "run")
    first = train(config)
    record, model = ((tmp_path / "run" / name).read_bytes() for name in ("metrics.jsonl", "model.safetensors"))
    assert train(config, resume=True) == first
    assert (tmp_path / "run" / "metrics.jsonl").read_bytes() == record
    assert (tmp_path / "run" / "model.safetensors").read_bytes() == model


def test_the_final_checkpoint_is_on_disk_before_the_final_evaluation(tmp_path, train, monkeypatch):
    """Evaluation starts data workers, and a process must not fork while a thread writes."""
    evaluated: list[tuple[int, bool]] = []

    def slow_write(path: Path, value: object) -> None:
        time.sleep(0.3)
        write_json(path, value)

    def evaluate(session: Session, data: dict[str, Source], split: str) -> SplitEvaluation:
        path = tmp_path / "run" / "checkpoints" / f"step_{session.step:09d}"
        evaluated.append((session.step, path.is_dir()))
        return evaluate_split(session, data, split)

    monkeypatch.setattr("vitral.train.checkpointing.checkpoint.write_json", slow_write)
    monkeypatch.setattr("vitral.train.fit.evaluate_split", evaluate)
    train(tiny_run(tmp_path / "run"))
    assert evaluated == [(12, True)]


def test_a_damaged_checkpoint_costs_only_its_steps(tmp_path, train, capsys):
    config = tiny_run(tmp_path / "run")
    train(config)
    before = (tmp_path / "run" / "model.safetensors").read_bytes()
    damaged = newest(tmp_path / "run")
    truncate(damaged)
    capsys.readouterr()
    train(config, resume=True)
    stderr = capsys.readouterr().err
    assert f"{damaged} is damaged" in stderr
    assert "steps 8 to 12" in stderr
    assert (tmp_path / "run" / "model.safetensors").read_bytes() == before


def test_a_checkpoint_of_another_run_raises(tmp_path, train):
    train(tiny_run(tmp_path / "run"))
    wider = replace(ARCHITECTURE, width=32)
    other = replace(tiny_run(tmp_path / "other"), model=replace(tiny_run().model, architecture=wider))
    train(other)
    swapped = newest(tmp_path / "run")
    shutil.rmtree(swapped)
    shutil.copytree(newest(tmp_path / "other"), swapped)
    with pytest.raises(ValueError, match="the checkpoint does not fit this model and optimiser") as caught:
        train(tiny_run(tmp_path / "run"), resume=True)
    assert str(caught.value).startswith(f"{swapped}: ")
    assert "29 of its tensors differ, first blocks.0.attn.proj.bias: expected (16,), found (32,)" in str(caught.value)
    assert str(caught.value).endswith("; undo the change, or start a new run")


def config_in(run: Path) -> RunConfig:
    """The configuration that a run saved, but for the folder in which it was started."""
    config = read_run_config(Run.open(run))
    assert config.folder == Path.cwd()
    return replace(config, folder=None)


def test_the_resolved_configuration_is_saved(tmp_path, train):
    config = tiny_run(tmp_path / "run")
    config = replace(config, model=replace(config.model, architecture=replace(ARCHITECTURE, num_classes=7)))
    train(config)
    saved = config_in(tmp_path / "run")
    assert saved.model.architecture == load_model(tmp_path / "run").config
    assert saved.preprocessing == load_model(tmp_path / "run").card.preprocessing
    assert saved.model.architecture.num_classes == 10
    assert saved == config.resolved(num_classes=10)


def test_changed_data_raises(tmp_path, train):
    root = tmp_path / "photos"
    write_photographs(root, per_class=4)
    config = tiny_run(tmp_path / "run", batch_size=8, steps=2)
    architecture = replace(ARCHITECTURE, image_size=32, patch_size=8, channels=3)
    data = DataConfig(source="folder", root=root)
    config = replace(config, model=replace(config.model, architecture=architecture), data=data)
    train(config)
    before = (tmp_path / "run" / "run.json").read_bytes()
    one = min(path for path in root.rglob("*") if path.is_file())
    renamed = one.rename(one.with_stem("another"))
    with pytest.raises(ValueError, match=r"^the training data has changed since this run started"):
        train(replace(config, train=replace(config.train, steps=4)), resume=True)
    assert (tmp_path / "run" / "run.json").read_bytes() == before
    renamed.rename(one)
    train(replace(config, train=replace(config.train, steps=4), data=replace(data, workers=1)), resume=True)


def test_fewer_steps_than_the_checkpoint_raise(tmp_path, train):
    config = tiny_run(tmp_path / "run")
    train(config)
    with pytest.raises(ValueError, match=r"^the run has already taken 12 steps: give --train\.steps 12 or more$"):
        train(replace(config, train=replace(config.train, steps=11)), resume=True)
    assert config_in(tmp_path / "run") == config.resolved(num_classes=10)


class Failing:
    """Replaces a session's step and raises an error."""

    def __init__(self, error: BaseException) -> None:
        self.error = error

    def __call__(self, *_: object, **__: object) -> None:
        raise self.error


def test_a_changed_configuration_is_saved_with_its_first_checkpoint(tmp_path, train, monkeypatch):
    config = tiny_run(tmp_path / "run")
    train(config)
    longer = replace(config, train=replace(config.train, steps=14), optim=replace(config.optim, lr=1e-3))
    with monkeypatch.context() as patch:
        patch.setattr(Session, "train_step", Failing(MemoryError()))
        with pytest.raises(ValueError, match="memory ran out"):
            train(longer, resume=True)
    assert config_in(tmp_path / "run") == config.resolved(num_classes=10)
    train(longer, resume=True)
    changed = ("optim.lr is 0.001 instead of 0.01 from step 12 on", "train.steps is 14 instead of 12 from step 12 on")
    assert config_in(tmp_path / "run") == replace(longer, changes=changed).resolved(num_classes=10)
    assert load_model(tmp_path / "run").card.provenance["changes"] == "; ".join(changed)


def test_changes_are_printed_and_recorded(tmp_path, train, capsys):
    config = tiny_run(tmp_path / "run")
    train(config)
    for steps in (14, 16):
        train(replace(config, train=replace(config.train, steps=steps)), resume=True)
        assert (
            f"changed: train.steps is {steps} instead of {steps - 2} from step {steps - 2} on"
            in capsys.readouterr().err
        )
    assert [change.rpartition(" from ")[2] for change in read_run_config(Run.open(tmp_path / "run")).changes] == [
        "step 12 on",
        "step 14 on",
    ]
    assert "Changed while resuming: train.steps is 14 instead of 12" in (tmp_path / "run" / "report.html").read_text()


def test_changed_hardware_settings_are_not_recorded(tmp_path, train, capsys):
    config = tiny_run(tmp_path / "run")
    train(config)
    before = (tmp_path / "run" / "run.json").read_bytes()
    capsys.readouterr()
    elsewhere = replace(
        config,
        data=replace(config.data, workers=1),
        train=replace(config.train, evaluate="3steps", track="none"),
        checkpoint=replace(config.checkpoint, keep=5),
    )
    train(elsewhere, resume=True)
    assert "changed" not in capsys.readouterr().err
    assert (tmp_path / "run" / "run.json").read_bytes() == before, "no step was trained with them"
    assert "changes" not in load_model(tmp_path / "run").card.provenance


def test_any_setting_may_change_before_the_first_checkpoint(tmp_path, train, monkeypatch):
    """Such as the batch size, if the first step ran out of memory."""
    config = tiny_run(tmp_path / "run")
    with monkeypatch.context() as patch:
        patch.setattr(Session, "train_step", Failing(MemoryError()))
        with pytest.raises(ValueError, match=r"smaller --train\.batch-size"):
            train(config)
    smaller = replace(config, train=replace(config.train, batch_size=32))
    train(smaller, resume=True)
    assert config_in(tmp_path / "run") == smaller.resolved(num_classes=10)


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (MemoryError(), "^memory ran out with batches of 64 images in 1 parts: raise --train.accumulate, or start"),
        (torch.OutOfMemoryError("CUDA out of memory."), "^memory ran out with batches of 64 images"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), "^memory ran out with batches of 64"),
        (RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed."), "lower --data.workers$"),
        (torch._dynamo.exc.InternalTorchDynamoError("no compiler"), "^torch.compile failed .no compiler.: install a"),
    ],
)
def test_resource_errors_become_user_errors(tmp_path, train, monkeypatch, error, sentence):
    monkeypatch.setattr(Session, "train_step", Failing(error))
    with pytest.raises(ValueError, match=sentence):
        train(tiny_run(tmp_path / "run"))


def test_other_errors_propagate(tmp_path, train, monkeypatch):
    monkeypatch.setattr(Session, "train_step", Failing(RuntimeError("a fault of our own")))
    with pytest.raises(RuntimeError, match="a fault of our own"):
        train(tiny_run(tmp_path / "run"))


def test_a_signal_while_the_run_finishes_is_raised_after_it(tmp_path, train, monkeypatch):
    def draw(*_: object) -> None:
        signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr("vitral.train.artefacts.draw_curves", draw)
    with pytest.raises(Interrupted) as caught:
        train(tiny_run(tmp_path / "run"))
    assert caught.value.finished
    assert caught.value.signum == signal.SIGTERM
    assert load_model(tmp_path / "run").card.provenance["steps"] == 12


def test_a_run_that_fails_to_start_leaves_no_folder(tmp_path, train):
    config = replace(tiny_run(tmp_path / "run"), data=DataConfig(source="folder", root=tmp_path / "nowhere"))
    with pytest.raises(ValueError, match="nowhere does not exist"):
        train(config)
    assert not (tmp_path / "run").exists()


def test_a_resumed_run_that_fails_to_start_changes_no_file(tmp_path, train):
    config = tiny_run(tmp_path / "run")
    train(config)
    before = {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()}
    with pytest.raises(ValueError, match="device 'teapot' is not available"):
        train(replace(config, train=replace(config.train, device="teapot")), resume=True)
    assert {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()} == before


def test_a_loss_that_is_not_finite_keeps_the_last_good_checkpoint(tmp_path, train):
    config = tiny_run(tmp_path / "run", steps=50)
    config = replace(config, optim=replace(config.optim, name="sgd", lr=1e30, clip=None))
    with pytest.raises(ValueError, match=r"^the (loss|gradient) became (nan|inf) at step \d+ with learning rate \d"):
        train(config)
    for path in (tmp_path / "run" / "checkpoints").glob("step_*"):
        assert all(tensor.isfinite().all() for tensor in tensors(path).values())


class TestUnreadable:
    @pytest.fixture
    def config(self, tmp_path) -> RunConfig:
        """A run over photographs, three of which are unreadable."""
        root = tmp_path / "photos"
        write_photographs(root, per_class=4)
        add_unreadable_files(root)
        config = tiny_run(tmp_path / "run", batch_size=8, steps=9)
        architecture = replace(ARCHITECTURE, image_size=32, patch_size=8, channels=3)
        data = DataConfig(source="folder", root=root)
        return replace(config, model=replace(config.model, architecture=architecture), data=data)

    def test_an_unreadable_image_stops_the_run_which_can_resume(self, config, train):
        with pytest.raises(ValueError, match=r"broken-\w+\.\w+ cannot be read as an image: .*--data\.on-error skip"):
            train(config)
        step = max(losses(config.out), default=0)
        assert metadata(newest(config.out))["step"] == step
        skipping = replace(config, data=replace(config.data, on_error="skip"))
        train(skipping, resume=True)
        uninterrupted = replace(skipping, out=config.out.with_name("uninterrupted"))
        train(uninterrupted)
        assert same_weights(config.out, uninterrupted.out)

    def test_skipped_images_are_counted_and_listed(self, config, train, capsys):
        config = replace(config, data=replace(config.data, on_error="skip"))
        train(config)
        stderr = capsys.readouterr().err
        assert "3 files could not be read and were skipped:" in stderr
        for name in ("broken-cut.jpg", "broken-empty.jpg", "broken-text.png"):
            assert stderr.count(name) == 1

    def test_skipping_does_not_depend_on_workers(self, config, train):
        runs = [config.out.with_name(f"workers-{workers}") for workers in (0, 2)]
        for workers, out in zip((0, 2), runs, strict=True):
            train(replace(config, out=out, data=replace(config.data, on_error="skip", workers=workers)))
        assert same_weights(*runs)


def test_the_best_model_on_validation_images_is_saved_also_after_resuming(tmp_path, train):
    tiny = tiny_run(tmp_path / "run", evaluate="3steps", steps=24)
    checkpoint = replace(tiny.checkpoint, keep=9)
    tiny = replace(tiny, data=replace(tiny.data, val_fraction=0.2), checkpoint=checkpoint)
    train(tiny)
    records = read_metrics(tmp_path / "run" / "metrics.jsonl")
    scores = {record["step"]: record["val/top1"] for record in records if "val/top1" in record}
    best = load_model(tmp_path / "run" / "best").card
    assert best.provenance["steps"] == max(scores, key=lambda step: (scores[step], -step))
    assert best.metrics["val/top1"] == max(scores.values())
    before = (tmp_path / "run" / "best" / "model.safetensors").read_bytes()
    shutil.rmtree(tmp_path / "run" / "best")
    for step in (step for step in range(4, 25, 4) if step >= best.provenance["steps"]):
        shutil.rmtree(tmp_path / "run" / "checkpoints" / f"step_{step:09d}")
    train(tiny, resume=True)
    assert (tmp_path / "run" / "best" / "model.safetensors").read_bytes() == before


def test_resuming_without_checkpoints_is_noted_or_refused(tmp_path, train, capsys):
    config = tiny_run(tmp_path / "run", steps=4)
    train(config)
    assert "no checkpoint" not in capsys.readouterr().err
    shutil.rmtree(tmp_path / "run" / "checkpoints")
    run = Run.open(tmp_path / "run")
    with pytest.raises(ValueError, match="no checkpoint to resume from: leave out --strict-resume"):
        fit(run, config, strict=True)
    run.close()
    train(config, resume=True)
    assert "no checkpoint to resume from: the run starts again at step 0" in capsys.readouterr().err


def test_resuming_elsewhere_is_noted_or_refused(tmp_path, train, capsys, monkeypatch):
    config = tiny_run(tmp_path / "run", steps=4)
    train(config)
    threads = metadata(newest(tmp_path / "run"))["machine"]["threads"]
    longer = replace(config, train=replace(config.train, steps=8))
    monkeypatch.setattr(torch, "get_num_threads", lambda: 64)
    run = Run.open(tmp_path / "run")
    with pytest.raises(ValueError, match=f"threads 64 instead of {threads}.*--strict-resume"):
        fit(run, longer, strict=True)
    run.close()
    train(longer, resume=True)
    assert f"threads 64 instead of {threads}: from here on, results are equal but for" in capsys.readouterr().err
