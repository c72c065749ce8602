"""`vitral recipes`: lists the recipes and what to expect of them."""

import argparse

from rich.console import Console

from vitral.commands.output import print_json
from vitral.recipes import RECIPES

__all__ = ["main"]


def main(options: argparse.Namespace) -> None:
    """Prints every recipe with its command; with `--json`, one object."""
    recipes = [{"name": name, **recipe.describe()} for name, recipe in RECIPES.items()]
    if options.json:
        print_json({"recipes": recipes})
        return
    console = Console(highlight=False)
    for recipe in recipes:
        console.print(recipe["name"], style="bold", markup=False)
        console.print(f"  {recipe['summary']}", markup=False, soft_wrap=True)
        for key in ("expect", "time", "source", "command"):
            console.print(f"  {key + ':':<9}{recipe[key]}", markup=False, soft_wrap=True)
        console.print()
    console.print("vitral train RECIPE --help lists every key of a recipe.")
