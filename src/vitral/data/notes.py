"""Notes on data that is not read as a user may expect: printed once, even if the data is opened again."""

import functools
import logging

__all__ = ["note_once"]

LOG = logging.getLogger("vitral")


@functools.cache
def note_once(sentence: str) -> None:
    """Logs a sentence as a warning, once in each process."""
    LOG.warning("%s", sentence)
