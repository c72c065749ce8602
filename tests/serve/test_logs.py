"""The log: lines or JSON, and a stream that fails or blocks without stopping anything."""

import json
import logging
import subprocess
import sys
import time
from pathlib import Path
from threading import Event

import httpx
import pytest

from models import small_model
from processes import SECONDS, SOURCES
from serve.client import client_of, image_file
from serve.test_api import PNG
from vitral.serve import logs
from vitral.serve.logs import logging_to
from vitral.serve.server import bind
from vitral.weights.folder import save_model

ACCESS = logging.getLogger("vitral.access")


class Stream:
    """Text that was written; fails or blocks as long as it should, and counts the failures."""

    def __init__(self) -> None:
        self.text, self.fails, self.failures, self.flows = "", False, 0, Event()
        self.flows.set()

    def write(self, text: str) -> None:
        self.flows.wait()
        if self.fails:
            self.failures += 1
            raise OSError(28, "No space left on device")
        self.text += text

    def flush(self) -> None:
        pass


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """The end of the log waits for its last lines, however busy the machine."""
    monkeypatch.setattr(logs, "CLOSE_SECONDS", SECONDS)


@pytest.mark.usefixtures("patient")
def test_json_has_the_values_of_requests_and_messages() -> None:
    stream = Stream()
    with logging_to(stream, "json"), client_of() as client:
        client.post("/v1/predict?top_k=1", content=image_file(), headers=PNG)
        client.get("/no%0Awhere")
        client.portal.call(client.app.state.models.reload)
        try:
            raise RuntimeError("why")
        except RuntimeError:
            logging.getLogger("vitral.serve").exception("failed")
    lines = [json.loads(line) for line in stream.text.splitlines()]
    first, second, third, fourth = lines
    assert (first["method"], first["path"], first["status"], first["level"]) == ("POST", "/v1/predict", 200, "info")
    assert first["milliseconds"] > 0
    assert second["path"] == "/no%0Awhere"
    assert "reloaded" in third["message"]
    assert (fourth["level"], fourth["message"]) == ("error", "failed")
    assert "RuntimeError: why" in fourth["traceback"]


@pytest.mark.usefixtures("patient")
def test_lines_that_cannot_be_written_are_counted() -> None:
    stream = Stream()
    with logging_to(stream, "text"):
        stream.fails = True
        for _ in range(3):
            ACCESS.info("lost")
        end = time.monotonic() + SECONDS
        while stream.failures < 3:
            assert time.monotonic() < end
            time.sleep(0.01)
        stream.fails = False
        ACCESS.info("kept")
        ACCESS.info("kept too")
    first, second, third = stream.text.splitlines()
    assert "3 lines of the log were lost" in first
    assert second.endswith("kept")
    assert third.endswith("kept too")


def test_a_stream_that_blocks_holds_up_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "MAX_WAITING", 10)
    monkeypatch.setattr(logs, "CLOSE_SECONDS", 0.1)
    stream = Stream()
    stream.flows.clear()
    start = time.monotonic()
    with logging_to(stream, "text"):
        for _ in range(100):
            ACCESS.info("line")
    assert time.monotonic() - start < 5
    assert not stream.text
    stream.flows.set()


def test_a_full_disk_does_not_stop_the_service(tmp_path: Path) -> None:
    model = small_model()
    assert model.card is not None
    save_model(tmp_path / "model", model, model.card)
    with bind("127.0.0.1", 0) as reserved:  # which the service may listen on, and no connection of others take
        url = f"http://127.0.0.1:{reserved.getsockname()[1]}"
        command = [sys.executable, "-m", "vitral", "serve", str(tmp_path / "model"), "--port", url.rpartition(":")[2]]
        with Path("/dev/full").open("w") as full:
            process = subprocess.Popen(command, stderr=full, env={"PYTHONPATH": str(SOURCES)})
        try:
            end, answers = time.monotonic() + SECONDS, 0
            while answers < 3:
                assert process.poll() is None
                assert time.monotonic() < end
                try:
                    response = httpx.post(f"{url}/v1/predict", content=image_file(), headers=PNG, timeout=SECONDS)
                    answers += response.status_code == 200
                except httpx.ConnectError:
                    time.sleep(0.1)
        finally:
            process.terminate()
        assert process.wait(SECONDS) == 0
