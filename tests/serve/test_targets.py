"""A service of models for several labels an image, and for a number."""

from collections.abc import Iterator
from dataclasses import replace

import pytest
from fastapi.testclient import TestClient

from models import small_model
from serve.client import client_of, image_file, picture
from vitral.serve.predictor import Predictor
from vitral.vit import ViT

PNG = {"content-type": "image/png"}


def model_for(target: str, **changes: object) -> ViT:
    model = small_model(num_classes=1 if target == "regression" else 3)
    assert model.card is not None
    model.card = replace(model.card, target=target, **changes)
    return model


@pytest.fixture(scope="module")
def client() -> Iterator[TestClient]:
    labels = model_for("multi-label", thresholds=(0.0, 1.0, 0.0))
    with client_of({"labels": labels, "number": model_for("regression")}) as client:
        yield client


def test_labels_from_their_thresholds_on(client: TestClient) -> None:
    (image,) = client.post("/v1/predict", content=image_file(), headers=PNG).json()["images"]
    prediction = Predictor(model_for("multi-label", thresholds=(0.0, 1.0, 0.0)), device="cpu")(picture(0))
    assert {"class 0", "class 2"} == {answer["class"] for answer in image["classes"]} == set(prediction.classes)
    assert [answer["probability"] for answer in image["classes"]] == pytest.approx(prediction.probabilities, abs=1e-5)
    assert "value" not in image
    several = client.post("/v1/predict?top_k=3", content=image_file(), headers=PNG).json()["images"][0]["classes"]
    assert len(several) == 3


def test_no_label(client: TestClient) -> None:
    nothing = Predictor(model_for("multi-label", thresholds=(1.0, 1.0, 1.0)), device="cpu")(picture(0))
    assert (nothing.classes, nothing.probabilities) == ((), ())
    half = Predictor(model_for("multi-label"), device="cpu")(picture(0))
    assert all(value >= 0.5 for value in half.probabilities)


def test_a_number(client: TestClient) -> None:
    (image,) = client.post("/v1/predict?model=number", content=image_file(), headers=PNG).json()["images"]
    prediction = Predictor(model_for("regression"), device="cpu")(picture(0))
    assert image["value"] == pytest.approx(prediction.value, rel=1e-4)
    assert "classes" not in image
    refused = client.post("/v1/predict?model=number&top_k=1", content=image_file(), headers=PNG)
    assert refused.status_code == 422
    assert "predicts a number" in refused.json()["detail"]
