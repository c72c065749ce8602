"""Runs commands in this process."""

import json
from pathlib import Path
from typing import Any

import pytest

from vitral.cli import main

__all__ = ["Screen"]


class Screen:
    """Runs commands in this process and captures their output."""

    def __init__(self, capture: pytest.CaptureFixture[str]) -> None:
        self.capture = capture
        self.errors = ""

    def run(self, *words: str | Path, code: int = 0) -> str:
        """Standard output of `vitral WORDS`, which must end with `code`."""
        try:
            main([str(word) for word in words])
            ended = 0
        except SystemExit as stop:
            ended = stop.code
        output, self.errors = self.capture.readouterr()
        assert ended == code, self.errors
        assert "Traceback" not in self.errors
        return output

    def json(self, *words: str | Path, code: int = 0) -> dict[str, Any]:
        """The one JSON object that `vitral WORDS --json` prints."""
        output = self.run(*words, "--json", code=code)
        assert output.count("\n") == 1
        return json.loads(output, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))

    def refusal(self, *words: str | Path) -> str:
        """The one sentence that `vitral WORDS` fails with; nothing else is printed."""
        assert self.run(*words, code=2) == ""
        assert self.errors.startswith("vitral: ")
        assert self.errors.count("\n") == 1
        return self.errors.removeprefix("vitral: ").rstrip()

    def refusal_after_notes(self, *words: str | Path) -> str:
        """As `refusal`, after lines about the work so far."""
        assert self.run(*words, code=2) == ""
        *_, last = self.errors.splitlines()
        assert last.startswith("vitral: ")
        return last.removeprefix("vitral: ")
