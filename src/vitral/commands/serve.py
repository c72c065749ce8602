"""`vitral serve`: serves models over HTTP."""

import argparse
import ipaddress
import os
import signal
import socket
import stat
import sys
from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from vitral.commands.arguments.weights import source_options
from vitral.commands.loading import load_classifier
from vitral.commands.output import note, printable
from vitral.data.images.limits import max_pixels
from vitral.data.images.memory import limit_memory
from vitral.serve import create_app
from vitral.serve.logs import logging_to
from vitral.serve.predictor import Predictor
from vitral.serve.server import bind, run_server

__all__ = ["main"]


def main(options: argparse.Namespace) -> None:
    """Serves until SIGTERM, after which it finishes what it has accepted and exits with code 0."""
    if options.max_pixels is not None:
        os.environ["VITRAL_MAX_PIXELS"] = str(options.max_pixels)
    # a wrong value is reported now, not with the first image
    limit_memory(options.memory, name="--memory")
    max_pixels()
    if hasattr(signal, "SIGHUP"):
        signal.signal(signal.SIGHUP, signal.SIG_IGN)  # until there is something to reload
    listener = bind(options.host, options.port)
    with logging_to(sys.stderr, options.log_format):
        load = partial(load_models, options.models, options.device, options.precision, **source_options(options))
        app = create_app(load, config=options.config)
        announce(f"serving {', '.join(printable(name) for name in options.models)} at {address(listener)}")
        if options.config.token is None and not is_local(listener):
            announce("the service is open to all who can reach this machine: --token-file FILE asks for a token")
        if options.token_file is not None and is_public(options.token_file):
            announce(f"all users of this machine can read the token: chmod 600 {printable(str(options.token_file))}")
        run_server(app, listener, drain=options.drain)


def load_models(paths: Mapping[str, str], device: str, precision: str, **source: Any) -> dict[str, Predictor]:
    """The models by name; what their users should know about them is printed."""
    return {
        name: Predictor(load_classifier(path, **source), device=device, precision=precision)
        for name, path in paths.items()
    }


def announce(text: str) -> None:
    """Prints one line on standard error; a full disk there does not stop the service."""
    with suppress(OSError):
        note(text)


def is_public(file: Path) -> bool:
    """Whether every user of this machine can read a file."""
    return os.name == "posix" and bool(file.stat().st_mode & stat.S_IROTH)


def address(listener: socket.socket) -> str:
    """The URL of the service."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def is_local(listener: socket.socket) -> bool:
    """Whether only this machine can connect."""
    return ipaddress.ip_address(listener.getsockname()[0].partition("%")[0]).is_loopback
