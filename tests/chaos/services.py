"""Kills a service and its workers while it answers, and asks it again."""

import os
import random
import signal
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from contextlib import suppress
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image

from chaos.kills import Outcome
from forks import Fork, start
from processes import SECONDS

__all__ = ["FLAGS", "kill_services"]

FLAGS = {"serve": (), "serve with workers": ("--workers", "1"), "serve isolated": ("--isolate",)}
"""Arguments of each kind of service."""
TURNS = 3
"""Kills of one service."""


def kill_services(name: str, *, seed: int, model: Path, folder: Path) -> Outcome:
    """Kills a service or one of its processes some times, at random moments.

    Args:
        name: one of `FLAGS`.
        seed: of the moments, and of what is killed.
        model: what is served.
        folder: an empty folder.
    """
    prng, outcome = random.Random(f"{name} {seed}"), Outcome(scenario=name)
    reserved = socket.socket()  # nobody listens on it: it keeps the port from others while no service does
    reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    reserved.bind(("127.0.0.1", 0))
    port = reserved.getsockname()[1]
    command = ("serve", str(model), "--port", str(port), "--device", "cpu", *FLAGS[name])
    service = start(*command, cwd=folder)
    try:
        expected = answer(port, service, outcome)
        for _ in range(TURNS):
            if outcome.problems:
                break
            until = time.monotonic() + prng.random()
            while time.monotonic() < until:
                request(port)
            others = descendants(service.pid)
            victim = prng.choice([service.pid, *filter(alive, others)])
            with suppress(ProcessLookupError):
                os.kill(victim, signal.SIGKILL)
            outcome.kills += 1
            if victim == service.pid:
                service.wait_until(lambda: False)
                wait_for_end(others, outcome)
                service = start(*command, cwd=folder)
            if answer(port, service, outcome) != expected and not outcome.problems:
                outcome.problems.append("another answer after the kill")
        if "Traceback" in (text := service.errors.read_text(errors="replace")):
            outcome.problems.append(f"traceback: {text.strip().splitlines()[-1][:200]}")
    finally:
        reserved.close()
        service.kill()
        service.wait_until(lambda: False)
    outcome.identical = not outcome.problems
    return outcome


def answer(port: int, service: Fork, outcome: Outcome) -> bytes | None:
    """What the service answers as soon as it does."""
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        if service.poll() is not None:
            outcome.problems.append(f"the service ended with status {service.returncode}")
            return None
        if (content := request(port)) is not None:
            return content
        time.sleep(0.05)
    outcome.problems.append("hang: the service does not answer")
    return None


def request(port: int) -> bytes | None:
    """The answer to a picture; None if there is none, or it is a refusal."""
    stream = BytesIO()
    Image.fromarray(np.arange(192, dtype=np.uint8).reshape(8, 8, 3)).save(stream, "PNG")
    url, head = f"http://127.0.0.1:{port}/v1/predict", {"Content-Type": "image/png"}
    try:
        with urllib.request.urlopen(urllib.request.Request(url, stream.getvalue(), head), timeout=30) as response:
            return response.read()
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return None


def descendants(pid: int) -> list[int]:
    """The processes that a process has started, and theirs."""
    children = []
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(FileNotFoundError, ProcessLookupError):  # a thread that has ended
            children += [int(word) for word in path.read_text().split()]
    return children + [other for child in children for other in descendants(child)]


def wait_for_end(processes: Sequence[int], outcome: Outcome) -> None:
    """Waits until orphans have ended."""
    end = time.monotonic() + SECONDS
    while any(alive(pid) for pid in processes):
        if time.monotonic() > end:
            outcome.problems.append("hang: a process outlives the service")
            return
        time.sleep(0.05)


def alive(pid: int) -> bool:
    """Whether a process runs; one whose end nobody has asked for does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False
