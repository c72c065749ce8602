"""What became of a sweep's trials: the record that it goes on from, and the tables that people read."""

import json
import math
import re
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from vitral.files import as_csv, as_markdown, printable, write_atomically, write_json
from vitral.sweeps.config import SweepConfig

__all__ = ["Result", "ranked", "read_results", "short", "spelled", "spread", "write_results"]

RESULTS = "results.json"


@dataclass(frozen=True, kw_only=True)
class Result:
    """One combination of settings and what became of it."""

    number: int
    """Of the trial that trained it, with which the folders of its runs begin."""
    settings: dict[str, str]
    values: list[float]
    """The metric of each seed."""
    failure: str | None = None
    """Why it has none: what the run said when it stopped."""

    @property
    def mean(self) -> float:
        """Over seeds; NaN for one that failed."""
        return statistics.fmean(self.values) if self.values else math.nan

    @property
    def cells(self) -> list[str]:
        """Mean and deviation as text, blank where there is none."""
        return [
            f"{self.mean:.4f}" if self.values else "",
            f"{spread(self.values):.4f}" if len(self.values) > 1 else "",
        ]


def spread(values: Sequence[float]) -> float:
    """Standard deviation, 0 of one value."""
    return statistics.stdev(values) if len(values) > 1 else 0.0


def ranked(tried: Sequence[Result], *, lower_is_better: bool) -> list[Result]:
    """The best first, of equals the earlier; failures last."""
    sign = 1 if lower_is_better else -1
    return sorted(tried, key=lambda result: (not result.values, sign * result.mean if result.values else 0.0))


def read_results(folder: Path) -> list[Result]:
    """The trials that are over, in their order."""
    path = folder / RESULTS
    if not path.is_file():
        return []
    kept = ("number", "settings", "values", "failure")
    return [Result(**{name: row[name] for name in kept}) for row in json.loads(path.read_text())["trials"]]


def write_results(folder: Path, config: SweepConfig, tried: Sequence[Result], *, best: str | None) -> None:
    """The record in the order of the trials, and tables for people, the best first.

    Args:
        folder: of the sweep.
        config: what it tries.
        tried: the trials that are over, in their order.
        best: the command that trains the best; None where all failed.
    """
    head = ["trial", *config.keys, f"mean {config.metric}", "deviation", *(f"seed {seed}" for seed in config.seeds)]
    rows = [[*head, "failure"]]
    for result in ranked(tried, lower_is_better=config.lower_is_better):
        values = [f"{value:.4f}" for value in result.values] or [""] * len(config.seeds)
        settings = [result.settings[key] for key in config.keys]
        rows.append([f"{result.number:03}", *settings, *result.cells, *values, result.failure or ""])
    command = f"\nThe best is trained by\n\n    {best}\n" if best else ""
    for name, text in (("results.csv", as_csv(rows)), ("results.md", as_markdown(rows) + command)):
        write_atomically(folder / name, lambda file, text=text: file.write(printable(text).encode()))
    trials = [{**asdict(result), "mean": result.mean if result.values else None} for result in tried]
    write_json(folder / RESULTS, {"metric": config.metric, "best": best, "trials": trials})


def spelled(settings: Mapping[str, str]) -> str:
    """Settings for people."""
    return " ".join(f"{key}={short(value)}" for key, value in settings.items())


def short(value: str) -> str:
    """A drawn fraction with three digits; anything else as it is."""
    return f"{float(value):.3g}" if re.fullmatch(r"\d+\.\d{4,}(e-?\d+)?", value) else value
