"""`vitral sweep` on the command line: killed and resumed, its table, wrong arguments."""

import csv
import io
import json
import signal
import statistics
from functools import partial
from pathlib import Path

import pytest
from rich.console import Console

from cli.screen import Screen
from forks import start
from processes import steps_taken
from vitral.commands.sweep import results_table
from vitral.sweeps.config import SweepConfig
from vitral.sweeps.results import TrialResult

SMALL = ("--model.depth", "1", "--train.track", "none", "--train.log", "2steps", "--checkpoint.every", "4steps")
SWEEP = (
    *("sweep", "digits", "--out", "sweep", "--data.val-fraction", "0.1", "--grid", "optim.lr=0.0001,0.01"),
    *("--seeds", "0,1", "--retrain", "5", "--train.steps", "20", *SMALL),
)


def under_way(run: Path) -> bool:
    return steps_taken(run) >= 10


@pytest.mark.slow
def test_a_killed_sweep_is_resumed(tmp_path: Path) -> None:
    """Each kill hits another moment; the result is that of an uninterrupted sweep."""
    uninterrupted, stopped = tmp_path / "uninterrupted", tmp_path / "stopped"
    for folder in (uninterrupted, stopped):
        folder.mkdir()
    assert start(*SWEEP, cwd=uninterrupted).ended()
    sweep = stopped / "sweep"
    moments = [
        *(partial(Path.exists, sweep / name) for name in ("", "sweep.json", "000-seed0", "000-seed0/run.json")),
        *(partial(under_way, sweep / name) for name in ("000-seed0", "000-seed1")),
        *(partial(Path.exists, sweep / name) for name in ("results.json", "001-seed0")),
        partial(under_way, sweep / "001-seed1"),
        partial(under_way, sweep / "001-all-seed5"),
    ]
    for moment in moments:
        process = start(*SWEEP, cwd=stopped)
        process.wait_until(moment)
        process.kill()
        process.ended()
        assert process.returncode == -signal.SIGKILL
    last = start(*SWEEP, "--json", cwd=stopped)
    last.ended()
    result = json.loads(last.output.read_text())
    assert [row["settings"]["optim.lr"] for row in result["trials"]] == ["0.01", "0.0001"]
    assert result["best"].startswith("vitral train digits --data.val-fraction 0.1")
    assert result["best"].endswith("--optim.lr 0.01")
    for name in ("results.json", "results.csv", "results.md", "retrained.json"):
        assert (stopped / "sweep" / name).read_bytes() == (uninterrupted / "sweep" / name).read_bytes()
    for run in ("000-seed0", "000-seed1", "001-seed0", "001-seed1", "001-all-seed5"):
        weights = "model.safetensors"
        ours, theirs = (folder / "sweep" / run / weights for folder in (stopped, uninterrupted))
        assert ours.read_bytes() == theirs.read_bytes()
    table = list(csv.reader((uninterrupted / "sweep" / "results.csv").read_text().splitlines()))
    assert [row[:2] for row in table] == [["trial", "optim.lr"], ["001", "0.01"], ["000", "0.0001"]]


def test_the_papers_fine_tuning_protocol_is_one_command(tmp_path: Path) -> None:
    """Four rates on a held-out slice with one seed, the best on all images with three: mean and deviation."""
    assert start("train", "digits", "--out", "run", "--train.steps", "2", *SMALL, cwd=tmp_path).ended()
    protocol = start(
        *("sweep", "finetune", "--out", "sweep", "--model.weights", "run", "--data.source", "digits"),
        *("--data.workers", "0", "--augment.crop", "none", "--augment.no-flip", "--data.val-fraction", "0.1"),
        *("--grid", "optim.lr=0.003,0.01,0.03,0.1", "--retrain", "0,1,2", "--train.steps", "4", *SMALL[2:]),
        cwd=tmp_path,
    )
    output = protocol.ended()
    assert protocol.returncode == 0, output
    assert output.count(" 1,295 training images ") == 4
    assert output.count(" 1,438 training images ") == 3
    assert len([path for path in (tmp_path / "sweep").iterdir() if path.is_dir()]) == 7
    result = json.loads((tmp_path / "sweep" / "retrained.json").read_text())
    trials = json.loads((tmp_path / "sweep" / "results.json").read_text())["trials"]
    assert trials[result["trial"]]["mean"] == max(row["mean"] for row in trials)
    figure = result["figures"]["test/top1"]
    mean, deviation = statistics.fmean(figure["values"]), statistics.stdev(figure["values"])
    assert len(figure["values"]) == 3
    assert [figure["mean"], figure["std"]] == pytest.approx([mean, deviation])
    assert f"  test/top1 {mean:.4f} ± {deviation:.4f}" in protocol.output.read_text()


