"""Logged metrics are means over the steps between two lines; one that is not finite stops the run."""

import math
from pathlib import Path

import pytest
import torch
from rich.console import Console

from vitral.evals.accuracy import Accuracy
from vitral.runs.metrics import read_metrics
from vitral.runs.reporter import Diverged, Reporter, can_draw, fit_width
from vitral.train.profiling.profiler import Profiler
from vitral.train.profiling.setup import Setup
from vitral.train.profiling.stopwatch import Stopwatch


def reporting(folder: Path, *, step: int = 0) -> Reporter:
    """A reporter of a run of 100 steps that resumes at `step`."""
    return Reporter(folder, step=step, total=100, speed=Profiler(Stopwatch(torch.device("cpu")), Setup()))


def metrics(loss: float, norm: float = 1.0, accuracy: float = 0.5) -> dict[str, torch.Tensor]:
    values = {"loss": loss, "accuracy": accuracy, "gradient_norm": norm}
    return {name: torch.tensor(value) for name, value in values.items()}


def result(loss: float) -> Accuracy:
    labels = dict(truth=torch.tensor([0, 0, 1, 1]), predicted=torch.tensor([0, 0, 1, 0]), num_classes=2)
    return Accuracy(num_images=4, top1=0.75, top5=1.0, loss=loss, ece=0.1, **labels, unreadable=())


def test_metrics_are_means_since_the_last_line(tmp_path):
    with reporting(tmp_path, step=20) as reporter:
        for loss in (1.0, 2.0, 6.0):
            reporter.log_step(metrics(loss), lr=loss / 10, num_images=8)
        reporter.flush(23)
        reporter.flush(23)
        reporter.log_step(metrics(5.0), lr=0.7, num_images=8)
        reporter.flush(24)
    first, second = read_metrics(tmp_path / "metrics.jsonl")
    assert first.pop("images_per_second") > 0
    assert first.pop("data_wait") == 0
    assert first.pop("memory_bytes") > 10e6
    assert first == {"step": 23, "train/loss": 3, "train/accuracy": 0.5, "train/gradient_norm": 1, "lr": 0.6}
    assert (second["step"], second["train/loss"], second["lr"]) == (24, 5, 0.7)


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("what", ["loss", "gradient"])
def test_a_loss_or_gradient_that_is_not_finite_raises(tmp_path, what, value):
    with reporting(tmp_path, step=20) as reporter:
        reporter.log_step(metrics(1.0), lr=0.1, num_images=8)
        reporter.log_step(metrics(value) if what == "loss" else metrics(1.0, value), lr=0.25, num_images=8)
        reporter.log_step(metrics(value), lr=0.3, num_images=8)
        with pytest.raises(Diverged, match=rf"{what} became {value} at step 22 .* rate 0\.25: .*--optim\.lr"):
            reporter.flush(23)
    assert read_metrics(tmp_path / "metrics.jsonl") == []


def test_evaluations_are_logged_and_printed(tmp_path, capsys):
    with reporting(tmp_path) as reporter:
        reporter.log_eval(50, "val", result(0.5))
    expected = {"step": 50, "val/top1": 0.75, "val/top5": 1.0, "val/loss": 0.5, "val/ece": 0.1}
    assert read_metrics(tmp_path / "metrics.jsonl") == [expected]
    captured = capsys.readouterr()
    assert captured.err == "step 50/100  val accuracy 75.00%  loss 0.5000\n"
    assert captured.out == ""


def test_an_evaluation_that_is_not_finite_raises(tmp_path):
    with reporting(tmp_path) as reporter:
        reporter.log_step(metrics(1.0), lr=0.125, num_images=8)
        with pytest.raises(ValueError, match=r"the test loss became nan at step 50 with learning rate 0\.125"):
            reporter.log_eval(50, "test", result(math.nan))


def test_a_narrow_terminal_shows_the_most_important_metrics():
    words = ["loss 1.234", "accuracy 59.0%", "1,996 images/s"]
    assert fit_width(words, 42) == "loss 1.234  accuracy 59.0%  1,996 images/s"
    assert fit_width(words, 41) == "loss 1.234  accuracy 59.0%"
    assert fit_width(words, 5) == "loss 1.234"


def test_markup_in_file_names_is_escaped(tmp_path, capsys):
    with reporting(tmp_path) as reporter:
        reporter.info("photos/[bold]cat[/bold].jpg is broken")
    assert capsys.readouterr().err == "photos/[bold]cat[/bold].jpg is broken\n"


def test_a_notebook_without_widgets_gets_lines(monkeypatch):
    notebook = Console(force_jupyter=True)
    monkeypatch.setattr("vitral.runs.reporter.find_spec", lambda name: None)
    assert not can_draw(notebook), "rich would warn at each step instead"
    monkeypatch.setattr("vitral.runs.reporter.find_spec", lambda name: object())
    assert can_draw(notebook)
    assert not can_draw(Console(force_terminal=False, force_jupyter=False))


def test_the_bar_leaves_the_last_columns_free(tmp_path):
    """In full width, the ^C of an interrupt would move it to the next line, and a copy would stay."""
    with reporting(tmp_path) as reporter:
        console = Console(width=40)
        lines = console.render_lines(reporter.bar.get_renderable(), console.options, pad=False)
    assert [sum(segment.cell_length for segment in line) for line in lines] == [37]
