"""The training loop over steps. It needs no run folder; logging, evaluation and checkpoints are up to the caller."""

from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, replace

from jaxtyping import Float
from torch import Tensor

from vitral.data.balanced import BalancedOrder
from vitral.data.batches import Batch, TrainingBatches, load
from vitral.data.sources.source import Source
from vitral.errors import UserError
from vitral.train.interrupts import Interrupted
from vitral.train.plan import Due, Plan
from vitral.train.session import Session

__all__ = ["Step", "UnreadableBatch", "train_steps"]


class UnreadableBatch(UserError):
    """A training image cannot be read, and `data.on_error` is stop. All processes raise it before the same step."""


@dataclass(frozen=True, kw_only=True)
class Step:
    """A step that was taken."""

    number: int
    """Counted from 1."""
    batch: Batch
    """This process's part of the batch."""
    lr: float
    metrics: dict[str, Float[Tensor, ""]]
    """Still on the device."""
    num_images: int
    """Of the batch, in all processes."""
    due: Due
    """What is due now, the same in all processes."""
    is_last: bool
    """Whether it is the last step of the plan."""


def train_steps(
    session: Session, source: Source, plan: Plan, *, stop_signal: Callable[[], int | None] = lambda: None
) -> Generator[Step, None, None]:
    """Takes the remaining steps of a plan and yields after each. All processes iterate together.

    Args:
        session: is at the step where it started or resumed.
        source: training images.
        plan: says how many steps there are, their learning rates, and what is due after each.
        stop_signal: number of a signal that asks to stop, or None; it is read before each step.

    Raises:
        Interrupted: there was a signal in one of the processes; the session is between two steps.
        UnreadableBatch: an image cannot be read; likewise.
    """
    world, stop_on_error = session.world, session.config.data.on_error == "stop"
    for batch in session.stopwatch.batches(training_batches(session, source, plan)):
        due = plan.due(session.step + 1) if world.is_main else Due()
        is_unreadable = stop_on_error and bool(batch.unreadable)
        signum, any_unreadable, *flags = world.all_reduce_max(stop_signal() or 0, is_unreadable, *due)
        if signum:
            raise Interrupted(signum)
        if any_unreadable:
            first = next(filter(None, world.all_gather(batch.unreadable)))[0]
            raise UnreadableBatch(f"{first}; remove it, or skip such files with --data.on-error skip")
        lr = plan.learning_rate(session.step)
        metrics = session.train_step(batch, lr=lr, progress=(session.step + 1) / plan.total)
        yield Step(
            number=session.step,
            batch=batch,
            lr=lr,
            metrics=metrics,
            num_images=len(batch.labels) * world.size,
            due=Due(*map(bool, flags)),
            is_last=session.step == plan.total,
        )


def training_batches(session: Session, source: Source, plan: Plan) -> Iterator[Batch]:
    """This process's part of each batch, from the session's step on. Readers start again where the size changes."""
    config, start = session.config, session.step
    batches = TrainingBatches(
        source=source,
        preprocessing=session.preprocessing,
        augment=config.augment,
        batch_size=config.train.batch_size,
        seed=config.seed,
        rows=session.world.local_range(config.train.batch_size),
        balanced=BalancedOrder.of(source.labels) if config.data.sampling == "balanced" else None,
    )
    pin = session.device.type == "cuda"
    for stage in plan.stages:
        size = session.preprocessing.image_size if stage.size is None else (stage.size, stage.size)
        resized = replace(batches, preprocessing=replace(session.preprocessing, image_size=size))
        steps = range(max(start, stage.steps.start), stage.steps.stop)
        if steps:
            yield from load(resized, steps, workers=config.data.workers, pin=pin)
