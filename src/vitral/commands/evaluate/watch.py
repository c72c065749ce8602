"""How far a suite is, on the screen."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from rich.progress import Progress, TaskID

from vitral.commands.output import progress_bar

__all__ = ["watching"]


@dataclass(frozen=True, kw_only=True)
class Bars:
    """One bar for all, and one for what is being done."""

    progress: Progress
    whole: TaskID
    part: TaskID

    def begin(self, what: str, num_images: int) -> None:
        """See `Watch`."""
        self.progress.reset(self.part, description=what, total=num_images)

    def advance(self, num_images: int) -> None:
        """See `Watch`."""
        self.progress.advance(self.part, num_images)

    def end(self) -> None:
        """See `Watch`."""
        self.progress.advance(self.whole)


@contextmanager
def watching(total: int, *, shown: bool) -> Iterator[Bars]:
    """Bars on standard error while that is a terminal and things are done.

    Args:
        total: how much is to be done, each from `begin` to `end`.
        shown: whether to show them at all.
    """
    with progress_bar(shown=shown) as progress:
        whole = progress.add_task("in all", total=total)
        yield Bars(progress=progress, whole=whole, part=progress.add_task("", total=None))
