"""How many steps fit into some minutes: a few steps and an evaluation are measured before the run starts."""

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from vitral.data.sources.source import Source
from vitral.device import pick_device
from vitral.evals.splits import final_split, running_split
from vitral.train.assess import MAX_IMAGES, SOURCES
from vitral.train.checkpointing.checkpoint import Checkpoints
from vitral.train.config import RunConfig
from vitral.train.duration import Duration
from vitral.train.evaluation import MAX_PROBE_IMAGES, MAX_THRESHOLD_IMAGES, evaluate_split, evenly_spaced
from vitral.train.memory import check_memory
from vitral.train.plan import Plan
from vitral.train.pretrained_probe import choose_cached
from vitral.train.resolution import Stage
from vitral.train.resource_errors import translate_resource_errors
from vitral.train.session import Session
from vitral.train.steps import train_steps
from vitral.train.targets import fit_targets

__all__ = ["MAX_EPOCHS", "Budget", "measure_budget"]

WARM_UP = 3
"""Steps that are not timed: they start the readers and allocate memory."""

SECONDS, MAX_STEPS = 10.0, 300
"""Timing ends after these seconds, or this number of steps."""

MEASURING, MAX_SECONDS = 1 / 20, 60.0
"""Fraction of a run's time for which its steps are timed, if that is longer, and at most: a machine's speed varies."""

EVALUATED = (64, 512)
"""Images of the two evaluations that are timed: what the first takes more than its images is for starting readers."""

MAX_EPOCHS = 300
"""More passes over the images than these gain little."""

EVALUATING = 1 / 6
"""Fraction of the time that evaluations during training may take."""

FINISH = 5.0
"""Seconds at the end of a run for the report, the plots and the simple methods, besides reading images."""

PROBE = 30.0
"""Seconds on a CPU for the linear probe of a pretrained model, if one is in the Hub's cache; on a GPU they are few."""


@dataclass(frozen=True, kw_only=True)
class Budget:
    """The measured cost of a run, in seconds."""

    step: float
    """Of a training step, with reading and augmentation."""
    evaluation: float
    """Of an evaluation during training."""
    saving: float
    """Of a checkpoint."""
    save_every: float
    """Between two checkpoints; infinity if they go by steps, which are few."""
    ending: float
    """After the last step: the final evaluation, the comparison with simple methods, and everything that is written."""
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
        left -= self._saves(left) * self.saving
        return max(1, min(math.floor(left / self.step), math.ceil(MAX_EPOCHS * self.steps_per_epoch)))

    def seconds(self, steps: int) -> float:
        """Duration of a run of so many steps, from now on."""
        training = steps * self.step + min(self.evaluations, steps - 1) * self.evaluation
        return training + self._saves(training) * self.saving + self.ending

    def _saves(self, seconds: float) -> int:
        """Checkpoints during so much training."""
        return math.floor(max(seconds, 0.0) / self.save_every)


@dataclass(frozen=True, kw_only=True)
class ReadingCost:
    """Seconds that an evaluation takes by its number of images."""

    start: float
    image: float

    @classmethod
    def of(cls, seconds: Sequence[float], images: Sequence[int]) -> "ReadingCost":
        """From a small and a larger evaluation; if they are equally large, all of it is the images'."""
        if images[0] == images[1]:
            return cls(start=0.0, image=seconds[1] / images[1])
        image = max(seconds[1] - seconds[0], 0.0) / (images[1] - images[0])
        return cls(start=max(seconds[0] - image * images[0], 0.0), image=image)

    def seconds(self, images: int) -> float:
        """Of an evaluation of so many images."""
        return self.start + self.image * images


def measure_budget(config: RunConfig, data: Mapping[str, Source], *, minutes: float = 0.0) -> Budget:
    """Measures some steps and a small evaluation of a run, which they do not influence.

    Args:
        config: with an interval of evaluations in percent, or any other, of which the recipe's length decides.
        data: images of each split.
        minutes: the time that the run may take; more steps of a long run are timed.

    Raises:
        UserError: an image cannot be read, memory runs out, or no configuration fits the data.
    """
    start = time.perf_counter()
    config, _ = fit_targets(config.resolved(num_classes=len(data["train"].classes)), data["train"])
    check_memory(config)
    with translate_resource_errors(config.train):
        session = Session(config, classes=data["train"].classes)
        session.initialise()
        step = _time_steps(session, data["train"], seconds=min(60 * minutes * MEASURING, MAX_SECONDS))
        cost = _time_evaluation(session, data)
        saving = _time_saving(session)
    running, final = running_split(data), final_split(data)
    evaluation = cost.seconds(_images_read(config, data, running))
    spent = time.perf_counter() - start
    return Budget(
        step=step,
        evaluation=evaluation,
        saving=saving,
        save_every=_seconds_between_saves(config),
        ending=(evaluation if running != final else 0.0)  # of the last step
        + cost.seconds(_images_read(config, data, final))
        + _compared(config, data, final, cost)
        + saving
        + FINISH,
        spent=spent,
        steps_per_epoch=len(data["train"]) / config.train.batch_size,
        evaluations=_evaluations(config, samples=len(data["train"])),
    )


