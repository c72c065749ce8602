"""Logging of a training run: a progress bar on the terminal, metrics in `metrics.jsonl` and in trackers."""

import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from rich.console import Console, ConsoleOptions, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.segment import Segment
from torch import Tensor

from vitral.errors import UserError
from vitral.evals.result import EvalResult
from vitral.files import printable
from vitral.runs.metrics import MetricLog
from vitral.runs.trackers.trackers import Trackers

__all__ = ["Diverged", "LoggedMetrics", "Reporter", "SpeedMonitor", "can_draw", "fit_width"]

LINE_SECONDS = 15.0
"""Interval of progress lines where there is no terminal for a progress bar."""

BAR_COLUMNS = 18
"""Minimum columns of a terminal for the bar, the remaining time and the spaces between."""

ECHO_COLUMNS = 3
"""Columns that the bar leaves free: the ^C of an interrupt in the last ones would move the bar to the next line."""

BOTTLENECK_SECONDS = 60.0
"""Training time after which the bottleneck is logged."""


class Diverged(UserError):
    """A metric is not finite. All processes of a run raise it at the same step."""


@dataclass(frozen=True, kw_only=True)
class LoggedMetrics:
    """What is logged of a run after some step."""

    step: int
    """Steps taken."""
    total: int
    """Steps of the run."""
    metrics: dict[str, float]
    """As in `metrics.jsonl`: `train/loss` and its like of steps, `test/top1` and its like of evaluations."""


@runtime_checkable
class SpeedMonitor(Protocol):
    """Measures how fast a run is."""

    def read(self, num_images: int) -> dict[str, float]:
        """Speed metrics since the last call: `images_per_second` and `data_wait` among them.

        Args:
            num_images: trained on since the last call, by all processes.
        """
        ...

    def reset(self) -> None:
        """Excludes the time since the last `read`."""
        ...

    def bottleneck(self) -> str | None:
        """What limits the speed and what to change; None if that has not changed since the last call, or is unknown."""
        ...


@dataclass(frozen=True)
class _Narrow:
    """What rich draws, without the last columns of the terminal."""

    inner: RenderableType

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterable[Segment]:
        yield from console.render(self.inner, options.update_width(max(options.max_width - ECHO_COLUMNS, 1)))


class _Bar(Progress):
    def get_renderables(self) -> Iterable[RenderableType]:
        yield _Narrow(self.make_tasks_table(self.tasks))


