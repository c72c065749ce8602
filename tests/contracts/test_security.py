"""Each promise of SECURITY.md names the test that holds it."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROMISES = re.findall(r"^\| ([^|]+) \|.*\| `(test_\w+\.py)::(test_\w+)` \|$", (ROOT / "SECURITY.md").read_text(), re.M)


def test_promises_name_tests() -> None:
    assert len(PROMISES) > 10


@pytest.mark.parametrize(("promise", "file", "test"), PROMISES)
def test_the_test_of_a_promise_exists(promise: str, file: str, test: str) -> None:
    files = [path for path in (ROOT / "tests").rglob(file) if f"def {test}(" in path.read_text()]
    assert len(files) == 1, f"{promise}: {file} has no {test}"