def test_cross_validation(tmp_path: Path) -> None:
    """Three folds, the mean and deviation over them; the best is trained on all of them."""
    words = ("sweep", "digits", "--out", "s", "--folds", "3", "--retrain", "0", "--train.steps", "2", *SMALL, "--json")
    process = start(*words, cwd=tmp_path)
    output = process.ended()
    assert process.returncode == 0, output
    result = json.loads(process.output.read_text())
    (trial,) = result["trials"]
    assert len(trial["values"]) == 3
    assert trial["mean"] == pytest.approx(statistics.fmean(trial["values"]))
    assert trial["std"] == pytest.approx(statistics.stdev(trial["values"]))
    assert [output.count(f" {count} training images ") for count in ("958", "959", "1,438")] == [1, 2, 1]
    (head, row) = csv.reader((tmp_path / "s" / "results.csv").read_text().splitlines())
    assert head[-4:-1] == ["fold 1", "fold 2", "fold 3"]
    assert row[-4:-1] == [f"{value:.4f}" for value in trial["values"]]
    assert "val-fold" not in result["best"]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("digits", "--grid", "optim.lr=1"), "a sweep needs --out DIR"),
        (("digits", "--out", "s"), "a sweep needs --grid KEY=V1,V2 or --search"),
        (("digits", "--out", "s", "--grid", "optim.lr"), "--grid takes KEY=V1,V2"),
        (("digits", "--out", "s", "--search", "optim.lr=1e-1:1e-4"), "--search takes KEY=LOW:HIGH"),
        (("digits", "--out", "s", "--grid", "optim.lr=0.1"), "give --data.val-fraction 0.1"),
        (
            ("digits", "--out", "s", "--grid", "optim.lr=0.1", "--metric", "test/top3"),
            "do not have the metric test/top3",
        ),
        (("digitz", "--out", "s", "--grid", "optim.lr=0.1"), "unknown recipe 'digitz' (did you mean digits?)"),
        (("digits", "--out", "s", "--grid", "optim.lr=0.1", "--seeds", "a"), "--seeds takes seeds, each once"),
        (("digits", "--out", "s", "--grid", "optim.lr=0.1", "--seeds", "0,0"), "each once, such as 0,1,2, not 0,0"),
        (("digits", "--out", "s", "--grid", "optim.lr=0.1", "--retrain"), "--retrain takes seeds, each once"),
        (("digits", "--out", "s", "--grid", "optim.lr=0.1,0.1"), "each value once, not optim.lr=0.1,0.1"),
        (("digits", "--out", "s", "--grid", "optim.lr=1", "--grid", "optim.lr=2"), "optim.lr occurs twice"),
        (("digits", "--out", "s", "--grid", "optim.lr=fast"), "must be a number, not 'fast'"),
        (("digits", "--out", "s", "--grid", "optim.rate=1"), "unknown option --optim.rate"),
        (("digits", "--out", "s", "--search", "model.depth=1.5:3.5"), "--model.depth"),
        (("digits", "--out", "s", "--grid", "optim.lr=0.1", "--trials", "3"), "leave out --trials"),
        (("digits", "--out", "s", "--folds", "3", "--trials", "3"), "leave out --trials"),
        (("digits", "--out", "s", "--folds", "1"), "--folds must be at least 2"),
        (("digits", "--out", "s", "--folds", "few"), "--folds takes the number of parts such as 5, not few"),
        (("digits", "--out", "s", "--folds", "999"), "fewer than 999 folds"),
        (("digits", "--out", "s", "--folds", "3", "--data.val-fraction", "0.1"), "leave out --data.val-fraction"),
        (("digits", "--out", "s", "--folds", "3", "--data.val_fold=1/3"), "leave out --data.val-fold"),
        (("digits", "--out", "s", "--grid", "optim.lr=0.1", "--seed", "3"), "leave out --seed and use --seeds"),
    ],
)
def test_wrong_arguments(
    screen: Screen, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], sentence: str
) -> None:
    monkeypatch.chdir(tmp_path)
    assert sentence in screen.refusal("sweep", *words)
    assert not (tmp_path / "s").exists()


@pytest.mark.parametrize("width", [80, 120])
def test_the_table_fits_the_screen(width: int) -> None:
    """Four keys with long names and two seeds; no number and no name is broken."""
    keys = ("optim.lr", "model.depth", "optim.weight-decay", "optim.layer-decay")
    config = SweepConfig(recipe=["digits"], grid={key: ["1"] for key in keys}, seeds=[0, 1], metric="val/top1")
    good = TrialResult(number=0, settings=dict.fromkeys(keys, "0.01234567"), values=[0.9, 0.91])
    failed = TrialResult(number=1, settings=dict.fromkeys(keys, "1e30"), values=[], failure="the loss became nan")
    console = Console(width=width, file=io.StringIO(), highlight=False)
    with console.capture() as captured:
        console.print(results_table([good, failed], config))
    lines = captured.get().splitlines()
    assert all(len(line) <= width for line in lines)
    words = " ".join(lines).replace("│", " ").split()
    assert {"lr", "weight-decay", "layer-decay", "0.0123", "0.9050", "0.0071", "failed"} <= set(words)
