"""What a study costs: its runs, arithmetic, time and memory, before it is started."""

import math
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from vitral.config import to_dict
from vitral.datasets.opening import open_data
from vitral.evals.features import extract_features
from vitral.evals.splits import final_split
from vitral.inspection.cost import activation_memory, cost
from vitral.inspection.devices import DATA, DEVICES
from vitral.inspection.plan import exaflops, throughput
from vitral.studies.measures import TRANSFER_TASKS
from vitral.studies.runner import RUNS, unique_runs
from vitral.studies.runs import PlannedRun, plan_runs
from vitral.studies.study import FEW_SHOT, TRANSFER, Arm, Size, Study
from vitral.train.config import ModelSetup, RunConfig
from vitral.train.evaluation import evenly_spaced
from vitral.train.plan import Plan
from vitral.train.session import Session
from vitral.train.steps import train_steps

__all__ = ["StudyPlan", "plan_study"]

TIMED_SECONDS, WARM_UP_STEPS, EVALUATED_IMAGES = 1.0, 2, 512
"""How long each setting is timed, the steps before that, and the images whose evaluation is timed."""

FIXED_SECONDS = 5.0
"""Time of a run for everything but steps and evaluation: opening data, saving, curves, report."""

SPEED_SECONDS, PROBE_SECONDS = 20.0, 2.0
"""Time to measure the speed of an architecture, and to fit the linear probe of a task."""

DEVICE, UTILISATION = "h100", 0.4
"""What sizes beyond mini are assumed to run on, and the fraction of its peak that they reach."""

IMAGES: dict[Size, int] = {"small": DATA["imagenet1k"], "paper": DATA["jft300m"]}
"""Training images of sizes whose images are not on this machine, as in the paper."""

TEST_IMAGES = 10_000
"""Of Fashion-MNIST, on which an evaluation of mini is timed."""

BYTES_PER_PARAMETER = 16
"""Weights, gradients and Adam's two moments."""

BYTES_PER_WEIGHT = 4
"""Of a model that is not trained."""


@dataclass(frozen=True, kw_only=True)
class StudyPlan:
    """What a study costs."""

    study: str
    size: Size
    arms: int
    seeds: int
    runs: int
    """Different runs, those included that arms start from."""
    finished: int
    """Runs that are finished already, perhaps for another study."""
    images: int
    """Training images of the other runs, counted once per epoch."""
    exaflops: float
    """Of the other runs."""
    hours: float
    """Of the other runs."""
    memory: int
    """Bytes of the largest run: weights, gradients, optimiser and activations."""
    data: str
    machine: str
    """Where the hours are spent."""

    def as_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self)


def plan_study(
    study: Study, arms: list[Arm], *, size: Size, seeds: Sequence[int], folder: Path, jobs: int
) -> StudyPlan:
    """Counts the runs of a study and times a second of each setting; other sizes than mini are not timed.

    Raises:
        UserError: the data of mini is missing.
    """
    runs = unique_runs(plan_runs(arms, metrics=study.metrics, seeds=seeds, folder=folder / RUNS).values())
    waiting = [run for run in runs if run.result() is None]
    images = {run.key: _num_images(run.config, size) if run.trains else 0 for run in waiting}
    flops = math.fsum(exaflops(cost(run.config.model.architecture).macs, images=images[run.key]) for run in waiting)
    hours = sum(_seconds_of(waiting, images, size=size, jobs=jobs)) / 3600
    memory = max(_memory(run, on_gpu=size != "mini") for run in runs)
    cores = os.cpu_count() or 1
    return StudyPlan(
        study=study.name,
        size=size,
        arms=len(arms),
        seeds=len(seeds),
        runs=len(runs),
        finished=len(runs) - len(waiting),
        images=sum(images.values()),
        exaflops=flops,
        hours=hours,
        memory=memory,
        data=", ".join(dict.fromkeys(_describe_data(run.config) for run in runs if run.trains)) or "none",
        machine=f"this machine, {cores} cores, with --jobs {jobs}" if size == "mini" else f"one {DEVICES[DEVICE].name}",
    )


