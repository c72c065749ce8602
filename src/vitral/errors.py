"""The one exception for errors that a user can fix, what parsers raise, and the closest choice for a mistyped name."""

import errno
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from difflib import get_close_matches

__all__ = ["UserError", "did_you_mean", "one_line", "shortened", "translate_parser_errors", "unknown_name"]

MANY = 12
"""Choices that an error lists even if one of them is close to what the user typed."""
MAX_NAME = 200
"""Characters of a name, or of what a library says, in a sentence."""
BAD_OFFSET = (None, errno.EINVAL, errno.EOVERFLOW)
"""Numbers of an OSError that a parser causes, by seeking to an offset that a damaged file states."""


class UserError(ValueError):
    """An input is wrong: one sentence that names the problem and the fix.

    The command line prints the sentence and exits with code 2. Any other ValueError is a bug and shows its traceback.
    """


@contextmanager
def translate_parser_errors(describe: Callable[[Exception], str]) -> Iterator[None]:
    """Turns whatever a parser raises on a damaged file into a UserError; errors of the operating system pass.

    Parsers of archives, pickles and headers raise nearly every exception on damaged bytes, and warn: a list of them
    would never be complete.

    Args:
        describe: the sentence about the file, from the error.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except UserError:
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.errno not in BAD_OFFSET:
            raise
        if type(error).__name__ == "OutOfMemoryError":  # PyTorch's, of a GPU
            raise
        raise UserError(describe(error)) from error


def one_line(said: object) -> str:
    """What a library says, such as its error, on one line and not too long."""
    return shortened(" ".join(str(said).split()))


def shortened(text: str, most: int = MAX_NAME) -> str:
    """`text` with an ellipsis in place of its middle if it has more than `most` characters."""
    if len(text) <= most:
        return text
    return f"{text[: most // 2]}\N{HORIZONTAL ELLIPSIS}{text[len(text) + 1 + most // 2 - most :]}"


def did_you_mean(name: str, choices: Iterable[str]) -> str:
    """` (did you mean digits?)` for the choice closest to a mistyped name in any case; empty if none is close."""
    by_lower = {choice.lower(): choice for choice in choices}
    closest = get_close_matches(name.lower(), by_lower, n=1)
    return f" (did you mean {by_lower[closest[0]]}?)" if closest else ""


def unknown_name(kind: str, name: str, choices: Iterable[str]) -> UserError:
    """The error for a name that is not among the choices, with the closest of them, or all if they are few or far.

    Args:
        kind: such as `recipe`.
        name: as the user typed it.
        choices: every valid name.
    """
    choices = list(choices)
    closest = did_you_mean(name, choices)
    listed = "" if closest and len(choices) > MANY else f": choose one of {', '.join(choices)}"
    return UserError(f"unknown {kind} {name!r}{closest}{listed}")
