"""Options for reading another library's file; every command that loads a model has them."""

import argparse
from typing import Any

from vitral.commands.arguments.flags import pop_option
from vitral.errors import UserError

__all__ = ["add_source_options", "pop_source_options", "source_options"]

OPTIONS = {
    "--checkpoint-key": ("KEY", "key of the weights in a PyTorch file that holds several, such as student"),
    "--prefix": ("PREFIX", "prefix of the encoder's tensors in a larger model, such as backbone."),
    "--num-heads": ("N", "number of attention heads, if the file does not store it"),
    "--gelu": ("FORM", "form of GELU, if the file does not store it: tanh, erf or quick"),
}
"""Each option with its placeholder and its help."""
GELUS = ("tanh", "erf", "quick")


def add_source_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options to a command's parser, in a group of their own."""
    group = parser.add_argument_group("files of other libraries")
    for option, (value, text) in OPTIONS.items():
        group.add_argument(option, metavar=value, help=text)


def source_options(options: argparse.Namespace) -> dict[str, Any]:
    """Keywords of `load_with_report` from the parsed options that the user gave.

    Raises:
        UserError: the number of heads is no number above 0, or there is no such form of GELU.
    """
    given = {name: getattr(options, name) for name in ("checkpoint_key", "prefix", "num_heads", "gelu")}
    given = {name: value for name, value in given.items() if value is not None}
    if (heads := given.get("num_heads")) is not None:
        if not heads.isdecimal() or int(heads) < 1:
            raise UserError(f"--num-heads must be a number of attention heads such as 12, not {heads!r}")
        given["num_heads"] = int(heads)
    if (gelu := given.get("gelu", "erf")) not in GELUS:
        raise UserError(f"--gelu must be one of {', '.join(GELUS)}, not {gelu!r}")
    return given


def pop_source_options(arguments: list[str], program: str) -> tuple[argparse.Namespace, list[str]]:
    """The options among arguments that another parser reads, and the other arguments."""
    options = argparse.Namespace()
    for option in OPTIONS:
        value, arguments = pop_option(arguments, option, program)
        setattr(options, option.removeprefix("--").replace("-", "_"), value)
    return options, arguments
