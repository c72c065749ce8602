"""SIGTERM under load: every request that was accepted is answered."""

import signal
import socket
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event

import pytest

from processes import SECONDS
from serve.client import image_file
from serve.running import Running, running, slow_model
from vitral.serve.server import bind, ignore_new_connections

CLIENTS = 16


@pytest.fixture
def model(tmp_path: Path) -> str:
    return str(slow_model(tmp_path / "slow"))


def request(keep_alive: bool) -> bytes:
    content, kept = image_file(), "keep-alive" if keep_alive else "close"
    head = f"POST /v1/predict HTTP/1.1\r\nHost: x\r\nConnection: {kept}\r\nContent-Type: image/png\r\n"
    return f"{head}Content-Length: {len(content)}\r\n\r\n".encode() + content


def status(connection: socket.socket) -> str:
    """The status of the response that ends the connection; `lost` without one."""
    received = b""
    try:
        while chunk := connection.recv(65536):
            received += chunk
    except ConnectionResetError:
        pass
    return received.split(b" ")[1].decode() if received.startswith(b"HTTP/1.1 ") else "lost"


def load(service: Running, stopped: Event) -> Counter[str]:
    """Sends one request a connection until connections are refused; what became of each."""
    outcomes = Counter[str]()
    while True:
        try:
            connection = socket.create_connection(("127.0.0.1", service.port), timeout=SECONDS)
        except ConnectionRefusedError:
            return outcomes
        with connection:
            if not stopped.is_set():
                connection.sendall(request(keep_alive=False))
                outcomes[status(connection)] += 1
            else:
                return outcomes


def test_no_accepted_request_is_lost(tmp_path: Path, model: str) -> None:
    stopped = Event()
    with running(tmp_path, model) as service, ThreadPoolExecutor(CLIENTS) as pool:
        clients = [pool.submit(load, service, stopped) for _ in range(CLIENTS)]
        time.sleep(1.0)
        service.process.send_signal(signal.SIGTERM)
        outcomes = sum((client.result(SECONDS) for client in clients), Counter[str]())
        assert service.process.wait(SECONDS) == 0
    assert set(outcomes) == {"200"}, outcomes
    assert outcomes["200"] > CLIENTS


@pytest.mark.skipif(sys.platform != "linux", reason="filters of sockets are Linux's")
def test_connections_that_wait_survive_and_later_ones_are_not_made() -> None:
    with bind("127.0.0.1", 0) as listener:
        listener.listen()
        with socket.create_connection(listener.getsockname()) as early:
            ignore_new_connections(listener)
            with pytest.raises(TimeoutError):
                socket.create_connection(listener.getsockname(), timeout=0.2)
            early.sendall(b"request")
            accepted, _ = listener.accept()
            with accepted:
                assert accepted.recv(16) == b"request"
                accepted.sendall(b"answer")
            assert early.recv(16) == b"answer"
        listener.settimeout(0.2)
        with pytest.raises(TimeoutError):
            listener.accept()


def test_what_is_queued_is_finished_and_health_says_that_the_end_is_near(tmp_path: Path, model: str) -> None:
    with running(tmp_path, model, "--max-batch", "1") as service:
        connections = [service.connect() for _ in range(20)]
        for connection in connections:
            connection.sendall(request(keep_alive=True))
        probe = service.connect()
        end = time.monotonic() + SECONDS
        while service.figure("vitral_queue_images", model="slow") < 5:
            assert time.monotonic() < end
        service.process.send_signal(signal.SIGTERM)
        time.sleep(0.15)
        probe.sendall(b"GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n")
        assert status(probe) in ("503", "lost")  # lost if the machine was slower than the linger
        # kept-alive connections end with their answer
        assert [status(connection) for connection in connections] == ["200"] * 20
        assert service.process.wait(SECONDS) == 0
        for connection in [*connections, probe]:
            connection.close()


def test_requests_beyond_the_time_to_drain_are_refused(tmp_path: Path, model: str) -> None:
    with running(tmp_path, model, "--max-batch", "1", "--drain", "1s", "--timeout", "10m") as service:
        connections = [service.connect() for _ in range(200)]
        for connection in connections:
            connection.sendall(request(keep_alive=False))
        end = time.monotonic() + SECONDS
        while service.figure("vitral_queue_images", model="slow") < 150:
            assert time.monotonic() < end
        assert service.stop() == 0
        outcomes = Counter(status(connection) for connection in connections)
        assert set(outcomes) <= {"200", "503"}, outcomes
        for connection in connections:
            connection.close()
