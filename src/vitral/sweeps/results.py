"""Results of a sweep's trials: `results.json`, which the sweep resumes from, and tables for people."""

import math
import re
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from vitral.config import from_dict, read_json
from vitral.errors import translate_parser_errors
from vitral.files import as_csv, as_markdown, printable, write_atomically, write_json
from vitral.sweeps.config import SweepConfig

__all__ = ["TrialResult", "format_settings", "rank_results", "read_results", "round_fraction", "std", "write_results"]

RESULTS = "results.json"


@dataclass(frozen=True, kw_only=True)
class TrialResult:
    """The settings of one trial and its result."""

    number: int
    """Number of the trial; the folders of its runs start with it."""
    settings: dict[str, str]
    values: list[float]
    """The metric of each run, of all folds and seeds; empty if the trial failed."""
    failure: str | None = None
    """The error message if the trial failed."""

    @property
    def mean(self) -> float:
        """Mean over folds and seeds; NaN if the trial failed."""
        return statistics.fmean(self.values) if self.values else math.nan

    @property
    def cells(self) -> list[str]:
        """Mean and standard deviation as text, empty if there is none."""
        return [
            f"{self.mean:.4f}" if self.values else "",
            f"{std(self.values):.4f}" if len(self.values) > 1 else "",
        ]


def std(values: Sequence[float]) -> float:
    """Sample standard deviation; 0 for a single value."""
    return statistics.stdev(values) if len(values) > 1 else 0.0


def rank_results(results: Sequence[TrialResult], *, lower_is_better: bool) -> list[TrialResult]:
    """Sorts results from best to worst; equal ones in the order of their trials, failures last."""
    sign = 1 if lower_is_better else -1
    return sorted(results, key=lambda result: (not result.values, sign * result.mean if result.values else 0.0))


def read_results(folder: Path) -> list[TrialResult]:
    """The results of the finished trials, in order."""
    path = folder / RESULTS
    if not path.is_file():
        return []
    fields = ("number", "settings", "values", "failure")
    with translate_parser_errors(lambda _: f"{path} is damaged: remove it, and the sweep reads its runs again"):
        rows = [{name: row[name] for name in fields} for row in read_json(path)["trials"]]
    return [from_dict(TrialResult, row, origin=str(path)) for row in rows]


def write_results(folder: Path, config: SweepConfig, results: Sequence[TrialResult], *, best: str | None) -> None:
    """Writes `results.json` in the order of the trials, and tables from best to worst.

    Args:
        folder: of the sweep.
        config: of the sweep.
        results: of the finished trials, in order.
        best: the command that trains the best trial; None if all failed.
    """
    head = ["trial", *config.keys, f"mean {config.metric}", "deviation", *config.run_names]
    rows = [[*head, "failure"]]
    for result in rank_results(results, lower_is_better=config.lower_is_better):
        values = [f"{value:.4f}" for value in result.values] or [""] * len(config.run_names)
        settings = [result.settings[key] for key in config.keys]
        rows.append([f"{result.number:03}", *settings, *result.cells, *values, result.failure or ""])
    command = f"\nCommand of the best trial:\n\n    {best}\n" if best else ""
    for name, text in (("results.csv", as_csv(rows)), ("results.md", as_markdown(rows) + command)):
        write_atomically(folder / name, lambda file, text=text: file.write(printable(text).encode()))
    trials = [{**asdict(result), "mean": result.mean if result.values else None} for result in results]
    write_json(folder / RESULTS, {"metric": config.metric, "best": best, "trials": trials})


def format_settings(settings: Mapping[str, str]) -> str:
    """Settings in one line, for messages; those of cross-validation alone are the recipe's."""
    return " ".join(f"{key}={round_fraction(value)}" for key, value in settings.items()) or "the recipe as it is"


def round_fraction(value: str) -> str:
    """A number with four or more decimals rounded to three digits; anything else unchanged."""
    return f"{float(value):.3g}" if re.fullmatch(r"\d+\.\d{4,}(e-?\d+)?", value) else value
