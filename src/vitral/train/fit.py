"""The training loop."""

import math
import platform
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch

from vitral import __version__
from vitral.card import ModelCard
from vitral.config import to_dict
from vitral.data.batches import Batch, TrainingBatches, load
from vitral.data.sources.source import Source
from vitral.datasets.opening import open_data
from vitral.distributed.world import SINGLE_PROCESS, World
from vitral.errors import UserError
from vitral.evals.evaluate import final_split, running_split
from vitral.files import write_json
from vitral.runs.curves import draw_curves
from vitral.runs.fingerprint import fingerprint
from vitral.runs.metrics import read_metrics
from vitral.runs.panels import PANELS, draw_panels
from vitral.runs.predictions import SavedPredictions, save_predictions
from vitral.runs.trackers.trackers import Trackers
from vitral.train.checkpointing.changes import Change, changes_between
from vitral.train.checkpointing.checkpoint import Checkpoints
from vitral.train.config import RunConfig
from vitral.train.duration import Duration, Timer
from vitral.train.evaluation import draw_samples, evaluate_split
from vitral.train.interrupts import Interrupted, Interrupts
from vitral.train.profiling.setup import setup_of
from vitral.train.report import ReportData, write_report
from vitral.train.reporter import Reporter
from vitral.train.resource_errors import translate_resource_errors
from vitral.train.run import Run
from vitral.train.schedule import learning_rate
from vitral.train.session import Session
from vitral.weights.folder import save_model

__all__ = ["Plan", "fit", "training_batches"]

BEST = "best"
"""Folder of the model that did best on validation images, in a run's folder."""


def fit(run: Run, config: RunConfig, world: World = SINGLE_PROCESS) -> dict[str, float]:
    """Trains a run to its end, from its newest checkpoint where it has one, and saves the model in its folder.

    Args:
        run: its folder, on a disk that all processes see.
        config: its configuration.
        world: the processes that train it; each calls this.

    Returns:
        The figures of the final evaluation, such as `test/top1` (fractions).

    Raises:
        Interrupted: Ctrl-C, SIGTERM or SIGUSR1 came; the run is saved.
        UserError: an input is wrong, another process trains the run, an image cannot be read, or the loss is not a
            number any more.
        OSError: a file cannot be read, or the disk is full; the checkpoints so far stay.
    """
    world.run_on_main(run.lock)
    checkpoints = Checkpoints(run.checkpoints_path, keep=config.checkpoint.keep, world=world)
    try:
        changes: list[Change] = []
        if checkpoints.paths():
            before = run.config()
            changes, config = changes_between(before, config), replace(config, changes=before.changes)
        data = open_data(config.data)
        config = config.resolved(num_classes=len(data["train"].classes))
        config.train.check_shares(world.size, in_pairs=config.augment.mixes)
        trackers = Trackers(config.train.track if world.is_main else "none")
        plan = Plan.of(config, samples=len(data["train"]))
        with translate_resource_errors(config.train):
            session, notes = begin(plan, changes, checkpoints, data["train"])
        if world.is_main and not checkpoints.paths():
            run.save(config)
    except BaseException:
        if world.is_main:
            run.discard()
        raise
    run.begun = True
    with (
        reporting(run, session, plan, trackers) as reporter,
        Interrupts() as interrupts,
    ):
        trackers.start(run.path, to_dict(session.config), step=session.step, warn=reporter.info)
        for note in (*notes, describe(session, data["train"], plan), *plan.warnings()):
            reporter.info(note)
        try:
            with translate_resource_errors(config.train):
                train(run, session, data, plan, reporter=reporter, interrupts=interrupts, checkpoints=checkpoints)
                metrics = finish(run, session, data, reporter)
        finally:
            checkpoints.wait()
        if interrupts.signum:
            raise Interrupted(interrupts.signum, finished=True)
        return metrics


def reporting(run: Run, session: Session, plan: "Plan", trackers: Trackers) -> Reporter:
    """What the run says and writes down."""
    return Reporter(
        run.path,
        step=session.step,
        total=plan.total,
        is_main=session.world.is_main,
        setup=setup_of(session),
        stopwatch=session.stopwatch,
        trackers=trackers,
    )


