"""Workers end with the process that started them."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from io import StringIO
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from processes import SOURCES
from vitral.data.orphans import die_with_parent

PARENT = """
import multiprocessing, os, sys, time
from vitral.data.orphans import die_with_parent

def work(send):
    die_with_parent()
    send.send(os.getpid())
    time.sleep(60)

receive, send = multiprocessing.Pipe()
multiprocessing.get_context("fork").Process(target=work, args=(send,)).start()
print(receive.recv(), flush=True)
time.sleep(60)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux notifies a process of the death of its parent")
def test_a_worker_dies_with_its_parent_and_says_nothing(tmp_path: Path) -> None:
    environment = os.environ | {"PYTHONPATH": str(SOURCES)}
    errors = (tmp_path / "errors").open("w")
    parent = subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE, stderr=errors, env=environment)
    assert parent.stdout is not None
    worker = int(parent.stdout.readline())
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    parent.stdout.close()
    errors.close()
    end = time.monotonic() + 30
    while Path(f"/proc/{worker}").exists() and "zombie" not in Path(f"/proc/{worker}/status").read_text():
        assert time.monotonic() < end, "it lives on"
        time.sleep(0.01)
    assert (tmp_path / "errors").read_text() == ""


def _call_the_hook(errors: Connection) -> None:
    die_with_parent()
    sys.stderr = StringIO()
    for error in (EOFError("lost"), ConnectionResetError("lost"), ValueError("a fault")):
        sys.excepthook(type(error), error, None)
    errors.send(sys.stderr.getvalue())


def test_a_broken_pipe_is_not_printed_and_a_fault_is() -> None:
    receive, send = multiprocessing.Pipe()
    worker = multiprocessing.get_context("fork").Process(target=_call_the_hook, args=(send,))
    worker.start()
    assert receive.recv() == "ValueError: a fault\n"
    worker.join()
