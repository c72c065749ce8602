"""Reading pickles of unknown origin, whose classes a subclass makes inert."""

import pickle
import pickletools
from typing import Any

__all__ = ["BoundedUnpickler"]

PUTS = frozenset({"PUT", "BINPUT", "LONG_BINPUT"})
"""The instructions that number an object, for later references to it."""


class BoundedUnpickler(pickle.Unpickler):
    """Refuses numbers of objects that no writer gives: Python allocates a table as long as the largest number."""

    def __init__(self, stream: Any) -> None:
        """`stream` is a binary file that can be rewound."""
        super().__init__(stream)
        self.stream = stream

    def load(self) -> Any:
        """The object; the stream ends behind it.

        Raises:
            pickle.UnpicklingError: an object has a larger number than there are bytes before it.
            Exception: of almost any kind, if the pickle is damaged.
        """
        start = self.stream.tell()
        for instruction, number, position in pickletools.genops(self.stream):
            if instruction.name in PUTS and (number or 0) > (position or 0):
                raise pickle.UnpicklingError(f"an object has the number {number}")
        self.stream.seek(start)
        return super().load()
