"""Clients that misbehave, and a service that answers the next one."""

import asyncio
import os
import resource
import signal
import socket
import struct
import time
import zlib
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from threading import Barrier, Event
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from fastapi.testclient import TestClient

from models import small_model
from photographs import png_header
from processes import SECONDS
from serve.client import client_of, image_file
from serve.mutations import mutations
from serve.running import Running, running, slow_model
from vitral.serve.batching import BatchStats
from vitral.serve.predictor import Predictor
from vitral.serve.service import Service

PNG = {"content-type": "image/png"}
LIMITS = ("--body-timeout", "700ms", "--max-batch", "1", "--queue", "40", "--max-body", "4MB")


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("service")
    with running(folder, str(slow_model(folder / "slow")), *LIMITS) as service:
        yield service


@pytest.fixture(autouse=True)
def healthy_after(request: pytest.FixtureRequest) -> Iterator[None]:
    """Whatever a test does to the service, it answers the next request."""
    yield
    if "service" in request.fixturenames:
        service = request.getfixturevalue("service")
        assert classify(service).status_code == 200
        assert not [line for line in service.log if "Traceback" in line], "\n".join(service.log)


def classify(service: Running, content: bytes | None = None) -> httpx.Response:
    content = image_file() if content is None else content
    return httpx.post(f"{service.url}/v1/predict", content=content, headers=PNG, timeout=SECONDS)


def head(length: int, path: str = "/v1/predict") -> bytes:
    return f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: image/png\r\nContent-Length: {length}\r\n\r\n".encode()


def answer(connection: socket.socket) -> bytes:
    """The first line of a response, empty if the connection is closed without one."""
    with connection, connection.makefile("rb") as stream:
        return stream.readline()


def test_a_client_that_sends_a_byte_at_a_time_is_cut_off(service: Running) -> None:
    connection = service.connect()
    connection.sendall(head(1000))
    start = time.monotonic()
    while time.monotonic() - start < 1.0:
        connection.sendall(b"x")
        time.sleep(0.1)
    assert b" 408 " in answer(connection)


def test_a_client_that_leaves_in_the_middle_of_its_request(service: Running) -> None:
    for length in (0, 10, 500):
        connection = service.connect()
        connection.sendall((head(1000) + bytes(500))[:length])
        connection.close()


def test_images_of_clients_that_have_gone_are_not_computed(service: Running) -> None:
    before = service.figure("vitral_images_total", model="slow", outcome="computed")
    content, path = image_file(), "/v1/features"  # of no other test: the log has lines of these requests only
    service.process.send_signal(signal.SIGSTOP)  # all have gone when it goes on, however slow the machine is
    try:
        connections = [service.connect() for _ in range(30)]
        for connection in connections:
            connection.sendall(head(len(content), path) + content)
            connection.close()
    finally:
        service.process.send_signal(signal.SIGCONT)
    end = time.monotonic() + SECONDS
    while len(ended := [line for line in service.log if f" POST {path} " in line]) < 30:
        assert time.monotonic() < end
        time.sleep(0.05)
    assert len([line for line in ended if " 499 " in line]) > 10
    assert service.figure("vitral_queue_images", model="slow") == 0
    assert service.figure("vitral_images_total", model="slow", outcome="computed") - before < 20


def test_a_bomb_is_refused_by_its_header(service: Running) -> None:
    assert classify(service, png_header(20_000, 10_000)).status_code == 413
    # a small file of nothing but one colour, within the limit of pixels but cut in its compressed stream
    assert classify(service, png_header(9_000, 9_000)).status_code == 400


def test_a_body_without_end_is_refused_at_its_limit(service: Running) -> None:
    connection = service.connect()
    connection.sendall(head(5_000_000))
    assert b" 413 " in answer(connection)


def test_what_is_no_http_is_refused(service: Running) -> None:
    connection = service.connect()
    connection.sendall(b"\x16\x03\x01 hello\r\n\r\n")
    assert b" 400 " in answer(connection)


def test_mutated_bodies_never_make_an_error_of_the_service(service: Running) -> None:
    """VITRAL_MUTATIONS=10000 sends more than a test has time for."""
    count = int(os.environ.get("VITRAL_MUTATIONS", "200"))
    with httpx.Client(base_url=service.url, timeout=SECONDS) as client:
        for kind, body in mutations(count, seed=0):
            response = client.post("/v1/predict", content=body, headers={"content-type": kind})
            assert response.status_code in (200, 400, 413, 415, 422), (response.text, kind, body)


