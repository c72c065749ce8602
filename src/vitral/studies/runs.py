"""The runs of a study: each with a folder named by its configuration, so that equal runs are trained once."""

import hashlib
import json
import time
from collections.abc import Sequence
from contextlib import closing, redirect_stderr
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from vitral.config import read_json, to_dict
from vitral.errors import UserError
from vitral.files import write_json
from vitral.runs.reporter import Diverged
from vitral.runs.run import Run
from vitral.studies.measures import few_shot_accuracy, images_per_second, largest_batch, transfer_accuracy
from vitral.studies.study import FEW_SHOT, LARGEST_BATCH, SPEED, TOP1, TRANSFER, UNTRAINED, Arm
from vitral.train.config import RunConfig
from vitral.train.fit import fit
from vitral.train.resource_errors import NotEnoughMemory

__all__ = ["RESULT", "PlannedRun", "RunResult", "plan_runs", "read_result", "train_run"]

RESULT = "study.json"
"""File in a run's folder that marks it as finished, with its metrics."""

IGNORED = ("recipe", "command", "changes", "folder", "out")
"""Keys of a configuration that do not change a result."""


@dataclass(frozen=True, kw_only=True)
class PlannedRun:
    """A run of a study."""

    key: str
    """Hash of the configuration."""
    config: RunConfig
    """With seed and folder."""
    label: str
    """For the progress."""
    metrics: tuple[str, ...]
    """What is measured after training."""
    start: "PlannedRun | None" = None
    """The run whose model this one starts from."""

    @property
    def trains(self) -> bool:
        """Whether it is trained; otherwise only its architecture is measured."""
        return not self.metrics or not set(self.metrics) <= set(UNTRAINED)

    @property
    def folder(self) -> Path:
        """Where it is trained."""
        assert self.config.out is not None
        return self.config.out

    def result(self) -> "RunResult | None":
        """Its result; None if training or a metric is missing.

        Raises:
            UserError: the file of the result is damaged.
        """
        done = read_result(self.folder)
        complete = done is not None and (done.failure is not None or set(self.metrics) <= set(done.metrics))
        return done if complete else None


@dataclass(frozen=True, kw_only=True)
class RunResult:
    """What a finished run measured."""

    metrics: dict[str, float]
    """By name, accuracies as fractions; empty if the run diverged."""
    seconds: float | None
    """Time of the run with its evaluations; None if it was resumed."""
    failure: str | None = None


def plan_runs(
    arms: Sequence[Arm], *, metrics: tuple[str, ...], seeds: Sequence[int], folder: Path
) -> dict[tuple[str, int], PlannedRun]:
    """The run of each arm and seed; equal configurations have equal keys and folders.

    Args:
        arms: of a study.
        metrics: of the arms; the runs that they start from have none.
        seeds: one run for each.
        folder: of all runs of all studies.
    """
    runs = {}
    for arm in arms:
        for seed in seeds:
            start = None
            if arm.start is not None:
                start = _planned(arm.start, seed, folder, label="pre-training", metrics=())
            runs[arm.name, seed] = _planned(arm.config, seed, folder, label=arm.name, metrics=metrics, start=start)
    return runs


def _planned(
    config: RunConfig,
    seed: int,
    folder: Path,
    *,
    label: str,
    metrics: tuple[str, ...],
    start: PlannedRun | None = None,
) -> PlannedRun:
    config = replace(config, seed=seed)
    values = {name: value for name, value in to_dict(config).items() if name not in IGNORED}
    described = {"config": values, "start": start and start.key}
    if metrics and set(metrics) <= set(UNTRAINED):
        described["measured"] = metrics
    key = hashlib.sha256(json.dumps(described, sort_keys=True, default=str).encode()).hexdigest()[:16]
    out = folder / key
    config = replace(config, out=out, command=(f"a run of vitral study, {label}, seed {seed}",))
    if start is not None:
        config = replace(config, model=replace(config.model, weights=start.folder.resolve()))
    return PlannedRun(key=key, config=config, label=f"{label}, seed {seed}", metrics=metrics, start=start)


def read_result(folder: Path) -> RunResult | None:
    """The result of a finished run; None if it is not finished.

    Raises:
        UserError: the file is damaged.
    """
    path = folder / RESULT
    if not path.is_file():
        return None
    try:
        return RunResult(**read_json(path))
    except TypeError:
        raise UserError(f"{path} is damaged: remove the folder {folder}, and the study trains the run again") from None


def train_run(run: PlannedRun) -> RunResult:
    """Trains a run, or resumes it, and measures what is not measured yet.

    A run that diverges has no metrics, and a failure instead.

    Raises:
        Interrupted: a signal came; the run is saved.
        NotEnoughMemory: it does not fit into memory.
        UserError: the data is missing or cannot be read, or another process trains the run.
    """
    if (done := run.result()) is not None:
        return done
    started, resumed = time.perf_counter(), (run.folder / "run.json").exists()
    trained = read_result(run.folder)  # for another study, with other metrics
    measured, failure = dict(trained.metrics) if trained else {}, None
    try:
        if trained is None and run.trains:
            measured = _fit(run)
        for metric in run.metrics:
            if metric not in measured and metric != TOP1:
                measured[metric] = _measure(run, metric)
    except Diverged as error:
        failure, measured = str(error), {}
    except NotEnoughMemory as error:
        raise NotEnoughMemory(f"{run.label}: {error.problem}") from error
    seconds = None if resumed else time.perf_counter() - started
    result = RunResult(metrics=measured, seconds=seconds, failure=failure)
    run.folder.mkdir(exist_ok=True)
    write_json(run.folder / RESULT, asdict(result))
    return result


def _measure(run: PlannedRun, metric: str) -> float:
    """A metric of a trained model, or of an architecture."""
    architecture = run.config.model.architecture
    if metric == FEW_SHOT:
        return few_shot_accuracy(run.folder, run.config.data)
    if metric == TRANSFER:
        return transfer_accuracy(run.folder, run.config.data)
    if metric == SPEED:
        return images_per_second(architecture, seed=run.config.seed)
    assert metric == LARGEST_BATCH, f"unknown metric {metric}"
    return float(largest_batch(architecture))


def _fit(run: PlannedRun) -> dict[str, float]:
    """Trains to the end; returns accuracy on test images, if the run learns from labels."""
    folder = run.folder if (run.folder / "run.json").exists() else Run.create(run.folder, recipe="study").path
    log_path = folder.parent / f"{run.key}.log"
    try:
        with closing(Run(folder)) as opened, log_path.open("a") as log, redirect_stderr(log):
            final = fit(opened, run.config)
    except UserError:
        if not folder.exists():  # refused before its first step
            log_path.unlink()
        raise
    accuracies = [value for name, value in final.items() if name.endswith("/top1")]
    return {TOP1: accuracies[0]} if accuracies else {}