def train(
    run: Run,
    session: Session,
    data: dict[str, Source],
    plan: "Plan",
    *,
    reporter: Reporter,
    interrupts: Interrupts,
    checkpoints: Checkpoints,
) -> None:
    """Takes the steps that are left; errors as in `fit`."""
    config, world, images = session.config, session.world, fingerprint(data["train"])

    def keep() -> None:
        # together: a run that fails before leaves the configuration that its checkpoint was made with
        if world.is_main:
            run.save(config)
        checkpoints.save(session.tensors(), session.facts() | {"data": images}, step=session.step)

    for batch in session.stopwatch.batches(training_batches(session, data["train"], plan.total)):
        refused = bool(batch.unreadable) and config.data.on_error == "stop"
        due = plan.due(session.step + 1) if world.is_main else Due()
        stop, any_refused, log, measure, save = world.all_reduce_max(interrupts.signum or 0, refused, *due)
        if stop or any_refused:
            reporter.flush(session.step)
            keep()
            checkpoints.wait()
        if stop:
            raise Interrupted(stop)
        if any_refused:
            broken = next(filter(None, world.all_gather(batch.unreadable)))
            raise UserError(f"{broken[0]}; remove it, or skip such files with --data.on-error skip")
        lr = plan.learning_rate(session.step)
        figures = session.train_step(batch, lr=lr, progress=(session.step + 1) / plan.total)
        reporter.log_step(figures, lr=lr, images=len(batch.labels) * world.size)
        step, last = session.step, session.step == plan.total
        if log or measure or save or last:
            reporter.flush(step)
        # at the end the final split is measured in any case
        if (measure and not last) or (last and running_split(data) != final_split(data)):
            checkpoints.wait()  # evaluation starts processes, which must not happen while a thread writes
            split = running_split(data)
            result = evaluate_split(session, data, split).result
            reporter.log_eval(step, split, result)
            if split == "val" and (best := dict(result.metrics())):
                keep_if_best(run, session, data["train"].classes, {f"{split}/{key}": best[key] for key in best})
        if save or last:
            keep()


def keep_if_best(run: Run, session: Session, classes: tuple[str, ...], figures: dict[str, float]) -> None:
    """Leaves the model in the folder `best` if no validation before was better, by the first figure.

    What came before is in the record, from which a resumed run takes the steps that it repeats.
    """
    name, value = next(iter(figures.items()))
    world = session.world
    before = [
        record[name] for record in read_metrics(run.metrics_path) if name in record and record["step"] < session.step
    ]
    if world.run_on_main(lambda: value > max(before, default=-math.inf)):
        model = session.finished_model()
        if world.is_main:
            save_model(run.path / BEST, model, card_of(session, classes, figures))


def begin(plan: "Plan", changes: list[Change], checkpoints: Checkpoints, source: Source) -> tuple[Session, list[str]]:
    """A session where the newest checkpoint stood; without one, from trained weights, or from scratch.

    Returns:
        The session, and sentences that people should read.

    Raises:
        UserError: checkpoints or weights cannot be read, or are of another model, or the training images changed, or
            there are no steps left to take with what is changed.
    """
    config = plan.config
    if not checkpoints.paths():
        session = Session(config, classes=source.classes, world=checkpoints.world)
        return session, session.initialise()
    saved, damaged = checkpoints.newest()
    step = saved.facts["step"]
    counting = [change for change in changes if change.counts]
    plan.check(step, counting)
    told = [change.told(step) for change in counting]
    config = replace(config, changes=(*config.changes, *told))
    session = Session(config, classes=source.classes, world=checkpoints.world)
    try:
        session.load(saved)
    except UserError as error:
        raise UserError(f"{saved.path}: {error}; put back what was changed, or start a new run") from None
    if saved.facts.get("data") != fingerprint(source):
        raise UserError("the data has changed since this run began: start a new run, or put it back")
    return session, [*damaged, *(f"changed: {sentence}" for sentence in told)]


