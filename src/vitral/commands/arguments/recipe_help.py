"""`--help` of a recipe: the flags that matter most, with examples; `--help-all` is tyro's list of all of them."""

import os
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, redirect_stdout, suppress
from dataclasses import dataclass
from io import StringIO
from textwrap import fill
from typing import Any

from vitral.commands.arguments.flags import parse_config
from vitral.recipes import RECIPES

__all__ = ["OWN_OPTIONS", "Flag", "asks_help", "list_flags", "recipe_help"]

HELP = frozenset({"-h", "--help", "--help-all"})
"""Flags that print help."""

COLUMNS = "110"
"""Width at which tyro lists flags one below the other, with few of them on two lines."""

MOST_COLUMNS = 100
"""Width of help in a wider terminal."""

KEYS = (
    *("--data.root", "--data.val-fraction", "--model.weights", "--model.image-size", "--train.epochs", "--train.steps"),
    *("--train.batch-size", "--optim.lr", "--train.device", "--seed", "--out"),
)
"""The flags of a configuration that most people need."""

OWN_OPTIONS: dict[str, Mapping[str, str]] = {
    "train": {
        "--minutes N": "Train for about so long; on your own images 10 minutes are the default.",
        "--model.name NAME": "Another model than the recipe's, such as ViT-S/16; vitral models lists them.",
        "--or-resume": "Start the run in --out, or resume it if it is there.",
        "--json": "Print one JSON object.",
    },
    "sweep": {
        "--out DIR": "Folder of the sweep's runs. Required.",
        "--grid KEY=V1,V2": "Values of a key; several --grid try all combinations.",
        "--search KEY=LOW:HIGH[:log]": "Range of a key, which optuna samples; --trials N says how often (default: 20).",
        "--folds K": "Cross-validation: train every combination on each of K parts of the training images.",
        "--seeds S1,S2": "Train every combination with each of these seeds. (default: 0)",
        "--retrain S1,S2": "Then train the best with these seeds on all images but the test images.",
        "--metric NAME": "Metric of the validation images to compare. (default: val/top1)",
        "--json": "Print one JSON object.",
    },
    "plan": {
        "--minutes N": "Length of the run, measured on this machine.",
        "--device NAME": "One named accelerator, such as h100, instead of all of them.",
        "--mfu FRACTION": "Model FLOPs utilisation of named accelerators, a fraction of the peak. (default: 0.4)",
        "--watts N": "What this machine draws.",
        "--json": "Print one JSON object.",
    },
}
"""What a command takes beside the keys of a recipe."""

EXAMPLES: dict[str, tuple[str, str]] = {
    "train": ("{command}", "{command} {length} --optim.lr 3e-4 --out runs/mine"),
    "sweep": (
        "{command} --data.val-fraction 0.1 --out sweeps/lr --grid optim.lr=1e-4,3e-4,1e-3",
        "{command} --data.val-fraction 0.1 --out sweeps/two --search optim.lr=1e-4:1e-2:log --trials 10",
    ),
    "plan": ("{command}", "{command} --train.batch-size 256 --device h100"),
}
"""Two examples of a command, with what the recipe needs in place of `{command}`, and one of its length."""


@dataclass(frozen=True, kw_only=True)
class Flag:
    """A flag of a configuration."""

    form: str
    """As in a usage, such as `--train.epochs FLOAT`; with both forms of a switch."""
    help: str
    """What it does, and its value in this configuration."""

    @property
    def names(self) -> list[str]:
        """Its name, or both names of a switch."""
        return re.findall(r"(?:^|, )(--[\w.-]+)", self.form)

    @property
    def choices(self) -> list[str]:
        """The values it takes, if these are a few words."""
        words = re.fullmatch(r"--[\w.-]+ \{([\w.,-]+)\}", self.form)
        return words[1].split(",") if words else []


def asks_help(arguments: Iterable[str]) -> bool:
    """Whether the user asks for help, of either length."""
    return not HELP.isdisjoint(arguments)


def list_flags(default: Any) -> list[Flag]:
    """Every flag of a configuration except `--help`, read from tyro's help, which knows names, types and docstrings."""
    box = StringIO()
    with _environment("COLUMNS", COLUMNS), redirect_stdout(box), suppress(SystemExit):
        parse_config(type(default), default=default, arguments=["--help"], program="")
    flags: list[list[str]] = []
    in_group = False  # whether a flag of this group was seen; its description comes before
    for line in box.getvalue().splitlines():
        text = line.strip("│╭╮╰╯|+")
        indent, words = len(text) - len(text.lstrip()), text.strip()
        if words.strip("─- ") == "options" or words.strip("─- ").endswith(" options"):
            in_group = False  # the title of the next group
        elif not words.strip("─-"):
            continue
        elif re.match(r"--?\w", words) and indent <= 2:
            in_group = True
            flags.append([words, ""])
        elif in_group and indent > 2:
            flags[-1][1] = f"{flags[-1][1]} {words}".strip()
        elif in_group:  # the rest of a long flag
            flags[-1][0] += words
    return [
        Flag(form=form, help=text.removesuffix(" (default: None)"))
        for form, text in flags
        if not form.startswith("-h,")
    ]


def recipe_help(default: Any, *, command: str, name: str | None = None) -> str:
    """The help of a recipe, or of a run that is resumed.

    Args:
        default: the configuration, whose values are shown.
        command: `train`, `sweep` or `plan`.
        name: of the recipe; None: the configuration is that of a run.
    """
    width = min(shutil.get_terminal_size().columns, MOST_COLUMNS)
    flags = list_flags(default)
    by_name = {flag.names[0]: flag for flag in flags}
    own = OWN_OPTIONS[command] if name else {}
    other_length = "--train.steps" if default.train.steps is None else "--train.epochs"
    hidden = {other_length, *(form.split()[0] for form in own)}
    keys = [by_name[key] for key in KEYS if key in by_name and key not in hidden]
    blocks = [(form, text) for form, text in own.items()] + [(_readable(flag.form), flag.help) for flag in keys]
    described = [f"{form}\n{_paragraph(text, width, '      ')}" for form, text in blocks]
    if name is None:
        head, foot, program = "usage: vitral train --resume RUN [--KEY VALUE ...]", "", "vitral train --resume RUN"
    else:
        facts, program = RECIPES[name].describe(), f"vitral {command} {name}"
        head = f"usage: {program} [--KEY VALUE ...]\n\n{_paragraph(facts['summary'], width)}"
        needed = re.sub(r"^(?:torchrun .* -m )?vitral train", f"vitral {command}", facts["command"])
        length = "--train.epochs 20" if default.train.steps is None else f"--train.steps {2 * default.train.steps}"
        examples = "\n".join(f"  {example.format(command=needed, length=length)}" for example in EXAMPLES[command])
        foot = f"examples:\n{examples}\n\n"
    last = f"all {len(flags)} flags: {program} --help-all"
    return "\n".join([head, "", *described, "", f"{foot}{last}"])


def _readable(form: str) -> str:
    """`--out PATH` for tyro's `--out {None}|PATH`, and `--model.image-size INT` for a number or a pair."""
    return re.sub(r"\|\{(\w+) \1\}$", "", form.replace("{None}|", ""))


def _paragraph(text: str, width: int, indent: str = "") -> str:
    return fill(text, width, initial_indent=indent, subsequent_indent=indent, break_on_hyphens=False)


@contextmanager
def _environment(name: str, value: str) -> Iterator[None]:
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        del os.environ[name]
        if before is not None:
            os.environ[name] = before
