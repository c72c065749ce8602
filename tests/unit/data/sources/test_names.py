"""Names kept together are the names that were given."""

import pickle
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vitral.data.sources.names import Names


@given(st.lists(st.text(st.characters(exclude_categories=("Cs",)))))
def test_names_come_back(names: list[str]) -> None:
    kept = Names(names)
    assert list(kept) == names
    assert len(kept) == len(names)
    assert list(kept[1:]) == names[1:]


def test_a_name_that_is_no_text_keeps_its_bytes() -> None:
    assert Names(["caf\udce9.jpg"])[0] == "caf\udce9.jpg"


def test_places_count_from_either_end_and_end() -> None:
    names = Names(["a", "bc", ""])
    assert (names[1], names[-1], names[-3]) == ("bc", "", "a")
    for outside in (3, -4):
        with pytest.raises(IndexError):
            names[outside]


def test_a_hundred_thousand_names_take_little_memory() -> None:
    names = [f"n{number // 1000:08d}/image_{number:08d}.jpg" for number in range(100_000)]
    kept = Names(names)
    held = kept.text.nbytes + kept.ends.nbytes
    assert held < 0.5 * sum(map(sys.getsizeof, names))
    assert len(pickle.dumps(kept)) < 1.01 * held
