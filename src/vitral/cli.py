"""The command line: which command, its arguments, and what an error looks like."""

import os
import sys
from importlib import import_module

__all__ = ["COMMANDS", "main"]

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch: waiting threads give their core to neighbours

COMMANDS: dict[str, tuple[str, str]] = {
    "train": ("vitral.commands.train", "train a model: a recipe's name, or --resume RUN"),
    "recipes": ("vitral.commands.recipes", "list the recipes and what to expect of them"),
    "eval": ("vitral.commands.evaluate", "measure a trained model on held-out images"),
    "predict": ("vitral.commands.predict", "classify image files"),
    "inspect": ("vitral.commands.inspect", "draw what a model looks at"),
    "models": ("vitral.commands.models", "list the models by name and size"),
}
"""Each command's module, which has `main(arguments) -> None`, and one line on it."""


def main(arguments: list[str] | None = None) -> None:
    """Runs one command and exits: 0 when all went well, 2 when the user can mend it, 128 + n after signal n."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if not arguments or arguments[0] in ("-h", "--help"):
        print(overview())
        raise SystemExit(0 if arguments else 2)
    if arguments[0] == "--version":
        from vitral import __version__

        print(f"vitral {__version__}")
        return
    if arguments[0] not in COMMANDS:
        fail(f"unknown command {arguments[0]!r}: choose one of {', '.join(COMMANDS)}")
    try:
        import_module(COMMANDS[arguments[0]][0]).main(arguments[1:])
    except (ValueError, OSError) as error:
        if os.environ.get("VITRAL_TRACEBACK"):
            raise
        fail(sentence(error))
    except KeyboardInterrupt:
        raise SystemExit(130) from None


def overview() -> str:
    """What `vitral --help` prints."""
    lines = [f"  {name:<9} {summary}" for name, (_, summary) in COMMANDS.items()]
    head = "usage: vitral COMMAND [arguments]\n\nThe Vision Transformer as one finished tool.\n"
    return "\n".join([head, *lines, "\nvitral COMMAND --help tells more."])


def sentence(error: Exception) -> str:
    """An error on one line; an operating system's error names its file."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return " ".join(str(error).split())


def fail(text: str) -> None:
    """Prints one sentence and exits with code 2."""
    print(f"vitral: {text}", file=sys.stderr)
    raise SystemExit(2)
