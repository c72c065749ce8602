"""Which trackers a run feeds: they start with it, take every figure, and never stop it."""

from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

from vitral.errors import UserError

__all__ = ["AUTO", "TRACKERS", "Tracker", "Trackers", "check_names", "names_of"]

AUTO = "auto"
"""TensorBoard where it is installed."""

TRACKERS = {"tensorboard": "TensorBoard", "wandb": "WeightsAndBiases", "trackio": "Trackio"}
"""By package and by module here, the class in it; a module is imported only where its package is used."""


class Tracker(Protocol):
    """Where figures go besides the run's own record."""

    def start(self, run: Path, config: dict[str, Any], *, step: int) -> None:
        """Begins in a run's folder, or goes on after `step` steps what it began there."""
        ...

    def write(self, step: int, figures: dict[str, float]) -> None:
        """Takes figures such as `train/loss`, `test/top1` after `step` steps."""
        ...

    def finish(self) -> None:
        """Brings home what is still under way."""
        ...


def names_of(track: str) -> tuple[str, ...]:
    """The trackers that a setting names, such as `tensorboard,wandb`, `auto` or `none`."""
    if track == AUTO:
        return ("tensorboard",) if find_spec("tensorboard") else ()
    return () if track == "none" else tuple(dict.fromkeys(name.strip() for name in track.split(",")))


def check_names(track: str) -> None:
    """Refuses a setting that names what is no tracker.

    Raises:
        UserError: as it says.
    """
    unknown = [name for name in names_of(track) if name not in TRACKERS]
    if unknown:
        raise UserError(
            f"track takes {', '.join(TRACKERS)}, several with commas between, auto or none, not {unknown[0]!r}"
        )


class Trackers:
    """The trackers of a run; one that fails is named once and left out from then on."""

    def __init__(self, track: str) -> None:
        """Makes the trackers that a setting names, ready to start.

        Raises:
            UserError: a package is not installed.
        """
        self.live: dict[str, Tracker] = {}
        for name in names_of(track):
            if find_spec(name) is None:
                raise UserError(f"{name} is not installed: pip install 'vitral[track]', or leave it out of train.track")
            self.live[name] = getattr(import_module(f"vitral.runs.trackers.{name}"), TRACKERS[name])()
        self.warn: Callable[[str], None] = lambda _: None

    def start(self, run: Path, config: dict[str, Any], *, step: int, warn: Callable[[str], None]) -> None:
        """Starts all, in a run's folder, to go on after `step` steps; `warn` takes a sentence for people."""
        self.warn = warn
        self._each(lambda tracker: tracker.start(run, config, step=step))

    def write(self, step: int, figures: dict[str, float]) -> None:
        """Hands figures to all."""
        self._each(lambda tracker: tracker.write(step, figures))

    def finish(self) -> None:
        """Finishes all."""
        self._each(lambda tracker: tracker.finish())

    def _each(self, act: Callable[[Tracker], None]) -> None:
        for name, tracker in list(self.live.items()):
            try:
                act(tracker)
            except Exception as error:
                del self.live[name]
                reason = " ".join(str(error).split()) or type(error).__name__
                self.warn(f"{name} gets no more figures ({reason}); the run goes on, and metrics.jsonl has them all")
