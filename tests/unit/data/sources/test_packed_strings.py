"""Packed strings equal the strings that they were made of."""

import pickle
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vitral.data.sources.packed_strings import PackedStrings


@given(st.lists(st.text(st.characters(exclude_categories=("Cs",)))))
def test_names_come_back(names: list[str]) -> None:
    packed = PackedStrings(names)
    assert list(packed) == names
    assert len(packed) == len(names)
    assert list(packed[1:]) == names[1:]


def test_a_name_that_is_no_text_keeps_its_bytes() -> None:
    assert PackedStrings(["caf\udce9.jpg"])[0] == "caf\udce9.jpg"


def test_places_count_from_either_end_and_end() -> None:
    names = PackedStrings(["a", "bc", ""])
    assert (names[1], names[-1], names[-3]) == ("bc", "", "a")
    for outside in (3, -4):
        with pytest.raises(IndexError):
            names[outside]


def test_a_hundred_thousand_names_take_little_memory() -> None:
    names = [f"n{number // 1000:08d}/image_{number:08d}.jpg" for number in range(100_000)]
    packed = PackedStrings(names)
    num_bytes = packed.text.nbytes + packed.ends.nbytes
    assert num_bytes < 0.5 * sum(map(sys.getsizeof, names))
    assert len(pickle.dumps(packed)) < 1.01 * num_bytes
