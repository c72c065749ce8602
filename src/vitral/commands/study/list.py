"""`vitral study list`: the studies by name."""

from argparse import Namespace

from rich.console import Console
from rich.table import Table

from vitral.commands.output import print_fitting, print_json
from vitral.studies.registry import STUDIES

__all__ = ["main"]


def main(options: Namespace) -> None:
    """Prints every study; with `--json`, one object."""
    if options.json:
        studies = [{"name": name, "source": entry.source, "summary": entry.summary} for name, entry in STUDIES.items()]
        print_json({"studies": studies})
        return
    table = Table("study", "paper", "what is compared")
    for name, entry in STUDIES.items():
        table.add_row(name, entry.source, entry.summary)
    print_fitting(Console(highlight=False), table)
