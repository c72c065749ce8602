"""Notes on data that is not read as a user may expect: printed once, even if the data is opened again."""

import functools
import logging

__all__ = ["is_noted", "keep_notes", "note_first", "note_once", "take_kept"]

LOG = logging.getLogger("vitral")

_NOTED: set[str] = set()
"""Facts that `note_first` has noted."""

_KEPT: list[tuple[str, str]] | None = None
"""Facts to hand over, with the names of their files; None: they are logged."""


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
    if _KEPT is None:
        note_once(f"{name}: {fact} (noted for the first such file only)")
    else:
        _KEPT.append((fact, name))


def is_noted(fact: str) -> bool:
    """Whether `note_first` has noted a fact, so that it need not be looked for again."""
    return fact in _NOTED


def keep_notes() -> None:
    """From now on, this process keeps its notes for `take_kept`: another process prints them, each once."""
    global _KEPT
    _KEPT = []


def take_kept() -> tuple[tuple[str, str], ...]:
    """What `note_first` was called with since the last call, if this process keeps its notes."""
    kept = tuple(_KEPT or ())
    if _KEPT:
        _KEPT.clear()
    return kept
