"""A sweep: many runs of one recipe with different settings, ranked by a metric on held-out images.

The settings of a trial depend only on its number and the results of the trials before it, which are in one file. So a
sweep that was killed needs no other state: it suggests the same settings again, and their runs resume.
"""

import functools
import gc
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, replace
from pathlib import Path
from typing import IO

from vitral.data.sources.source import Source
from vitral.datasets.opening import open_data
from vitral.datasets.registry import DATA_SETS
from vitral.distributed.world import SINGLE_PROCESS, World
from vitral.errors import UserError
from vitral.files import write_json
from vitral.runs.metrics import read_metrics
from vitral.runs.reporter import Diverged
from vitral.runs.run import Run, is_free, lock_folder
from vitral.sweeps.config import SWEEP, Range, SweepConfig, read_sweep_config
from vitral.sweeps.results import TrialResult, format_settings, rank_results, read_results, std, write_results
from vitral.sweeps.search import import_optuna, suggest
from vitral.train.config import RunConfig
from vitral.train.evaluation import metric_names
from vitral.train.fit import fit
from vitral.train.resource_errors import OutOfMemory

__all__ = ["Sweep"]

Configure = Callable[[list[str]], RunConfig]
"""From the arguments of `vitral train` to a configuration."""


class TrialFailed(UserError):
    """A run failed because of its settings; other trials may succeed."""


