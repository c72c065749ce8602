"""What tests of images share."""

import pytest

from vitral.data import notes


@pytest.fixture
def fresh_notes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Notes of the first such file come again."""
    monkeypatch.setattr(notes, "_NOTED", set())
    notes.note_once.cache_clear()
