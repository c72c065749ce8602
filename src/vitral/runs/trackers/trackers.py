"""The trackers of a run. A tracker that fails never stops training."""

from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

from vitral.errors import UserError

__all__ = ["AUTO", "TRACKERS", "Tracker", "Trackers", "check_names", "names_of"]

AUTO = "auto"
"""TensorBoard if it is installed."""

TRACKERS = {"tensorboard": "TensorBoard", "wandb": "WeightsAndBiases", "trackio": "Trackio"}
"""Class of each tracker, by the name of its package and of its module here, which is imported only when used."""


class Tracker(Protocol):
    """Receives the metrics of a run, besides `metrics.jsonl`."""

    def start(self, run: Path, config: dict[str, Any], *, step: int) -> None:
        """Starts in a run's folder, or continues after `step` steps."""
        ...

    def write(self, step: int, metrics: dict[str, float]) -> None:
        """Logs metrics such as `train/loss` or `test/top1` after `step` steps."""
        ...

    def finish(self) -> None:
        """Waits until everything is written."""
        ...


def names_of(track: str) -> tuple[str, ...]:
    """The names in a setting such as `tensorboard,wandb`, `auto` or `none`."""
    if track == AUTO:
        return ("tensorboard",) if find_spec("tensorboard") else ()
    return () if track == "none" else tuple(dict.fromkeys(name.strip() for name in track.split(",")))


def check_names(track: str) -> None:
    """Checks the names in a setting.

    Raises:
        UserError: a name is unknown.
    """
    unknown = [name for name in names_of(track) if name not in TRACKERS]
    if unknown:
        raise UserError(
            f"train.track must be auto, none, or a comma-separated list of {', '.join(TRACKERS)}, not {unknown[0]!r}"
        )


class Trackers:
    """The trackers of a run; one that fails is reported once and then skipped."""

    def __init__(self, track: str) -> None:
        """Creates the trackers that a setting names.

        Raises:
            UserError: a package is not installed.
        """
        self.live: dict[str, Tracker] = {}
        for name in names_of(track):
            if find_spec(name) is None:
                raise UserError(f"{name} is not installed: pip install 'vitral[track]', or change --train.track")
            self.live[name] = getattr(import_module(f"vitral.runs.trackers.{name}"), TRACKERS[name])()
        self.warn: Callable[[str], None] = lambda _: None

    def start(self, run: Path, config: dict[str, Any], *, step: int, warn: Callable[[str], None]) -> None:
        """Starts all trackers in a run's folder, to continue after `step` steps; `warn` prints a warning."""
        self.warn = warn
        self._each(lambda tracker: tracker.start(run, config, step=step))

    def write(self, step: int, metrics: dict[str, float]) -> None:
        """Logs metrics to all trackers."""
        self._each(lambda tracker: tracker.write(step, metrics))

    def finish(self) -> None:
        """Finishes all trackers."""
        self._each(lambda tracker: tracker.finish())

    def _each(self, act: Callable[[Tracker], None]) -> None:
        for name, tracker in list(self.live.items()):
            try:
                act(tracker)
            except Exception as error:
                del self.live[name]
                reason = " ".join(str(error).split()) or type(error).__name__
                self.warn(f"{name} failed and gets no more metrics ({reason}); training continues with metrics.jsonl")
