"""The command line: dispatch to a command, and errors as one sentence."""

import logging
import os
import re
import sys
from importlib import import_module
from io import TextIOWrapper
from pathlib import Path

from vitral.errors import UserError, shortened, unknown_name
from vitral.files import printable

__all__ = ["COMMANDS", "main"]

# Set before torch is imported: a waiting thread spins for some microseconds, then yields its core. Measured on two
# cores, images/s of the digits recipe, alone and with one core busy: 1,620 and 1,510 without spinning, 2,490 and 1,170
# with this little, 2,750 and 970 with OpenMP's maximum.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("GOMP_SPINCOUNT", "2000")

# Likewise: the CPU computes what PyTorch does not have for Apple's GPUs, and a warning names the operation.
os.environ.setdefault("PYTORCH_ENABLE_MPS_FALLBACK", "1")

MAX_SENTENCE = 2000
"""Characters of an error."""

COMMANDS: dict[str, tuple[str, str]] = {
    "train": ("train", "train a model from a recipe, or resume a run"),
    "recipes": ("recipes", "list the recipes and what to expect of them"),
    "eval": ("evaluate.command", "evaluate a trained model on held-out images"),
    "predict": ("predict", "classify image files"),
    "serve": ("serve", "serve models over HTTP, with a page to try them"),
    "report": ("report", "write a run's HTML report again: curves, mistakes, speed, configuration"),
    "compare": ("compare", "compare finished runs"),
    "inspect": ("inspect", "draw what a model attends to and learned"),
    "models": ("models", "list the models by name, size and cost"),
    "convert": ("convert", "convert weights between the formats of other libraries"),
    "export": ("export", "write a model as one file that runs without Vitral, and compare the two"),
    "bench": ("bench.command", "measure speed and memory, beside exported files and other libraries"),
    "push": ("push", "upload a model to the Hugging Face Hub"),
    "sweep": ("sweep", "train a recipe with many settings and compare them"),
    "soup": ("soup", "average the weights of finished runs into one model"),
    "study": ("study.command", "repeat a table or figure of the paper and test its findings"),
    "data": ("data.command", "list, pack and check data, and find near-duplicates"),
    "plan": ("plan", "estimate time, memory and energy of a training run"),
    "completion": ("completion.command", "complete commands, recipes, flags and paths in bash, zsh or fish"),
}
"""Each command's module in `vitral.commands`, which has `main(options)`, and one line about it.

The module of the same name in `vitral.commands.arguments` has `parse(arguments)`, which needs no PyTorch.
"""


def main(arguments: list[str] | None = None) -> None:
    """Runs one command and exits: 0 on success, 2 after an error that the user can fix, 128 + n after signal n.

    If the reader of the output leaves early, as `head` does, the exit code is 141 (SIGPIPE) and nothing is printed.
    """
    prepare_streams()
    try:
        run(sys.argv[1:] if arguments is None else arguments)
    except BrokenPipeError:
        raise SystemExit(141) from None
    except SystemExit as stop:
        if isinstance(stop.__context__, BrokenPipeError):  # rich turns it into SystemExit
            raise SystemExit(141) from None
        raise
    finally:
        release_streams()


def run(arguments: list[str]) -> None:
    """Runs one command; prints an error that the user can fix as one sentence."""
    try:
        try:
            dispatch(arguments)
        finally:
            sys.stdout.flush()  # a failure to write is reported here; at the interpreter's exit it would be noise
    except BrokenPipeError:
        raise
    except (UserError, OSError) as error:
        if os.environ.get("VITRAL_TRACEBACK"):
            raise
        fail(sentence(error))
    except (MemoryError, RuntimeError) as error:
        if not out_of_memory(error):
            raise
        fail("out of memory: choose a smaller --batch-size (in training --train.batch-size), or a smaller model")
    except ImportError as error:
        if "failed to map segment" not in str(error):
            raise
        fail(f"too little memory to load PyTorch ({sentence(error)}): allow the process more")
    except KeyboardInterrupt:
        raise SystemExit(130) from None


def dispatch(arguments: list[str]) -> None:
    """Parses the arguments of a command, then imports and runs it."""
    if not arguments or arguments[0] in ("-h", "--help"):
        print(overview())
        raise SystemExit(0 if arguments else 2)
    command, *rest = arguments
    if command == "--version":
        from vitral import __version__

        print(f"vitral {__version__}")
        return
    if command not in COMMANDS:
        raise unknown_name("command", command, COMMANDS)
    module, _ = COMMANDS[command]
    options = import_module(f"vitral.commands.arguments.{module.split('.')[0]}").parse(rest)
    if command == "completion":
        options.commands = COMMANDS  # commands import nothing from here
    import_module(f"vitral.commands.{module}").main(options)


def prepare_streams() -> None:
    """Opens closed standard streams on the null device, and replaces characters that a stream cannot encode."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, Path(os.devnull).open(mode))  # noqa: SIM115 - open until the process exits
        elif isinstance(stream, TextIOWrapper):
            # surrogateescape preserves the bytes of file names on standard input
            stream.reconfigure(errors="surrogateescape" if name == "stdin" else "replace")
    assert logging.lastResort is not None
    logging.lastResort.setFormatter(_PrintableFormatter())


class _PrintableFormatter(logging.Formatter):
    """For notes that are logged, which name files and what is in them."""

    def format(self, record: logging.LogRecord) -> str:
        return printable(super().format(record))


def release_streams() -> None:
    """Discards output that cannot be written, which the interpreter would otherwise report at exit."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            with Path(os.devnull).open("w") as null:
                os.dup2(null.fileno(), stream.fileno())


def out_of_memory(error: Exception) -> bool:
    """Whether the machine or a GPU ran out of memory; PyTorch's errors are matched by name, without importing it."""
    return (
        isinstance(error, MemoryError)
        or type(error).__name__ == "OutOfMemoryError"
        or "can't allocate memory" in str(error)
        or "MPS backend out of memory" in str(error)
    )


def overview() -> str:
    """The text of `vitral --help`."""
    lines = [f"  {name:<10} {summary}" for name, (_, summary) in COMMANDS.items()]
    head = "usage: vitral COMMAND [arguments]\n\nTrain, evaluate, inspect and convert Vision Transformers.\n"
    foot = """
vitral COMMAND --help describes a command.

environment:
  VITRAL_TRACEBACK=1   print the traceback of an error, instead of one sentence"""
    return "\n".join([head, *lines, foot])


def sentence(error: Exception) -> str:
    """An error on one line; an operating system's error with its file. Names too long to read are cut."""
    text = " ".join(str(error).split())
    if isinstance(error, OSError) and error.strerror:
        text = f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return shortened(re.sub(r"\S+", lambda word: shortened(word[0]), text), MAX_SENTENCE)


def fail(text: str) -> None:
    """Prints one sentence and exits with code 2."""
    print(f"vitral: {printable(text)}", file=sys.stderr)
    raise SystemExit(2)
