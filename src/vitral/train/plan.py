"""The plan of a run: number of steps, learning rate of each, and what follows it."""

from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

from vitral.errors import UserError
from vitral.train.checkpointing.changes import Change
from vitral.train.config import RunConfig
from vitral.train.duration import Duration, Timer
from vitral.train.resolution import Stage, stages
from vitral.train.schedule import learning_rate

__all__ = ["Due", "Plan"]


class Due(NamedTuple):
    """What is due after a step."""

    log: bool = False
    evaluate: bool = False
    save: bool = False


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The plan of a run of `total` steps."""

    config: RunConfig
    total: int
    schedule: dict[str, int]
    """Lengths of warm-up, time scale, shift and cool-down in steps."""
    stairs: tuple[int, ...]
    """Steps at which the learning rate changes, with `schedule.decay` stair."""
    stages: tuple[Stage, ...]
    """Steps of each image size."""
    log: Timer
    evaluate: Timer
    save: Timer

    @classmethod
    def of(cls, config: RunConfig, *, samples: int) -> "Plan":
        """The plan of a run on `samples` training images.

        Raises:
            UserError: the stairs of the schedule or the image sizes are not in order.
        """
        size = config.train.batch_size
        epochs = Duration(config.train.epochs, "epochs").in_steps(total=0, batch_size=size, samples=samples)
        total = config.train.steps or max(epochs, 1)
        lengths = dict(total=total, batch_size=size, samples=samples)
        stairs = tuple(Duration.parse(length).in_steps(**lengths) for length in config.schedule.stairs)
        if any(after <= before for before, after in pairwise(stairs)):
            raise UserError(f"schedule.stairs must increase, and they are at steps {', '.join(map(str, stairs))}")
        return cls(
            config=config,
            total=total,
            schedule={
                name: Duration.parse(getattr(config.schedule, name)).in_steps(**lengths)
                for name in ("warmup", "timescale", "shift", "cooldown")
            },
            stairs=stairs,
            stages=stages(config.resolution, **lengths),
            log=Timer.every(config.train.log, **lengths),
            evaluate=Timer.every(config.train.evaluate, **lengths),
            save=Timer.every(config.checkpoint.every, **lengths),
        )

    def check(self, step: int, changes: list[Change]) -> None:
        """Checks that a run resumed at `step` with changed settings has steps left.

        Raises:
            UserError: it is past its end, or at its end, where changes have no effect.
        """
        if step > self.total:
            raise UserError(f"the run has already taken {step} steps: give --train.steps {step} or more")
        if step == self.total and changes:
            name, old, new = changes[0]
            raise UserError(
                f"the run has taken all of its {step} steps, so {name} {new} instead of {old} would have no effect: "
                f"remove it, or give --train.steps above {step}"
            )

    def warnings(self) -> list[str]:
        """A warning if warm-up and cool-down do not fit, as when `--train.steps` shortens a recipe."""
        warmup, cooldown, peak = self.schedule["warmup"], self.schedule["cooldown"], self.config.optim.lr
        if warmup < self.total and warmup + cooldown <= self.total:
            return []
        parts = f"a warm-up of {warmup} steps" + (f" and a cool-down of {cooldown} do" if cooldown else " does")
        highest = max(map(self.learning_rate, range(self.total)))
        options = "--schedule.warmup or --schedule.cooldown" if cooldown else "--schedule.warmup"
        return [
            f"warning: {parts} not fit into a run of {self.total} steps: the learning rate reaches {highest:.2g} "
            f"instead of {peak:g}; shorten {options}, or train for longer"
        ]

    def due(self, step: int) -> Due:
        """What is due after `step` steps. Timers that are due start again."""
        return Due(log=self.log.due(step), evaluate=self.evaluate.due(step), save=self.save.due(step))

    def learning_rate(self, step: int) -> float:
        """The learning rate of step `step`, counted from 0."""
        base, stairs = self.config.optim.lr, self.stairs
        return learning_rate(
            self.config.schedule, base=base, step=step, total=self.total, stairs=stairs, **self.schedule
        )
