"""`vitral soup` on the command line: uniform and greedy soups of runs and of a sweep, and wrong arguments."""

from pathlib import Path

import pytest

from cli.screen import Screen
from vitral.cli import main
from vitral.weights.folder import load_model

SMALL = ("--train.steps", "2", "--model.depth", "1", "--train.track", "none", "--data.val-fraction", "0.1")


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two runs; for reading only."""
    folder = tmp_path_factory.mktemp("soup") / "sweep"
    main(["sweep", "digits", "--grid", "optim.lr=0.001,0.01", *SMALL, "--out", str(folder)])
    return folder


def test_a_sweeps_best_runs(screen: Screen, sweep: Path, tmp_path: Path) -> None:
    """The soup is a model like any other: what is printed of it is what `eval` finds."""
    out = tmp_path / "soup"
    shown = screen.run("soup", sweep, "--out", out)
    assert "did not start from the same pretrained weights" in screen.errors
    assert f"uniform soup of 2 runs: test/top1 {load_model(out).card.metrics['test/top1']:.4f}" in shown
    found = screen.json("eval", out, "--data.source", "digits")
    assert found["top1"] == pytest.approx(load_model(out).card.metrics["test/top1"])


def test_a_greedy_soup_of_runs(screen: Screen, sweep: Path, tmp_path: Path) -> None:
    runs, out = sorted(sweep.glob("00*")), tmp_path / "soup"
    result = screen.json("soup", *runs, "--greedy", "--out", out)
    assert (result["soup"], result["method"]) == (str(out), "greedy")
    assert result["runs"][0]["kept"]
    values = [run["metrics"]["val/top1"] for run in result["runs"]]
    assert values == sorted(values, reverse=True)
    card = load_model(out).card
    assert card.metrics == pytest.approx(result["metrics"])
    assert card.metrics["val/top1"] >= values[0]
    kept = [run["run"] for run in result["runs"] if run["kept"]]
    assert card.provenance["ingredients"] == "; ".join(kept)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ((), "a soup needs two or more runs, or a sweep"),
        (("{sweep}",), "a soup needs --out DIR"),
        (("{sweep}", "--out", "{sweep}"), "exists: choose another --out"),
        (("{sweep}", "--out", "s", "--top", "1"), "--top must be at least 2"),
        (("{sweep}/000-seed0", "--out", "s"), "is the only one"),
        (("{sweep}/000-seed0", "{sweep}/001-seed0", "--out", "s", "--top", "2"), "--top is the number of a sweep's"),
        (("{sweep}/000-seed0", "{sweep}", "--out", "s"), "is a sweep: give it alone"),
        (("{sweep}/000-seed0", "none", "--out", "s"), "none is not a training run: there is no such folder"),
        (("{trained}", "{trained}", "--out", "s", "--greedy"), "is given twice"),
        (("{sweep}/000-seed0", "{trained}", "--out", "s", "--greedy"), "have different val images"),
    ],
)
def test_wrong_arguments(
    screen: Screen,
    sweep: Path,
    trained: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    words: tuple[str, ...],
    sentence: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert sentence in screen.refusal("soup", *(word.format(sweep=sweep, trained=trained) for word in words))
    assert not list(tmp_path.iterdir())
