"""`vitral data`: data sets by name, packing, checking, near-duplicates."""

from argparse import Namespace
from importlib import import_module

__all__ = ["main"]


def main(options: Namespace) -> None:
    """Runs one action, which is in the module of its name."""
    import_module(f"vitral.commands.data.{options.action}").main(options.rest)
