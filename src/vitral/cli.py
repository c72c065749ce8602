"""The command line: which command, its arguments, and what an error looks like."""

import os
import sys
from importlib import import_module
from io import TextIOWrapper
from pathlib import Path

from vitral.errors import UserError

__all__ = ["COMMANDS", "main"]

# Before torch: a thread that waits spins for some microseconds, then gives its core to a neighbour. EvalResult on two
# cores, images/s of the digits recipe, alone and with one core taken: 1,620 and 1,510 without spinning, 2,490 and 1,170
# with this little, 2,750 and 970 with OpenMP's most.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("GOMP_SPINCOUNT", "2000")

COMMANDS: dict[str, tuple[str, str]] = {
    "train": ("vitral.commands.train", "train a model: a recipe's name, or --resume RUN"),
    "recipes": ("vitral.commands.recipes", "list the recipes and what to expect of them"),
    "eval": ("vitral.commands.evaluate.command", "measure a trained model on held-out images"),
    "predict": ("vitral.commands.predict", "classify image files"),
    "report": ("vitral.commands.report", "write the page about a run again: curves, mistakes, speed, configuration"),
    "compare": ("vitral.commands.compare", "put finished runs side by side"),
    "inspect": ("vitral.commands.inspect", "draw what a model looks at"),
    "models": ("vitral.commands.models", "list the models by name, size and cost"),
    "convert": ("vitral.commands.convert", "turn weights from one project's format into another's"),
    "push": ("vitral.commands.push", "send a model to the Hugging Face Hub"),
    "sweep": ("vitral.commands.sweep", "train a recipe with many settings and compare them"),
    "data": ("vitral.commands.data.command", "list, pack and check data, and find near-duplicates"),
    "plan": ("vitral.commands.plan", "tell what a training run will take"),
}
"""Each command's module, which has `main(arguments) -> None`, and one line on it."""


def main(arguments: list[str] | None = None) -> None:
    """Runs one command and exits: 0 when all went well, 2 when the user can mend it, 128 + n after signal n.

    A reader of the output that leaves early, such as `head`, counts as the signal SIGPIPE: 141, without a word.
    """
    prepare_streams()
    try:
        run(sys.argv[1:] if arguments is None else arguments)
    except BrokenPipeError:
        raise SystemExit(141) from None
    except SystemExit as stop:
        if isinstance(stop.__context__, BrokenPipeError):  # rich makes an exit of its own out of it
            raise SystemExit(141) from None
        raise
    finally:
        release_streams()


def run(arguments: list[str]) -> None:
    """Runs one command; errors that the user can mend become one sentence."""
    try:
        try:
            dispatch(arguments)
        finally:
            sys.stdout.flush()  # what cannot be written is an error here; at the interpreter's end it is mere noise
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
    except KeyboardInterrupt:
        raise SystemExit(130) from None


def dispatch(arguments: list[str]) -> None:
    """Hands the arguments to the command they begin with."""
    if not arguments or arguments[0] in ("-h", "--help"):
        print(overview())
        raise SystemExit(0 if arguments else 2)
    if arguments[0] == "--version":
        from vitral import __version__

        print(f"vitral {__version__}")
        return
    if arguments[0] not in COMMANDS:
        raise UserError(f"unknown command {arguments[0]!r}: choose one of {', '.join(COMMANDS)}")
    import_module(COMMANDS[arguments[0]][0]).main(arguments[1:])


def prepare_streams() -> None:
    """Gives closed standard streams a place to go; text that cannot be encoded never stops a command."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, Path(os.devnull).open(mode))  # noqa: SIM115 - open to the end
        elif isinstance(stream, TextIOWrapper):
            # a file's name that comes in keeps its bytes, whatever they are
            stream.reconfigure(errors="surrogateescape" if name == "stdin" else "replace")


def release_streams() -> None:
    """Lets go of output that nobody takes, or the interpreter would try once more and complain."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            with Path(os.devnull).open("w") as nowhere:
                os.dup2(nowhere.fileno(), stream.fileno())


def out_of_memory(error: Exception) -> bool:
    """Whether memory ran out, of the machine or of a GPU; PyTorch's errors are told by name, without importing it."""
    return (
        isinstance(error, MemoryError)
        or type(error).__name__ == "OutOfMemoryError"
        or "can't allocate memory" in str(error)
    )


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
