"""Arguments of `vitral completion`."""

import argparse

from vitral.commands.arguments.flags import ArgumentParser

__all__ = ["SHELLS", "parse"]

SHELLS = ("bash", "zsh", "fish")


def parse(arguments: list[str]) -> argparse.Namespace:
    """The command's arguments."""
    parser = ArgumentParser(
        prog="vitral completion",
        description="Print a script with which a shell completes commands, recipes, flags, values and paths of vitral. "
        "The script is as of this version: install it again after an upgrade.",
    )
    parser.add_argument("shell", choices=SHELLS, metavar="SHELL", help=", ".join(SHELLS))
    parser.add_argument("--install", action="store_true", help="write it where the shell looks for it, and say where")
    return parser.parse_args(arguments)
