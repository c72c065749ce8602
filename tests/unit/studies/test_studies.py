"""Every study: its arms are valid and different, its findings name them, and its result and picture can be made."""

import json
from pathlib import Path
from statistics import fmean

import pytest
from PIL import Image

from vitral.errors import UserError
from vitral.studies.picture import draw_study
from vitral.studies.registry import STUDIES, load_study
from vitral.studies.results import StudyResult, collect, write_results
from vitral.studies.runner import unique_runs
from vitral.studies.runs import RunResult, plan_runs
from vitral.studies.study import LARGEST_BATCH, SIZES, SPEED, TOP1, Arm, Study, as_text

CASES = [(name, size) for name in STUDIES for size in SIZES if size in load_study(name).arms]


def metrics_of(study: Study, value: float) -> dict[str, float]:
    """The value for the first metric, and a little more for the others."""
    return {metric: value + 0.1 * (metric != study.metrics[0]) for metric in study.metrics}


def made_up(study: Study, arms: list[Arm], *, seeds: int = 3, failed: tuple[str, ...] = ()) -> StudyResult:
    """A result whose later arms are better by a point."""
    runs = {}
    for number, arm in enumerate(arms):
        values = [0.5 + 0.01 * number + 0.001 * seed for seed in range(seeds)]
        done = [RunResult(metrics=metrics_of(study, value), seconds=1.0) for value in values]
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


def test_groups_are_means_beside_the_papers() -> None:
    study = load_study("transfer")
    arms = study.arms_of("mini")
    result = made_up(study, arms)
    table = result.bars()
    assert list(table) == ["large ViT", "small ViT", "BiT ResNet"]
    digits = [0.5, 0.501, 0.502]  # of the first arm, the only natural task
    assert table["large ViT"]["natural"] == pytest.approx(digits)
    assert table["large ViT"]["all"] == pytest.approx([value + 0.04 for value in digits])  # of arms 0 to 8
    rows = result.bar_rows()
    assert rows[0] == ["model", "natural", "specialized", "structured", "all"]
    assert rows[1][1] == "50.10 ± 0.10 %"
    assert rows[-3] == ["paper: ViT-H/14", "86.69%", "87.00%", "65.03%", "77.63%"]
    assert rows[-1] == ["paper: BiT-L", "", "", "", "76.29%"]
    assert made_up(load_study("axial"), load_study("axial").arms_of("mini")).bar_rows() == []


def test_the_bars_of_the_paper_are_means_of_table_9() -> None:
    published = load_study("transfer").published
    table = {
        "ViT-H/14": ([95.3, 85.5, 75.2, 99.7, 97.2, 65.0, 88.9], [83.3, 96.7, 91.4, 76.6]),
        "ViT-L/16": ([95.4, 81.9, 74.3, 99.7, 96.7, 63.5, 87.4], [83.6, 96.5, 89.7, 77.1]),
    }
    for model, (natural, specialized) in table.items():
        assert published[model]["natural"] == pytest.approx(fmean(natural) / 100, abs=1e-4)
        assert published[model]["specialized"] == pytest.approx(fmean(specialized) / 100, abs=1e-4)


def test_counts_are_not_per_cent() -> None:
    assert as_text(TOP1, 0.8125) == "81.25%"
    assert as_text(LARGEST_BATCH, 12345.0) == "12,345"
    assert as_text(SPEED, 4.567) == "4.57"


def test_each_resnet_has_a_vit_of_no_more_arithmetic() -> None:
    study = load_study("cost")
    x = {arm.name: arm.x for arm in study.arms_of("mini")}
    pairs = [finding for finding in study.findings(study.arms_of("mini")) if "BiT" in finding.claim]
    assert len(pairs) == 3
    assert all(x[pair.better.label] <= x[pair.worse.label] for pair in pairs)
