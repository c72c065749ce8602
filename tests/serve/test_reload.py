"""SIGHUP: the models are loaded anew, and no request is lost."""

import shutil
import signal
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event

import httpx
import pytest

from models import small_model
from processes import SECONDS
from serve.client import client_of, image_file
from serve.running import Running, running
from serve.test_api import PNG
from vitral.errors import UserError
from vitral.weights.folder import save_model

CLIENTS = 8


def save(folder: Path, *, seed: int) -> None:
    model = small_model(seed=seed)
    assert model.card is not None
    save_model(folder, model, model.card)


def wait_for_log(service: Running, words: str) -> None:
    end = time.monotonic() + SECONDS
    while not any(words in line for line in service.log):
        assert time.monotonic() < end, service.log
        time.sleep(0.02)


def load(url: str, stopped: Event) -> Counter[tuple[int, float]]:
    """Asks until it is stopped; how often each status and probability came."""
    outcomes = Counter[tuple[int, float]]()
    with httpx.Client(base_url=url, timeout=SECONDS) as client:
        while not stopped.is_set():
            response = client.post("/v1/predict", content=image_file(), headers=PNG)
            probability = response.json()["images"][0]["classes"][0]["probability"] if response.is_success else 0.0
            outcomes[response.status_code, round(probability, 4)] += 1
    return outcomes


@pytest.mark.parametrize("workers", ["0", pytest.param("1", marks=pytest.mark.slow)])
def test_a_reload_under_load_is_not_one_error(tmp_path: Path, workers: str) -> None:
    save(tmp_path / "model", seed=0)
    stopped = Event()
    with running(tmp_path, "model", "--workers", workers) as service, ThreadPoolExecutor(CLIENTS) as pool:
        clients = [pool.submit(load, service.url, stopped) for _ in range(CLIENTS)]
        try:
            shutil.rmtree(tmp_path / "model")
            service.process.send_signal(signal.SIGHUP)
            wait_for_log(service, "the models stay as they were")
            save(tmp_path / "model", seed=1)
            service.process.send_signal(signal.SIGHUP)
            wait_for_log(service, "the models were reloaded")
            time.sleep(0.5)
        finally:
            stopped.set()
        outcomes = sum((client.result(SECONDS) for client in clients), Counter[tuple[int, float]]())
        assert service.stop() == 0
    assert {status for status, _ in outcomes} == {200}, outcomes
    assert len(outcomes) == 2, "the old model and the new one answered, and nothing in between"
    assert not [line for line in service.log if "Traceback" in line]


def test_models_are_what_the_function_gives() -> None:
    seeds = iter((0, 1))

    def models() -> dict[str, object]:
        try:
            return {"model": small_model(num_classes=3 + next(seeds))}
        except StopIteration:
            raise UserError("there is none left") from None

    with client_of(models) as client:
        reload = client.app.state.models.reload
        for expected in (4, 4):  # the third is not there, so the second stays
            client.portal.call(reload)
            assert len(client.get("/v1/models").json()["models"][0]["classes"]) == expected
            assert client.post("/v1/predict", content=image_file(), headers=PNG).status_code == 200