class Due(NamedTuple):
    """What is to follow a step."""

    log: bool = False
    evaluate: bool = False
    save: bool = False


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What comes when in a run of `total` steps."""

    config: RunConfig
    total: int
    schedule: dict[str, int]
    """Lengths of warm-up, time scale and cool-down, in steps."""
    log: Timer
    evaluate: Timer
    save: Timer

    @classmethod
    def of(cls, config: RunConfig, *, samples: int) -> "Plan":
        """The plan of a run over `samples` training images."""
        size = config.train.batch_size
        epochs = Duration(config.train.epochs, "epochs").in_steps(total=0, batch_size=size, samples=samples)
        total = config.train.steps or max(epochs, 1)
        lengths = dict(total=total, batch_size=size, samples=samples)
        return cls(
            config=config,
            total=total,
            schedule={
                name: Duration.parse(getattr(config.schedule, name)).in_steps(**lengths)
                for name in ("warmup", "timescale", "cooldown")
            },
            log=Timer.every(config.train.log, **lengths),
            evaluate=Timer.every(config.train.evaluate, **lengths),
            save=Timer.every(config.checkpoint.every, **lengths),
        )

    def check(self, step: int, changes: list[Change]) -> None:
        """Refuses a run that has taken more steps than these, or all of them and yet is to learn otherwise.

        Raises:
            UserError: as it says.
        """
        if step > self.total:
            raise UserError(f"the run has already taken {step} steps: give --train.steps {step} or more")
        if step == self.total and changes:
            name, old, new = changes[0]
            raise UserError(
                f"the run has taken all of its {step} steps, so nothing is left to train with {name} {new} instead of "
                f"{old}: leave it out, or give --train.steps above {step}"
            )

    def warnings(self) -> list[str]:
        """One sentence where the schedule does not fit into the run, as when `--train.steps` shortens a recipe."""
        warmup, cooldown, peak = self.schedule["warmup"], self.schedule["cooldown"], self.config.optim.lr
        if warmup < self.total and warmup + cooldown <= self.total:
            return []
        parts = f"a warm-up of {warmup} steps" + (f" and a cool-down of {cooldown} do" if cooldown else " does")
        highest = max(map(self.learning_rate, range(self.total)))
        return [
            f"warning: {parts} not fit into a run of {self.total}, whose learning rate is never {peak:g} but "
            f"{highest:.2g} at most: shorten --schedule.warmup{' or --schedule.cooldown' if cooldown else ''}, or "
            "train for longer"
        ]

    def due(self, step: int) -> Due:
        """What is to follow when `step` steps are taken; a time that has passed starts anew."""
        return Due(log=self.log.due(step), evaluate=self.evaluate.due(step), save=self.save.due(step))

    def learning_rate(self, step: int) -> float:
        """The learning rate of the step about to be taken."""
        base = self.config.optim.lr
        return learning_rate(self.config.schedule, base=base, step=step, total=self.total, **self.schedule)


def training_batches(session: Session, source: Source, total: int) -> Iterator[Batch]:
    """The batches from the session's step to the end."""
    config = session.config
    batches = TrainingBatches(
        source=source,
        preprocessing=session.preprocessing,
        augment=config.augment,
        batch_size=config.train.batch_size,
        seed=config.seed,
        share=session.world.local_range(config.train.batch_size),
    )
    pin = session.device.type == "cuda"
    return load(batches, range(session.step, total), workers=config.data.workers, pin=pin)


def describe(session: Session, source: Source, plan: Plan) -> str:
    """One line on what is about to happen."""
    parameters = sum(parameter.numel() for parameter in session.model.parameters())
    h, w = session.preprocessing.image_size
    size, count = session.config.train.batch_size, session.world.size
    where = f"on {session.device}" if count == 1 else f"in all, {size // count} on each of {count} devices"
    classes = f"of {len(source.classes)} classes" if len(source.classes) > 1 else "without classes"
    return (
        f"{parameters:,} parameters, {len(source):,} training images {classes} at {h}x{w}, "
        f"steps {session.step} to {plan.total} of {size} images {where}"
    )


def finish(run: Run, session: Session, data: dict[str, Source], reporter: Reporter) -> dict[str, float]:
    """Evaluates the final weights and leaves the model, its card, the curves and the list of broken files."""
    split = final_split(data)
    found = evaluate_split(session, data, split)
    result, panels = found.result, draw_samples(session, data[split])
    reporter.log_eval(session.step, split, result)
    reporter.diagnose()
    metrics = {f"{split}/{name}": value for name, value in result.metrics()}
    card = card_of(session, data["train"].classes, metrics)
    model, unreadable = session.finished_model(), sorted({*session.facts()["unreadable"], *result.unreadable})
    if session.world.is_main:
        records, speed = read_metrics(run.metrics_path), reporter.speed()
        save_model(run.path, model, card)
        if found.predictions:
            images = fingerprint(data[split])
            save_predictions(run.path, SavedPredictions(split=split, images=images, predictions=found.predictions))
        draw_panels(panels, run.path / PANELS)
        write_json(run.speed_path, speed)
        draw_curves(records, run.curves_path)
        findings = ReportData(
            config=session.config,
            card=card,
            records=records,
            speed=speed,
            data=data,
            split=split,
            predictions=found.predictions,
        )
        write_report(run.path, findings)
    if unreadable:
        reporter.info(f"{len(unreadable)} files could not be read and were left out:")
        for sentence in unreadable:
            reporter.info(f"  {sentence}")
    return metrics


def card_of(session: Session, classes: tuple[str, ...], metrics: dict[str, float]) -> ModelCard:
    """What travels with the finished weights."""
    weights = session.config.model.weights
    provenance = {
        "vitral": __version__,
        "recipe": session.config.recipe,
        "seed": session.config.seed,
        "steps": session.step,
        "data": session.config.data.source if session.config.data.root is None else str(session.config.data.root),
        "torch": torch.__version__,
        "python": platform.python_version(),
    } | ({"weights": str(weights)} if weights else {})
    if session.config.changes:
        provenance["changes"] = "; ".join(session.config.changes)
    return ModelCard(preprocessing=session.preprocessing, classes=classes, provenance=provenance, metrics=metrics)
