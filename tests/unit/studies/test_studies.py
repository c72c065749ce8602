"""Every study: its arms are valid and different, its findings name them, and its result and picture can be made."""

import json
from pathlib import Path

import pytest
from PIL import Image

from vitral.errors import UserError
from vitral.studies.picture import draw_study
from vitral.studies.registry import STUDIES, load_study
from vitral.studies.results import StudyResult, collect, write_results
from vitral.studies.runner import unique_runs
from vitral.studies.runs import RunResult, plan_runs
from vitral.studies.study import FEW_SHOT, SIZES, TOP1, Arm, Study

CASES = [(name, size) for name in STUDIES for size in SIZES if size in load_study(name).arms]


def made_up(study: Study, arms: list[Arm], *, seeds: int = 3, failed: tuple[str, ...] = ()) -> StudyResult:
    """A result whose later arms are better by a point."""
    runs = {}
    for number, arm in enumerate(arms):
        values = [0.5 + 0.01 * number + 0.001 * seed for seed in range(seeds)]
        done = [RunResult(metrics={FEW_SHOT: value, TOP1: value + 0.1}, seconds=1.0) for value in values]
        runs[arm.name] = (
            [RunResult(metrics={}, seconds=1.0, failure="diverged")] * seeds if arm.name in failed else done
        )
    return collect(study, "mini", seeds=range(seeds), arms=arms, runs=runs)


@pytest.mark.parametrize(("name", "size"), CASES)
def test_arms_are_valid_and_findings_name_them(name: str, size: str, tmp_path: Path) -> None:
    study = load_study(name)
    assert study.name == name
    arms = study.arms_of(size)
    planned = plan_runs(arms, metrics=study.metrics, seeds=(0, 1), folder=tmp_path)
    assert len(planned) == 2 * len(arms)
    assert len(unique_runs(planned.values())) > len(arms)
    if study.x_label:
        assert all(arm.x is not None and arm.line for arm in arms)
    values = {arm.name: [0.5, 0.51, 0.52] for arm in arms}
    outcomes = [finding.test(values) for finding in study.findings(arms)]
    assert outcomes
    assert "not measured" not in {outcome.verdict for outcome in outcomes}


@pytest.mark.parametrize("name", STUDIES)
def test_results_are_written_with_the_papers_values(name: str, tmp_path: Path) -> None:
    study = load_study(name)
    arms = study.arms_of("mini")
    result = made_up(study, arms, failed=(arms[-1].name,))
    write_results(result, tmp_path / "out")
    draw_study(result, tmp_path / "out")
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        *("results.json", "results.csv", "results.md", "figure.png", "figure.svg"),
    }
    whole = json.loads((tmp_path / "out" / "results.json").read_text())
    assert [arm["name"] for arm in whole["arms"]] == [arm.name for arm in arms]
    assert whole["arms"][-1]["failures"] == ["diverged"] * 3
    page = (tmp_path / "out" / "results.md").read_text()
    assert study.sentence in page
    assert all(outcome.verdict in page for outcome in result.outcomes)
    assert "diverged |" in page
    csv = (tmp_path / "out" / "results.csv").read_text().splitlines()
    assert len(csv) == 1 + 3 * len(arms) * len(study.metrics)
    with Image.open(tmp_path / "out" / "figure.png") as picture:
        assert min(picture.size) > 200


def test_the_table_shows_mean_spread_and_the_paper() -> None:
    study = load_study("positions")
    rows = made_up(study, study.arms_of("mini")).rows()
    assert rows[0] == ["setting", "5-shot", "top-1", "paper, 5-shot"]
    assert rows[1] == ["none", "50.10 ± 0.10 %", "60.10 ± 0.10 %", "61.38%"]
    assert rows[-1][-1] == ""


def test_a_study_says_which_sizes_it_has() -> None:
    with pytest.raises(UserError, match="no size paper: choose --size mini"):
        load_study("shape").arms_of("paper")
