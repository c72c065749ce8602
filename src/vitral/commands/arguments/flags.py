"""Flags of configurations, which tyro makes from their dataclasses, and single options among them."""

import argparse
import re
from collections.abc import Callable
from contextlib import redirect_stderr
from io import StringIO
from typing import NoReturn, TypeVar

from vitral.errors import UserError, did_you_mean

__all__ = ["ArgumentParser", "parse_config", "pop_option"]

T = TypeVar("T")

TYPES = {
    "INT": "an integer",
    "FLOAT": "a number",
    "{INT INT}": "two integers",
    "{[INT [INT ...]]}": "integers",
    "{none,balanced}": "none, balanced",
    "{[FLOAT [FLOAT ...]]}": "numbers",
    "PATH": "a path",
    "{None}": "None",
}
"""tyro's notation of a type, and ours."""


def _describe_types(error: re.Match[str]) -> str:
    notations = re.split(r"\|(?![^{]*\})", error[2].replace(", ", ","))
    names = [text for notation, text in TYPES.items() if notation in notations]
    return f"{error[1]} must be {' or '.join(names) or error[2]}, not {error[3]}"


SENTENCES: dict[str, str | Callable[[re.Match[str]], str]] = {
    r"^Unrecognized options: ([^,]+).*": r"unknown option \1",
    r"^Missing value for argument '(\S+)'.*": r"\1 needs a value",
    r"^(--\S+): could not convert string to float: (.+)": r"\1 must be a number, not \2",
    r"^(--\S+): invalid literal for int\(\) with base 10: (.+)": r"\1 must be an integer, not \2",
    r"^(--\S+): no type matching (.+) could be instantiated from \[(.+)\]": _describe_types,
    r"^(--\S+): Could not parse arguments \[(.+)\] into tuple .*\[float, float\]": r"\1 must be two numbers, not \2",
    r"^invalid choice (.+) for argument '(\S+)'\. Expected one of \((.+)\)": r"\2 must be one of \3, not \1",
    r"none, balanced or numbers": "none, balanced or a number for each class",
}
"""tyro's and Python's wording of an error, and ours."""


class ArgumentParser(argparse.ArgumentParser):
    """Raises an error as one sentence, where argparse prints the usage before it."""

    def error(self, message: str) -> NoReturn:
        if unknown := re.fullmatch(r"unrecognized arguments: (--[\w-]+).*", message):
            hint = did_you_mean(unknown[1], self._option_string_actions)
            raise UserError(f"unknown option {unknown[1]}{hint}; see {self.prog} --help")
        raise UserError(f"{message}; see {self.prog} --help")


def parse_config(cls: type[T], *, default: T, arguments: list[str], program: str) -> T:
    """`default` with the values of the flags; `--help` and `--help-all` print every flag and exit.

    Raises:
        UserError: a flag is unknown or its value wrong, in one sentence instead of tyro's box of several lines.
    """
    import tyro  # only here, as a command checks its recipe or path before it parses flags

    box = StringIO()
    words = ["--help" if word == "--help-all" else word for word in arguments]
    try:
        with redirect_stderr(box):
            return tyro.cli(cls, default=default, args=words, prog=program)
    except SystemExit as stop:
        if not stop.code:
            raise
        lines = [line.strip("│| ") for line in box.getvalue().splitlines()[1:]]  # without the box's title
        text = " ".join("\n" if re.fullmatch(r"[─+╰╯-]*", line) else line for line in lines)
        sentence = text.strip().split("\n")[0].strip()
        sentence = re.sub(r"^Error parsing ((?=--)|[\w.]+: (?=--))", "", sentence).removeprefix("Error parsing ")
        sentence = re.sub(r"^[A-Z]\w+: ", "", sentence.rstrip("."))  # the name of a class
        for pattern, replacement in SENTENCES.items():
            sentence = re.sub(pattern, replacement, sentence)
        closest = re.search(r"Perhaps you meant:\s+(--[^\s,]+)", text)
        unknown = re.search(r"unknown option (--\S+)", sentence)
        hint = did_you_mean(unknown[1], [closest[1]]) if closest and unknown else ""
        every = "--help-all" if hasattr(default, "recipe") else "--help"  # the help of a recipe is short
        raise UserError(f"{sentence}{hint}; {program} {every} lists every key") from None


def pop_option(arguments: list[str], option: str, program: str = "vitral train") -> tuple[str | None, list[str]]:
    """The value of an option, None without it, and the other arguments."""
    parser = ArgumentParser(prog=program, usage=argparse.SUPPRESS, add_help=False, allow_abbrev=False)
    parser.add_argument(option, dest="value")
    options, rest = parser.parse_known_args(arguments)
    return options.value, rest
