"""Very many names in little memory."""

import os
from collections.abc import Iterable, Sequence
from typing import overload

import numpy as np

__all__ = ["Names"]


class Names(Sequence[str]):
    """Names, each by its number; a tuple of strings takes twice the memory and more, and processes that fork copy it.

    A name that is no text keeps its bytes, as names of files do.
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
    def __getitem__(self, index: slice) -> "Names": ...
    def __getitem__(self, index: int | slice) -> "str | Names":
        if isinstance(index, slice):
            return Names(self[number] for number in range(*index.indices(len(self))))
        number = range(len(self))[index]
        start, end = self.ends[number : number + 2].tolist()
        return os.fsdecode(self.text[start:end].tobytes())
