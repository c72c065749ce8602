"""SIGTERM under load: every request that was accepted is answered."""

import signal
import socket
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from threading import Barrier

import pytest

from processes import SECONDS
from serve.client import image_file
from serve.running import Running, running, slow_model
from vitral.serve import server
from vitral.serve.server import bind, ignore_new_connections

CLIENTS = 16

PATIENT = ("--max-batch", "1", "--queue", "10000", "--timeout", "10m")
"""Options of a service that computes one image after the other and refuses none."""


@pytest.fixture
def model(tmp_path: Path) -> str:
    """Takes ten times as long for an image as the service for reading it."""
    return str(slow_model(tmp_path / "slow", depth=96))


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


def load(service: Running, began: Barrier) -> Counter[str]:
    """Sends one request a connection until connections are refused; what became of each.

    `began` is passed when all clients have their first answers and have sent their second requests.
    """
    outcomes, content = Counter[str](), request(keep_alive=False)
    while True:
        try:
            connection = service.connect()
        except ConnectionRefusedError:
            return outcomes
        connected = time.monotonic()
        with connection:
            connection.sendall(content)
            slow = time.monotonic() - connected > server.LINGER_SECONDS / 2
            if outcomes.total() == 1:
                began.wait(SECONDS)
            outcome = status(connection)
            if outcome != "lost" or not slow:  # the service waits no longer for a request of a busy machine
                outcomes[outcome] += 1


def fill(service: Running, least: int) -> list[socket.socket]:
    """Connections whose requests the service has read, at least so many of which wait for their answers."""
    connections: list[socket.socket] = []
    end = time.monotonic() + SECONDS
    while True:
        assert time.monotonic() < end
        answered = sum(" POST /v1/predict " in line for line in tuple(service.log))
        waiting = service.figure("vitral_queue_images", model="slow")
        if waiting + answered < len(connections):
            continue
        if waiting >= least:
            return connections
        for _ in range(4 * least // 3):
            connections.append(service.connect())
            connections[-1].sendall(request(keep_alive=True))


def readiness(probe: HTTPConnection) -> int | None:
    """The status of `/readyz` over one connection; None if the service has closed it."""
    try:
        probe.request("GET", "/readyz")
        response = probe.getresponse()
        response.read()
    except (ConnectionError, HTTPException):
        return None
    return response.status


def test_no_accepted_request_is_lost(tmp_path: Path, model: str) -> None:
    began = Barrier(CLIENTS + 1)
    with running(tmp_path, model) as service, ThreadPoolExecutor(CLIENTS) as pool:
        clients = [pool.submit(load, service, began) for _ in range(CLIENTS)]
        try:
            began.wait(SECONDS)
        finally:
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
    with running(tmp_path, model, *PATIENT, "--drain", "10m") as service:
        probe = HTTPConnection("127.0.0.1", service.port, timeout=SECONDS)
        probe.auto_open = 0  # no other connection, if this one is closed
        probe.connect()
        connections = fill(service, 15)
        service.process.send_signal(signal.SIGTERM)
        end = time.monotonic() + SECONDS
        while (ready := readiness(probe)) == 200:  # the service has not noticed the signal
            assert time.monotonic() < end
        assert ready in (503, None)  # None if the machine was slower than the linger
        # kept-alive connections end with their answer
        assert {status(connection) for connection in connections} == {"200"}
        assert service.process.wait(SECONDS) == 0
        for connection in [*connections, probe]:
            connection.close()


@pytest.mark.slow
def test_requests_beyond_the_time_to_drain_are_refused(tmp_path: Path, model: str) -> None:
    with running(tmp_path, model, *PATIENT, "--drain", "1s") as service:
        connections = fill(service, 150)
        assert service.stop() == 0
        outcomes = Counter(status(connection) for connection in connections)
        assert set(outcomes) <= {"200", "503"}, outcomes
        for connection in connections:
            connection.close()
