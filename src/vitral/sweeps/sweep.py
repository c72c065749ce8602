"""Many runs of one recipe with other settings: which are best by a held-out figure.

What a trial tries is a function of its number and of the trials before it, which are kept in one file. So a sweep that
was killed needs no memory of what was under way: it comes to the same settings again, and their runs go on.
"""

import functools
import gc
import json
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, replace
from pathlib import Path
from typing import IO

from vitral.data.sources.source import Source
from vitral.datasets.opening import open_data
from vitral.datasets.registry import PRESETS
from vitral.distributed.world import SINGLE_PROCESS, World
from vitral.errors import UserError
from vitral.files import write_json
from vitral.runs.metrics import read_metrics
from vitral.sweeps.config import Range, SweepConfig
from vitral.sweeps.results import Result, ranked, read_results, spelled, spread, write_results
from vitral.sweeps.search import check_optuna, drawn
from vitral.train.config import RunConfig
from vitral.train.evaluation import metric_names
from vitral.train.fit import fit
from vitral.train.reporter import Diverged
from vitral.train.resource_errors import OutOfMemory
from vitral.train.run import Run, is_free, locked

__all__ = ["Sweep"]

CONFIG = "sweep.json"

Configure = Callable[[list[str]], RunConfig]
"""From the words after `vitral train` to a configuration."""


class Failed(UserError):
    """A run cannot be trained with its settings; others can."""


