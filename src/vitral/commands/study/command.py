"""`vitral study`: the tables and figures of the paper."""

from argparse import Namespace
from importlib import import_module

__all__ = ["main"]


def main(options: Namespace) -> None:
    """Lists the studies without importing PyTorch; runs or plans one."""
    import_module(f"vitral.commands.study.{'list' if options.action == 'list' else 'run'}").main(options)
