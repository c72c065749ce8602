"""`vitral` as processes that start in milliseconds: forks of a server process that has imported everything.

Each has its own process group and one thread, as with `processes.start`.
"""

import functools
import json
import os
import signal
import socket
import subprocess
import sys
import time
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

from processes import SECONDS, SOURCES

__all__ = ["Fork", "pair", "start"]

SERVER = """
import gc, json, os, runpy, sys, traceback
gc.disable()
import matplotlib.figure, torch, torch._dynamo
import vitral.commands.train, vitral.commands.sweep, vitral.distributed.shards, vitral.runs.trackers.tensorboard
import jinja2, sklearn.datasets, PIL.GifImagePlugin, matplotlib.backends.backend_agg
from vitral.cli import main
gc.freeze()  # what forks share: going through it would copy it into each of them

def child(request):
    gc.enable()
    os.setsid()
    os.chdir(request["cwd"])
    os.environ.update(request["variables"])
    for number, path in enumerate((os.devnull, request["output"], request["errors"])):
        os.dup2(os.open(path, os.O_RDWR | os.O_CREAT), number)
    sys.stdin = open(os.devnull)
    code = 1
    try:
        if request["script"]:
            sys.argv = [request["script"], *request["arguments"]]
            runpy.run_path(request["script"], run_name="__main__")
        else:
            main(request["arguments"])
        code = 0
    except SystemExit as stop:
        code = stop.code or 0
    except BaseException:
        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)

for line in sys.stdin:
    request = json.loads(line)
    if "arguments" in request:
        pid = os.fork()
        if not pid:
            child(request)
        answer = pid
    else:
        ended, status = os.waitpid(request["pid"], os.WNOHANG)
        answer = os.waitstatus_to_exitcode(status) if ended else None
    print(json.dumps(answer), flush=True)
"""


@functools.cache
def server() -> subprocess.Popen[str]:
    """The process that forks, one for all tests; it ends with this process, whose pipe it reads."""
    path = f"{SOURCES}:{Path(__file__).parent}"
    environment = os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1", "COLUMNS": "400"}
    return subprocess.Popen(
        [sys.executable, "-c", SERVER], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def ask(**request: Any) -> int | None:
    """Sends a request to the server and returns its answer."""
    pipes = server()
    assert pipes.stdin is not None
    assert pipes.stdout is not None
    pipes.stdin.write(json.dumps(request) + "\n")
    pipes.stdin.flush()
    return json.loads(pipes.stdout.readline())


class Fork:
    """A running `vitral ARGUMENTS` or `script ARGUMENTS`, with the interface of `subprocess.Popen` that tests use."""

    def __init__(self, *arguments: str | Path, cwd: Path, script: Path | None = None, **variables: str) -> None:
        self.output, self.errors = cwd / f".output-{time.monotonic_ns()}", cwd / f".errors-{time.monotonic_ns()}"
        for path in (self.output, self.errors):  # a process may be killed before it opens them, and is still read
            path.touch()
        paths = {"cwd": str(cwd), "output": str(self.output), "errors": str(self.errors)}
        program = None if script is None else str(script)
        pid = ask(arguments=list(map(str, arguments)), script=program, variables=variables, **paths)
        assert pid is not None
        self.pid = pid
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """The exit status, None while it runs."""
        if self.returncode is None:
            self.returncode = ask(pid=self.pid)
        return self.returncode

    def wait_until(self, condition: Callable[[], bool]) -> None:
        """Waits for a condition, or for the end of the process."""
        end = time.monotonic() + SECONDS
        while self.poll() is None and not condition():
            assert time.monotonic() < end, "timeout"
            time.sleep(0.002)

    def ended(self) -> str:
        """Waits for the end, and returns standard error."""
        end = time.monotonic() + SECONDS
        while self.poll() is None:
            assert time.monotonic() < end, "timeout"
            time.sleep(0.02)
        return self.errors.read_text()

    def kill(self) -> None:
        """Sends SIGKILL."""
        os.kill(self.pid, signal.SIGKILL)


def start(*arguments: str | Path, cwd: Path, script: Path | None = None, **variables: str) -> Fork:
    """Starts `vitral ARGUMENTS`, or a script, with variables of the environment."""
    return Fork(*arguments, cwd=cwd, script=script, **variables)


def pair(*arguments: str | Path, cwd: Path, script: Path | None = None, **variables: str) -> tuple[Fork, Fork]:
    """Starts `vitral ARGUMENTS`, or a script, twice, with torchrun's variables; the first is the main process.

    For tests that are not about torchrun, which takes ten seconds to import what these processes have.
    """
    reserved = socket.socket()  # bound, so that no connection of others takes the port before a process listens on it
    reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    reserved.bind(("127.0.0.1", 0))
    port = str(reserved.getsockname()[1])
    common = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    common |= variables
    first, second = (start(*arguments, cwd=cwd, script=script, RANK=rank, LOCAL_RANK=rank, **common) for rank in "01")
    weakref.finalize(first, reserved.close)
    return first, second
