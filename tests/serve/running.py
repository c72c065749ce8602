"""`vitral serve` in a process of its own, as people run it."""

import re
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Thread

import httpx

from models import small_model
from processes import SECONDS, start
from serve.client import wait_until_ready
from vitral.vit_config import ViTConfig
from vitral.weights.folder import save_model

__all__ = ["Running", "running", "slow_model"]


@dataclass
class Running:
    """A service."""

    process: subprocess.Popen[str]
    port: int
    url: str
    log: list[str] = field(default_factory=list)

    def connect(self) -> socket.socket:
        """A connection to it."""
        return socket.create_connection(("127.0.0.1", self.port), timeout=SECONDS)

    def stop(self) -> int:
        """Sends SIGTERM; the exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(SECONDS)

    def figure(self, name: str, **labels: str) -> float:
        """A figure of `/metrics`."""
        text = httpx.get(f"{self.url}/metrics").text
        wanted = name + "{" + ",".join(f'{key}="{value}"' for key, value in labels.items()) + "}"
        return float(next(line for line in text.splitlines() if line.startswith(wanted)).split()[-1])


@contextmanager
def running(folder: Path, *arguments: str) -> Iterator[Running]:
    """Runs `vitral serve ARGUMENTS` on a free port until the context ends, then kills it."""
    process = start("serve", *arguments, "--port", "0", cwd=folder)
    assert process.stderr is not None
    assert process.stdout is not None
    log, reader = [], None
    try:
        for line in process.stderr:
            log.append(line.rstrip())
            if match := re.search(r"http://\S+:(\d+)$", line.rstrip()):
                break
        else:
            raise AssertionError("\n".join(log))
        service = Running(process, int(match[1]), f"http://127.0.0.1:{match[1]}", log)
        reader = Thread(target=lambda: log.extend(line.rstrip() for line in process.stderr or ()))
        reader.start()
        with httpx.Client(base_url=service.url) as client:
            wait_until_listening(service)
            wait_until_ready(client)
        yield service
    finally:
        process.kill()
        process.wait(SECONDS)
        if reader:
            reader.join()
        process.stdout.close()
        process.stderr.close()


def wait_until_listening(service: Running) -> None:
    """Waits until connections are accepted."""
    end = time.monotonic() + SECONDS
    while True:
        try:
            service.connect().close()
            return
        except ConnectionRefusedError:
            assert time.monotonic() < end
            time.sleep(0.02)


def slow_model(folder: Path, *, depth: int = 12) -> Path:
    """A model that takes some milliseconds an image, in proportion to its depth, saved in a folder."""
    config = ViTConfig(image_size=160, patch_size=16, width=96, depth=depth, num_heads=3, mlp_dim=384, num_classes=10)
    model = small_model(config)
    save_model(folder, model, model.card)
    return folder
