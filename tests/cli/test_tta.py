"""`--tta` of `vitral eval` and `vitral predict`."""

from pathlib import Path

import pytest
from PIL import Image

from cli.screen import Screen
from vitral.datasets.opening import open_data
from vitral.evals.predictions import predict_all
from vitral.runs.run import Run
from vitral.serve.predictor import Predictor
from vitral.train.config import read_run_config


@pytest.mark.parametrize("tta", ["flip", "ten-crop"])
def test_eval(screen: Screen, trained: Path, tmp_path: Path, tta: str) -> None:
    """The metrics are those of the averaged probabilities."""
    found = screen.json("eval", trained, "--tta", tta, "--out", tmp_path / "confusion.png")
    assert f"test-time augmentation: {tta}" in screen.errors
    assert found["tta"] == tta
    predictor, data = Predictor(trained, tta=tta), read_run_config(Run.open(trained)).data
    images = open_data(data)["test"]
    expected = predict_all(predictor.logits, images, preprocessing=predictor.preprocessing, data=data).accuracy()
    assert (found["top1"], found["loss"]) == pytest.approx((expected.top1, expected.loss))
    plain = screen.json("eval", trained, "--out", tmp_path / "confusion.png")
    assert plain["tta"] == "none"
    assert plain["loss"] != pytest.approx(found["loss"], abs=1e-7)


def test_predict(screen: Screen, trained: Path, tmp_path: Path) -> None:
    image = Image.linear_gradient("L")
    image.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "a.png")
    image.transpose(Image.Transpose.ROTATE_270).save(tmp_path / "b.png")  # its mirror image
    found = screen.json("predict", trained, tmp_path / "a.png", tmp_path / "b.png", "--tta", "flip")
    one, other = (row["probability"] for row in found["predictions"])
    assert one == pytest.approx(other, abs=1e-6)


def test_an_unknown_augmentation(screen: Screen, trained: Path) -> None:
    assert "ten-crop" in screen.refusal("predict", trained, "photo.png", "--tta", "crops")
    screen.run("eval", trained, "--tta", "crops", code=2)
    assert "ten-crop" in screen.errors
