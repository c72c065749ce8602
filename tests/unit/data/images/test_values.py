"""Deep values: what is black, and what is white."""

import logging

import numpy as np
import pytest

from vitral.data.images.errors import NotRead
from vitral.data.images.png import white_level
from vitral.data.images.values import to_8_bits

pytestmark = pytest.mark.usefixtures("fresh_notes")


@pytest.mark.parametrize(
    ("values", "white", "shown"),
    [
        (np.uint8([[0, 100, 255]]), None, [0, 100, 255]),
        (np.int8([[-128, 0, 127]]), None, [0, 128, 255]),
        (np.uint16([[0, 257, 65535]]), None, [0, 1, 255]),
        (np.uint16([[0, 512, 1023]]), 1023, [0, 128, 255]),
        (np.uint16([[0, 0, 2000]]), 1023, [0, 0, 255]),
        (np.float16([[0, 0.5, 1]]), None, [0, 128, 255]),
        (np.float64([[0, 100, 255]]), None, [0, 100, 255]),
    ],
)
def test_black_and_white(values: np.ndarray, white: int | None, shown: list[int], caplog) -> None:
    assert to_8_bits(values, name="x", white=white).tolist() == [shown]
    assert not caplog.records


@pytest.mark.parametrize(
    ("values", "shown"),
    [
        (np.float32([[-1, 0, 1]]), [0, 128, 255]),
        (np.int16([[-100, 0, 100]]), [0, 128, 255]),
        (np.uint32([[50_000, 100_000]]), [128, 255]),
    ],
)
def test_other_ranges_are_stretched_and_noted_once(values: np.ndarray, shown: list[int], caplog) -> None:
    with caplog.at_level(logging.WARNING, logger="vitral"):
        for name in ("a", "b"):
            assert to_8_bits(values, name=name).tolist() == [shown]
    assert len(caplog.records) == 1


def test_a_large_image_is_scaled_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(0).integers(0, 65536, (37, 11, 3), np.uint16)
    whole = to_8_bits(values, name="x")
    monkeypatch.setattr("vitral.data.images.values.ROWS", 40)
    assert np.array_equal(to_8_bits(values, name="x"), whole)
    assert np.abs(whole - values / 257).max() <= 0.5


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_are_no_numbers(value: float) -> None:
    with pytest.raises(NotRead, match="not finite"):
        to_8_bits(np.array([[0, value]]), name="x")


def test_significant_bits() -> None:
    """Values in the high bits, as the standard wants, have white at 65535; those stored as they are, at 2^bits - 1."""
    values = np.arange(1024, dtype=np.uint16)[None]
    assert white_level(values, 10) == 1023
    assert white_level(values << 6, 10) is None
    assert white_level(values << 6 | values >> 4, 10) is None
    assert white_level(values[:, :16] << 6, 10) is None, "a dark image"
    assert white_level(values, 16) is None
