"""Fixtures of the tests of commands."""

from pathlib import Path

import pytest

from cli.screen import Screen
from vitral.cli import main


@pytest.fixture
def screen(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Screen:
    monkeypatch.setenv("COLUMNS", "200")
    return Screen(capsys)


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on digits, barely begun; for reading only."""
    folder = tmp_path_factory.mktemp("runs") / "digits"
    main(["train", "digits", "--train.steps", "2", "--model.depth", "1", "--out", str(folder)])
    return folder
