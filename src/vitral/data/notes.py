"""Notes on data that is not read as a user may expect: printed once, even if the data is opened again."""

import functools
import logging

__all__ = ["buffer_notes", "is_noted", "note_first", "note_once", "take_notes"]

LOG = logging.getLogger("vitral")

_NOTED: set[str] = set()
"""Facts that `note_first` has noted."""

_BUFFER: list[tuple[str, str]] | None = None
"""Facts that `take_notes` will return, each with the name of its file; None: they are logged at once."""


@functools.cache
def note_once(sentence: str) -> None:
    """Logs a sentence as a warning, once in each process."""
    LOG.warning("%s", sentence)


def note_first(fact: str, name: str) -> None:
    """Notes a fact about a file, for the first file of which it is true.

    Args:
        fact: such as `its colour profile is damaged and is ignored`.
        name: of the file.
    """
    if fact in _NOTED:
        return
    _NOTED.add(fact)
    if _BUFFER is None:
        note_once(f"{name}: {fact} (noted for the first such file only)")
    else:
        _BUFFER.append((fact, name))


def is_noted(fact: str) -> bool:
    """Whether `note_first` has noted a fact, so that it need not be looked for again."""
    return fact in _NOTED


def buffer_notes() -> None:
    """From now on, collects notes for `take_notes` instead of logging them: the main process prints each once."""
    global _BUFFER
    _BUFFER = []


def take_notes() -> tuple[tuple[str, str], ...]:
    """Facts and names that `note_first` has collected since the last call; empty without `buffer_notes`."""
    notes = tuple(_BUFFER or ())
    if _BUFFER:
        _BUFFER.clear()
    return notes
