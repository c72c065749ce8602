"""Early stopping: ends a run that no longer improves on validation images, with its best model."""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from vitral.data.sources.source import Source
from vitral.distributed.world import World
from vitral.errors import UserError
from vitral.runs.metrics import read_metrics
from vitral.runs.run import Run
from vitral.train.config import RunConfig
from vitral.train.duration import Duration
from vitral.train.evaluation import metric_names

__all__ = ["Best", "check_early_stopping", "out_of_patience"]


class Best(NamedTuple):
    """The best evaluation of a run so far."""

    name: str
    """Of the metric, such as `val/top1`."""
    value: float
    step: int
    since: int
    """Evaluations after it."""

    def describe(self) -> str:
        """Why the run ends."""
        return (
            f"stopped, as {self.name.replace('/', ' ')} did not rise above {self.value:.4g} of step {self.step} in "
            f"{self.since} evaluations: the model of that step is kept"
        )


def check_early_stopping(config: RunConfig, data: Mapping[str, Source]) -> None:
    """Checks that a run with `train.patience` can tell which model is best.

    Raises:
        UserError: it has no validation images, or never evaluates them.
    """
    if config.train.patience is None:
        return
    if "val" not in data:
        raise UserError(
            "--train.patience compares models on validation images: hold some out with --data.val-fraction 0.1"
        )
    if not Duration.parse(config.train.evaluate).amount:
        raise UserError("--train.patience counts evaluations: give --train.evaluate an interval, such as 1epoch")


def out_of_patience(run: Run, config: RunConfig, data: Mapping[str, Source], world: World) -> Best | None:
    """The best evaluation, if as many as `train.patience` followed it; else None; all processes together.

    It is read from the run's metrics, which a run that resumes has too, so that it ends at the same step.
    """
    patience = config.train.patience
    if patience is None:
        return None
    name = metric_names(config, {"val": data["val"]})[0]
    best = world.run_on_main(lambda: _best(run.metrics_path, name))
    return best if best and best.since >= patience else None


def _best(path: Path, name: str) -> Best | None:
    found = [(record[name], record["step"]) for record in read_metrics(path) if name in record]
    if not found:
        return None
    value, step = max(found, key=lambda pair: pair[0])  # the first of equal ones
    return Best(name=name, value=value, step=step, since=sum(other > step for _, other in found))
