"""Matlab files of version 5."""

import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from vitral.datasets.originals.files import read_file
from vitral.errors import UserError

__all__ = ["load_matlab", "load_matlab_array"]

HEAD = 128
"""Bytes of the header; its last two give the byte order."""
ORDERS = {b"IM": "<", b"MI": ">"}
MATRIX, COMPRESSED = 14, 15
STORED = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
"""NumPy type by Matlab's number of the storage type."""
CLASSES = {6: "f8", 7: "f4", 8: "i1", 9: "u1", 10: "i2", 11: "u2", 12: "i4", 13: "u4", 14: "i8", 15: "u8"}
"""NumPy type by Matlab's number of the array class; small integers of a double array are stored in one byte each."""


def load_matlab_array(file: Path, key: str) -> np.ndarray:
    """The numeric array `key` of a Matlab file, with at least two axes.

    It is parsed here because SciPy crashes on a file with a wrong type before its values.

    Raises:
        UserError: the file cannot be read, or has no such array.
    """
    content = memoryview(read_file(file))
    try:
        order = ORDERS[bytes(content[HEAD - 2 : HEAD])]
        for kind, part in _elements(content[HEAD:], order):
            if kind == COMPRESSED:
                ((kind, part),) = _elements(memoryview(zlib.decompress(part)), order)
            if kind != MATRIX:
                continue
            (_, flags), (_, shape), (_, name), *contents = _elements(part, order)
            if bytes(name) == key.encode():
                kind, values = contents[0]
                array = np.frombuffer(values, order + STORED[kind])
                (array_class,) = struct.unpack_from(f"{order}I", flags)
                shaped = array.reshape(np.frombuffer(shape, f"{order}u4"), order="F")
                return shaped.astype(CLASSES[array_class & 0xFF], copy=False)
    except (KeyError, IndexError, ValueError, struct.error, zlib.error):
        pass
    raise UserError(f"{file} is damaged, or no Matlab file with {key!r}: download it again")


def _elements(read: memoryview, order: str) -> Iterator[tuple[int, memoryview]]:
    """Kind and content of each element of a sequence.

    Raises:
        UserError: one is longer than its container.
        struct.error: the last header is truncated.
    """
    at = 0
    while at < len(read):
        kind, size = struct.unpack_from(f"{order}II", read, at)
        start, end = at + 8, at + 8 + size
        at = end if kind == COMPRESSED else end + -size % 8
        if kind >> 16:  # at most four bytes, in place of the size
            start, end, at = start - 4, start - 4 + (kind >> 16), start
        if end > len(read):
            raise UserError("an element is truncated")
        yield kind & 0xFFFF, read[start:end]


def load_matlab(file: Path, key: str) -> Any:
    """The array `key` of a Matlab file, of any type.

    Raises:
        UserError: the file cannot be read, or has no such array.
    """
    from scipy.io import loadmat

    try:
        return np.atleast_1d(loadmat(file, squeeze_me=True)[key])
    except OSError as error:
        raise UserError(f"{file} cannot be read: {error.strerror or error}") from None
    # a damaged file makes the parser raise almost anything
    except Exception as error:
        raise UserError(f"{file} is damaged, or no Matlab file with {key!r} ({type(error).__name__})") from None
