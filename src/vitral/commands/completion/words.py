"""What can be typed after `vitral`: words and flags of each command, and the values of flags."""

import re
from collections import defaultdict
from collections.abc import Iterable
from contextlib import redirect_stdout, suppress
from dataclasses import dataclass
from importlib import import_module
from io import StringIO
from typing import Any

from vitral.commands.arguments.completion import SHELLS
from vitral.commands.arguments.data import ACTIONS
from vitral.commands.arguments.evaluate import SUITES
from vitral.commands.arguments.formats import FORMATS
from vitral.commands.arguments.recipe_help import OWN_OPTIONS, Flag, list_flags
from vitral.commands.evaluate import command, imagenet, segmentation, suite
from vitral.data.config import DataConfig
from vitral.device import DEVICE_TYPES
from vitral.export.registry import BACKENDS
from vitral.inspection.devices import DEVICES
from vitral.recipes import RECIPES
from vitral.studies.registry import STUDIES

__all__ = ["Words", "collect_words"]

WITH_RECIPE = ("train", "sweep", "plan")
"""Commands that take a recipe and its flags."""

MODELS = tuple(f"ViT-{size}" for size in ("Ti/16", "S/32", "S/16", "B/32", "B/16", "L/32", "L/16", "H/14"))

FIRST: dict[str, tuple[str, ...]] = {
    "train": tuple(RECIPES),
    "sweep": tuple(RECIPES),
    "plan": (*RECIPES, *MODELS),
    "models": MODELS,
    "bench": MODELS,
    "study": ("list", "plan", *STUDIES),
    "data": ACTIONS,
    "completion": SHELLS,
}
"""Words that can follow a command; after others come paths."""

VALUES: dict[str, tuple[str, ...]] = {
    "plan --device": tuple(DEVICES),
    "eval --suite": SUITES,
    "convert --to": FORMATS,
    "export --to": tuple(BACKENDS),
    "* --model.name": MODELS,
    "* --like": tuple(RECIPES),
    "* --device": ("auto", *DEVICE_TYPES),
    "* --train.device": ("auto", *DEVICE_TYPES),
}
"""Values of flags whose help does not list them in braces, by command and flag."""


@dataclass(frozen=True, kw_only=True)
class Words:
    """Candidates for the next word."""

    commands: dict[str, str]
    """One line about each."""
    first: dict[str, tuple[str, ...]]
    """Words after a command."""
    flags: dict[str, tuple[str, ...]]
    """By `COMMAND/`, and by `COMMAND/WORD` those that a recipe or an action adds."""
    values: dict[str, tuple[str, ...]]
    """By `COMMAND FLAG`, or `* FLAG` for the other commands."""


def collect_words(commands: dict[str, tuple[str, str]]) -> Words:
    """Reads every command's help, and builds the configurations of which flags are made.

    Args:
        commands: as in `vitral.cli.COMMANDS`.
    """
    flags: dict[str, tuple[str, ...]] = {}
    values: dict[str, set[str]] = defaultdict(set)
    for name, (module, _) in commands.items():
        text = _help_text(module.split(".")[0])
        flags[f"{name}/"] = _sorted({*_flags_in(text), *(form.split()[0] for form in OWN_OPTIONS.get(name, {}))})
        for flag, choices in re.findall(r"(--[\w-]+) \{([\w,.-]+)\}", text):
            values[f"{name} {flag}"] |= set(choices.split(","))
    for key, listed in _flags_of_configurations().items():
        flags[key] = _sorted({*flags.get(key, ()), *(name for flag in listed for name in flag.names)})
        for flag in listed:
            if flag.choices:
                values[f"* {flag.names[0]}"] |= set(flag.choices)
    return Words(
        commands={name: summary for name, (_, summary) in commands.items()},
        first=FIRST,
        flags=flags,
        values=VALUES | {key: _sorted(words) for key, words in sorted(values.items(), reverse=True)},
    )


def _flags_of_configurations() -> dict[str, list[Flag]]:
    """The flags that tyro makes, by `COMMAND/` or `COMMAND/WORD`."""
    found: dict[str, list[Flag]] = {}
    by_parts: dict[tuple[type, ...], list[Flag]] = {}
    for name, recipe in RECIPES.items():
        config = recipe(None) if recipe.takes == "weights" else recipe()
        parts = (type(config.model.architecture), type(config.objective))  # the other parts are the same in all
        if parts not in by_parts:
            by_parts[parts] = list_flags(config)
        found |= {f"{command}/{name}": by_parts[parts] for command in WITH_RECIPE}
    data: Any = DataConfig(source="folder")
    suites = (command.Options(data=data), suite.Options(suite="knn", data=data))
    suites += (imagenet.Options(data=data), segmentation.Options(data=data))
    found["eval/"] = [flag for options in suites for flag in list_flags(options)]
    for action in ACTIONS[1:]:  # list has no data
        found[f"data/{action}"] = list_flags(import_module(f"vitral.commands.data.{action}").Options(data=data))
    return found


def _help_text(module: str) -> str:
    """What `vitral COMMAND --help` prints."""
    text = StringIO()
    with redirect_stdout(text), suppress(SystemExit):
        import_module(f"vitral.commands.arguments.{module}").parse(["--help"])
    return text.getvalue()


def _flags_in(text: str) -> Iterable[str]:
    """Flags of a help text, without torchrun's; those with a dot are a recipe's."""
    return (*re.findall(r"(?<![\w-])--(?!nproc)[a-z][a-z-]*[a-z](?![\w.])", text), "--help")


def _sorted(words: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted(set(words)))
