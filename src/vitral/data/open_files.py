"""Open files that processes which read images need."""

import resource

from vitral.errors import UserError

__all__ = ["allow_open_files"]

OWN, EACH = 64, 48
"""Files that the main process holds open, and those that it shares with each reading process: pipes and tensors."""


def allow_open_files(workers: int) -> None:
    """Raises the limit of open files of this process to what its reading processes need.

    With fewer, PyTorch's queues wait for ever.

    Args:
        workers: number of processes that read.

    Raises:
        UserError: the system allows fewer.
    """
    needed = OWN + EACH * workers
    allowed, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    if not workers or allowed >= needed or allowed == resource.RLIM_INFINITY:
        return
    if most != resource.RLIM_INFINITY and most < needed:
        raise UserError(
            f"{workers} processes that read images need {needed} open files, and only {most} are allowed: run "
            f"`ulimit -n {needed}` first, or lower --data.workers"
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (needed, most))