class Sweep:
    """A folder of runs, one for each trial and seed, and `results.json`, the record of the trials that are over.

    Of several processes, which train every run together, each calls all methods; the first one decides.
    """

    def __init__(self, folder: Path, config: SweepConfig, configure: Configure, world: World = SINGLE_PROCESS) -> None:
        """Opens the sweep in a folder, or begins it there.

        Raises:
            UserError: optuna is not installed, the folder holds something else or is in use, a setting is wrong, the
                data cannot be had, or no run has such a metric.
        """
        self.folder, self.config, self.configure, self.world = folder, config, configure, world
        self.flags: set[str] = set()
        """Keys that are turned on and off, and take no value."""
        self.whole: set[str] = set()
        """Keys that are searched and take whole numbers alone."""
        self.before: SweepConfig | None = None
        """What it was when it was gone on with or begun the last time, in the first process."""
        self._lock: IO[str] | None = None
        self.flags, self.whole = world.run_on_main(self._opened)

    def close(self) -> None:
        """Lets other commands go on with the sweep."""
        if self._lock is not None:
            self._lock.close()

    def run(self, say: Callable[[str], None]) -> list[Result]:
        """Tries what has not been tried; a run that was interrupted goes on from its checkpoint.

        Returns:
            Every combination, the best first.

        Raises:
            Interrupted: a signal came; the run under way is saved.
            UserError: something is wrong that is no matter of settings, such as an image that cannot be read.
            OSError: the disk is full, or a file cannot be read.
        """
        tried, total = self.world.run_on_main(lambda: read_results(self.folder)), self.config.total
        if self.before:
            say(_gone_on_with(len(tried), before=self.before.total, total=total))
        for number in range(len(tried), total):
            settings = self.world.run_on_main(functools.partial(self._next, tried))
            say(f"trial {number:03} ({number + 1} of {total}): {spelled(settings)}")
            result = self._trial(number, settings, tried)
            tried.append(result)
            self.world.run_on_main(functools.partial(self._write, tried))
            which = "" if result.number == number else "as "
            say(f"{which}trial {result.number:03}: {result.failure or f'{self.config.metric} {result.mean:.4f}'}")
        return ranked(tried, lower_is_better=self.config.lower_is_better)

    def best_command(self) -> str | None:
        """What trains the best combination; None where every trial failed."""
        return self._command(self.world.run_on_main(lambda: read_results(self.folder)))

    def retrained(self, say: Callable[[str], None]) -> dict[str, list[float]]:
        """Trains the best combination on all training images, for each seed that the configuration names.

        Returns:
            The final figures of each seed, by name.

        Raises:
            UserError: no trial succeeded, or as in `run`.
        """
        tried = self.world.run_on_main(lambda: read_results(self.folder))
        best = ranked(tried, lower_is_better=self.config.lower_is_better)[0]
        if not best.values:
            raise UserError("no trial of the sweep succeeded, so there is none to retrain")
        all_images = self.world.run_on_main(functools.partial(self._all_images, best.settings))
        figures: dict[str, list[float]] = {}
        for seed in self.config.retrain:
            say(f"the best, on all training images, with seed {seed}: {spelled(best.settings)}")
            # named after the trial too, as another may become the best when more are tried
            out = self.folder / f"{best.number:03}-all-seed{seed}"
            for name, value in self._trained(self._configured(best.settings, seed, out, *all_images)).items():
                figures.setdefault(name, []).append(value)
        summary = {
            name: {"mean": sum(values) / len(values), "std": spread(values), "values": values}
            for name, values in figures.items()
        }
        found = {"trial": best.number, "settings": best.settings, "seeds": self.config.retrain, "figures": summary}
        self.world.run_on_main(lambda: write_json(self.folder / "retrained.json", found))
        return figures

    def _opened(self) -> tuple[set[str], set[str]]:
        """Checks everything before any run, and keeps the folder; what `flags` and `whole` are to be."""
        kept = self.folder / CONFIG
        if kept.exists():
            self.before = _read(kept)
            if self.before.identity != self.config.identity:
                raise UserError(
                    f"{self.folder} holds another sweep: go on with it by the words it began with, "
                    "or name another --out"
                )
        elif not is_free(self.folder, first=CONFIG):
            raise UserError(f"{self.folder} exists and is not empty: choose another --out")
        if self.config.search:
            check_optuna()
        self.flags = {key for key, values in self.config.grid.items() if self._is_flag(key, values)}
        self.whole = {key for key, bounds in self.config.search.items() if self._is_whole(key, bounds)}
        seed, opened = self.config.seeds[0], functools.cache(open_data)
        for settings in self._first():
            config = self._configured(settings, seed, self.folder / "none")
            self._check_measured(config, opened(config.data))
        self.folder.mkdir(parents=True, exist_ok=True)
        self._lock = locked(self.folder)
        write_json(kept, asdict(self.config))
        return self.flags, self.whole

    def _first(self) -> Iterator[dict[str, str]]:
        """Settings that show whether keys and values are right: all of a grid, both ends of ranges."""
        yield from self.config.combinations if self.config.grid else ()
        for end in (0, 1) if self.config.search else ():
            yield {key: str(bounds[end]) for key, bounds in self.config.search.items()}

    def _is_flag(self, key: str, values: Sequence[str]) -> bool:
        return set(values) <= {"True", "False"} and not self._accepted(f"--{key}", "True")

    def _is_whole(self, key: str, bounds: Range) -> bool:
        """Whether a key whose range is written in whole numbers refuses what lies between them."""
        return isinstance(bounds[0], int) and not self._accepted(f"--{key}", str(bounds[0] + 0.5))

    def _accepted(self, *words: str) -> bool:
        try:
            self.configure([*self.config.recipe, *words])
        except UserError:
            return False
        return True

    def _check_measured(self, config: RunConfig, data: Mapping[str, Source]) -> None:
        """Refuses a metric that no run of this configuration measures, and final runs that none could."""
        metric, known = self.config.metric, metric_names(config, data)
        if metric.startswith("val/") and "val" not in data:
            preset = PRESETS.get(config.data.source)
            raise UserError(
                "a sweep chooses by held-out images, not by the test images: give --data.val-share "
                f"{(preset and preset.val_share) or 0.1}, or, where you know what you do, --metric test/"
                f"{metric.removeprefix('val/')}"
            )
        if metric not in known:
            raise UserError(f"these runs do not measure {metric}: --metric takes one of {', '.join(known)}")
        if self.config.retrain and "test" not in data:
            raise UserError(
                f"{config.data.root or config.data.source} has no test images to measure by what --retrain trains on "
                "all others: leave it out, or add a test split"
            )

    def _next(self, tried: Sequence[Result]) -> dict[str, str]:
        """What is tried after these."""
        return self.config.combinations[len(tried)] if self.config.grid else drawn(self.config, tried, whole=self.whole)

    def _trial(self, number: int, settings: dict[str, str], tried: Sequence[Result]) -> Result:
        """One combination with every seed; what has been tried before is not trained again."""
        same = next((result for result in tried if result.settings == settings), None)
        if same:
            return same
        try:
            values = [self._value(number, settings, seed) for seed in self.config.seeds]
            return Result(number=number, settings=settings, values=values)
        except Failed as error:
            failed = Result(number=number, settings=settings, values=[], failure=str(error))
            if self.world.size > 1 and isinstance(error.__cause__, OutOfMemory):
                # the other processes may be in the middle of a step, from where they cannot be called back
                if self.world.is_main:
                    self._write([*tried, failed])
                raise UserError(f"{error}; the same command goes on with the sweep") from error
            return failed

    def _value(self, number: int, settings: dict[str, str], seed: int) -> float:
        """The metric of one run."""
        out = self.folder / f"{number:03}-seed{seed}"
        try:
            config = self._configured(settings, seed, out)
        except UserError as error:
            raise Failed(str(error)) from error
        final = self._trained(config)
        if self.config.metric in final:
            return final[self.config.metric]
        return self.world.run_on_main(lambda: _last(out / "metrics.jsonl", self.config.metric))

    def _trained(self, config: RunConfig) -> dict[str, float]:
        """Trains a run, or goes on with it where it is there."""
        gc.collect()  # the model before this one is in cycles, and may hold most of a GPU's memory
        run = Run(self.world.run_on_main(functools.partial(_made, config)))
        with closing(run):
            try:
                return fit(run, config, self.world)
            except UserError as error:
                if run.begun and not isinstance(error, Diverged | OutOfMemory):
                    raise
                raise Failed(str(error)) from error

    def _configured(self, settings: Mapping[str, str], seed: int, out: Path, *more: str) -> RunConfig:
        words = [*self._words(settings), *more, "--seed", str(seed), "--out", str(out)]
        config = self.configure(words)
        return replace(config, command=(shlex.join(("vitral", "train", *words)),))

    def _words(self, settings: Mapping[str, str]) -> list[str]:
        """What trains with these settings, after `vitral train`."""
        words = list(self.config.recipe)
        for key, value in settings.items():
            above, dot, own = key.rpartition(".")
            on = f"--{key}" if value != "False" else f"--{above}{dot}no-{own}"
            words += [on] if key in self.flags else [f"--{key}", value]
        return words

    def _all_images(self, settings: Mapping[str, str]) -> list[str]:
        """The words with which held-out images are trained on as well."""
        data = self._configured(settings, self.config.seeds[0], self.folder / "none").data
        if data.val_share is not None:
            return ["--data.val-share", "None"]
        return ["--data.train-on-val"] if "val" in open_data(data) else []

    def _write(self, tried: Sequence[Result]) -> None:
        write_results(self.folder, self.config, tried, best=self._command(tried))

    def _command(self, tried: Sequence[Result]) -> str | None:
        """What trains the best of these."""
        best = ranked(tried, lower_is_better=self.config.lower_is_better)[0]
        return shlex.join(("vitral", "train", *self._words(best.settings))) if best.values else None


def _read(path: Path) -> SweepConfig:
    """What a sweep was begun with."""
    try:
        kept = json.loads(path.read_text())
        return SweepConfig(**{**kept, "search": {key: tuple(bounds) for key, bounds in kept["search"].items()}})
    except (KeyError, TypeError, ValueError):
        raise UserError(f"{path} is not what a sweep writes: name another --out") from None


def _made(config: RunConfig) -> Path:
    """The folder of a run, which may have begun."""
    assert config.out is not None
    return config.out if (config.out / "run.json").exists() else Run.create(config).path


def _last(path: Path, metric: str) -> float:
    """A figure as the record has it last."""
    return [record[metric] for record in read_metrics(path) if metric in record][-1]


def _gone_on_with(over: int, *, before: int, total: int) -> str:
    """What a sweep is told to do this time."""
    changed = "" if before == total else f", where --trials was {before} before"
    if over > total:
        return f"{over} trials are over, more than the {total} asked for{changed}: none is dropped"
    return f"{over} of {total} trials are over{changed}"
