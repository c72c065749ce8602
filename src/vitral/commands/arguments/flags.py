"""Flags of configurations, which tyro makes from their dataclasses, and single options among them."""

import argparse
import re
from contextlib import redirect_stderr
from io import StringIO
from typing import NoReturn, TypeVar

from vitral.errors import UserError

__all__ = ["ArgumentParser", "parse_config", "pop_option"]

T = TypeVar("T")


class ArgumentParser(argparse.ArgumentParser):
    """Raises an error as one sentence, where argparse prints the usage before it."""

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}; see {self.prog} --help")


def parse_config(cls: type[T], *, default: T, arguments: list[str], program: str) -> T:
    """`default` with the values of the flags; `--help` prints and exits.

    Raises:
        UserError: a flag is unknown or its value wrong, in one sentence instead of tyro's box of several lines.
    """
    import tyro  # only here, as a command checks its recipe or path before it parses flags

    box = StringIO()
    try:
        with redirect_stderr(box):
            return tyro.cli(cls, default=default, args=arguments, prog=program)
    except SystemExit as stop:
        if not stop.code:
            raise
        lines = [line.strip("│| ") for line in box.getvalue().splitlines()[1:]]  # without the box's title
        text = " ".join("\n" if re.fullmatch(r"[─+╰╯-]*", line) else line for line in lines)
        parts = text.strip().split("\n")[0].strip()
        parts = re.sub(r"^Error parsing ((?=--)|[\w.]+: (?=--))", "", parts).removeprefix("Error parsing ").rstrip(".")
        parts = re.sub(r"^[A-Z]\w+: ", "", parts)  # the name of a class
        closest = re.search(r"Perhaps you meant:\s+(--\S+)", text)
        hint = f" (did you mean {closest[1]}?)" if closest else ""
        raise UserError(f"{parts}{hint}; {program} --help lists every key") from None


def pop_option(arguments: list[str], option: str, program: str = "vitral train") -> tuple[str | None, list[str]]:
    """The value of an option, None without it, and the other arguments."""
    parser = ArgumentParser(prog=program, usage=argparse.SUPPRESS, add_help=False, allow_abbrev=False)
    parser.add_argument(option, dest="value")
    options, rest = parser.parse_known_args(arguments)
    return options.value, rest
