"""`vitral data list`: the data sets that are known by name."""

import argparse
from typing import Any

from rich.console import Console
from rich.table import Table

from vitral.commands.output import print_json
from vitral.datasets.registry import PRESETS
from vitral.errors import UserError

__all__ = ["main"]


def main(arguments: list[str]) -> None:
    """Prints a table of the data sets, or one of them in detail; with `--json`, one object."""
    parser = argparse.ArgumentParser(
        prog="vitral data list", description="Lists the data sets that --data.source knows by name."
    )
    parser.add_argument("name", nargs="?", metavar="NAME", help="one of them, to show in detail")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args(arguments)
    if options.name is None:
        every = [facts(name) for name in PRESETS]
        print_json({"data": every}) if options.json else print_table(every)
        return
    if options.name not in PRESETS:
        raise UserError(f"no data set is called {options.name!r}: choose one of {', '.join(PRESETS)}")
    one = facts(options.name)
    print_json(one) if options.json else print_details(one)


def facts(name: str) -> dict[str, Any]:
    """What is known of a data set."""
    preset = PRESETS[name]
    keys = ("title", "num_classes", "num_images", "needs", "origin", "hub", "val_share", "remark")
    return {"name": name, **{key: getattr(preset, key) for key in keys}}


def print_table(every: list[dict[str, Any]]) -> None:
    """A line a data set."""
    table = Table("name", "data set")
    for column in ("classes", "train", "val", "test"):
        table.add_column(column, justify="right")
    for one in every:
        counts = (f"{one['num_images'][split]:,}" if split in one["num_images"] else "" for split in COLUMNS)
        table.add_row(one["name"], one["title"], f"{one['num_classes']:,}", *counts)
    console = Console(highlight=False)
    console.print(table)
    console.print("vitral data list NAME tells what one needs, and where to get it.")


COLUMNS = ("train", "val", "test")


def print_details(one: dict[str, Any]) -> None:
    """One data set, a line a fact, and how to train on it."""
    table = Table(show_header=False, box=None, title=f"{one['title']}, {one['num_classes']:,} classes")
    table.title_justify = "left"
    for split, count in one["num_images"].items():
        table.add_row(split, f"{count:,} images")
    table.add_row("files", f"{one['needs']}")
    table.add_row("from", one["origin"])
    if one["hub"]:
        table.add_row("or from the Hub", f"{one['hub']} (without --data.root)")
    if one["val_share"]:
        table.add_row("learning rate", f"chosen by the paper with --data.val-share {one['val_share']:g}")
    if one["remark"]:
        table.add_row("", one["remark"])
    console = Console(highlight=False)
    console.print(table)
    console.print(f"vitral train finetune --data.source {one['name']} --data.root FOLDER", soft_wrap=True)
