"""`vitral serve`: serves models over HTTP."""

import argparse
import ipaddress
import logging
import os
import socket

from vitral.commands.arguments.weights import source_options
from vitral.commands.loading import load_and_note
from vitral.commands.output import note, printable
from vitral.data.images.decode import max_pixels
from vitral.serve import create_app
from vitral.serve.predictor import Predictor
from vitral.serve.server import bind, run_server

__all__ = ["main"]


def main(options: argparse.Namespace) -> None:
    """Serves until SIGTERM, after which it finishes what it has accepted and exits with code 0."""
    if options.max_pixels is not None:
        os.environ["VITRAL_MAX_PIXELS"] = str(options.max_pixels)
    max_pixels()  # a wrong value in the environment is reported now, not with the first image
    listener = bind(options.host, options.port)
    source = source_options(options)
    predictors = {
        name: Predictor(load_and_note(path, **source), device=options.device, precision=options.precision)
        for name, path in options.models.items()
    }
    app = create_app(predictors, config=options.config)
    log_access()
    note(f"serving {', '.join(printable(name) for name in options.models)} at {address(listener)}")
    if options.config.token is None and not is_local(listener):
        note("the service is open to all who can reach this machine: --token-file FILE asks for a token")
    run_server(app, listener, drain=options.drain)


def address(listener: socket.socket) -> str:
    """The URL of the service."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def is_local(listener: socket.socket) -> bool:
    """Whether only this machine can connect."""
    return ipaddress.ip_address(listener.getsockname()[0].partition("%")[0]).is_loopback


def log_access() -> None:
    """Prints one line for each request on standard error."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
    log = logging.getLogger("vitral.access")
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    log.propagate = False
