"""The services of benchmarks/serving.py, each in processes of its own."""

import asyncio
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["LITSERVE", "Process", "litserve", "vitral_serve"]

LITSERVE: dict[str, dict[str, Any]] = {
    "one worker": {"workers": 1},
    "one worker, fast queue": {"workers": 1, "fast_queue": True},
    "two workers": {"workers": 2},
    "two workers, fast queue": {"workers": 2, "fast_queue": True},
}
"""Settings of LitServe that may be the fastest on a machine."""


@dataclass
class Process:
    """A running service."""

    port: int
    pid: int

    def cpu_seconds(self) -> float:
        """CPU time of its processes so far."""
        stats = (Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split() for pid in self._pids())
        return sum(int(stat[11]) + int(stat[12]) for stat in stats) / os.sysconf("SC_CLK_TCK")

    def resident_megabytes(self) -> float:
        """Memory of its processes."""
        pages = (int(Path(f"/proc/{pid}/statm").read_text().split()[1]) for pid in self._pids())
        return sum(pages) * os.sysconf("SC_PAGE_SIZE") / 1e6

    async def queue(self) -> float:
        """Images that wait or are computed."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        text = (await reader.read()).decode()
        writer.close()
        match = re.search(r"^vitral_queue_images\{.*\} (\S+)", text, re.MULTILINE)
        return float(match[1]) if match else 0.0

    def _pids(self) -> list[int]:
        found = [self.pid]
        for pid in found:
            for task in Path(f"/proc/{pid}/task").iterdir():
                found += map(int, (task / "children").read_text().split())
        return found


@contextmanager
def vitral_serve(folder: str, *, max_batch: int, workers: int = 0) -> Iterator[Process]:
    """`vitral serve`, once it is ready."""
    arguments = ["--max-batch", str(max_batch), "--timeout", "10m", "--workers", str(workers)]
    with _running([sys.executable, "-m", "vitral", "serve", f"model={folder}", *arguments]) as process:
        yield process


@contextmanager
def litserve(folder: str, *, max_batch: int, workers: int, fast_queue: bool = False) -> Iterator[Process]:
    """LitServe, once it is ready."""
    script = Path(__file__).with_name("litserve_app.py")
    size = max(max_batch, 2)  # with 1 it would call other methods
    arguments = ["--max-batch", str(size), "--workers", str(workers), *(["--fast-queue"] if fast_queue else [])]
    with _running([sys.executable, str(script), folder, *arguments]) as process:
        yield process


@contextmanager
def _running(command: list[str]) -> Iterator[Process]:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    command = [*command, "--port", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    try:
        while not _answers(port):
            assert process.poll() is None, f"{' '.join(command)} ended"
            time.sleep(0.2)
        yield Process(port, process.pid)
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):  # LitServe waits for its processes, which wait for it
            process.wait(5)
        with suppress(ProcessLookupError):  # its processes may outlive it
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _answers(port: int) -> bool:
    """Whether /readyz answers, or /health, which LitServe has."""
    for path in ("readyz", "health"):
        try:
            return urllib.request.urlopen(f"http://127.0.0.1:{port}/{path}", timeout=5).status == 200
        except urllib.error.HTTPError:
            continue
        except OSError:
            return False
    return False
