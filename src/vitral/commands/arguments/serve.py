"""Arguments of `vitral serve`."""

import argparse
import re
from pathlib import Path

from vitral.commands.arguments.checks import check_model
from vitral.commands.arguments.flags import ArgumentParser
from vitral.commands.arguments.predict import DEVICE_HELP, ISOLATE_HELP, MEMORY_HELP, PRECISION_HELP
from vitral.commands.arguments.weights import add_source_options
from vitral.errors import UserError
from vitral.serve.config import ServeConfig

__all__ = ["parse"]

UNITS = {"ms": 1e-3, "s": 1.0, "m": 60.0}
BYTES = {"": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}
DEFAULTS = ServeConfig()


def parse(arguments: list[str]) -> argparse.Namespace:
    """The command's arguments: `models` maps names to paths, `config` is the `ServeConfig`.

    Raises:
        UserError: a model does not exist, two have one name, or a value is out of range.
    """
    parser = ArgumentParser(
        prog="vitral serve",
        description="Serve models over HTTP: a page for people at /, an interface for programs at /docs.",
    )
    parser.add_argument(
        "models",
        nargs="+",
        metavar="MODEL",
        help="a run, a model's folder or file, an exported file, or hf-hub:OWNER/NAME; NAME=MODEL gives it a name. "
        "The first is the default",
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: this machine only)")
    parser.add_argument("--port", type=int, default=8000, help="port; 0: any free one (default: 8000)")
    add_computing(parser)
    add_batching(parser)
    add_limits(parser)
    parser.add_argument(
        "--token-file", type=Path, metavar="FILE", help="file with the bearer token that requests must carry"
    )
    parser.add_argument("--isolate", action="store_true", help=ISOLATE_HELP)
    parser.add_argument(
        "--drain", type=seconds, default=30.0, metavar="TIME", help="time to finish requests on SIGTERM (default: 30s)"
    )
    parser.add_argument(
        "--log-format", default="text", choices=("text", "json"), help="of the log on standard error (default: text)"
    )
    add_source_options(parser)
    options = parser.parse_args(arguments)
    if not 0 <= options.port <= 65535:
        raise UserError(f"--port must be from 0 to 65535, not {options.port}")
    if options.max_pixels is not None and options.max_pixels < 1:
        raise UserError(f"--max-pixels must be at least 1, not {options.max_pixels}")
    options.models = named_models(options.models)
    token = read_token(options.token_file)
    names = (
        "max_batch",
        "max_wait",
        "queue",
        "timeout",
        "body_timeout",
        "max_body",
        "max_files",
        "workers",
        "compile",
        "isolate",
    )
    values = {name: getattr(options, name) for name in names}
    try:
        options.config = ServeConfig(**values, token=token)
    except UserError as error:  # which names fields
        raise UserError(f"--{str(error).replace('_', '-')}") from None
    return options


def add_computing(parser: argparse.ArgumentParser) -> None:
    """Flags of where and how models are computed."""
    parser.add_argument("--device", default="auto", help=DEVICE_HELP)
    parser.add_argument("--precision", default="auto", choices=("auto", "float32", "bfloat16"), help=PRECISION_HELP)
    parser.add_argument(
        "--compile", action="store_true", help="compile the models with torch.compile: the start takes longer"
    )
    parser.add_argument(
        "--workers",
        type=int,
        default=DEFAULTS.workers,
        metavar="N",
        help="processes that read and compute images, each with all models; one that dies is replaced (default: 0, the "
        "service's own process)",
    )


def add_batching(parser: argparse.ArgumentParser) -> None:
    """Flags of batches and the queue."""
    parser.add_argument(
        "--max-batch", type=int, default=DEFAULTS.max_batch, metavar="N", help="images computed together (default: 32)"
    )
    parser.add_argument(
        "--max-wait",
        type=seconds,
        default=DEFAULTS.max_wait,
        metavar="TIME",
        help="time that an image waits for others to share its batch, where batches save time (default: 5ms)",
    )
    parser.add_argument(
        "--queue",
        type=int,
        default=DEFAULTS.queue,
        metavar="N",
        help="images of a model that may wait; more are refused with 429 (default: 256)",
    )


def add_limits(parser: argparse.ArgumentParser) -> None:
    """Flags of what a request may ask for."""
    parser.add_argument(
        "--timeout", type=seconds, default=DEFAULTS.timeout, metavar="TIME", help="time for a request (default: 30s)"
    )
    parser.add_argument(
        "--body-timeout",
        type=seconds,
        default=DEFAULTS.body_timeout,
        metavar="TIME",
        help="time that a client has to send its request (default: 30s)",
    )
    parser.add_argument(
        "--max-body", type=size, default=DEFAULTS.max_body, metavar="SIZE", help="of a request's body (default: 32MiB)"
    )
    parser.add_argument(
        "--max-files", type=int, default=DEFAULTS.max_files, metavar="N", help="images in a request (default: 32)"
    )
    parser.add_argument(
        "--max-pixels",
        type=int,
        metavar="N",
        help="pixels of an image; a larger JPEG is read at a reduced size (default: VITRAL_MAX_PIXELS, or 134 million)",
    )
    parser.add_argument("--memory", metavar="SIZE", help=MEMORY_HELP)


def seconds(text: str) -> float:
    """Seconds of a time such as `5ms`, `30s` or `2m`."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)(ms|s|m)", text)
    if match is None:
        raise argparse.ArgumentTypeError(f"give a time such as 5ms, 30s or 2m, not {text!r}")
    return float(match[1]) * UNITS[match[2]]


def size(text: str) -> int:
    """Bytes of a size such as `500KB` or `32MiB`."""
    match = re.fullmatch(r"(\d+)([KMG]I?B)?", text.upper())
    if match is None:
        raise argparse.ArgumentTypeError(f"give a size such as 500KB or 32MiB, not {text!r}")
    return int(match[1]) * BYTES[match[2] or ""]


def named_models(arguments: list[str]) -> dict[str, str]:
    """Paths by name: as given in `NAME=MODEL`, or the last part of the path without a file's ending.

    Raises:
        UserError: a model does not exist, or two have one name.
    """
    models: dict[str, str] = {}
    for argument in arguments:
        match = None if Path(argument).exists() else re.fullmatch(r"([\w.-]+)=(.+)", argument)
        path = match[2] if match else argument
        check_model(path)
        name = match[1] if match else Path(path).resolve().name if Path(path).is_dir() else Path(path).stem
        if name in models:
            raise UserError(f"{models[name]} and {path} are both named {name}: give one a name with NAME={path}")
        models[name] = path
    return models


def read_token(file: Path | None) -> str | None:
    """The token in a file, without white space around it.

    Raises:
        UserError: the file cannot be read, or has no token of printable ASCII.
    """
    if file is None:
        return None
    try:
        token = file.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no text"
        raise UserError(f"--token-file {file} cannot be read: {reason}") from None
    if not re.fullmatch(r"[!-~]+", token):
        raise UserError(f"--token-file {file} must hold one token of printable characters without spaces")
    return token
