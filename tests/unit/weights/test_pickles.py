"""Pickles that nobody writes are refused before they are read."""

import io
import json
import pickle
import re
import struct
import subprocess
import sys
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch

from vitral.errors import UserError
from vitral.weights.pickles import BoundedUnpickler
from vitral.weights.tensor_file import read_tensor_file

HUGE = 2**26
"""The number of an object, for which a table of 1 GiB would be allocated."""


READ = """
import json, resource, sys
from pathlib import Path
from vitral.errors import UserError
from vitral.weights.tensor_file import read_tensor_file
used = sum(resource.getrusage(resource.RUSAGE_SELF)[:2])
resource.setrlimit(resource.RLIMIT_CPU, (int(used) + 120, int(used) + 120))
sentences = {}
for path in sorted(Path(sys.argv[1]).iterdir()):
    try:
        read_tensor_file(path)
    except UserError as error:
        sentences[path.name] = str(error)
print(json.dumps(sentences))
"""


class Setting:
    """A class that is not read, so that a file with it is refused."""


def numbered(number: bytes) -> bytes:
    """The pickle of an empty dictionary with a number."""
    return b"\x80\x02}" + number + b"."


@pytest.mark.parametrize("number", [b"r" + struct.pack("<I", HUGE), b"p%d\n" % HUGE])
def test_numbers_that_no_writer_gives_are_refused_before_memory_is_taken(number: bytes) -> None:
    tracemalloc.start()
    with pytest.raises(pickle.UnpicklingError, match="has the number 67,108,864"):
        BoundedUnpickler(io.BytesIO(numbered(number))).load()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1e6


def doubled(levels: int) -> bytes:
    """A tuple of twice the same tuple, of twice the same tuple, and so on."""
    return b"N" + b"".join(b"q%ch%c\x86" % (number, number) for number in range(levels))


START = b"\x80\x02"
HOSTILE = {
    "a deep key": START + b"}N" + b"\x85" * 100_000 + b"Ns.",
    "a key of 2^60 objects": START + b"}" + doubled(60) + b"Ns.",
    "a value of 2^60 objects": START + b"}U\x01a" + doubled(60) + b"s.",
    "a deep list": START + b"]" * 100_000 + b"a" * 99_999 + b".",
    "a long name": START + b"}U\x01bc" + b"a" * 100_000 + b".b\n" + b"c" * 100_000 + b"\ns.",
    "many instructions": START + b"N0" * 300_000 + b"}.",
    "a large number behind many bytes": START + b"\x8e" + struct.pack("<Q", HUGE) + bytes(HUGE) + b"0}r\0\0\0\x04.",
    "marks and nothing else": START + b"(" * 1000 + b"00u.",
}
CONTAINERS = ("archive", "TorchScript", "before 1.6")


def contained(pickled: bytes, container: str) -> bytes:
    """A PyTorch file around a pickle."""
    stream = io.BytesIO()
    if container == "before 1.6":
        torch.save({}, stream, _use_new_zipfile_serialization=False)
        empty = pickle.dumps({}, 2)
        first = stream.getvalue().rindex(empty)
        return stream.getvalue()[:first] + pickled + stream.getvalue()[first + len(empty) :]
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        members = {"data.pkl": pickled, "version": b"3\n", "byteorder": b"little"}
        for name, content in (
            members | ({"constants.pkl": pickle.dumps((), 2)} if container != "archive" else {})
        ).items():
            archive.writestr(f"x/{name}", content)
    return stream.getvalue()


def test_pickles_that_would_hang_or_crash_are_refused(tmp_path: Path) -> None:
    """In a process of its own with limits, as one of them overflowed the stack and others never ended."""
    for kind, pickled in HOSTILE.items():
        for container in CONTAINERS:
            (tmp_path / f"{kind}, {container}.pt").write_bytes(contained(pickled, container))
    done = subprocess.run([sys.executable, "-c", READ, str(tmp_path)], capture_output=True, text=True, check=True)
    sentences = json.loads(done.stdout)
    assert len(sentences) == len(HOSTILE) * len(CONTAINERS)
    for name, sentence in sentences.items():
        assert re.match(rf".*/{re.escape(name)} is (a damaged TorchScript file|damaged)", sentence)
        assert len(sentence) < 500


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
