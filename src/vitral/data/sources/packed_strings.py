"""Millions of strings in little memory."""

import os
from collections.abc import Iterable, Sequence
from typing import overload

import numpy as np

__all__ = ["PackedStrings"]


class PackedStrings(Sequence[str]):
    """An immutable sequence of strings in one array of bytes.

    A tuple takes more than twice the memory, which forked processes copy. File names that are not valid text keep their
    bytes.
    """

    def __init__(self, names: Iterable[str]) -> None:
        encoded = [os.fsencode(name) for name in names]
        self.ends = np.cumsum([0, *map(len, encoded)], dtype=np.int64)
        self.text = np.frombuffer(b"".join(encoded), np.uint8)

    def __len__(self) -> int:
        return len(self.ends) - 1

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> "PackedStrings": ...
    def __getitem__(self, index: int | slice) -> "str | PackedStrings":
        if isinstance(index, slice):
            return PackedStrings(self[number] for number in range(*index.indices(len(self))))
        number = range(len(self))[index]
        start, end = self.ends[number : number + 2].tolist()
        return os.fsdecode(self.text[start:end].tobytes())
