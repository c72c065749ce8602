"""`vitral export`, and its files as models of other commands."""

import json
import re
import subprocess
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image

import vitral.data.extra
from cli.screen import Screen
from forks import start
from models import small_model
from vitral.data.config import DataConfig
from vitral.datasets.opening import open_data
from vitral.serve.predictor import Predictor
from vitral.weights.folder import save_model


@pytest.fixture(scope="module")
def files(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the run as ONNX, as .pt2 and for OpenVINO, for every image size; made without the shape checks.

    A graph of every size has symbolic lengths, which are no integers to those checks.
    """
    folder = tmp_path_factory.mktemp("exported")
    for ending in (".onnx", ".pt2", ".xml"):
        process = start("export", trained, folder / f"digits{ending}", "--image-size", "dynamic", cwd=folder)
        errors = process.ended()
        assert process.returncode == 0, errors
    return folder


@pytest.fixture
def digits(tmp_path: Path) -> Path:
    """Eight test images as files, one folder per class."""
    source = open_data(DataConfig(source="digits"))["test"]
    for index in range(8):
        folder = tmp_path / "digits" / source.classes[source.labels[index]]
        folder.mkdir(parents=True, exist_ok=True)
        image = source.stored(index)
        assert isinstance(image, Image.Image)
        image.save(folder / f"{index}.png")
    return tmp_path / "digits"


@pytest.mark.parametrize("name", ["digits.onnx", "digits.pt2", "digits.xml"])
def test_the_report_is_beside_the_file(name: str, files: Path) -> None:
    report = json.loads((files / f"{name}.parity.json").read_text())
    weights = (files / "digits.bin").stat().st_size if name.endswith(".xml") else 0
    assert report["bytes"] == (files / name).stat().st_size + weights
    assert report["images"] == "the run's test images"
    assert report["comparisons"][0]["num_images"] == 359
    assert report["labelled"]["num_images"] == 359
    assert report["agreement"] == 1
    assert report["passed"]
    before, after = report["labelled"]["accuracy"]
    assert before == after


@pytest.mark.parametrize("ending", [".onnx", ".pt2", ".xml"])
def test_predict_gives_the_same_answers(ending: str, files: Path, trained: Path, digits: Path, screen: Screen) -> None:
    expected = screen.json("predict", trained, digits)["predictions"]
    found = screen.json("predict", files / f"digits{ending}", digits)["predictions"]
    assert len(found) == 8
    for one, other in zip(found, expected, strict=True):
        assert (one["file"], one["class"]) == (other["file"], other["class"])
        assert one["probability"] == pytest.approx(other["probability"], abs=1e-5)


@pytest.mark.parametrize("ending", [".onnx", ".pt2", ".xml"])
def test_eval_gives_the_same_figures(
    ending: str, files: Path, trained: Path, screen: Screen, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    expected = screen.json("eval", trained, "--out", tmp_path / "run.png")
    found = screen.json("eval", files / f"digits{ending}", "--data.source", "digits", "--out", tmp_path / "file.png")
    assert found["num_images"] == 359
    assert found["confusion"] == expected["confusion"]
    for name in ("top1", "loss", "ece"):
        assert found[name] == pytest.approx(expected[name], abs=1e-5)


def test_a_predictor_takes_a_file(files: Path, trained: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8), np.uint8)
    assert Predictor(files / "digits.onnx")(pixels).classes == Predictor(trained)(pixels).classes


def test_predict_takes_another_size(files: Path, trained: Path, digits: Path, screen: Screen) -> None:
    found = screen.json("predict", files / "digits.onnx", digits, "--image-size", "12")["predictions"]
    expected = screen.json("predict", trained, digits, "--image-size", "12")["predictions"]
    for one, other in zip(found, expected, strict=True):
        assert one["probability"] == pytest.approx(other["probability"], abs=1e-4)


def test_files_are_no_source_of_features(files: Path, screen: Screen) -> None:
    reason = screen.refusal("eval", files / "digits.onnx", "--suite", "knn", "--data.source", "digits")
    assert "logits only" in reason
    assert "exported file" in screen.refusal("export", files / "digits.onnx", files / "again.onnx")
    assert "--data.root" in screen.refusal("eval", files / "digits.onnx")


def test_a_table_and_a_verdict_are_printed(screen: Screen, trained: Path, digits: Path, tmp_path: Path) -> None:
    output = screen.run("export", trained, tmp_path / "a.pt2", "--images", digits)
    for fact in ("float32", str(digits), "8 images with a known class", "identical", "a.pt2.parity.json"):
        assert fact in output
    assert re.search(r"8x8 +│ +16 │ +8 │ +100.00%", output)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.pt2", "a.pt2.parity.json", "digits"]


def test_photographs_are_compared_without_a_run(screen: Screen, tmp_path: Path) -> None:
    model = small_model()
    save_model(tmp_path / "model", model, model.card)
    facts = screen.json("export", tmp_path / "model", tmp_path / "a.pt2")
    assert facts["images"] == "scikit-image's photographs"
    assert facts["labelled"] is None
    assert facts["comparisons"][0]["num_images"] == 48


def test_a_file_that_differs_too_much_stays_with_a_warning(
    screen: Screen, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from vitral.export.exported import ExportedModel, load_exported

    monkeypatch.setattr(ExportedModel, "forward", lambda self, images: self.compute(images).roll(1, 1))
    facts = screen.json("export", trained, tmp_path / "a.pt2", "--max-images", "20", code=1)
    assert not facts["passed"]
    assert facts["comparisons"][0]["num_images"] == 20
    assert load_exported(tmp_path / "a.pt2").metadata.warning == facts["verdict"]
    screen.run("export", trained, tmp_path / "b.pt2", "--max-images", "20", "--tolerance", "0")


WRONG = {
    "another backend": (("x.onnx", "--to", "onx"), "onnx"),
    "another ending": (("x.bin",), "--to"),
    "an ending of another backend": (("x.pt2", "--to", "onnx"), "x.onnx"),
    "a folder that is not there": (("none/x.onnx",), "none does not exist"),
    "a size": (("x.onnx", "--image-size", "big"), "--image-size"),
    "a tolerance": (("x.onnx", "--tolerance", "101"), "--tolerance"),
    "no images": (("x.onnx", "--images", "none"), "none is not a folder"),
    "a number of images": (("x.onnx", "--max-images", "0"), "--max-images"),
    "int8 for PyTorch": (("x.pt2", "--precision", "int8"), "--to torch writes float32"),
    "two sizes": (("x.onnx", "--with-preprocessing", "--image-size", "dynamic"), "--image-size dynamic"),
    "a size that patches do not fill": (("x.onnx", "--image-size", "9"), "9"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_use_is_one_sentence(
    name: str, screen: Screen, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    words, fact = WRONG[name]
    assert fact in screen.refusal("export", trained, *words)
    assert not list(tmp_path.iterdir())


def test_a_file_is_not_overwritten(screen: Screen, trained: Path, tmp_path: Path) -> None:
    (tmp_path / "a.onnx").write_bytes(b"mine")
    assert "exists" in screen.refusal("export", trained, tmp_path / "a.onnx")
    assert (tmp_path / "a.onnx").read_bytes() == b"mine"
    (tmp_path / "a.bin").write_bytes(b"mine")
    assert "a.bin exists" in screen.refusal("export", trained, tmp_path / "a.xml")
    assert not (tmp_path / "a.xml").exists()


@pytest.mark.parametrize(
    ("file", "package", "extra"),
    [("a.onnx", "onnxscript", "export"), ("a.xml", "openvino", "openvino"), ("a.xml", "nncf", "openvino")],
)
def test_a_missing_package_is_named(
    file: str, package: str, extra: str, screen: Screen, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def some(name: str) -> ModuleType:
        if name == package:
            raise ImportError(name)
        return ModuleType(name)

    monkeypatch.setattr(vitral.data.extra, "import_module", some)
    reason = screen.refusal("export", trained, tmp_path / file, "--precision", "int8")
    assert package in reason
    assert f"pip install 'vitral[{extra}]'" in reason
    assert not list(tmp_path.iterdir())


def test_a_full_disk_leaves_nothing(screen: Screen, trained: Path, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=20k", "tmpfs", str(disk)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("this user cannot mount a small disk")
    try:
        assert "No space left on device" in screen.refusal("export", trained, disk / "a.pt2")
        assert not list(disk.iterdir())
    finally:
        subprocess.run(["umount", str(disk)], check=True)
