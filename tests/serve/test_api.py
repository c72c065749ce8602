"""The routes, what they answer, and what they refuse."""

import base64
import hashlib
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from fastapi.testclient import TestClient
from httpx import Response

from models import small_model
from photographs import png_header
from serve.client import client_of, image_file, picture
from vitral.serve.predictor import Predictor

PNG = {"content-type": "image/png"}


@pytest.fixture(scope="module")
def client() -> Iterator[TestClient]:
    with client_of({"small": small_model(), "blank": small_model(num_classes=5)}) as client:
        yield client


def expected(seed: int) -> dict[str, Any]:
    """What the service must answer for a picture."""
    content, prediction = image_file(seed), Predictor(small_model(), device="cpu")(picture(seed))
    return {
        "sha256": hashlib.sha256(content).hexdigest(),
        "classes": [
            {"class": name, "probability": pytest.approx(probability, abs=1e-5)}
            for name, probability in zip(prediction.classes, prediction.probabilities, strict=True)
        ],
    }


def refused(response: Response, status: int) -> str:
    """The sentence of an error, which must be a problem+json."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    problem = response.json()
    assert (problem["status"], problem["type"]) == (status, "about:blank")
    assert "\n" not in problem["detail"]
    return problem["detail"]


def test_raw_bytes_are_classified(client: TestClient) -> None:
    response = client.post("/v1/predict", content=image_file(), headers=PNG)
    assert response.json() == {"model": "small", "images": [{"name": "images[0]", **expected(0)}]}


def test_several_files_are_classified_in_order(client: TestClient) -> None:
    files = [("image", (f"<script>{seed}.png", image_file(seed))) for seed in range(5)]
    images = client.post("/v1/predict", files=files).json()["images"]
    assert images == [{"name": f"<script>{seed}.png", **expected(seed)} for seed in range(5)]


def test_base64_is_classified(client: TestClient) -> None:
    body = {"images": [{"data": base64.b64encode(image_file(3)).decode(), "name": "three"}]}
    images = client.post("/v1/predict", json=body).json()["images"]
    assert images == [{"name": "three", **expected(3)}]


def test_a_request_names_model_and_number_of_classes(client: TestClient) -> None:
    answer = client.post("/v1/predict?model=blank&top_k=2", content=image_file(), headers=PNG).json()
    assert answer["model"] == "blank"
    assert len(answer["images"][0]["classes"]) == 2


def test_an_image_that_cannot_be_read_leaves_the_others(client: TestClient) -> None:
    files = [("image", ("good.png", image_file())), ("image", ("bad.png", image_file()[:200]))]
    good, bad = client.post("/v1/predict", files=files).json()["images"]
    assert good == {"name": "good.png", **expected(0)}
    assert bad["name"] == "bad.png"
    assert "bad.png" in bad["error"]
    assert bad["sha256"] == hashlib.sha256(image_file()[:200]).hexdigest()


def test_features_are_those_of_the_model(client: TestClient) -> None:
    image = client.post("/v1/features", content=image_file(), headers=PNG).json()["images"][0]
    predictor = Predictor(small_model(), device="cpu")
    pixels = predictor.read(picture(), name="picture")
    features = predictor.extract_features(torch.from_numpy(pixels[None]))[0]
    assert image["features"] == pytest.approx(features.tolist(), abs=1e-5)


def test_attention_is_a_picture(client: TestClient) -> None:
    response = client.post("/v1/attention", content=image_file(), headers=PNG)
    assert response.headers["content-type"] == "image/png"
    assert response.headers["x-image-sha256"] == hashlib.sha256(image_file()).hexdigest()
    assert response.content.startswith(b"\x89PNG")


def test_attention_of_a_layer_is_the_rollout_up_to_it(client: TestClient) -> None:
    first, last, whole = (
        client.post(f"/v1/attention?{query}", content=image_file(), headers=PNG).content
        for query in ("layer=1", "layer=2", "model=small")
    )
    assert first != last == whole
    for layer in ("0", "3", "x"):
        assert "layer" in refused(client.post(f"/v1/attention?layer={layer}", content=image_file(), headers=PNG), 422)


def test_models_are_listed(client: TestClient) -> None:
    first, second = client.get("/v1/models").json()["models"]
    assert (first["name"], second["name"]) == ("small", "blank")
    assert first["classes"] == ["class 0", "class 1", "class 2"]
    assert first["image_size"] == [16, 24]
    assert first["ready"] is first["attention"] is True


def test_metrics_count_requests_and_batches(client: TestClient) -> None:
    client.post("/v1/predict", content=image_file(), headers=PNG)
    client.get("/some/path")
    text = client.get("/metrics").text
    assert re.search(r'vitral_requests_total\{path="/v1/predict",status="200"\} [1-9]', text)
    assert re.search(r'vitral_requests_total\{path="other",status="404"\} [1-9]', text)
    assert re.search(r'vitral_images_total\{model="small",outcome="computed"\} [1-9]', text)
    assert 'vitral_queue_images{model="small"} 0.0' in text
    assert "vitral_batch_images_bucket" in text
    assert "/some/path" not in text


@pytest.mark.parametrize(
    ("status", "content", "kind"),
    [
        (400, image_file()[:200], "image/png"),
        (400, b"", "image/png"),
        (400, image_file(form="JPEG")[:500], "image/jpeg"),
        (413, png_header(20000, 10000), "image/png"),
        (415, b"a cat", "image/jpeg"),
        (415, b"%PDF-1.4", "application/octet-stream"),
        (415, image_file(), "text/plain"),
        (415, image_file(), "application/x-www-form-urlencoded"),
        (400, b"{", "application/json"),
        (400, b"[" * 100_000, "application/json"),
        (422, b"[]", "application/json"),
        (422, b'{"images": [3]}', "application/json"),
        (422, b'{"images": [{"data": "", "name": 3}]}', "application/json"),
        (400, b'{"images": []}', "application/json"),
        (400, b'{"images": [{"data": "?"}]}', "application/json"),
        (400, b"--b\r\n", "multipart/form-data"),
        (400, b"nothing", "multipart/form-data; boundary=b"),
        (400, b"--b\r\nContent-Disposition: form-data\r\n\r\nx\r\n--b--\r\n", "multipart/form-data; boundary=b"),
    ],
)
def test_bodies_are_refused(client: TestClient, status: int, content: bytes, kind: str) -> None:
    refused(client.post("/v1/predict", content=content, headers={"content-type": kind}), status)


def test_a_truncated_multipart_is_refused(client: TestClient) -> None:
    part = b'--b\r\nContent-Disposition: form-data; name="image"; filename="a.png"\r\n\r\n' + image_file()
    whole = part + b"\r\n--b--\r\n"
    headers = {"content-type": "multipart/form-data; boundary=b"}
    assert client.post("/v1/predict", content=whole, headers=headers).status_code == 200
    for length in (10, len(part) // 2, len(part), len(whole) - 5):
        assert "truncated" in refused(client.post("/v1/predict", content=whole[:length], headers=headers), 400)


@pytest.mark.parametrize(
    ("query", "name"),
    [
        ("top_k=0", "top_k"),
        ("top_k=4", "top_k"),
        ("top_k=x", "top_k"),
        ("model=smal", "small"),
        ("timeout=0", "timeout"),
    ],
)
def test_wrong_parameters_are_refused(client: TestClient, query: str, name: str) -> None:
    assert name in refused(client.post(f"/v1/predict?{query}", content=image_file(), headers=PNG), 422)


def test_attention_is_drawn_of_one_image(client: TestClient) -> None:
    files = [("image", ("a.png", image_file()))] * 2
    assert "one image" in refused(client.post("/v1/attention", files=files), 422)


def test_attention_of_a_model_without_is_refused() -> None:
    with client_of(small_model(attention="axial", num_heads=2, width=12, pool="gap")) as client:
        assert not client.get("/v1/models").json()["models"][0]["attention"]
        assert "attention" in refused(client.post("/v1/attention", content=image_file(), headers=PNG), 422)


def test_a_model_without_a_head_gives_features_only() -> None:
    model = small_model()
    model.card = replace(model.card, classes=())
    with client_of(model) as client:
        assert "/v1/features" in refused(client.post("/v1/predict", content=image_file(), headers=PNG), 422)
        assert client.post("/v1/features", content=image_file(), headers=PNG).status_code == 200


def test_unknown_paths_and_methods_are_problems(client: TestClient) -> None:
    refused(client.get("/v2/predict"), 404)
    refused(client.get("/v1/predict"), 405)


def test_limits_of_body_and_files() -> None:
    with client_of(max_body=3000, max_files=2) as client:
        assert "3000" in refused(client.post("/v1/predict", content=bytes(3001), headers=PNG), 413)
        # without a length
        chunks = (bytes(1000) for _ in range(4))
        assert "3000" in refused(client.post("/v1/predict", content=chunks, headers=PNG), 413)
        files = [("image", (f"{number}.png", b"x")) for number in range(3)]
        assert "2 images" in refused(client.post("/v1/predict", files=files), 413)
        body = {"images": [{"data": ""}] * 3}
        assert "2 images" in refused(client.post("/v1/predict", json=body), 413)


def test_a_token_is_asked_for() -> None:
    with client_of(token="secret") as client:
        for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "Basic c2VjcmV0"}):
            response = client.post("/v1/predict", content=image_file(), headers=PNG | headers)
            assert "token" in refused(response, 401)
            assert response.headers["www-authenticate"] == "Bearer"
        refused(client.get("/metrics"), 401)
        refused(client.get("/v1/models"), 401)
        right = {"Authorization": "Bearer secret"}
        assert client.post("/v1/predict", content=image_file(), headers=PNG | right).status_code == 200
        assert client.get("/metrics", headers=right).status_code == 200
        assert client.get("/healthz").status_code == client.get("/readyz").status_code == 200


def test_every_response_keeps_the_page_to_this_host(client: TestClient) -> None:
    for response in (client.get("/healthz"), client.get("/nothing"), client.get("/v1/models")):
        policy = response.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy


def test_page_files_are_served_and_nothing_else(client: TestClient) -> None:
    assert "text/html" in client.get("/").headers["content-type"]
    assert "javascript" in client.get("/page/service.js").headers["content-type"]
    assert "text/css" in client.get("/page/style.css").headers["content-type"]
    assert client.get("/page/../app.py").status_code == client.get("/page/%2e%2e/app.py").status_code == 404
    sources = Path(__file__).parents[2] / "src" / "vitral"
    for file in (*(sources / "serve").rglob("*.*"), *(sources / "page").rglob("*.*")):
        if file.suffix in (".html", ".js", ".css"):
            assert "://" not in file.read_text(), file
