"""Progress of a suite on the screen."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from rich.progress import Progress, TaskID

from vitral.commands.output import progress_bar

__all__ = ["suite_progress"]


@dataclass(frozen=True, kw_only=True)
class SuiteProgress:
    """One bar for the suite, and one for its current part."""

    progress: Progress
    whole: TaskID
    part: TaskID

    def begin(self, what: str, num_images: int) -> None:
        """See `Progress`."""
        self.progress.reset(self.part, description=what, total=num_images)

    def advance(self, num_images: int) -> None:
        """See `Progress`."""
        self.progress.advance(self.part, num_images)

    def end(self) -> None:
        """See `Progress`."""
        self.progress.advance(self.whole)


@contextmanager
def suite_progress(total: int, *, enabled: bool) -> Iterator[SuiteProgress]:
    """Bars on standard error if that is a terminal.

    Args:
        total: number of parts, each from `begin` to `end`.
        enabled: whether to show them.
    """
    with progress_bar(enabled=enabled) as progress:
        whole = progress.add_task("total", total=total)
        yield SuiteProgress(progress=progress, whole=whole, part=progress.add_task("", total=None))
