"""Fixtures of the tests in a real browser."""

from collections.abc import Iterator
from typing import Any

import pytest

from browsing import chromium
from vitral.errors import UserError
from vitral.export.html_runtime import load_runtime


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="session")
def runtime() -> None:
    """ONNX Runtime for browsers, which npm downloads once into the cache folder."""
    try:
        load_runtime()
    except UserError as error:
        pytest.skip(f"needs npm (apt-get install npm) and the internet, once: {error}")
