"""The result of a study: table, findings and a paragraph, as JSON, CSV and Markdown."""

import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from vitral.config import read_json
from vitral.errors import UserError
from vitral.files import as_csv, as_markdown, write_atomically, write_json
from vitral.studies.findings import Outcome, Side
from vitral.studies.registry import load_study
from vitral.studies.runs import RunResult
from vitral.studies.study import UNTRAINED, Arm, Size, Study, as_text

__all__ = ["StudyResult", "as_page", "collect", "read_results", "write_results"]


@dataclass(frozen=True, kw_only=True)
class StudyResult:
    """Everything that a study measured."""

    study: Study
    size: Size
    seeds: list[int]
    arms: list[Arm]
    runs: dict[str, list[RunResult]]
    """Of each arm, one for each seed."""
    outcomes: list[Outcome]

    def values(self, metric: str) -> dict[str, list[float]]:
        """A metric of every arm, one value for each seed; empty if a run diverged."""
        rows = {name: [run.metrics.get(metric) for run in runs] for name, runs in self.runs.items()}
        return {
            name: [] if None in row else [value for value in row if value is not None] for name, row in rows.items()
        }

    @property
    def paragraph(self) -> str:
        """What the paper found, and what was found here, from the numbers."""
        count = len(self.seeds)
        verdicts = "; ".join(f"{outcome.claim}: {outcome.verdict} ({outcome.detail})" for outcome in self.outcomes)
        sentences = [
            f"The paper found: {self.study.sentence}",
            f"Found here, with {count} seed{'s' * (count > 1)} at size {self.size}: {verdicts}.",
            self.study.note,
        ]
        return " ".join(filter(None, sentences))

    def rows(self) -> list[list[str]]:
        """A header, then a row for each arm: mean and standard deviation over seeds, and the paper's value."""
        metrics = self.study.metrics
        published = [metric for metric in metrics if any(metric in arm.paper for arm in self.arms)]
        rows = [["setting", *metrics, *(f"paper, {metric}" for metric in published)]]
        for arm in self.arms:
            cells = [_mean_and_std(metric, self.values(metric)[arm.name]) for metric in metrics]
            paper = [as_text(metric, arm.paper[metric]) if metric in arm.paper else "" for metric in published]
            rows.append([arm.name, *cells, *paper])
        return rows

    def bars(self) -> dict[str, dict[str, list[float]]]:
        """By line and group of arms, and for `all` of a line: the mean of the first metric, one value for each seed."""
        values = self.values(self.study.metrics[0])
        groups = dict.fromkeys(arm.group for arm in self.arms if arm.group)
        table: dict[str, dict[str, list[float]]] = {}
        for line in dict.fromkeys(arm.line or "" for arm in self.arms):
            of_line = [arm for arm in self.arms if arm.line == line]
            for group in (*groups, "all"):
                names = tuple(arm.name for arm in of_line if group in (arm.group, "all"))
                table.setdefault(line, {})[group] = Side(label=group, arms=names).per_seed(values)
        return table

    def bar_rows(self) -> list[list[str]]:
        """The bars as a table, those of the paper below; empty without groups."""
        table, metric = self.bars(), self.study.metrics[0]
        if not any(arm.group for arm in self.arms):
            return []
        groups = list(next(iter(table.values())))
        rows = [["model", *groups]]
        rows += [[line, *(_mean_and_std(metric, row[group]) for group in groups)] for line, row in table.items()]
        for model, row in self.study.published.items():
            rows.append([f"paper: {model}", *(as_text(metric, row[group]) if group in row else "" for group in groups)])
        return rows

    def as_dict(self) -> dict[str, Any]:
        """As JSON values; accuracies are fractions."""
        arms = [
            {
                "name": arm.name,
                "x": arm.x,
                "line": arm.line,
                "group": arm.group,
                "values": {metric: self.values(metric)[arm.name] for metric in self.study.metrics},
                "paper": dict(arm.paper),
                "failures": [run.failure for run in self.runs[arm.name] if run.failure],
                "seconds": [run.seconds for run in self.runs[arm.name]],
            }
            for arm in self.arms
        ]
        return {
            "study": self.study.name,
            "title": self.study.title,
            "source": self.study.source,
            "size": self.size,
            "seeds": self.seeds,
            "arms": arms,
            "findings": [asdict(outcome) for outcome in self.outcomes],
            "paragraph": self.paragraph,
        }


