"""The guide from a run to production: its programs in other languages, and its configuration of Triton."""

import json
import os
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnx
import pytest
from PIL import Image

from models import SMALL, small_model
from vitral.export.exported import ExportedModel
from vitral.export.writing import ExportOptions, export_model
from vitral.files import cache_folder
from vitral.serve.predictor import Predictor
from vitral.vit import ViT

GUIDE = (Path(__file__).parents[2] / "docs" / "export.md").read_text()

PACKAGES = ("onnxruntime-node@1.24.3", "sharp@0.35.5")
"""What the guide's program for Node needs; the first has 210 MB."""


def export(model: ViT, path: Path, *, with_preprocessing: bool) -> onnx.ModelProto:
    def accept(_: ExportedModel) -> str:
        return ""

    export_model(model, path, ExportOptions(to="onnx", with_preprocessing=with_preprocessing), verify=accept)
    return onnx.load(path)


def fields(text: str) -> dict[str, str]:
    """The fields of a Triton's input or output."""
    return dict(re.findall(r"(\w+): (\[.*?\]|\w+|\"\w+\")", text))


@pytest.mark.compile
@pytest.mark.slow
def test_tritons_configuration_has_the_names_and_shapes_of_the_file(tmp_path: Path) -> None:
    (config,) = re.findall(r"```text\n(backend: .*?)```", GUIDE, re.DOTALL)
    (source,), (target,) = (re.findall(rf"{name} \[ \{{(.*)\}} \]", config) for name in ("input", "output"))
    model = small_model(replace(SMALL, image_size=(224, 224), patch_size=112, num_classes=1000))
    graph = export(model, tmp_path / "model.onnx", with_preprocessing=False).graph
    for text, (value,) in ((source, graph.input), (target, graph.output)):
        found = fields(text)
        assert json.loads(found["name"]) == value.name
        assert found["data_type"] == "TYPE_FP32"
        assert value.type.tensor_type.elem_type == onnx.TensorProto.FLOAT
        batch, *lengths = value.type.tensor_type.shape.dim
        assert batch.dim_param == "batch"  # Triton adds it to `dims`
        assert json.loads(found["dims"]) == [length.dim_value for length in lengths]


def program(language: str) -> str:
    """The guide's program for ONNX Runtime in a language."""
    blocks = re.findall(rf"```{language}\n(.*?)```", GUIDE, re.DOTALL)
    return next(block for block in blocks if "InferenceSession" in block)


@pytest.mark.parametrize("language", ["python", "js", "csharp"])
def test_a_program_has_ten_lines(language: str) -> None:
    lines = [line for line in program(language).splitlines() if line]
    if language == "csharp":
        lines = [line for line in lines if not re.fullmatch(r"using [A-Z][\w.]*;", line)]
    assert len(lines) <= 10


def write_photograph(folder: Path, *, seed: int) -> Path:
    """Squares of colours, because programs decode the colours of neighbours a little differently."""
    pixels = np.random.default_rng(seed).integers(0, 256, (4, 6, 3), np.uint8).repeat(16, 0).repeat(16, 1)
    path = folder / "holiday" / "one.jpg"
    path.parent.mkdir(exist_ok=True)
    Image.fromarray(pixels).save(path, quality=95, subsampling=0)
    return path


@pytest.mark.compile
def test_the_program_in_python_gives_the_models_class(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    model = small_model()
    export(model, tmp_path / "photos.onnx", with_preprocessing=True)
    monkeypatch.chdir(tmp_path)
    for seed in range(3):
        photograph = write_photograph(tmp_path, seed=seed)
        exec(program("python"), {})
        assert capsys.readouterr().out.strip() == Predictor(model)(photograph).classes[0]


def install(folder: Path) -> None:
    """Installs the packages into `folder/installed`; without the script that downloads the runtime for GPUs."""
    words = ["npm", "install", "--ignore-scripts", "--no-audit", "--no-fund", "--prefix", "installed", *PACKAGES]
    (folder / "installed").mkdir()
    try:
        process = subprocess.run(words, cwd=folder, capture_output=True, text=True, check=False, timeout=600)
    except subprocess.TimeoutExpired:
        pytest.skip(f"npm does not install {', '.join(PACKAGES)} within ten minutes: is the network down?")
    if process.returncode:
        pytest.skip(f"npm cannot install {', '.join(PACKAGES)}: {process.stderr.strip()[:200]}")


@pytest.fixture(scope="module")
def node_modules() -> Path:
    """The packages, which npm downloads once into the cache folder."""
    if not (shutil.which("npm") and shutil.which("node")):
        pytest.skip("needs Node and npm: apt-get install npm")
    folder = cache_folder() / "guide-for-node"
    if not all((folder / "node_modules" / package.partition("@")[0]).is_dir() for package in PACKAGES):
        folder.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=folder.parent) as new:
            install(Path(new))
            shutil.rmtree(folder, ignore_errors=True)
            (Path(new) / "installed").rename(folder)
    return folder / "node_modules"


@pytest.mark.compile
@pytest.mark.slow
def test_the_program_for_node_gives_the_models_class(tmp_path: Path, node_modules: Path) -> None:
    (tmp_path / "program.mjs").write_text(program("js"))
    (tmp_path / "node_modules").symlink_to(node_modules)
    model = small_model()
    metadata = export(model, tmp_path / "photos.onnx", with_preprocessing=True).metadata_props
    (tmp_path / "classes.json").write_text({entry.key: entry.value for entry in metadata}["classes"])
    for seed in range(3):
        photograph = write_photograph(tmp_path, seed=seed)
        process = subprocess.run(
            ["node", "program.mjs"], cwd=tmp_path, capture_output=True, text=True, check=False, env=dict(os.environ)
        )
        assert process.returncode == 0, process.stderr
        assert process.stdout.strip() == Predictor(model)(photograph).classes[0]
