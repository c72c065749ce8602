"""Arguments of `vitral recipes`."""

import argparse

from vitral.commands.arguments.flags import ArgumentParser

__all__ = ["parse"]


def parse(arguments: list[str]) -> argparse.Namespace:
    """The command's arguments."""
    parser = ArgumentParser(
        prog="vitral recipes",
        description="List the recipes: what each trains, the expected accuracy, the time, the source of both, and the "
        "command.",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    return parser.parse_args(arguments)
