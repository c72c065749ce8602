"""`vitral data list`: the data sets and tasks that have a name."""

from typing import Any

from rich.console import Console
from rich.table import Table

from vitral.commands.arguments.flags import ArgumentParser
from vitral.commands.output import print_fitting, print_json
from vitral.datasets.data_set import Task
from vitral.datasets.registry import DATA_SETS, TASKS, find

__all__ = ["main"]

SPLITS = ("train", "val", "test")

GROUPS = {
    "data": "data sets",
    "vtab1k": "VTAB-1k (vitral eval MODEL --suite vtab1k): 800 and 200 of the training and validation images are used",
    "vtab-mini": "vtab-mini (vitral eval MODEL --suite vtab-mini)",
}
"""Title of each group of the table."""


def main(arguments: list[str]) -> None:
    """Prints a table of all data sets and tasks, or one of them in detail; with `--json`, one object."""
    parser = ArgumentParser(prog="vitral data list", description="Lists the names that --data.source accepts.")
    parser.add_argument("name", nargs="?", metavar="NAME", help="one of them, to show in detail")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args(arguments)
    if options.name is None:
        entries = [facts(name) for name in (*DATA_SETS, *TASKS)]
        print_json({"data": entries}) if options.json else print_table(entries)
        return
    entry = facts(options.name)
    print_json(entry) if options.json else print_details(entry)


def facts(name: str) -> dict[str, Any]:
    """Everything about a data set or task that can be printed.

    Raises:
        UserError: there is none of this name.
    """
    entry = find(name)
    data = entry.data if isinstance(entry, Task) else entry
    group = entry.suite if isinstance(entry, Task) else "data"
    keys = ("num_classes", "num_images", "files", "origin", "hub", "val_fraction", "remark")
    values = {key: getattr(data, key) for key in keys}
    if isinstance(entry, Task):
        # a task has its own splits, and comes from files alone
        values |= {"hub": None, "val_fraction": None, "folder": entry.folder}
    return {"name": name, "title": entry.title, "group": group, **values}


def print_table(entries: list[dict[str, Any]]) -> None:
    """One line per data set."""
    console = Console(highlight=False)
    for group, title in GROUPS.items():
        table = Table(title=title, title_justify="left", show_edge=False)
        table.add_column("name", no_wrap=True)
        table.add_column("data set", min_width=11)
        for column in ("classes", *SPLITS):
            table.add_column(column, justify="right")
        for entry in entries:
            if entry["group"] == group:
                counts = (f"{entry['num_images'][split]:,}" if split in entry["num_images"] else "" for split in SPLITS)
                table.add_row(entry["name"], entry["title"], f"{entry['num_classes']:,}", *counts)
        print_fitting(console, table)
    console.print("vitral data list NAME shows which files one needs, and where to get them.")


def print_details(entry: dict[str, Any]) -> None:
    """One data set, one line per fact, and how to train on it."""
    table = Table(show_header=False, box=None, title=f"{entry['title']}, {entry['num_classes']:,} classes")
    table.title_justify = "left"
    for split, count in entry["num_images"].items():
        table.add_row(split, f"{count:,} images")
    if entry["files"]:
        inside = f" in the folder {entry['folder']} of --data.root" if entry.get("folder") else ""
        table.add_row("files", f"{entry['files']}{inside}")
        table.add_row("from", entry["origin"])
    if entry["hub"]:
        table.add_row("or from the Hub", f"{entry['hub']} (without --data.root)")
    if entry["val_fraction"]:
        table.add_row("learning rate", f"chosen in the paper with --data.val-fraction {entry['val_fraction']:g}")
    if entry["remark"]:
        table.add_row("", entry["remark"])
    console = Console(highlight=False)
    console.print(table)
    root = " --data.root FOLDER" if entry["files"] else ""
    console.print(f"vitral train finetune --data.source {entry['name']}{root}", soft_wrap=True)
