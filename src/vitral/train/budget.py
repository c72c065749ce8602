"""How many steps fit into some minutes: a few steps and an evaluation are measured before the run starts."""

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace

from vitral.data.sources.source import Source
from vitral.evals.splits import final_split, running_split
from vitral.train.assess import MAX_IMAGES
from vitral.train.config import RunConfig
from vitral.train.duration import Duration
from vitral.train.evaluation import evaluate_split, evenly_spaced
from vitral.train.memory import check_memory
from vitral.train.plan import Plan
from vitral.train.resource_errors import translate_resource_errors
from vitral.train.session import Session
from vitral.train.steps import train_steps
from vitral.train.targets import fit_targets

__all__ = ["MAX_EPOCHS", "Budget", "measure_budget"]

WARM_UP = 3
"""Steps that are not timed: they start the readers and allocate memory."""

SECONDS, MAX_STEPS = 10.0, 100
"""Timing ends after these seconds, or this number of steps."""

EVALUATED = 256
"""Images of the evaluation that is timed."""

MAX_EPOCHS = 300
"""More passes over the images than these gain little."""

EVALUATING = 1 / 6
"""Fraction of the time that evaluations during training may take."""

FINISH = 10.0
"""Seconds at the end of a run for the report, the plots and the simple methods, besides reading images."""


@dataclass(frozen=True, kw_only=True)
class Budget:
    """The measured cost of a run, in seconds."""

    step: float
    """Of a training step, with reading and augmentation."""
    evaluation: float
    """Of an evaluation during training."""
    ending: float
    """After the last step: the final evaluation, and everything that is written."""
    spent: float
    """For the measurement itself."""
    steps_per_epoch: float
    evaluations: int
    """During training, if their interval does not depend on its length; otherwise at most."""

    def limited(self, minutes: float) -> "Budget":
        """With as many evaluations as take at most a sixth of the minutes."""
        affordable = math.floor(EVALUATING * 60 * minutes / self.evaluation)
        return replace(self, evaluations=min(self.evaluations, affordable))

    def steps(self, minutes: float) -> int:
        """Steps that fit into the minutes with all else, at most 300 epochs, and at least one."""
        left = 60 * minutes - self.spent - self.ending - self.evaluations * self.evaluation
        return max(1, min(math.floor(left / self.step), math.ceil(MAX_EPOCHS * self.steps_per_epoch)))

    def seconds(self, steps: int) -> float:
        """Duration of a run of so many steps, from now on."""
        return steps * self.step + self.evaluations * self.evaluation + self.ending


def measure_budget(config: RunConfig, data: Mapping[str, Source]) -> Budget:
    """Measures a few steps and a small evaluation of a run, which they do not influence.

    Args:
        config: with an interval of evaluations in percent, or any other, of which the recipe's length decides.
        data: images of each split.

    Raises:
        UserError: an image cannot be read, memory runs out, or no configuration fits the data.
    """
    start = time.perf_counter()
    config, _ = fit_targets(config.resolved(num_classes=len(data["train"].classes)), data["train"])
    check_memory(config)
    with translate_resource_errors(config.train):
        session = Session(config, classes=data["train"].classes)
        session.initialise()
        step = _time_steps(session, data["train"])
        split = final_split(data)
        image = _time_evaluation(session, data, split)
    reading = 1.0 if config.data.source in ("folder", "csv") else 0.0
    compared = min(MAX_IMAGES, len(data["train"])) + min(MAX_IMAGES, len(data[split]))
    spent = time.perf_counter() - start
    return Budget(
        step=step,
        evaluation=image * len(data[running_split(data)]),
        ending=FINISH + image * (len(data[split]) + reading * compared),
        spent=spent,
        steps_per_epoch=len(data["train"]) / config.train.batch_size,
        evaluations=_evaluations(config, samples=len(data["train"])),
    )


def _time_steps(session: Session, source: Source) -> float:
    """Seconds of a step."""
    many = replace(session.config, train=replace(session.config.train, steps=WARM_UP + MAX_STEPS))
    steps = train_steps(session, source, Plan.of(many, samples=len(source)))
    start, seconds, taken = time.perf_counter(), 0.0, 0
    try:
        for step in steps:
            step.metrics["loss"].item()  # waits for the device
            if step.number <= WARM_UP:
                start = time.perf_counter()
                continue
            seconds, taken = time.perf_counter() - start, step.number - WARM_UP
            if seconds > SECONDS:
                break
    finally:
        steps.close()
    return seconds / taken


def _time_evaluation(session: Session, data: Mapping[str, Source], split: str) -> float:
    """Seconds of evaluating one image."""
    few = {name: evenly_spaced(source, EVALUATED) for name, source in data.items()}
    start = time.perf_counter()
    evaluate_split(session, few, split)
    return (time.perf_counter() - start) / len(few[split])


def _evaluations(config: RunConfig, *, samples: int) -> int:
    """Evaluations during training."""
    interval = Duration.parse(config.train.evaluate)
    if interval.is_time:
        return 0
    total = Plan.of(config, samples=samples).total
    steps = interval.in_steps(total=total, batch_size=config.train.batch_size, samples=samples)
    return (total - 1) // steps if steps else 0
