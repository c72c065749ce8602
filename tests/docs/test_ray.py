"""The service and batch prediction on a local Ray: two replicas, and a script that is killed twice."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import httpx
import pytest

from models import small_model
from photographs import write_photographs
from processes import SECONDS, SOURCES
from serve.client import image_file
from vitral.weights.folder import save_model

SCRIPT = Path(__file__).parents[2] / "docs" / "launch" / "ray_predict.py"
SERVE = [sys.executable, "-m", "ray.serve.scripts", "run"]

pytestmark = pytest.mark.slow


def start(command: list[str], folder: Path) -> subprocess.Popen[str]:
    """Starts a process group with a Ray of its own."""
    ray = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_DEDUP_LOGS": "0"}  # every line has the process that wrote it
    environment = os.environ | ray | {"PYTHONPATH": str(SOURCES), "OMP_NUM_THREADS": "1"}
    with (folder / "log").open("a") as log:
        return subprocess.Popen(
            command, cwd=folder, env=environment, stdout=log, stderr=log, text=True, start_new_session=True
        )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    model = small_model()
    assert model.card is not None
    save_model(tmp_path / "model", model, model.card)
    return tmp_path


def until(condition: Callable[[], bool], process: subprocess.Popen[str], folder: Path) -> None:
    end = time.monotonic() + SECONDS
    while not condition():
        assert process.poll() is None, (folder / "log").read_text()
        assert time.monotonic() < end, (folder / "log").read_text()
        time.sleep(0.005)


def rows(out: Path) -> list[str]:
    return [json.loads(line)["path"] for part in out.glob("part-*") for line in part.read_text().splitlines()]


def test_prediction_that_is_killed_twice_has_one_row_an_image(folder: Path) -> None:
    write_photographs(folder / "photos", per_class=60)
    (folder / "photos" / "broken.jpg").write_bytes(b"no image")
    names = {str(path.relative_to(folder)) for path in (folder / "photos").rglob("*") if path.is_file()}
    command = [sys.executable, str(SCRIPT), "model", "photos", "out", "--processes", "1", "--cpus", "0.5"]
    command += ["--batch-size", "4", "--part", "8"]
    for kills in (1, 2):
        process = start(command, folder)
        until(lambda kills=kills: len(list((folder / "out").glob("part-*"))) >= kills, process, folder)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    before = len(rows(folder / "out"))
    assert 0 < before < len(names)
    process = start(command, folder)
    assert process.wait(SECONDS) == 0, (folder / "log").read_text()
    assert Counter(rows(folder / "out")) == Counter(names)
    assert f"{before} images have a row" in (folder / "log").read_text()
    text = "".join(part.read_text() for part in (folder / "out").glob("part-*"))
    assert text.count('"error"') == 1
    other = start([*command[:2], "other", *command[3:]], folder)
    assert other.wait(SECONDS) == 1


def test_two_replicas_answer(folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    (folder / "config.yaml").write_text(
        f"http_options: {{host: 127.0.0.1, port: {port}}}\n"
        "applications: [{name: vitral, import_path: 'vitral.serve.ray:app', "
        "args: {model: model, replicas: 2, cpus: 0.5}}]\n"
    )
    process = start([*SERVE, "config.yaml"], folder)
    try:
        until(lambda: _ready(port), process, folder)
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:
            headers = {"content-type": "image/png"}

            def both_have_answered() -> bool:
                response = client.post("/v1/predict", content=image_file(), headers=headers)
                assert response.status_code == 200
                return len(set(re.findall(r"ServeReplica\S+ pid=(\d+)", (folder / "log").read_text()))) == 2

            until(both_have_answered, process, folder)  # the second may be ready later
            assert client.post("/v1/predict", content=b"", headers=headers).status_code == 400
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(SECONDS)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def _ready(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/readyz").status_code == 200
    except httpx.HTTPError:
        return False
