"""Reading pickles of unknown origin: what they would take is counted before they are read."""

import pickle
import pickletools
from typing import Any

__all__ = ["BoundedUnpickler", "check_pickle"]

MAX_INSTRUCTIONS = 500_000
"""PyTorch writes about 50 for each tensor."""
MAX_OBJECTS = 10_000_000
"""Objects that are put into others, with all that they hold: hashing and walking them take as many steps."""
MAX_DEPTH = 200
"""Levels of objects in objects: Python's hash recurses without a limit."""
MAX_NAME = 500
"""Characters of the name of a class."""

PUTS = frozenset({"PUT", "BINPUT", "LONG_BINPUT"})
GETS = frozenset({"GET", "BINGET", "LONG_BINGET"})
ADDS = frozenset({"APPEND", "APPENDS", "SETITEM", "SETITEMS", "ADDITEMS", "BUILD"})
"""Instructions that number an object, refer to one by its number, and change the object under their arguments."""


class _Value:
    """How much an object on the stack holds."""

    def __init__(self) -> None:
        self.objects, self.depth = 1, 0

    def add(self, parts: "list[_Value]") -> int:
        """Puts others into it; returns how many objects they are, with all in them."""
        count = sum(part.objects for part in parts)
        self.objects += count
        self.depth = max([self.depth, *(part.depth + 1 for part in parts)])
        return count


class BoundedUnpickler(pickle.Unpickler):
    """Checks each pickle of a stream before it reads it."""

    def __init__(self, stream: Any) -> None:
        """`stream` is a binary file that can be rewound."""
        super().__init__(stream)
        self.stream = stream

    def load(self) -> Any:
        """The object; the stream ends behind it.

        Raises:
            pickle.UnpicklingError: as `check_pickle`.
            Exception: of almost any kind, if the pickle is damaged.
        """
        start = self.stream.tell()
        check_pickle(self.stream)
        self.stream.seek(start)
        return super().load()


def check_pickle(stream: Any) -> None:
    """Refuses a pickle that would take time or memory out of proportion, or overflow Python's stack.

    Args:
        stream: a binary file, which is read to the end of the pickle.

    Raises:
        pickle.UnpicklingError: it has too many instructions, objects in objects or levels of them, too large numbers of
            objects, for which Python allocates a table as long, or is damaged.
    """
    try:
        _follow(stream)
    except (LookupError, ValueError) as error:
        raise pickle.UnpicklingError(str(error)) from None


def _follow(stream: Any) -> None:
    """Follows the instructions, with how much the objects hold in place of them."""
    stacks: list[list[_Value]] = [[]]  # one more for each mark
    numbered: dict[int, _Value] = {}
    put = 0
    for count, (instruction, argument, _) in enumerate(pickletools.genops(stream)):
        name = instruction.name
        if count > MAX_INSTRUCTIONS:
            raise pickle.UnpicklingError(f"it has over {MAX_INSTRUCTIONS:,} instructions: save the state dict alone")
        if name in PUTS or name == "MEMOIZE":
            number = len(numbered) if name == "MEMOIZE" else int(argument or 0)
            if number > MAX_INSTRUCTIONS:
                raise pickle.UnpicklingError(f"an object has the number {number:,}")
            numbered[number] = stacks[-1][-1]
        elif name in GETS:
            stacks[-1].append(numbered[int(argument or 0)])
        elif name == "MARK":
            stacks.append([])
        elif name == "POP" and not stacks[-1]:
            stacks.pop()
        elif name == "DUP":
            stacks[-1].append(stacks[-1][-1])
        else:
            if name in ("GLOBAL", "INST") and len(named := argument or "") > MAX_NAME:
                raise pickle.UnpicklingError(f"a class has a name of {len(named):,} characters")
            taken = _take(stacks, instruction)
            made = taken.pop(0) if name in ADDS else _Value()
            put += made.add(taken)
            if put > MAX_OBJECTS or made.depth > MAX_DEPTH:
                raise pickle.UnpicklingError("its objects are nested too deep, or refer to one another too often")
            stacks[-1] += [made] * len(instruction.stack_after)


def _take(stacks: list[list[_Value]], instruction: pickletools.OpcodeInfo) -> list[_Value]:
    """Takes the arguments of an instruction from the stack, with all after the mark if it has one."""
    before = instruction.stack_before
    after_mark: list[_Value] = []
    if pickletools.markobject in before:
        after_mark = stacks.pop()
        before = before[: before.index(pickletools.markobject)]
    stack = stacks[-1]
    if len(stack) < len(before):
        raise ValueError(f"{instruction.name} finds too few objects")
    fixed = stack[len(stack) - len(before) :]
    del stack[len(stack) - len(before) :]
    return [*fixed, *after_mark]
