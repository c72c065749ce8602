"""Each promise of SECURITY.md names the test that holds it."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROWS = re.findall(r"^\| ([^|]+) \|.*\| ([^|]*) \|$", (ROOT / "SECURITY.md").read_text(), re.M)[1:]
"""The table without its header: what comes in, and the tests that hold the promise."""
TESTS = [(promise, *test) for promise, cell in ROWS for test in re.findall(r"`(test_\w+\.py)::(test_\w+)`", cell)]


def test_every_promise_names_tests() -> None:
    assert len(ROWS) > 15
    assert {promise for promise, _ in ROWS} == {promise for promise, _, _ in TESTS}


@pytest.mark.parametrize(("promise", "file", "test"), TESTS)
def test_the_test_of_a_promise_exists(promise: str, file: str, test: str) -> None:
    files = [path for path in (ROOT / "tests").rglob(file) if f"def {test}(" in path.read_text()]
    assert len(files) == 1, f"{promise}: {file} has no {test}"
