"""Many runs of one recipe with other settings: which are best by a held-out figure.

What a trial tries is a function of its number and of the trials before it, which are kept in one file. So a sweep that
was killed needs no memory of what was under way: it comes to the same settings again, and their runs go on.
"""

import itertools
import json
import math
import re
import shlex
import statistics
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from vitral.data.opening import open_data
from vitral.data.order import random_bits
from vitral.files import as_csv, as_markdown, write_atomically, write_json
from vitral.train.config import RunConfig
from vitral.train.examination import figures_of
from vitral.train.loop import fit
from vitral.train.metrics import read_metrics
from vitral.train.run import Run

__all__ = ["Result", "Sweep", "SweepConfig"]

MISSING = "searches need the package optuna: pip install 'vitral[sweep]'"
RESULTS = "results.json"
Configure = Callable[[list[str]], RunConfig]
"""From the words after `vitral train` to a configuration."""


@dataclass(frozen=True, kw_only=True)
class SweepConfig:
    """What a sweep tries; the same words go on with it.

    Raises:
        ValueError: a setting is no grid or range, or there is nothing to try.
    """

    recipe: list[str]
    """The recipe's name and what all runs share, as typed."""
    grid: dict[str, list[str]]
    """Values of each key; all combinations are tried."""
    search: dict[str, tuple[int, int, bool] | tuple[float, float, bool]]
    """Lowest and highest value of each key, whole numbers where it takes such, and whether its logarithm is drawn."""
    trials: int
    """Combinations to try; of a grid all."""
    seeds: list[int]
    """Runs of each combination."""
    metric: str
    """What is compared, the mean over seeds; higher is better, unless its name ends in loss."""

    def __post_init__(self) -> None:
        if bool(self.grid) == bool(self.search):
            raise ValueError("a sweep tries --grid KEY=V1,V2 or --search KEY=LOW:HIGH: give one or more of either kind")
        if self.trials < 1 or not self.seeds:
            raise ValueError("a sweep needs a trial and a seed at least")

    @property
    def combinations(self) -> list[dict[str, str]]:
        """Every combination of a grid."""
        return [dict(zip(self.grid, values, strict=True)) for values in itertools.product(*self.grid.values())]

    @property
    def lower_is_better(self) -> bool:
        """Whether the metric is a loss."""
        return self.metric.endswith("loss")


@dataclass(frozen=True, kw_only=True)
class Result:
    """One combination of settings and what became of it."""

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
    def spread(self) -> float:
        """Standard deviation over seeds, 0 for one."""
        return statistics.stdev(self.values) if len(self.values) > 1 else 0.0