class Reporter:
    """Collects the metrics of each step on the device and copies them to the host together, at each `flush`.

    Only the main process writes. The others check that metrics are finite.
    """

    def __init__(
        self,
        folder: Path,
        *,
        step: int,
        total: int,
        speed: SpeedMonitor,
        is_main: bool = True,
        trackers: Trackers | None = None,
        callback: Callable[[LoggedMetrics], object] | None = None,
    ) -> None:
        """Opens the log of a run.

        Args:
            folder: the run's folder.
            step: number of steps before the first one to log.
            total: number of steps in the run.
            speed: measures the steps.
            is_main: whether this process writes.
            trackers: receive the metrics too.
            callback: likewise; what it raises ends the run.
        """
        self.total = total
        self.speed = speed
        self.trackers = trackers or Trackers("none")
        self.callback = callback
        self.console = Console(stderr=True, highlight=False, quiet=not is_main)
        self.bar = _Bar(
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            TextColumn("{task.fields[metrics]}"),
            TimeRemainingColumn(compact=True),
            console=self.console,
            disable=not can_draw(self.console),
            expand=True,
        )
        self.task = self.bar.add_task("training", total=total, completed=step, metrics="")
        self.log = MetricLog(folder, step=step) if is_main else None
        self.steps: list[dict[str, Float[Tensor, ""]]] = []
        self.rates: list[float] = []
        self.num_images = 0
        self.last_rate = math.nan
        self.started = self.last_line = time.monotonic()
        self.bottleneck_logged = False

    def __enter__(self) -> "Reporter":
        self.bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.stop()
        self.trackers.finish()
        if self.log:
            self.log.close()

    def info(self, text: str) -> None:
        """Prints a line above the progress bar."""
        self.console.print(printable(text), soft_wrap=True, markup=False)

    def log_step(self, metrics: dict[str, Float[Tensor, ""]], *, lr: float, num_images: int) -> None:
        """Adds the metrics of one step without waiting for the device."""
        self.steps.append(metrics)
        self.rates.append(lr)
        self.last_rate = lr
        self.num_images += num_images
        self.bar.advance(self.task)

    def flush(self, step: int) -> None:
        """Writes the mean metrics since the last flush, as those of step number `step`.

        Raises:
            Diverged: the loss or the gradient of a step is not finite.
            OSError: the disk is full.
        """
        if not self.steps:
            return
        columns = {name: torch.stack([metrics[name] for metrics in self.steps]).tolist() for name in self.steps[0]}
        for number, (loss, norm, lr) in enumerate(
            zip(columns["loss"], columns["gradient_norm"], self.rates, strict=True), step - len(self.steps) + 1
        ):
            _check_finite("loss", loss, number, lr)
            _check_finite("gradient", norm, number, lr)
        means = {f"train/{name}": sum(values) / len(values) for name, values in columns.items()}
        speed = self.speed.read(self.num_images)
        self._write(step, {**means, "lr": self.rates[-1], **speed})
        self._show_progress(step, means, speed)
        self.steps, self.rates, self.num_images = [], [], 0
        if not self.bottleneck_logged and time.monotonic() - self.started > BOTTLENECK_SECONDS:
            self.log_bottleneck()

    def _show_progress(self, step: int, means: dict[str, float], speed: dict[str, float]) -> None:
        """Updates the progress bar, or prints a line now and then where there is no terminal."""
        words = [
            f"loss {means['train/loss']:.3f}",
            *(f"accuracy {value:.1%}" for name, value in means.items() if name == "train/accuracy"),
            f"{speed['images_per_second']:,.0f} images/s",
            f"{speed['data_wait']:.0%} waiting",
            f"lr {self.rates[-1]:.1e}",
        ]
        width = self.console.width - ECHO_COLUMNS - 2 * len(str(self.total)) - BAR_COLUMNS
        self.bar.update(self.task, metrics=fit_width(words, width))
        if self.bar.disable and time.monotonic() - self.last_line > LINE_SECONDS:
            self.info(f"step {step}/{self.total}  {'  '.join(words)}")
            self.last_line = time.monotonic()

    def log_bottleneck(self) -> None:
        """Prints what limits the speed, unless that has not changed since it was printed."""
        if sentence := self.speed.bottleneck():
            self.info(f"speed: {sentence}")
            self.bottleneck_logged = True

    def log_eval(self, step: int, split: str, result: EvalResult) -> None:
        """Writes the metrics of an evaluation. The time it took does not count as training time.

        Raises:
            Diverged: a metric is not finite.
            OSError: the disk is full.
        """
        metrics = {f"{split}/{name}": value for name, value in result.metrics()}
        for name, value in metrics.items():
            _check_finite(name.replace("/", " "), value, step, self.last_rate)
        self._write(step, metrics)
        if metrics or step == self.total:
            self.info(f"step {step}/{self.total}  {split} {result.headline()}")
        self.last_line = time.monotonic()
        self.speed.reset()

    def _write(self, step: int, metrics: dict[str, float]) -> None:
        if self.log and self.log.write(step, metrics):
            self.trackers.write(step, metrics)
            if self.callback:
                self.callback(LoggedMetrics(step=step, total=self.total, metrics=metrics))


def can_draw(console: Console) -> bool:
    """Whether a bar can be redrawn in place: on a terminal, and in a notebook with ipywidgets."""
    return console.is_terminal or (console.is_jupyter and find_spec("ipywidgets") is not None)


def fit_width(words: list[str], width: int) -> str:
    """As many of the words, most important first, as fit in `width` columns."""
    while len(text := "  ".join(words)) > width and len(words) > 1:
        words = words[:-1]
    return text


def _check_finite(what: str, value: float, step: int, lr: float) -> None:
    """Raises Diverged if a metric of step number `step`, counted from 1, is not finite."""
    if not math.isfinite(value):
        raise Diverged(
            f"the {what} became {value} at step {step} with learning rate {lr:.3g}: "
            "lower --optim.lr, or lengthen --schedule.warmup"
        )