def _time_steps(session: Session, source: Source, *, seconds: float) -> float:
    """Seconds of a step, the mean over the image sizes of the run, which share so many seconds, if each has enough."""
    plan = Plan.of(session.config, samples=len(source))
    most = max(SECONDS, seconds / len(plan.stages))
    times = [(len(stage.steps), _time_stage(session, source, stage, most=most)) for stage in plan.stages]
    return sum(steps * time for steps, time in times) / plan.total


def _time_stage(session: Session, source: Source, stage: Stage, *, most: float) -> float:
    """Seconds of a step with images of one size."""
    first = session.step
    many = replace(session.config, train=replace(session.config.train, steps=first + WARM_UP + MAX_STEPS))
    plan = Plan.of(many, samples=len(source))
    steps = train_steps(session, source, replace(plan, stages=(Stage(range(plan.total), stage.size),)))
    start, seconds, taken = time.perf_counter(), 0.0, 0
    try:
        for step in steps:
            step.metrics["loss"].item()  # waits for the device
            if step.number <= first + WARM_UP:
                start = time.perf_counter()
                continue
            seconds, taken = time.perf_counter() - start, step.number - first - WARM_UP
            if seconds > most:
                break
    finally:
        steps.close()
    return seconds / taken


def _time_evaluation(session: Session, data: Mapping[str, Source]) -> ReadingCost:
    """What evaluations cost; the first one loads libraries, so it is not timed."""
    split, seconds, images = final_split(data), [], []
    for count in (EVALUATED[0], *EVALUATED):
        few = {name: evenly_spaced(source, count) for name, source in data.items()}
        start = time.perf_counter()
        evaluate_split(session, few, split)
        seconds.append(time.perf_counter() - start)
        images.append(_images_read(session.config, few, split))
    return ReadingCost.of(seconds[1:], images[1:])


def _images_read(config: RunConfig, data: Mapping[str, Source], split: str) -> int:
    """Images that an evaluation reads: also training images, if it fits a probe to them or chooses thresholds."""
    train = 0
    if config.objective.evaluate_by == "features":
        train = MAX_PROBE_IMAGES
    elif config.data.target == "multi-label" and "val" not in data:
        train = MAX_THRESHOLD_IMAGES
    return len(data[split]) + min(train, len(data["train"]))


def _compared(config: RunConfig, data: Mapping[str, Source], split: str, cost: ReadingCost) -> float:
    """Seconds in which the images for the simple methods are read, and a pretrained model is compared."""
    if config.data.source not in SOURCES or config.objective.evaluate_by != "labels":
        return 0.0
    reading = sum(cost.seconds(min(MAX_IMAGES, len(data[name]))) for name in ("train", split))
    device = pick_device(config.train.device).type
    return reading + (PROBE if device == "cpu" and choose_cached(device) is not None else 0.0)


def _time_saving(session: Session) -> float:
    """Seconds of writing a checkpoint; the first one loads libraries, so it is not timed."""
    seconds = 0.0
    with TemporaryDirectory() as folder:
        checkpoints = Checkpoints(Path(folder), keep=1)
        for step in range(2):
            start = time.perf_counter()
            checkpoints.save(session.tensors(), session.metadata(), step=step)
            checkpoints.wait()
            seconds = time.perf_counter() - start
    return seconds


def _seconds_between_saves(config: RunConfig) -> float:
    """The interval of checkpoints, if it is a time; at 0 there are none."""
    interval = Duration.parse(config.checkpoint.every)
    return (interval.is_time and interval.seconds) or math.inf


def _evaluations(config: RunConfig, *, samples: int) -> int:
    """Evaluations during training."""
    interval = Duration.parse(config.train.evaluate)
    if interval.is_time:
        return 0
    total = Plan.of(config, samples=samples).total
    steps = interval.in_steps(total=total, batch_size=config.train.batch_size, samples=samples)
    return (total - 1) // steps if steps else 0