class Sweep:
    """A folder of runs, one for each trial and seed, and `results.json`, the record of the trials that are over."""

    def __init__(self, folder: Path, config: SweepConfig, configure: Configure) -> None:
        """Opens the sweep in a folder, or begins it there.

        Raises:
            ValueError: optuna is not installed, the folder holds something else, a setting is wrong, the data cannot be
                had, or no run has such a metric.
        """
        self.folder, self.config, self.configure = folder, config, configure
        kept = folder / "sweep.json"
        if kept.exists() and json.loads(kept.read_text()) != json.loads(json.dumps(asdict(config))):
            raise ValueError(
                f"{folder} holds another sweep: go on with it by the words it began with, or name another --out"
            )
        if not kept.exists() and folder.exists() and any(folder.iterdir()):
            raise ValueError(f"{folder} exists and is not empty: choose another --out")
        # what is wrong is told before any run
        runs = [self._configured(settings, config.seeds[0], folder / "none") for settings in self._first()]
        self._check_metric(runs[0])
        if config.search:
            _optuna()
        folder.mkdir(parents=True, exist_ok=True)
        write_json(kept, asdict(config))

    def run(self, say: Callable[[str], None]) -> list[Result]:
        """Tries what has not been tried; a run that was interrupted goes on from its checkpoint.

        Returns:
            Every combination, the best first.

        Raises:
            Interrupted: a signal came; the run under way is saved.
            OSError: the disk is full, or a file cannot be read.
        """
        tried = self._tried()
        total = len(self.config.combinations) if self.config.grid else self.config.trials
        for number in range(len(tried), total):
            settings = self.config.combinations[number] if self.config.grid else self._drawn(tried)
            try:
                values = [self._value(number, settings, seed) for seed in self.config.seeds]
                tried.append(Result(settings=settings, values=values))
                say(f"{_words(settings)}: {self.config.metric} {tried[-1].mean:.4f}")
            except ValueError as error:
                tried.append(Result(settings=settings, values=[], failure=str(error)))
                say(f"{_words(settings)}: {error}")
            self._write(tried)
        return self._sorted(tried)

    def best_command(self) -> str | None:
        """What trains the best combination; None where every trial failed."""
        best = self._sorted(self._tried())[0]
        if not best.values:
            return None
        words = [word for key, value in best.settings.items() for word in (f"--{key}", value)]
        return shlex.join(["vitral", "train", *self.config.recipe, *words])

    def retrained(self, say: Callable[[str], None]) -> dict[str, list[float]]:
        """Trains the best combination with all training images, for each seed.

        Returns:
            The final figures of each seed, by name.
        """
        best = self._sorted(self._tried())[0]
        if not best.values:
            raise ValueError("no trial of the sweep succeeded, so there is none to retrain")
        figures: dict[str, list[float]] = {}
        for seed in self.config.seeds:
            config = self._configured(best.settings, seed, self.folder / f"best-seed{seed}", all_images=True)
            for name, value in self._trained(config).items():
                figures.setdefault(name, []).append(value)
            say(f"retrained with seed {seed}")
        write_json(self.folder / "retrained.json", {"settings": best.settings, "figures": figures})
        return figures

    def _tried(self) -> list[Result]:
        """The trials that are over, in their order."""
        path = self.folder / RESULTS
        if not path.is_file():
            return []
        rows = json.loads(path.read_text())["trials"]
        return [Result(settings=row["settings"], values=row["values"], failure=row["failure"]) for row in rows]

    def _sorted(self, tried: list[Result]) -> list[Result]:
        """The best first, failures last."""
        sign = 1 if self.config.lower_is_better else -1
        return sorted(tried, key=lambda result: (not result.values, sign * result.mean if result.values else 0.0))

    def _write(self, tried: list[Result]) -> None:
        """The record in the order of the trials, and tables for people, the best first."""
        keys, seeds = list(self.config.grid or self.config.search), self.config.seeds
        rows = [
            [*(result.settings[key] for key in keys), *_figures(result, len(seeds)), result.failure or ""]
            for result in self._sorted(tried)
        ]
        head = [*keys, f"mean {self.config.metric}", "deviation", *(f"seed {seed}" for seed in seeds), "failure"]
        for name, form in (("results.csv", as_csv), ("results.md", as_markdown)):
            text = form([head, *rows])
            write_atomically(self.folder / name, lambda file, text=text: file.write(text.encode()))
        trials = [{**asdict(result), "mean": result.mean if result.values else None} for result in tried]
        write_json(self.folder / RESULTS, {"metric": self.config.metric, "trials": trials})

    def _drawn(self, tried: list[Result]) -> dict[str, str]:
        """What optuna searches next, from the trials so far alone: its memory is built anew each time."""
        optuna = _optuna()
        kinds = {int: optuna.distributions.IntDistribution, float: optuna.distributions.FloatDistribution}
        ranges = {key: kinds[type(low)](low, high, log=log) for key, (low, high, log) in self.config.search.items()}
        seed = int(random_bits(self.config.seeds[0], len(tried))[0] >> 33)
        study = optuna.create_study(
            sampler=optuna.samplers.TPESampler(seed=seed),
            direction="minimize" if self.config.lower_is_better else "maximize",
        )
        for result in tried:
            # through JSON, so that numbers are of their key's kind
            params = {key: json.loads(value) for key, value in result.settings.items()}
            state = optuna.trial.TrialState.COMPLETE if result.values else optuna.trial.TrialState.FAIL
            value = result.mean if result.values else None
            study.add_trial(optuna.trial.create_trial(params=params, distributions=ranges, value=value, state=state))
        return {key: json.dumps(value) for key, value in study.ask(ranges).params.items()}

    def _check_metric(self, config: RunConfig) -> None:
        """Refuses a metric that no run of this configuration measures."""
        known = figures_of(config, open_data(config.data))
        if self.config.metric not in known:
            raise ValueError(
                f"these runs do not measure {self.config.metric}: --metric takes one of {', '.join(known)}"
            )

    def _first(self) -> Iterator[dict[str, str]]:
        """Settings that show whether keys and values are right: all of a grid, both ends of ranges."""
        yield from self.config.combinations if self.config.grid else ()
        for end in (0, 1) if self.config.search else ():
            yield {key: str(bounds[end]) for key, bounds in self.config.search.items()}

    def _configured(self, settings: dict[str, str], seed: int, out: Path, *, all_images: bool = False) -> RunConfig:
        words = [word for key, value in settings.items() for word in (f"--{key}", value)]
        words += ["--seed", str(seed), "--out", str(out)]
        config = self.configure([*self.config.recipe, *words, *(["--data.val-share", "None"] if all_images else [])])
        if not all_images and self.config.metric.startswith("val/") and config.data.val_share is None:
            raise ValueError(
                "a sweep chooses by held-out images, not by the test images: give --data.val-share 0.1, or, where the "
                "data has a validation split or you know what you do, --metric test/top1"
            )
        return config

    def _value(self, number: int, settings: dict[str, str], seed: int) -> float:
        config = self._configured(settings, seed, self.folder / f"{number:03}-seed{seed}")
        final = self._trained(config)
        assert config.out is not None
        recorded = [record for record in read_metrics(config.out / "metrics.jsonl") if self.config.metric in record]
        return final[self.config.metric] if self.config.metric in final else recorded[-1][self.config.metric]

    def _trained(self, config: RunConfig) -> dict[str, float]:
        """Trains a run, or goes on with it where it is there."""
        assert config.out is not None
        run = Run.open(config.out)[0] if (config.out / "run.json").exists() else Run.create(config)
        with closing(run):
            return fit(run, config)


def _figures(result: Result, seeds: int) -> list[str]:
    """Mean, deviation and each seed's value as text; blanks for a trial that failed."""
    if not result.values:
        return [""] * (2 + seeds)
    return [f"{value:.4f}" for value in (result.mean, result.spread, *result.values)]


def _optuna() -> Any:
    try:
        import optuna
    except ImportError:
        raise ValueError(MISSING) from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna


def _words(settings: dict[str, str]) -> str:
    return " ".join(f"{key}={_short(value)}" for key, value in settings.items())


def _short(value: str) -> str:
    return f"{float(value):.3g}" if re.fullmatch(r"\d+\.\d{4,}(e-?\d+)?", value) else value