def chunk(kind: bytes, data: bytes) -> bytes:
    """A chunk of a PNG."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def test_bombs_of_compressed_data(service: Running) -> None:
    whole, zeros = image_file(), zlib.compress(bytes(2**28))
    header, rest = whole[:33], whole[33:]
    for bomb in (
        header + chunk(b"zTXt", b"Comment\0\0" + zeros) + rest,
        header + chunk(b"iTXt", b"Comment\0\1\0\0\0" + zeros) + rest,
        header + chunk(b"iCCP", b"profile\0\0" + zeros) + rest,
        header + chunk(b"IDAT", zeros) + chunk(b"IEND", b""),  # more than the image has
    ):
        assert classify(service, bomb).status_code in (200, 400)
    memory = Path(f"/proc/{service.process.pid}/status").read_text()
    peak = int(next(line for line in memory.splitlines() if line.startswith("VmHWM")).split()[1])
    assert peak < 3 * 2**20, f"{peak} kB"


def test_many_connections_at_once(service: Running) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if 0 <= hard < 1200:  # -1: no limit
        pytest.skip(f"needs 1,200 open files, and this user may have {hard}: ulimit -Hn")
    with ExitStack() as stack:
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 1200), hard))
        stack.callback(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        connections = [stack.enter_context(service.connect()) for _ in range(1000)]
        for connection in connections[:500]:
            connection.sendall(b"POST /v1/predict HTTP/1.1\r\nHost: x\r\nX-Slow: ")  # slowloris
        assert classify(service).status_code == 200


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Iterator[Event]:
    """The models of this process compute after the event is set."""
    gate, compute = Event(), Predictor.logits
    gate.set()

    def wait_and_compute(predictor: Predictor, images: object) -> object:
        assert gate.wait(SECONDS)
        return compute(predictor, images)

    monkeypatch.setattr(Predictor, "logits", wait_and_compute)
    yield gate
    gate.set()


def test_a_full_queue_refuses_at_once_and_says_when_to_return(gate: Event) -> None:
    with client_of(small_model(), queue=4, max_files=4, timeout=600.0) as client, ThreadPoolExecutor(8) as pool:
        gate.clear()
        requests = [pool.submit(client.post, "/v1/predict", content=image_file(seed), headers=PNG) for seed in range(4)]
        end = time.monotonic() + SECONDS
        while 'vitral_queue_images{model="model"} 4.0' not in client.get("/metrics").text:
            assert time.monotonic() < end
        refused = client.post("/v1/predict", content=image_file(), headers=PNG)
        assert refused.status_code == 429
        assert int(refused.headers["retry-after"]) >= 1
        assert client.get("/healthz").status_code == client.get("/readyz").status_code == 200
        gate.set()
        assert [request.result().status_code for request in requests] == [200] * 4
        assert client.post("/v1/predict", content=image_file(), headers=PNG).status_code == 200


def test_a_deadline_that_passes_is_answered_and_its_image_not_computed(
    gate: Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vitral.serve.engine._num_cores", lambda: 1)  # or a second thread takes the image in time
    with client_of(small_model(), max_batch=1, timeout=600.0) as client, ThreadPoolExecutor(8) as pool:
        gate.clear()
        first = pool.submit(client.post, "/v1/predict", content=image_file(), headers=PNG)
        end = time.monotonic() + SECONDS
        while 'vitral_queue_images{model="model"} 1.0' not in client.get("/metrics").text:
            assert time.monotonic() < end
        late = client.post("/v1/predict?timeout=1", content=image_file(), headers=PNG)
        assert late.status_code == 504
        gate.set()
        assert first.result().status_code == 200
        assert client.post("/v1/predict", content=image_file(), headers=PNG).status_code == 200
        # the warm-up's, the first one's and the last one's; a slow machine may not even have read the late image
        assert 'vitral_images_total{model="model",outcome="computed"} 3.0' in client.get("/metrics").text


def test_an_answer_that_is_ready_too_late_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy event loop learns late that a batch was computed."""
    from vitral.serve import app

    seconds, build = 0.0, app.predicted

    def build_for_an_hour(*arguments: Any) -> dict[str, Any]:
        nonlocal seconds
        seconds = 3600.0
        return build(*arguments)

    with client_of(small_model()) as client:
        monkeypatch.setattr(app, "time", SimpleNamespace(monotonic=lambda: time.monotonic() + seconds))
        monkeypatch.setattr(app, "predicted", build_for_an_hour)
        late = client.post("/v1/predict", content=image_file(), headers=PNG)
    assert late.status_code == 504


def test_a_deadline_counts_from_the_arrival_of_the_head() -> None:
    """A busy event loop begins later."""

    async def late_app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http" and scope["path"] == "/v1/predict":
            scope["state"]["arrived"] = time.monotonic() - 3600
        await application(scope, receive, send)

    with client_of(small_model()) as client:
        application = client.app
        late = TestClient(late_app).post("/v1/predict", content=image_file(), headers=PNG)
        assert late.status_code == 504
        assert client.post("/v1/predict", content=image_file(), headers=PNG).status_code == 200


