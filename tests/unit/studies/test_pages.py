"""The pages of docs/results/ are those of the results in benchmarks/studies/."""

import runpy
from pathlib import Path

import pytest

from vitral.errors import UserError
from vitral.studies.registry import load_study
from vitral.studies.results import collect, read_results, write_results
from vitral.studies.runs import RunResult
from vitral.studies.study import FEW_SHOT, TOP1

ROOT = Path(__file__).parents[3]
STUDIES, PAGES = ROOT / "benchmarks" / "studies", ROOT / "docs" / "results"


def test_pages_are_up_to_date() -> None:
    texts = runpy.run_path(str(STUDIES / "pages.py"))["pages"]()
    assert {path.name: path.read_text() for path in PAGES.glob("*.md")} == texts, "run benchmarks/studies/pages.py"
    assert len(texts) == 1 + len(list(STUDIES.glob("*/results.json")))


def test_results_are_read_as_they_were_written(tmp_path: Path) -> None:
    study = load_study("axial")
    arms = study.arms_of("mini")
    good = [RunResult(metrics={FEW_SHOT: 0.5 + seed / 100, TOP1: 0.7}, seconds=2.0) for seed in range(2)]
    runs = {arm.name: good for arm in arms} | {arms[-1].name: [RunResult(metrics={}, seconds=1.0, failure="NaN")] * 2}
    result = collect(study, "mini", seeds=(3, 4), arms=arms, runs=runs)
    write_results(result, tmp_path)
    again = read_results(tmp_path)
    assert again.as_dict() == result.as_dict()
    assert again.rows() == result.rows()


@pytest.mark.parametrize(
    ("before", "after", "sentence"),
    [('"name": "plain, 2 blocks"', '"name": "plain"', "other settings"), ('"seeds"', '"sed"', "damaged")],
)
def test_results_that_do_not_fit_are_named(tmp_path: Path, before: str, after: str, sentence: str) -> None:
    study = load_study("axial")
    arms = study.arms_of("mini")
    runs = {arm.name: [RunResult(metrics={FEW_SHOT: 0.5, TOP1: 0.7}, seconds=None)] for arm in arms}
    write_results(collect(study, "mini", seeds=(0,), arms=arms, runs=runs), tmp_path)
    path = tmp_path / "results.json"
    path.write_text(path.read_text().replace(before, after))
    with pytest.raises(UserError, match=sentence):
        read_results(tmp_path)
