"""The limit of open files is raised for the processes that read images, or the run is refused."""

import resource

import pytest

from vitral.data.open_files import allow_open_files
from vitral.errors import UserError


@pytest.fixture
def limit(monkeypatch: pytest.MonkeyPatch) -> dict[str, tuple[int, int]]:
    """The limits of this process, soft and hard, which the test sets."""
    held = {"files": (1024, 4096)}
    monkeypatch.setattr(resource, "getrlimit", lambda kind: held["files"])
    monkeypatch.setattr(resource, "setrlimit", lambda kind, values: held.update(files=values))
    return held


def test_enough_files_are_left_alone(limit: dict[str, tuple[int, int]]) -> None:
    allow_open_files(4)
    assert limit["files"] == (1024, 4096)
    limit["files"] = (20, 20)
    allow_open_files(0)
    assert limit["files"] == (20, 20)


def test_the_limit_is_raised_as_far_as_needed(limit: dict[str, tuple[int, int]]) -> None:
    allow_open_files(40)
    soft, hard = limit["files"]
    assert 1024 < soft < hard == 4096


def test_too_few_are_refused(limit: dict[str, tuple[int, int]]) -> None:
    limit["files"] = (28, 28)
    with pytest.raises(UserError, match=r"only 28 are allowed: run `ulimit -n \d+` first, or lower --data.workers"):
        allow_open_files(2)