def collect(
    study: Study, size: Size, *, seeds: Sequence[int], arms: list[Arm], runs: dict[str, list[RunResult]]
) -> StudyResult:
    """Tests the findings of a study on its runs."""
    result = StudyResult(study=study, size=size, seeds=list(seeds), arms=arms, runs=runs, outcomes=[])
    values = result.values(study.metrics[0])
    outcomes = [finding.test(values) for finding in study.findings(arms)]
    return StudyResult(study=study, size=size, seeds=list(seeds), arms=arms, runs=runs, outcomes=outcomes)


def write_results(result: StudyResult, folder: Path) -> None:
    """Writes `results.json`, `results.csv` and `results.md`.

    Raises:
        OSError: a file cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "results.json", result.as_dict())
    write_atomically(folder / "results.csv", lambda file: file.write(as_csv(_long_rows(result)).encode()))
    page = as_page(result, picture="figure.png")
    write_atomically(folder / "results.md", lambda file: file.write(page.encode()))


def read_results(folder: Path) -> StudyResult:
    """The result of a study as `write_results` wrote it, its findings tested anew.

    Raises:
        UserError: the file is missing or damaged, or the study has other settings now.
    """
    path = folder / "results.json"
    saved = read_json(path)
    try:
        study, size, seeds = load_study(saved["study"]), saved["size"], saved["seeds"]
        runs = {arm["name"]: _read_runs(arm, len(seeds)) for arm in saved["arms"]}
    except (KeyError, TypeError, IndexError) as error:
        raise UserError(f"{path} is damaged ({error}): run the study again") from None
    arms = study.arms_of(size)
    if [arm.name for arm in arms] != list(runs):
        raise UserError(f"{path} has other settings than the study {study.name} has now: run the study again")
    return collect(study, size, seeds=seeds, arms=arms, runs=runs)


def _read_runs(arm: dict[str, Any], count: int) -> list[RunResult]:
    """The runs of an arm, which all failed if it has no values."""
    failure = next(iter(arm["failures"]), None)
    return [
        RunResult(
            metrics={metric: values[index] for metric, values in arm["values"].items() if values},
            seconds=arm["seconds"][index],
            failure=failure,
        )
        for index in range(count)
    ]


def _long_rows(result: StudyResult) -> list[list[Any]]:
    """One row for each arm, seed and metric."""
    rows: list[list[Any]] = [["setting", "line", "x", "seed", "metric", "value"]]
    for arm in result.arms:
        for seed, run in zip(result.seeds, result.runs[arm.name], strict=True):
            for metric in result.study.metrics:
                place = ["" if value is None else value for value in (arm.line, arm.x)]
                rows.append([arm.name, *place, seed, metric, run.metrics.get(metric, "")])
    return rows


def as_page(result: StudyResult, *, picture: str) -> str:
    """The result in Markdown.

    Args:
        result: of the study.
        picture: path of its picture, from the page.
    """
    study = result.study
    findings = [["finding", "verdict", "numbers"]]
    findings += [[outcome.claim, outcome.verdict, outcome.detail] for outcome in result.outcomes]
    seeds = ", ".join(map(str, result.seeds))
    parts = [
        f"# {study.title}",
        f"{study.source}; size {result.size}, seeds {seeds}; mean ± standard deviation over seeds.",
        f"![{study.title}]({picture})",
        *([as_markdown(result.bar_rows())] if result.bar_rows() else []),
        as_markdown(result.rows()),
        as_markdown(findings),
        result.paragraph,
        f"Made with `vitral study {study.name} --size {result.size} --seeds {','.join(map(str, result.seeds))}`.",
    ]
    return "\n\n".join(part.strip() for part in parts) + "\n"


def _mean_and_std(metric: str, values: Sequence[float]) -> str:
    if not values:
        return "diverged"
    if metric in UNTRAINED:
        spread = f" ± {as_text(metric, statistics.stdev(values))}" if len(set(values)) > 1 else ""
        return f"{as_text(metric, statistics.fmean(values))}{spread}"
    spread = f" ± {100 * statistics.stdev(values):.2f}" if len(values) > 1 else ""
    return f"{100 * statistics.fmean(values):.2f}{spread} %"
