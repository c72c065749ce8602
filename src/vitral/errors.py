"""The one exception for errors that a user can fix, and the closest choice for a mistyped name."""

from collections.abc import Iterable
from difflib import get_close_matches

__all__ = ["UserError", "did_you_mean", "unknown_name"]

MANY = 12
"""Choices that an error lists even if one of them is close to what the user typed."""


class UserError(ValueError):
    """An input is wrong: one sentence that names the problem and the fix.

    The command line prints the sentence and exits with code 2. Any other ValueError is a bug and shows its traceback.
    """


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
