"""Exported and compiled models behind the same routes."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from models import small_model
from serve.client import client_of, image_file, picture
from serve.test_api import PNG, refused
from vitral.errors import UserError
from vitral.export.exported import load_exported
from vitral.export.writing import ExportOptions, export_model
from vitral.serve import ServeConfig, create_app
from vitral.serve.predictor import Predictor

pytestmark = pytest.mark.compile  # a graph is traced without the checks of shapes


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("exported")
    for name, options in {
        "model.onnx": ExportOptions(to="onnx"),
        "model.pt2": ExportOptions(to="torch"),
        "pixels.onnx": ExportOptions(to="onnx", with_preprocessing=True),
    }.items():
        export_model(small_model(), folder / name, options, verify=lambda _: "")
    return folder


@pytest.fixture(scope="module")
def client(folder: Path) -> Iterator[TestClient]:
    with client_of({"eager": small_model(), "onnx": folder / "model.onnx", "torch": folder / "model.pt2"}) as client:
        yield client


@pytest.mark.parametrize("name", ["onnx", "torch"])
def test_an_exported_file_answers_as_its_model(client: TestClient, name: str) -> None:
    image = client.post(f"/v1/predict?model={name}", content=image_file(3), headers=PNG).json()["images"][0]
    prediction = Predictor(small_model(), device="cpu")(picture(3))
    assert image["sha256"] == hashlib.sha256(image_file(3)).hexdigest()
    assert [row["class"] for row in image["classes"]] == list(prediction.classes)
    assert [row["probability"] for row in image["classes"]] == pytest.approx(prediction.probabilities, abs=1e-4)


def test_models_say_what_they_can(client: TestClient) -> None:
    models = {model["name"]: model for model in client.get("/v1/models").json()["models"]}
    assert {name: model["backend"] for name, model in models.items()} == {
        "eager": "eager",
        "onnx": "onnx",
        "torch": "torch",
    }
    assert models["eager"]["parameters"] == models["onnx"]["parameters"] == models["torch"]["parameters"] > 0
    assert models["onnx"]["architecture"] == "ViT"
    assert [(model["features"], model["layers"]) for model in models.values()] == [(True, 2), (False, 0), (False, 0)]
    for route in ("features", "attention"):
        refused(client.post(f"/v1/{route}?model=onnx", content=image_file(), headers=PNG), 422)


def test_what_cannot_be_served_is_one_sentence(folder: Path) -> None:
    with pytest.raises(UserError, match="--with-preprocessing"):
        create_app(folder / "pixels.onnx")
    with pytest.raises(UserError, match="--compile"):
        create_app(folder / "model.onnx", config=ServeConfig(compile=True))
    with pytest.raises(UserError, match="--precision"):
        Predictor(load_exported(folder / "model.onnx"), precision="bfloat16")


@pytest.mark.slow
def test_a_compiled_model_answers_as_an_eager_one() -> None:
    with client_of(small_model(), compile=True) as client:
        assert client.get("/v1/models").json()["models"][0]["backend"] == "compile"
        files = [("image", (f"{seed}.png", image_file(seed))) for seed in range(3)]
        images = client.post("/v1/predict", files=files).json()["images"]
        for seed, image in enumerate(images):
            prediction = Predictor(small_model(), device="cpu")(picture(seed))
            assert image["classes"][0]["class"] == prediction.classes[0]
            assert image["classes"][0]["probability"] == pytest.approx(prediction.probabilities[0], abs=1e-4)