def _num_images(config: RunConfig, size: Size) -> int:
    """Training images of a run, counted once per epoch."""
    if config.train.steps is not None:
        return config.train.steps * config.train.batch_size
    samples = IMAGES[size] if size != "mini" else len(open_data(config.data)["train"])
    return round(config.train.epochs * samples)


def _seconds_of(runs: Sequence[PlannedRun], images: dict[str, int], *, size: Size, jobs: int) -> list[float]:
    """Seconds of every run, each setting timed once."""
    if size != "mini":
        rates = [
            throughput(
                cost(run.config.model.architecture).macs, device=DEVICES[DEVICE], devices=1, utilisation=UTILISATION
            )
            for run in runs
        ]
        return [images[run.key] / rate if run.trains else SPEED_SECONDS for run, rate in zip(runs, rates, strict=True)]
    timed: dict[str, tuple[float, float]] = {}
    threads = torch.get_num_threads()
    torch.set_num_threads(max((os.cpu_count() or 1) // jobs, 1))
    try:
        for run in runs:
            key = _setting(run.config)
            if run.trains and key not in timed:
                timed[key] = time_setting(run.config)
    finally:
        torch.set_num_threads(threads)
    return [_run_seconds(run, images[run.key], timed) / jobs for run in runs]


def _run_seconds(run: PlannedRun, images: int, timed: Mapping[str, tuple[float, float]]) -> float:
    """Seconds of one run of mini."""
    if not run.trains:
        return SPEED_SECONDS
    per_image, evaluation = timed[_setting(run.config)]
    seconds = FIXED_SECONDS + images * per_image + evaluation * (1 + (FEW_SHOT in run.metrics))
    if TRANSFER in run.metrics:
        sizes = [sum(task.data.num_images.values()) for task in TRANSFER_TASKS.values()]
        seconds += len(sizes) * PROBE_SECONDS + evaluation * sum(sizes) / TEST_IMAGES
    return seconds


def _setting(config: RunConfig) -> str:
    """What the speed of a run depends on."""
    values = to_dict(config)
    return str([values[name] for name in ("model", "objective", "augment", "optim", "preprocessing")])


def time_setting(config: RunConfig) -> tuple[float, float]:
    """Seconds of a training image, and of one evaluation on the test images, measured on this machine."""
    data = open_data(config.data)
    train, test = data["train"], data[final_split(data)]
    config = replace(config, model=ModelSetup(architecture=config.model.architecture))
    config = config.resolved(num_classes=len(train.classes))
    session = Session(config, classes=train.classes)
    started, done = 0.0, 0
    for step in train_steps(session, train, Plan.of(config, samples=len(train))):
        if step.number == WARM_UP_STEPS:
            started = time.perf_counter()
        elif step.number > WARM_UP_STEPS:
            done += step.num_images
            if time.perf_counter() - started > TIMED_SECONDS:
                break
    per_image = (time.perf_counter() - started) / max(done, 1)
    model = session.export_model().eval()
    some = evenly_spaced(test, EVALUATED_IMAGES)
    started = time.perf_counter()
    extract_features(
        lambda images: model.features(config.preprocessing.normalise(images)).pooled,
        some,
        preprocessing=config.preprocessing,
        data=config.data,
    )
    return per_image, (time.perf_counter() - started) / len(some) * len(test)


def _memory(run: PlannedRun, *, on_gpu: bool) -> int:
    config, architecture = run.config, run.config.model.architecture
    if not run.trains:
        return cost(architecture).parameters * BYTES_PER_WEIGHT
    activations = activation_memory(architecture, bfloat16=on_gpu, recompute=config.train.recompute)
    batch = config.train.batch_size // config.train.accumulate
    return cost(architecture).parameters * BYTES_PER_PARAMETER + activations.of(batch)


def _describe_data(config: RunConfig) -> str:
    root = "" if config.data.root is None else f" in {config.data.root}"
    return f"{config.data.source}{root}"