class Sweep:
    """A folder with one run for each trial, fold and seed, and `results.json` with the results of the finished trials.

    Several processes train every run together: each calls all methods, and the main process decides.
    """

    def __init__(self, folder: Path, config: SweepConfig, configure: Configure, world: World = SINGLE_PROCESS) -> None:
        """Opens the sweep in a folder, or creates it there.

        Raises:
            UserError: optuna is not installed, the folder has other content or is in use, a setting is wrong, the data
                is missing, or the runs do not have the metric.
        """
        self.folder, self.config, self.configure, self.world = folder, config, configure, world
        self.flags: set[str] = set()
        """Boolean keys, which take no value."""
        self.integer_keys: set[str] = set()
        """Searched keys that take integers only."""
        self.previous: SweepConfig | None = None
        """The configuration of the last command on this sweep, on the main process; None for a new sweep."""
        self._lock: IO[str] | None = None
        self.flags, self.integer_keys = world.run_on_main(self._open)

    def close(self) -> None:
        """Releases the folder for other commands."""
        if self._lock is not None:
            self._lock.close()

    def run(self, log: Callable[[str], None]) -> list[TrialResult]:
        """Runs the trials that are not finished; an interrupted run resumes from its checkpoint.

        Returns:
            The results of all trials, the best first.

        Raises:
            Interrupted: a signal came; the current run is saved.
            UserError: a run failed for a reason other than its settings, such as an unreadable image.
            OSError: the disk is full, or a file cannot be read.
        """
        results, total = self.world.run_on_main(lambda: read_results(self.folder)), self.config.total
        if self.previous:
            log(_describe_progress(len(results), previous_total=self.previous.total, total=total))
        for number in range(len(results), total):
            settings = self.world.run_on_main(functools.partial(self._next_settings, results))
            log(f"trial {number:03} ({number + 1} of {total}): {format_settings(settings)}")
            result = self._run_trial(number, settings, results)
            results.append(result)
            self.world.run_on_main(functools.partial(self._write, results))
            duplicate = "" if result.number == number else "same as "
            outcome = result.failure or f"{self.config.metric} {result.mean:.4f}"
            log(f"{duplicate}trial {result.number:03}: {outcome}")
        return rank_results(results, lower_is_better=self.config.lower_is_better)

    def best_command(self) -> str | None:
        """The command that trains the best settings; None if every trial failed."""
        return self._command(self.world.run_on_main(lambda: read_results(self.folder)))

    def retrain(self, log: Callable[[str], None]) -> dict[str, list[float]]:
        """Trains the best settings on all training images, with each seed in the configuration's `retrain`.

        Returns:
            The final metrics of each seed, by name.

        Raises:
            UserError: every trial failed, or as in `run`.
        """
        results = self.world.run_on_main(lambda: read_results(self.folder))
        best = rank_results(results, lower_is_better=self.config.lower_is_better)[0]
        if not best.values:
            raise UserError("no trial of the sweep succeeded, so there is none to retrain")
        all_images = self.world.run_on_main(functools.partial(self._arguments_for_all_images, best.settings))
        metrics: dict[str, list[float]] = {}
        for seed in self.config.retrain:
            log(f"retraining the best settings on all training images, seed {seed}: {format_settings(best.settings)}")
            # with the trial's number, because more trials may give other best settings
            out = self.folder / f"{best.number:03}-all-seed{seed}"
            for name, value in self._train(self._run_config(best.settings, seed, out, *all_images)).items():
                metrics.setdefault(name, []).append(value)
        summary = {
            name: {"mean": sum(values) / len(values), "std": std(values), "values": values}
            for name, values in metrics.items()
        }
        content = {"trial": best.number, "settings": best.settings, "seeds": self.config.retrain, "figures": summary}
        self.world.run_on_main(lambda: write_json(self.folder / "retrained.json", content))
        return metrics

    def _open(self) -> tuple[set[str], set[str]]:
        """Checks everything before the first run, and locks the folder; returns `flags` and `integer_keys`."""
        path = self.folder / SWEEP
        if path.exists():
            self.previous = read_sweep_config(self.folder)
            if self.previous.identity != self.config.identity:
                raise UserError(
                    f"{self.folder} holds another sweep: resume it with the arguments it started with, "
                    "or choose another --out"
                )
        elif not is_free(self.folder, first=SWEEP):
            raise UserError(f"{self.folder} exists and is not empty: choose another --out")
        if self.config.search:
            import_optuna()
        self.flags = {key for key, values in self.config.grid.items() if self._is_flag(key, values)}
        self.integer_keys = {key for key, bounds in self.config.search.items() if self._is_integer(key, bounds)}
        seed, open_cached = self.config.seeds[0], functools.cache(open_data)
        for settings in self._settings_to_check():
            config = self._run_config(settings, seed, self.folder / "none", *self._arguments_for_fold(1))
            self._check_metric(config, open_cached(config.data))
        self.folder.mkdir(parents=True, exist_ok=True)
        self._lock = lock_folder(self.folder)
        write_json(path, asdict(self.config))
        return self.flags, self.integer_keys

    def _settings_to_check(self) -> Iterator[dict[str, str]]:
        """Settings that show whether keys and values are valid: all of a grid, both ends of ranges."""
        yield from () if self.config.search else self.config.combinations
        for end in (0, 1) if self.config.search else ():
            yield {key: str(bounds[end]) for key, bounds in self.config.search.items()}

    def _is_flag(self, key: str, values: Sequence[str]) -> bool:
        return set(values) <= {"True", "False"} and not self._is_valid(f"--{key}", "True")

    def _is_integer(self, key: str, bounds: Range) -> bool:
        """Whether a key with integers as its range does not take fractions."""
        return isinstance(bounds[0], int) and not self._is_valid(f"--{key}", str(bounds[0] + 0.5))

    def _is_valid(self, *arguments: str) -> bool:
        try:
            self.configure([*self.config.recipe, *arguments])
        except UserError:
            return False
        return True

    def _check_metric(self, config: RunConfig, data: Mapping[str, Source]) -> None:
        """Checks that runs have the metric, and that final runs have test images."""
        metric, names = self.config.metric, metric_names(config, data)
        if metric.startswith("val/") and "val" not in data:
            data_set = DATA_SETS.get(config.data.source)
            raise UserError(
                "a sweep selects settings on held-out images, not on the test images: give --data.val-fraction "
                f"{(data_set and data_set.val_fraction) or 0.1}, or, to select on the test images all the same, "
                f"--metric test/{metric.removeprefix('val/')}"
            )
        if metric not in names:
            raise UserError(f"these runs do not have the metric {metric}: choose --metric from {', '.join(names)}")
        if self.config.retrain and "test" not in data:
            raise UserError(
                f"{config.data.root or config.data.source} has no test images, and --retrain trains on all others: "
                "leave it out, or add a test split"
            )

    def _next_settings(self, results: Sequence[TrialResult]) -> dict[str, str]:
        """The settings of the trial after these."""
        if not self.config.search:
            return self.config.combinations[len(results)]
        return suggest(self.config, results, integer_keys=self.integer_keys)

    def _run_trial(self, number: int, settings: dict[str, str], results: Sequence[TrialResult]) -> TrialResult:
        """Trains on every fold with every seed; if an earlier trial has the same settings, returns its result."""
        duplicate = next((result for result in results if result.settings == settings), None)
        if duplicate:
            return duplicate
        try:
            values = [self._evaluate_run(number, settings, fold, seed) for fold, seed in self.config.runs]
            return TrialResult(number=number, settings=settings, values=values)
        except TrialFailed as error:
            failed = TrialResult(number=number, settings=settings, values=[], failure=str(error))
            if self.world.size > 1 and isinstance(error.__cause__, OutOfMemory):
                # the other processes may be in the middle of a step, and cannot be stopped there
                if self.world.is_main:
                    self._write([*results, failed])
                raise UserError(f"{error}; run the same command again to continue the sweep") from error
            return failed

    def _evaluate_run(self, number: int, settings: dict[str, str], fold: int | None, seed: int) -> float:
        """The metric of one run."""
        out = self.folder / self.config.run_folder(number, fold, seed)
        try:
            config = self._run_config(settings, seed, out, *self._arguments_for_fold(fold))
        except UserError as error:
            raise TrialFailed(str(error)) from error
        final = self._train(config)
        if self.config.metric in final:
            return final[self.config.metric]
        return self.world.run_on_main(lambda: _last_value(out / "metrics.jsonl", self.config.metric))

    def _train(self, config: RunConfig) -> dict[str, float]:
        """The final metrics of a run, which is created or resumed."""
        gc.collect()  # the previous model is in reference cycles, and may hold most of a GPU's memory
        run = Run(self.world.run_on_main(functools.partial(_run_folder, config)))
        with closing(run):
            try:
                return fit(run, config, self.world)
            except UserError as error:
                if run.started and not isinstance(error, Diverged | OutOfMemory):
                    raise
                raise TrialFailed(str(error)) from error

    def _run_config(self, settings: Mapping[str, str], seed: int, out: Path, *more: str) -> RunConfig:
        arguments = [*self._arguments(settings), *more, "--seed", str(seed), "--out", str(out)]
        config = self.configure(arguments)
        return replace(config, command=(shlex.join(("vitral", "train", *arguments)),))

    def _arguments(self, settings: Mapping[str, str]) -> list[str]:
        """The arguments of `vitral train` for these settings."""
        arguments = list(self.config.recipe)
        for key, value in settings.items():
            group, dot, name = key.rpartition(".")
            flag = f"--{key}" if value != "False" else f"--{group}{dot}no-{name}"
            arguments += [flag] if key in self.flags else [f"--{key}", value]
        return arguments

    def _arguments_for_fold(self, fold: int | None) -> list[str]:
        """The arguments that hold out a fold, from 1, in place of the validation images of the recipe."""
        if not self.config.folds:
            return []
        return ["--data.val-fraction", "None", "--data.val-fold", f"{fold}/{self.config.folds}"]

    def _arguments_for_all_images(self, settings: Mapping[str, str]) -> list[str]:
        """The arguments that add the validation images to the training images."""
        data = self._run_config(settings, self.config.seeds[0], self.folder / "none").data
        if data.val_fraction is not None:
            return ["--data.val-fraction", "None"]
        return ["--data.train-on-val"] if "val" in open_data(data) else []

    def _write(self, results: Sequence[TrialResult]) -> None:
        write_results(self.folder, self.config, results, best=self._command(results))

    def _command(self, results: Sequence[TrialResult]) -> str | None:
        """The command that trains the best settings; None if every trial failed."""
        best = rank_results(results, lower_is_better=self.config.lower_is_better)[0]
        return shlex.join(("vitral", "train", *self._arguments(best.settings))) if best.values else None


def _run_folder(config: RunConfig) -> Path:
    """The folder of a run, created if it does not exist."""
    assert config.out is not None
    return config.out if (config.out / "run.json").exists() else Run.create(config.out, recipe=config.recipe).path


def _last_value(path: Path, metric: str) -> float:
    """The last value of a metric in `metrics.jsonl`."""
    return [record[metric] for record in read_metrics(path) if metric in record][-1]


def _describe_progress(finished: int, *, previous_total: int, total: int) -> str:
    """The first message of a resumed sweep."""
    changed = "" if previous_total == total else f" (--trials was {previous_total} before)"
    if finished > total:
        return f"{finished} trials are finished, more than --trials {total}{changed}: all are kept"
    return f"{finished} of {total} trials are finished{changed}"
