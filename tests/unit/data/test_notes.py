"""Notes on files: one for each fact, whichever process reads."""

import logging
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vitral.data import notes
from vitral.data.batches import EvaluationBatches, load
from vitral.data.images.preprocess import Preprocessing
from vitral.data.sources.source import FileSource


@pytest.fixture(autouse=True)
def fresh_notes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notes, "_NOTED", set())
    notes.note_once.cache_clear()


def animated(seed: int) -> bytes:
    frames = [Image.fromarray(np.full((8, 8), seed + frame, np.uint8)) for frame in range(3)]
    stream = BytesIO()
    frames[0].save(stream, "GIF", save_all=True, append_images=frames[1:])
    return stream.getvalue()


def test_a_fact_is_noted_for_its_first_file(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, logger="vitral"):
        for name in ("a.gif", "b.gif"):
            notes.note_first("it moves", name)
        notes.note_first("it is loud", "c.gif")
    assert [record.getMessage().split(" (")[0] for record in caplog.records] == ["a.gif: it moves", "c.gif: it is loud"]
    assert notes.is_noted("it moves")
    assert not notes.is_noted("it is quiet")


@pytest.mark.parametrize("workers", [0, 2])
def test_workers_note_a_fact_once(workers: int, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    names = [f"{number}.gif" for number in range(8)]
    for number, name in enumerate(names):
        (tmp_path / name).write_bytes(animated(10 * number))
    source = FileSource(root=tmp_path, files=names, labels=np.zeros(8, np.int64), classes=("a",))
    batches = EvaluationBatches(source=source, preprocessing=Preprocessing(image_size=(8, 8), channels=3), batch_size=2)
    with caplog.at_level(logging.WARNING, logger="vitral"):
        assert len(list(load(batches, range(4), workers=workers, pin=False))) == 4
    assert len(caplog.records) == 1
    assert "several frames" in caplog.text
