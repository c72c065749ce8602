"""Models in processes of their own, which may die."""

import os
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from chaos.services import alive
from processes import SECONDS, wrong_use
from serve.client import image_file
from serve.running import Running, running, slow_model
from serve.test_api import PNG


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("workers")
    with running(folder, str(slow_model(folder / "slow")), "--workers", "2", "--max-batch", "1") as service:
        wait_until(lambda: len(workers(service)) == 2)
        yield service


def workers(service: Running) -> list[int]:
    """Processes that compute."""
    listed = subprocess.run(
        ["ps", "-ww", "--ppid", str(service.process.pid), "-o", "pid=,args="],
        capture_output=True,
        text=True,
        check=False,
    )
    return [int(line.split()[0]) for line in listed.stdout.splitlines() if "spawn_main" in line]


def wait_until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + SECONDS / 2
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def classify(service: Running) -> httpx.Response:
    return httpx.post(f"{service.url}/v1/predict", content=image_file(), headers=PNG, timeout=SECONDS)


def test_answers_and_errors_come_from_workers(service: Running) -> None:
    image = classify(service).json()["images"][0]
    assert len(image["classes"]) == 5
    for content, status in ((b"no image", 415), (image_file()[:200], 400)):
        assert httpx.post(f"{service.url}/v1/predict", content=content, headers=PNG).status_code == status
    late = httpx.post(f"{service.url}/v1/predict?timeout=0.0001", content=image_file(), headers=PNG)
    assert late.status_code == 504
    drawn = httpx.post(f"{service.url}/v1/attention?layer=2", content=image_file(), headers=PNG, timeout=SECONDS)
    assert drawn.content.startswith(b"\x89PNG")
    assert service.figure("vitral_images_total", model="slow", outcome="computed") >= 1


def test_a_worker_that_dies_is_replaced_and_its_requests_are_answered(service: Running) -> None:
    before = workers(service)
    with ThreadPoolExecutor(32) as pool:
        for worker in before:
            os.kill(worker, signal.SIGSTOP)
        requests = [pool.submit(classify, service) for _ in range(32)]
        wait_until(lambda: service.figure("vitral_queue_images", model="slow") == 32)
        os.kill(before[0], signal.SIGKILL)
        os.kill(before[1], signal.SIGCONT)
        responses = [request.result(SECONDS) for request in requests]
    assert Counter(response.status_code for response in responses) == {200: 16, 503: 16}
    for response in responses:
        if response.status_code == 503:
            assert response.headers["retry-after"] == "1"
    assert classify(service).status_code == 200  # by the other one
    wait_until(lambda: len(workers(service)) == 2)
    assert set(workers(service)) != set(before)
    assert [line for line in service.log if "signal 9" in line]
    assert service.figure("vitral_queue_images", model="slow") == 0


@pytest.mark.slow
def test_workers_end_with_the_service(tmp_path: Path) -> None:
    with running(tmp_path, str(slow_model(tmp_path / "slow")), "--workers", "1") as service:
        before = workers(service)
        assert service.stop() == 0
        assert not any(alive(worker) for worker in before)
    with running(tmp_path, "slow", "--workers", "1") as service:
        before = workers(service)
        service.process.kill()
        wait_until(lambda: not any(alive(worker) for worker in before))


def test_a_model_that_a_worker_cannot_load_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "bad.onnx").write_bytes(b"no model")
    assert "bad.onnx" in wrong_use("serve", "bad.onnx", "--workers", "1", "--port", "0", cwd=tmp_path)
