"""`vitral recipes`: lists the recipes and what to expect of them."""

import argparse
from collections.abc import Sequence

from rich.console import Console

from vitral.commands.output import print_json
from vitral.recipes import GROUPS, RECIPES

__all__ = ["main"]


def main(options: argparse.Namespace) -> None:
    """Prints every recipe with its command; with `--json`, one object."""
    if options.json:
        print_json({"recipes": [{"name": name, **recipe.describe()} for name, recipe in RECIPES.items()]})
        return
    console = Console(highlight=False)
    for group, names in GROUPS.items():
        console.rule(group, align="left")
        print_recipes(console, names)
    console.print("vitral train RECIPE --help shows the flags that matter; --help-all lists every key.")


def print_recipes(console: Console, names: Sequence[str]) -> None:
    """Prints some recipes with what to expect of each."""
    for recipe in ({"name": name, **RECIPES[name].describe()} for name in names):
        console.print(recipe["name"], style="bold", markup=False)
        console.print(f"  {recipe['summary']}", markup=False, soft_wrap=True)
        for key in ("expect", "time", "source", "command"):
            console.print(f"  {key + ':':<9}{recipe[key]}", markup=False, soft_wrap=True)
        console.print()
