"""What a run says while it trains: a progress bar for people, the record for everything else."""

import math
import time
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor

from vitral.errors import UserError
from vitral.runs.metrics import MetricLog
from vitral.runs.trackers.trackers import Trackers
from vitral.train.evaluation import EvalResult
from vitral.train.profiling.bottleneck import Diagnosis, diagnose, speed_table
from vitral.train.profiling.setup import Setup
from vitral.train.profiling.throughput import Stopwatch, Timing, peak_memory

__all__ = ["Diverged", "Reporter", "fitting"]

QUIET_SECONDS = 15.0
"""Where there is no terminal to draw a bar on, a line comes this often."""

AROUND = 18
"""Columns of a terminal that the bar, the time left and the spaces between take at least."""

DIAGNOSED_AFTER = 60.0
"""Seconds of training after which the run says what bounds its speed."""

UNKNOWN = Setup()
"""Nothing is known of the machine."""


class Diverged(UserError):
    """A figure is not a number any more; all processes of a run see it at the same step."""


class Reporter:
    """Gathers the figures of each step on the device and brings them over together, one wait for many steps.

    Of several processes one is_main; the others only notice when a figure is not finite any more.
    """

    def __init__(
        self,
        folder: Path,
        *,
        step: int,
        total: int,
        is_main: bool = True,
        setup: Setup = UNKNOWN,
        stopwatch: Stopwatch | None = None,
        trackers: Trackers | None = None,
    ) -> None:
        self.total = total
        self.setup = setup
        self.stopwatch = stopwatch or Stopwatch(torch.device("cpu"))
        self.trackers = trackers or Trackers("none")
        self.console = Console(stderr=True, highlight=False, quiet=not is_main)
        self.bar = Progress(
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            TextColumn("{task.fields[figures]}"),
            TimeRemainingColumn(compact=True),
            console=self.console,
            disable=not self.console.is_terminal,
            expand=True,
        )
        self.task = self.bar.add_task("training", total=total, completed=step, figures="")
        self.log = MetricLog(folder, step=step) if is_main else None
        self.steps: list[dict[str, Float[Tensor, ""]]] = []
        self.rates: list[float] = []
        self.images = 0
        self.last_rate = math.nan
        self.timed: Timing | None = None
        """All steps so far but the first ones, in which everything starts; None as long as there are no others."""
        self.started = False
        self.began = self.spoke = time.monotonic()
        self.diagnosed: Diagnosis | None = None

    def __enter__(self) -> "Reporter":
        self.bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.stop()
        self.trackers.finish()
        if self.log:
            self.log.close()

    def info(self, text: str) -> None:
        """Prints a line above the bar."""
        self.console.print(text, soft_wrap=True, markup=False)

    def log_step(self, figures: dict[str, Float[Tensor, ""]], *, lr: float, images: int) -> None:
        """Takes the figures of one step without waiting for the device."""
        self.steps.append(figures)
        self.rates.append(lr)
        self.last_rate = lr
        self.images += images
        self.bar.advance(self.task)

    def flush(self, step: int) -> None:
        """Writes down the mean figures of the steps since the last time, `step` steps into the run.

        Raises:
            UserError: a loss or gradient among them is not finite.
            OSError: the disk is full.
        """
        if not self.steps:
            return
        columns = {name: torch.stack([figures[name] for figures in self.steps]).tolist() for name in self.steps[0]}
        for number, (loss, norm, lr) in enumerate(
            zip(columns["loss"], columns["gradient_norm"], self.rates, strict=True), step - len(self.steps) + 1
        ):
            _check_finite("loss", loss, number, lr)
            _check_finite("gradient", norm, number, lr)
        means = {f"train/{name}": sum(values) / len(values) for name, values in columns.items()}
        timing = self.stopwatch.read()
        if self.started:
            self.timed = timing + (self.timed or Timing())
        self.started = True
        rate = self.images / timing.seconds
        self._write(step, {**means, "lr": self.rates[-1], **self._speed(rate, timing)})
        words = [
            f"loss {means['train/loss']:.3f}",
            *(f"accuracy {share:.1%}" for name, share in means.items() if name == "train/accuracy"),
            f"{rate:,.0f} images/s",
            f"{timing.waiting_share:.0%} waiting",
            f"lr {self.rates[-1]:.1e}",
        ]
        self.bar.update(self.task, figures=fitting(words, self.console.width - 2 * len(str(self.total)) - AROUND))
        if not self.console.is_terminal and time.monotonic() - self.spoke > QUIET_SECONDS:
            self.info(f"step {step}/{self.total}  {'  '.join(words)}")
            self.spoke = time.monotonic()
        self.steps, self.rates, self.images = [], [], 0
        if self.diagnosed is None and time.monotonic() - self.began > DIAGNOSED_AFTER:
            self.diagnose()

    def _speed(self, rate: float, timing: Timing) -> dict[str, float]:
        """The figures that no two runs share."""
        figures = {
            "images_per_second": round(rate, 1),
            "data_wait": round(timing.waiting_share, 4),
            "memory_bytes": peak_memory(self.stopwatch.device),
        }
        useful = self.setup.utilisation(rate)
        return figures if useful is None else figures | {"mfu": round(useful, 4)}

    def speed(self) -> dict[str, Any] | None:
        """Where the time went so far; None where too few steps were measured."""
        return self.timed and speed_table(self.timed, self.setup, memory=peak_memory(self.stopwatch.device))

    def diagnose(self) -> None:
        """Says what bounds the run, once and again if that has changed."""
        if self.timed is None:
            return
        before, self.diagnosed = self.diagnosed, diagnose(self.timed, self.setup)
        if before is None or before.bound != self.diagnosed.bound:
            self.info(f"speed: {self.diagnosed.sentence}")

    def log_eval(self, step: int, split: str, result: EvalResult) -> None:
        """Writes down an evaluation; its time does not count as training's.

        Raises:
            UserError: a figure is not finite.
            OSError: the disk is full.
        """
        figures = {f"{split}/{name}": value for name, value in result.metrics()}
        for name, value in figures.items():
            _check_finite(name.replace("/", " "), value, step, self.last_rate)
        self._write(step, figures)
        if figures or step == self.total:
            self.info(f"step {step}/{self.total}  {split} {result.headline()}")
        self.spoke = time.monotonic()
        self.stopwatch.reset()

    def _write(self, step: int, figures: dict[str, float]) -> None:
        if self.log and self.log.write(step, figures):
            self.trackers.write(step, figures)


def fitting(words: list[str], room: int) -> str:
    """As many of the words, which begin with the most important, as fit in so many columns."""
    while len(text := "  ".join(words)) > room and len(words) > 1:
        words = words[:-1]
    return text


def _check_finite(what: str, value: float, step: int, lr: float) -> None:
    """Refuses a figure that is no number any more; steps count from 1, as in the record."""
    if not math.isfinite(value):
        raise Diverged(
            f"the {what} became {value} at step {step} with learning rate {lr:.3g}: "
            "lower --optim.lr, or lengthen --schedule.warmup"
        )
