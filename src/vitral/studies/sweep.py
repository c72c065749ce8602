"""Many runs of one recipe with other settings, on optuna: which are best by a held-out figure."""

import itertools
import json
import math
import re
import statistics
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from vitral.files import write_json
from vitral.train.config import RunConfig
from vitral.train.loop import fit
from vitral.train.metrics import read_metrics
from vitral.train.run import Run

__all__ = ["Result", "Sweep", "SweepConfig"]

MISSING = "sweeps need the package optuna: pip install 'vitral[sweep]'"
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
    search: dict[str, tuple[float, float, bool]]
    """Lowest and highest value of each key, and whether it is drawn by its logarithm."""
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
    """A folder of runs, one for each trial and seed, with optuna's record of them."""

    def __init__(self, folder: Path, config: SweepConfig, configure: Configure) -> None:
        """Opens the sweep in a folder, or begins it there.

        Raises:
            ValueError: optuna is not installed, the folder holds something else, or a setting is wrong.
        """
        self.folder, self.config, self.configure = folder, config, configure
        kept = folder / "sweep.json"
        if kept.exists() and json.loads(kept.read_text()) != json.loads(json.dumps(asdict(config))):
            raise ValueError(
                f"{folder} holds another sweep: go on with it by the words it began with, or name another --out"
            )
        if not kept.exists() and folder.exists() and any(folder.iterdir()):
            raise ValueError(f"{folder} exists and is not empty: choose another --out")
        for settings in self._first():
            self._configured(
                settings, config.seeds[0], folder / "none"
            )  # wrong keys and values are told before any run
        folder.mkdir(parents=True, exist_ok=True)
        write_json(kept, asdict(config))
        self.study = self._study()

    def run(self, say: Callable[[str], None]) -> list[Result]:
        """Tries what has not been tried; a trial that was interrupted goes on from its checkpoint.

        Returns:
            Every combination, the best first.
        """
        import optuna

        total = len(self.config.combinations) if self.config.grid else self.config.trials
        while waiting := self._unfinished(total):
            number, settings = waiting
            try:
                values = [self._value(number, settings, seed) for seed in self.config.seeds]
            except ValueError as error:
                say(f"{_words(settings)}: {error}")
                self.study._storage.set_trial_user_attr(self._id(number), "failure", str(error))
                self.study.tell(number, state=optuna.trial.TrialState.FAIL)
                continue
            self.study._storage.set_trial_user_attr(self._id(number), "values", values)
            self.study.tell(number, statistics.fmean(values))
            say(f"{_words(settings)}: {self.config.metric} {statistics.fmean(values):.4f}")
            self.write()
        return self.write()

    def results(self) -> list[Result]:
        """What was tried so far, the best first, failures last."""
        found = [
            Result(
                settings={key: str(value) for key, value in trial.params.items()},
                values=trial.user_attrs.get("values", []),
                failure=trial.user_attrs.get("failure"),
            )
            for trial in self.study.trials
            if trial.state.is_finished()
        ]
        sign = 1 if self.config.lower_is_better else -1
        return sorted(found, key=lambda result: (not result.values, sign * result.mean if result.values else 0.0))

    def retrained(self, say: Callable[[str], None]) -> dict[str, list[float]]:
        """Trains the best combination with all training images, for each seed.

        Returns:
            The final figures of each seed, by name.
        """
        best = self.results()[0]
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

    def write(self) -> list[Result]:
        """The table of results as JSON and Markdown."""
        results = self.results()
        rows = [{**asdict(result), "mean": result.mean, "spread": result.spread} for result in results]
        write_json(
            self.folder / "results.json",
            {
                "metric": self.config.metric,
                "trials": [{**row, "mean": None} if not row["values"] else row for row in rows],
            },
        )
        return results

    def _study(self) -> Any:
        try:
            import optuna
            from optuna.storages import JournalStorage
            from optuna.storages.journal import JournalFileBackend
        except ImportError:
            raise ValueError(MISSING) from None
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        study = optuna.create_study(
            study_name="sweep",
            storage=JournalStorage(JournalFileBackend(str(self.folder / "trials.log"))),
            sampler=optuna.samplers.TPESampler(seed=self.config.seeds[0]),
            direction="minimize" if self.config.lower_is_better else "maximize",
            load_if_exists=True,
        )
        if not study.trials:
            for settings in self.config.combinations if self.config.grid else ():
                study.enqueue_trial(settings)
        return study

    def _unfinished(self, total: int) -> tuple[int, dict[str, str]] | None:
        """A trial to run: one that was interrupted, else the next, else none."""
        import optuna

        for trial in self.study.trials:
            if trial.state == optuna.trial.TrialState.RUNNING:
                return trial.number, {key: str(value) for key, value in trial.params.items()}
        if sum(trial.state.is_finished() for trial in self.study.trials) >= total:
            return None
        grid = {key: optuna.distributions.CategoricalDistribution(values) for key, values in self.config.grid.items()}
        ranges = {
            key: optuna.distributions.FloatDistribution(low, high, log=log)
            for key, (low, high, log) in self.config.search.items()
        }
        trial = self.study.ask({**grid, **ranges})
        return trial.number, {key: str(value) for key, value in trial.params.items()}

    def _id(self, number: int) -> int:
        return self.study.trials[number]._trial_id

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
        if self.config.metric not in final and not recorded:
            raise ValueError(f"the run has no figure {self.config.metric}: it has {', '.join(final)}")
        return final.get(self.config.metric, recorded[-1][self.config.metric] if recorded else math.nan)

    def _trained(self, config: RunConfig) -> dict[str, float]:
        """Trains a run, or goes on with it where it is there."""
        assert config.out is not None
        run = Run.open(config.out)[0] if (config.out / "run.json").exists() else Run.create(config)
        with closing(run):
            return fit(run, config)


def _words(settings: dict[str, str]) -> str:
    return " ".join(f"{key}={_short(value)}" for key, value in settings.items())


def _short(value: str) -> str:
    return f"{float(value):.3g}" if re.fullmatch(r"\d+\.\d{4,}(e-?\d+)?", value) else value
