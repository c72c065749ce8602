"""`vitral serve --isolate`: a decoder that crashes costs its image, and the next request is answered."""

import sys

import pytest

import hostile
from models import small_model
from serve.client import client_of, image_file
from vitral.serve import decoding

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="--isolate needs Linux")

PNG = {"content-type": "image/png"}


def test_the_answers_are_the_same() -> None:
    answers = []
    for isolate in (False, True):
        with client_of(small_model(), isolate=isolate) as client:
            answer = client.post("/v1/predict", content=image_file(), headers=PNG).json()
            attention = client.post("/v1/attention", content=image_file(), headers=PNG)
            damaged = client.post("/v1/predict", content=image_file()[:200], headers=PNG)
            other = client.post("/v1/predict", content=b"text", headers=PNG)
            refused = [(response.status_code, response.json()["detail"]) for response in (damaged, other)]
            answers.append((answer["images"], attention.status_code, attention.content, refused))
    assert answers[0] == answers[1]
    assert [code for code, _ in answers[1][3]] == [400, 415]


def test_a_decoder_that_crashes_is_a_problem_of_the_image(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding, "read_arrays", hostile.read_or_crash)
    with client_of(small_model(), isolate=True) as client:
        for _ in range(6):  # more often than there are processes
            crashed = client.post("/v1/predict", content=b"crash", headers=PNG)
            assert crashed.status_code == 400
            assert "decoder was stopped" in crashed.json()["detail"]
        assert client.post("/v1/predict", content=image_file(), headers=PNG).status_code == 200


def test_a_decoder_that_hangs_is_over_with_the_request(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding, "read_arrays", hostile.read_or_crash)
    with client_of(small_model(), isolate=True) as client:
        late = client.post("/v1/predict?timeout=1", content=b"sleep", headers=PNG)
        assert late.status_code in (503, 504)
        assert client.post("/v1/predict", content=image_file(), headers=PNG).status_code == 200