@pytest.mark.parametrize(("waiting", "query"), [(4, ""), (3, "?timeout=0.000001")])
def test_a_full_queue_refuses_before_it_reads_the_body(gate: Event, waiting: int, query: str) -> None:
    async def body() -> AsyncIterator[bytes]:
        raise AssertionError("the body was read")
        yield b""

    async def ask(app: Any) -> httpx.Response:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://service") as client:
            return await client.post(f"/v1/predict{query}", content=body(), headers=PNG)

    limits = {"queue": 4, "max_files": 4, "max_batch": 1, "timeout": 600.0}
    with client_of(small_model(), **limits) as client, ThreadPoolExecutor(8) as pool:
        # without an answer, nothing is known of the speed, and no deadline is too early
        assert client.post("/v1/predict", content=image_file(), headers=PNG).status_code == 200
        gate.clear()
        requests = [pool.submit(client.post, "/v1/predict", content=image_file(), headers=PNG) for _ in range(waiting)]
        end = time.monotonic() + SECONDS
        while f'vitral_queue_images{{model="model"}} {waiting}.0' not in client.get("/metrics").text:
            assert time.monotonic() < end
        refused = asyncio.run(ask(client.app))
        assert refused.status_code == 429
        assert int(refused.headers["retry-after"]) >= 1
        gate.set()
        assert [request.result().status_code for request in requests] == [200] * waiting


def test_a_slow_warm_up_is_no_reason_to_refuse(gate: Event, monkeypatch: pytest.MonkeyPatch) -> None:
    observe, warm_ups = Service.observe, []

    def observe_a_slow_warm_up(service: Service, stats: BatchStats) -> None:
        warm_ups.append(stats.warm_up)
        observe(service, replace(stats, seconds=3600.0) if stats.warm_up else stats)

    monkeypatch.setattr(Service, "observe", observe_a_slow_warm_up)
    with client_of(small_model(), max_batch=1, timeout=600.0) as client, ThreadPoolExecutor(4) as pool:
        gate.clear()
        requests = [pool.submit(client.post, "/v1/predict", content=image_file(), headers=PNG) for _ in range(4)]
        end = time.monotonic() + SECONDS
        try:
            while 'vitral_queue_images{model="model"} 4.0' not in client.get("/metrics").text:
                assert not any(request.done() for request in requests)
                assert time.monotonic() < end
        finally:
            gate.set()
        assert [request.result().status_code for request in requests] == [200] * 4
    assert warm_ups == [True, False, False, False, False]


def test_a_model_that_is_not_ready_refuses(gate: Event) -> None:
    from vitral.serve import create_app

    gate.clear()
    with TestClient(create_app(small_model())) as client:
        for response in (client.get("/readyz"), client.post("/v1/predict", content=image_file(), headers=PNG)):
            assert response.status_code == 503
            assert response.headers["retry-after"] == "1"
        assert client.get("/healthz").status_code == 200
        gate.set()


def test_two_batches_are_computed_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    together, compute = Barrier(2), Predictor.logits

    def meet_and_compute(predictor: Predictor, images: Any) -> Any:
        together.wait(SECONDS)
        return compute(predictor, images)

    monkeypatch.setattr("vitral.serve.engine._num_cores", lambda: 2)
    with client_of(small_model(), timeout=600.0) as client, ThreadPoolExecutor(2) as pool:
        monkeypatch.setattr(Predictor, "logits", meet_and_compute)
        requests = [pool.submit(client.post, "/v1/predict", content=image_file(seed), headers=PNG) for seed in range(2)]
        assert [request.result().status_code for request in requests] == [200, 200]


def test_a_batch_that_fails_is_one_error_and_the_next_request_an_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    with client_of(small_model()) as client:
        compute = Predictor.logits

        def fail(predictor: Predictor, images: object) -> None:
            raise RuntimeError("no memory")

        monkeypatch.setattr(Predictor, "logits", fail)
        response = client.post("/v1/predict", content=image_file(), headers=PNG)
        assert response.status_code == 500
        assert "no memory" not in response.text
        monkeypatch.setattr(Predictor, "logits", compute)
        assert client.post("/v1/predict", content=image_file(), headers=PNG).status_code == 200


def test_a_service_takes_what_it_was_given(tmp_path: Path) -> None:
    """Several models by name, a token, and a log without images or names of files."""
    slow_model(tmp_path / "slow")
    (tmp_path / "token").write_text("secret\n")
    with running(tmp_path, "one=slow", "slow", "--token-file", "token", "--host", "0.0.0.0") as service:
        headers = {"Authorization": "Bearer secret"}
        models = httpx.get(f"{service.url}/v1/models", headers=headers).json()["models"]
        assert [model["name"] for model in models] == ["one", "slow"]
        files = {"image": ("private\n.png", image_file())}
        assert httpx.post(f"{service.url}/v1/predict", files=files, headers=headers).status_code == 200
        assert httpx.post(f"{service.url}/v1/predict", files=files).status_code == 401
        assert httpx.get(f"{service.url}/no%0Awhere").status_code == 404
        assert service.stop() == 0
        requests = [line for line in service.log if " 127.0.0.1 " in line]
        assert [line.split(" ")[3:6] for line in requests] == [
            ["GET", "/v1/models", "200"],
            ["POST", "/v1/predict", "200"],
            ["POST", "/v1/predict", "401"],
            ["GET", "/no%0Awhere", "404"],
        ]
        assert not [line for line in service.log if "private" in line or "open to all" in line]
