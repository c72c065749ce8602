"""Notes on data that is not read as a user may expect: printed once, even if the data is opened again."""

import functools
import logging

__all__ = ["is_noted", "note_first", "note_once"]

LOG = logging.getLogger("vitral")


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
    if fact not in _FACTS:
        _FACTS.add(fact)
        note_once(f"{name}: {fact} (noted for the first such file only)")


def is_noted(fact: str) -> bool:
    """Whether `note_first` has noted a fact, so that it need not be looked for again."""
    return fact in _FACTS


_FACTS: set[str] = set()
"""Noted ones."""
