import io
import pickle
import struct
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
import torch

from vitral.errors import UserError
from vitral.weights.pickles import BoundedUnpickler
from vitral.weights.tensor_file import read_tensor_file

HUGE = 2**26
"""The number of an object, for which a table of 1 GiB would be allocated."""


class Setting:
    """A class that is not read, so that a file with it is refused."""


def numbered(number: bytes) -> bytes:
    """The pickle of an empty dictionary with a number."""
    return b"\x80\x02}" + number + b"."


@pytest.mark.parametrize("number", [b"r" + struct.pack("<I", HUGE), b"p%d\n" % HUGE, b"q\xff"])
def test_numbers_that_no_writer_gives_are_refused_before_memory_is_taken(number: bytes) -> None:
    tracemalloc.start()
    with pytest.raises(pickle.UnpicklingError, match=r"the number (67108864|255)"):
        BoundedUnpickler(io.BytesIO(numbered(number))).load()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1e6


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_other_pickles_are_read_one_after_the_other(protocol: int) -> None:
    shared = ["x"]
    values: list[Any] = [{str(number): (number, shared) for number in range(1000)}, 1.5]
    stream = io.BytesIO(b"".join(pickle.dumps(value, protocol) for value in values) + b"rest")
    assert [BoundedUnpickler(stream).load() for _ in values] == values
    assert stream.read() == b"rest"


def test_a_damaged_number_in_a_file_takes_no_memory(tmp_path: Path) -> None:
    path = tmp_path / "x.pt"
    torch.save({"x": torch.zeros(1), "beside": Setting()}, path, _use_new_zipfile_serialization=False)
    content = path.read_bytes()
    first = content.index(b"q\x01", content.index(b"}q\x00") + 4)  # of an object of the last pickle
    path.write_bytes(content[:first] + b"r" + struct.pack("<I", HUGE) + content[first + 2 :])
    tracemalloc.start()
    with pytest.raises(UserError, match=r"x\.pt"):
        read_tensor_file(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1e8
