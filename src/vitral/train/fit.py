"""The lifecycle of a run: lock, resume, train, evaluate, save."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from vitral.config import to_dict
from vitral.data.cache import cache_images
from vitral.data.sources.source import Source
from vitral.datasets.opening import open_data
from vitral.distributed.world import SINGLE_PROCESS, World
from vitral.errors import UserError
from vitral.evals.splits import final_split, running_split
from vitral.runs.fingerprint import fingerprint
from vitral.runs.reporter import LoggedMetrics, Reporter
from vitral.runs.run import Run
from vitral.runs.trackers.trackers import Trackers
from vitral.train.artefacts import BEST, save_artefacts, save_if_best
from vitral.train.assess import assess_run
from vitral.train.channels import measure_channels
from vitral.train.checkpointing.changes import Change, changes_between
from vitral.train.checkpointing.checkpoint import Checkpoints
from vitral.train.checkpointing.machine import describe_machine, machine_changes
from vitral.train.config import RunConfig, read_run_config
from vitral.train.early_stopping import check_early_stopping, out_of_patience
from vitral.train.evaluation import evaluate_split
from vitral.train.interrupts import Interrupted, Interrupts
from vitral.train.memory import check_memory
from vitral.train.plan import Plan
from vitral.train.profiling.profiler import Profiler
from vitral.train.profiling.setup import setup_of
from vitral.train.resource_errors import translate_resource_errors
from vitral.train.session import Session
from vitral.train.steps import UnreadableBatch, train_steps
from vitral.train.targets import fit_targets
from vitral.weights.folder import load_model

__all__ = ["fit"]


def fit(
    run: Run,
    config: RunConfig,
    world: World = SINGLE_PROCESS,
    *,
    strict: bool = False,
    callback: Callable[[LoggedMetrics], object] | None = None,
) -> dict[str, float]:
    """Trains a run to its end, from its newest checkpoint if it has one, and saves the model in its folder.

    Args:
        run: its folder, on a disk that all processes see.
        config: its configuration.
        world: the processes that train it; each of them calls this.
        strict: whether to refuse to resume where results would differ by rounding.
        callback: receives what is logged, on the main process; what it raises ends the run.

    Returns:
        The metrics of the final evaluation, such as `test/top1` (fractions).

    Raises:
        Interrupted: one of `interrupts.STOPPING` was received; the run is saved.
        UserError: an input is wrong, the run is in training, an image cannot be read, or the loss is not finite.
        OSError: a file cannot be read, or the disk is full; earlier checkpoints are kept.
    """
    world.run_on_main(run.lock)
    checkpoints = Checkpoints(run.checkpoints_path, keep=config.checkpoint.keep, world=world)
    try:
        changes: list[Change] = []
        if checkpoints.paths():
            before = read_run_config(run)
            changes, config = changes_between(before, config), replace(config, changes=before.changes)
        data = open_data(config.data)
        config = replace(config, folder=config.folder or Path.cwd())
        config, measured = fit_to_data(config, data, world)
        config.train.check_batch_size(world.size, in_pairs=config.augment.mixes)
        trackers = Trackers(config.train.track if world.is_main else "none")
        plan = Plan.of(config, samples=len(data["train"]))
        with translate_resource_errors(config.train):
            session, notes = start_session(plan, changes, checkpoints, data["train"], strict=strict)
            data = cache_images(data, config.data, processes=world.size)
        if world.is_main and not checkpoints.paths():
            run.save(config)
    except BaseException:
        if world.is_main:
            run.discard()
        raise
    run.started = True
    notes = [*measured, *notes, describe(session, data["train"], plan), *plan.warnings()]
    return train_to_end(
        run, session, data, plan, checkpoints=checkpoints, trackers=trackers, notes=notes, callback=callback
    )


def train_to_end(
    run: Run,
    session: Session,
    data: dict[str, Source],
    plan: Plan,
    *,
    checkpoints: Checkpoints,
    trackers: Trackers,
    notes: list[str],
    callback: Callable[[LoggedMetrics], object] | None,
) -> dict[str, float]:
    """Prints notes, takes the remaining steps, and finishes the run also after a signal; the rest as in `fit`."""
    profiler = Profiler(session.stopwatch, setup_of(session))
    reporter = Reporter(
        run.path,
        step=session.step,
        total=plan.total,
        speed=profiler,
        is_main=session.world.is_main,
        trackers=trackers,
        callback=callback,
    )
    with reporter, Interrupts() as interrupts:
        trackers.start(run.path, to_dict(session.config), step=session.step, warn=reporter.info)
        for note in notes:
            reporter.info(note)
        try:
            with translate_resource_errors(session.config.train):
                train(run, session, data, plan, reporter=reporter, interrupts=interrupts, checkpoints=checkpoints)
                checkpoints.wait()  # evaluation starts processes, which must not happen while a thread writes
                metrics = finish(run, session, data, reporter, profiler)
        finally:
            checkpoints.wait()
        if interrupts.signum:
            raise Interrupted(interrupts.signum, finished=True)
        return metrics


def fit_to_data(config: RunConfig, data: dict[str, Source], world: World) -> tuple[RunConfig, list[str]]:
    """The configuration with the settings that depend on the data; all processes together.

    Returns:
        The configuration, and notes for the user.

    Raises:
        UserError: the data does not allow a setting, an image cannot be read, or a step does not fit into memory.
    """
    check_early_stopping(config, data)
    config = config.resolved(num_classes=len(data["train"].classes))
    config, measured = measure_channels(config, data["train"], world)
    config, noted = fit_targets(config, data["train"])
    world.run_on_main(lambda: check_memory(config, world))
    return config, [*measured, *noted]


def start_session(
    plan: Plan, changes: list[Change], checkpoints: Checkpoints, source: Source, *, strict: bool
) -> tuple[Session, list[str]]:
    """A session at the newest checkpoint; without a checkpoint, at pretrained or random weights.

    Returns:
        The session, and notes for the user.

    Raises:
        UserError: checkpoints or weights cannot be read or do not fit the model, the training images changed,
            changed settings have no effect because no steps are left, or `strict` and the machine differs.
    """
    config = plan.config
    if not checkpoints.paths():
        again = checkpoints.world.run_on_main((checkpoints.folder.parent / "run.json").exists)
        if again and strict:
            raise UserError("there is no checkpoint to resume from: leave out --strict-resume to start again at step 0")
        session = Session(config, classes=source.classes, world=checkpoints.world)
        restarted = ["there is no checkpoint to resume from: the run starts again at step 0"] if again else []
        return session, [*restarted, *session.initialise()]
    saved, damaged = checkpoints.newest()
    step = saved.metadata["step"]
    effective = [change for change in changes if change.affects_result]
    plan.check(step, effective)
    descriptions = [change.describe(step) for change in effective]
    config = replace(config, changes=(*config.changes, *descriptions))
    session = Session(config, classes=source.classes, world=checkpoints.world)
    try:
        session.load(saved)
    except UserError as error:
        raise UserError(f"{saved.path}: {error}; undo the change, or start a new run") from None
    if saved.metadata.get("data") != fingerprint(source):
        raise UserError("the training data has changed since this run started: restore it, or start a new run")
    now = describe_machine(session.device, processes=session.world.size)
    machine = machine_changes(saved.metadata.get("machine", {}), now)
    if machine and strict:
        raise UserError(f"this machine has {machine}: restore it, or leave out --strict-resume")
    if machine:
        damaged.append(f"this machine has {machine}: from here on, results are equal but for rounding")
    return session, [*damaged, *(f"changed: {description}" for description in descriptions)]


def describe(session: Session, source: Source, plan: Plan) -> str:
    """One line about the model, the data and the steps of a run."""
    parameters = sum(parameter.numel() for parameter in session.model.parameters())
    h, w = session.preprocessing.image_size
    shape = "".join(f"{stage}, then " for stage in plan.stages if stage.size is not None) + f"{h}x{w}"
    if session.preprocessing.keeps_aspect:
        shape = f"their own aspect ratio, of at most {session.preprocessing.num_patches} patches"
    channels = f" of {session.preprocessing.channels} channels" if session.preprocessing.bands else ""
    size, count = session.config.train.batch_size, session.world.size
    where = f"on {session.device}" if count == 1 else f"in all, {size // count} on each of {count} devices"
    kinds = {"class": f"of {len(source.classes)} classes", "multi-label": f"with {len(source.classes)} labels"}
    classes = kinds.get(session.config.data.target, f"with the number {source.classes[0]}")
    classes = "without classes" if session.config.data.source == "images" else classes
    return (
        f"{parameters:,} parameters, {len(source):,} training images{channels} {classes} at {shape}, "
        f"steps {session.step} to {plan.total} of {size} images {where}"
    )


def train(
    run: Run,
    session: Session,
    data: dict[str, Source],
    plan: Plan,
    *,
    reporter: Reporter,
    interrupts: Interrupts,
    checkpoints: Checkpoints,
) -> None:
    """Takes the remaining steps with logging, evaluations and checkpoints; errors as in `fit`."""
    surroundings = {
        "data": fingerprint(data["train"]),
        "machine": describe_machine(session.device, processes=session.world.size),
    }

    def save() -> None:
        # together, so that a run that fails earlier keeps the configuration of its newest checkpoint
        if session.world.is_main:
            run.save(session.config)
        checkpoints.save(session.tensors(), session.metadata() | surroundings, step=session.step)

    def stops() -> bool:
        best = out_of_patience(run, session.config, data, session.world)
        if best is not None:
            reporter.info(best.describe())
        return best is not None

    if stops():  # it resumes after it stopped
        return
    steps = train_steps(session, data["train"], plan, stop_signal=lambda: interrupts.signum)
    try:
        for step in steps:
            reporter.log_step(step.metrics, lr=step.lr, num_images=step.num_images)
            if any(step.due) or step.is_last:
                reporter.flush(step.number)
            # at the end, `finish` evaluates the final split
            evaluated = running_split(data) != final_split(data) if step.is_last else step.due.evaluate
            if evaluated:
                checkpoints.wait()  # evaluation starts processes, which must not happen while a thread writes
                evaluate_running(run, session, data, reporter)
            stopped = evaluated and not step.is_last and stops()
            if step.due.save or step.is_last or stopped:
                save()
            if stopped:
                break
    except (Interrupted, UnreadableBatch):
        reporter.flush(session.step)
        save()
        checkpoints.wait()
        raise
    finally:
        steps.close()  # ends the processes that read images


def evaluate_running(run: Run, session: Session, data: dict[str, Source], reporter: Reporter) -> None:
    """Evaluates during training, and saves the best model on validation images."""
    split = running_split(data)
    evaluation = evaluate_split(session, data, split)
    reporter.log_eval(session.step, split, evaluation.result)
    metrics = {f"{split}/{name}": value for name, value in evaluation.result.metrics()}
    if split == "val" and metrics:
        save_if_best(run, session, metrics, thresholds=evaluation.thresholds)


def finish(
    run: Run, session: Session, data: dict[str, Source], reporter: Reporter, profiler: Profiler
) -> dict[str, float]:
    """Evaluates the trained model, saves it with its report, and lists unreadable images.

    Returns:
        The metrics of the final evaluation.
    """
    split = final_split(data)
    best = run.path / BEST
    if session.config.train.patience is not None and session.world.run_on_main(best.is_dir):
        session.best = load_model(best, device=session.device)
    evaluation = evaluate_split(session, data, split)
    reporter.log_eval(session.step, split, evaluation.result)
    if evaluation.note:
        reporter.info(evaluation.note)
    reporter.log_bottleneck()
    unreadable = sorted({*session.metadata()["unreadable"], *evaluation.result.unreadable})
    assessment = assess_run(session, data, split, evaluation)
    final = replace(evaluation, assessment=assessment)
    save_artefacts(run, session, data, profiler, split=split, evaluation=final)
    for line in assessment.lines() if assessment else ():
        reporter.info(line)
    if unreadable:
        reporter.info(f"{len(unreadable)} files could not be read and were skipped:")
        for message in unreadable:
            reporter.info(f"  {message}")
    return {f"{split}/{name}": value for name, value in evaluation.result.metrics()}
