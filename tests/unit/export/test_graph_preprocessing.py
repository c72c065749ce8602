"""Preprocessing inside the graph is Pillow's."""

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnxruntime
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageOps
from torch import Tensor, nn

from models import small_model
from photographs import FORMS, PHOTOGRAPHS, write_photographs
from vitral.data.images.preprocess import Preprocessing
from vitral.export.graph import trace_pixels
from vitral.export.onnx_file import to_onnx
from vitral.export.openvino_file import import_quietly
from vitral.export.preprocessing import WithPreprocessing

SQUASH = Preprocessing(image_size=(48, 64), channels=3, mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.4))
SQUARE = Preprocessing(image_size=(64, 64), channels=3)
Resize = Literal["squash", "crop", "squash_crop"]
MODES: tuple[Resize, ...] = ("squash", "crop", "squash_crop")
RESIZES = {
    f"{resize}, {interpolation}": replace(SQUASH, resize=resize, interpolation=interpolation)
    for resize in MODES
    for interpolation in ("bilinear", "bicubic", "lanczos")
}
RESIZES["the whole centre"] = replace(SQUASH, resize="crop", crop_ratio=1.0)


def resized(preprocessing: Preprocessing, image: Image.Image) -> np.ndarray:
    network = WithPreprocessing(nn.Identity(), preprocessing)
    levels = network.resize(torch.from_numpy(np.array(image))[None])
    return levels[0].permute(1, 2, 0).numpy()


@pytest.mark.parametrize("form", RESIZES)
@pytest.mark.parametrize("size", [(300, 451), (451, 300), (40, 30), (48, 64), (49, 200), (7, 7), (301, 3), (3, 301)])
def test_pixels_are_those_of_pillow(form: str, size: tuple[int, int]) -> None:
    height, width = size
    image = Image.fromarray(PHOTOGRAPHS["coffee"]()).crop((60, 20, 60 + width, 20 + height))
    assert np.array_equal(resized(RESIZES[form], image), RESIZES[form].pixels(image))


@given(height=st.integers(1, 90), width=st.integers(1, 90), resize=st.sampled_from(MODES), ratio=st.floats(0.3, 1))
def test_images_of_any_size_are_cropped_alike(height: int, width: int, resize: Resize, ratio: float) -> None:
    preprocessing = replace(SQUASH, image_size=(16, 24), resize=resize, crop_ratio=ratio)
    noise = np.random.default_rng(height * 91 + width).integers(0, 256, (height, width, 3), np.uint8)
    assert np.array_equal(resized(preprocessing, Image.fromarray(noise)), preprocessing.pixels(Image.fromarray(noise)))


def test_the_network_gets_normalised_images() -> None:
    image = Image.fromarray(PHOTOGRAPHS["cat"]())
    expected = SQUASH.normalise(torch.from_numpy(SQUASH.pixels(image))[None])
    found = WithPreprocessing(nn.Identity(), SQUASH)(torch.from_numpy(np.array(image))[None])
    assert (found - expected).abs().max() < 1e-5


def documented_reading() -> Callable[[Path], np.ndarray]:
    """The function `read` of the guide."""
    guide = (Path(__file__).parents[3] / "docs" / "export.md").read_text()
    block = re.search(r"^```python\n(def read.*?)^```", guide, re.MULTILINE | re.DOTALL)
    assert block is not None
    names: dict[str, Any] = {"np": np, "Image": Image, "ImageOps": ImageOps}
    exec(block[1], names)
    return names["read"]


def compared(run: Callable[[np.ndarray], np.ndarray], files: list[Path], network: nn.Module) -> tuple[float, float]:
    """Mean difference of pixels, in levels, in the worst file; largest difference of outputs, of the largest output."""
    read = documented_reading()
    levels, outputs, scale = 0.0, 0.0, 0.0
    for file in files:
        pixels = torch.from_numpy(SQUARE.pixels(SQUARE.read(file, name=file.name)))
        normalised = SQUARE.normalise(pixels[None])
        with torch.no_grad():
            expected = network(normalised)
        found = torch.from_numpy(run(read(file)[None]))
        resized, output = found[:, : pixels.numel()], found[:, pixels.numel() :]
        levels = max(levels, 127.5 * (resized - normalised.flatten(1)).abs().mean().item())
        outputs, scale = max(outputs, (output - expected).abs().max().item()), max(scale, expected.abs().max().item())
    return levels, outputs / scale


@pytest.mark.compile
def test_one_graph_resizes_thin_images_too() -> None:
    """Pillow resizes rows of very tall images first."""
    graph = trace_pixels(WithPreprocessing(nn.Flatten(), SQUARE), channels=3, image_hw=SQUARE.image_size)
    proto = to_onnx(graph, outputs=["logits"])
    assert "If" not in {node.op_type for node in proto.graph.node}  # OpenVINO and NNCF fail on it
    session = onnxruntime.InferenceSession(proto.SerializeToString())
    for size in ((701, 3), (3, 701), (300, 3), (301, 3), (101, 1), (70, 90)):
        noise = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
        pixels = torch.from_numpy(SQUARE.pixels(Image.fromarray(noise)))
        (found,) = session.run(None, {"pixels": noise[None]})
        assert np.array_equal(found, SQUARE.normalise(pixels[None]).flatten(1).numpy())


@pytest.mark.compile
def test_photographs_of_every_mode_give_the_models_outputs(tmp_path: Path) -> None:
    model = small_model(image_size=SQUARE.image_size, width=24)

    class PixelsAndOutputs(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, images: Tensor) -> Tensor:
            return torch.cat([images.flatten(1), self.model(images)], 1)

    files = [file for file in sorted(write_photographs(tmp_path, per_class=len(FORMS)).rglob("*")) if file.is_file()]
    assert len(files) == 72
    graph = WithPreprocessing(PixelsAndOutputs(), SQUARE)
    content = to_onnx(
        trace_pixels(graph, channels=3, image_hw=SQUARE.image_size), outputs=["logits"]
    ).SerializeToString()
    session = onnxruntime.InferenceSession(content)
    levels, outputs = compared(lambda pixels: session.run(None, {"pixels": pixels})[0], files, model)
    assert levels < 0.5
    assert outputs < 0.02
    core = import_quietly("openvino", "this test").Core()
    compiled = core.compile_model(core.read_model(content), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    levels, outputs = compared(lambda pixels: compiled.infer_new_request(pixels)[0], files, model)
    assert levels < 0.5
    assert outputs < 0.02
