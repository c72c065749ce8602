"""OpenVINO's files: two of them, in three precisions, without a word to anybody. Without the shape checks."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

import vitral.export.writing as writing
from models import small_card, small_model
from processes import SOURCES
from vitral.errors import UserError
from vitral.export.exported import ExportedModel, load_exported
from vitral.export.images import photographs
from vitral.export.openvino_file import import_quietly
from vitral.export.parity import ParityReport, compare
from vitral.export.writing import ExportOptions, export_model
from vitral.vit import ViT
from vitral.weights.folder import save_model

openvino = import_quietly("openvino", "this test")


def model() -> ViT:
    return small_model(image_size=(32, 48), width=24)


def inputs(of: ViT, *, whole: bool) -> Iterator[Tensor]:
    assert of.card is not None
    for part, _ in photographs().batches(of.card.preprocessing, 16):
        yield from [image[None] for image in part.whole] if whole else [of.card.preprocessing.normalise(part.pixels)]


def export(of: ViT, path: Path, **options: Any) -> ParityReport:
    reports = []

    def verify(exported: ExportedModel) -> str:
        reports.append(compare(of, exported, photographs()))
        return "a warning"

    calibration = None
    if options.get("precision") == "int8":
        calibration = inputs(of, whole=options.get("with_preprocessing", False))
    export_model(of, path, ExportOptions(to="openvino", **options), calibration=calibration, verify=verify)
    return reports[0]


@pytest.mark.compile
@pytest.mark.parametrize(
    ("options", "bound"),
    [
        (dict(image_size="dynamic"), 1e-5),
        (dict(precision="float16"), 5e-3),
        (dict(with_preprocessing=True), 5e-3),
        pytest.param(dict(precision="int8"), 0.1, marks=pytest.mark.slow),
        pytest.param(dict(precision="int8", with_preprocessing=True), 0.1, marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_a_file_is_its_model(options: dict[str, Any], bound: float, tmp_path: Path) -> None:
    of = model()
    report = export(of, tmp_path / "model.xml", **options)
    assert max(row.largest / row.scale for row in report.comparisons) < bound
    assert {path.name for path in tmp_path.iterdir()} == {"model.xml", "model.bin"}
    exported = load_exported(tmp_path / "model.xml")
    assert (exported.card, exported.config) == (of.card, of.config)
    assert exported.metadata.warning == "a warning"


@pytest.mark.compile
def test_the_first_call_at_each_size_is_right(tmp_path: Path) -> None:
    """After a branch in the graph, OpenVINO 2026.4 computed the first call at a size from memory never written."""
    of = small_model(image_size=(8, 8), patch_size=2, width=96, depth=4)
    assert of.card is not None
    preprocessing = of.card.preprocessing
    export(of, tmp_path / "model.xml", with_preprocessing=True)
    exported = load_exported(tmp_path / "model.xml")
    generator = torch.Generator().manual_seed(0)
    for size in ((8, 8), (30, 20), (9, 50)):
        for batch in (1, 3, 16):
            images = torch.randint(256, (batch, *size, 3), dtype=torch.uint8, generator=generator)
            pixels = np.stack([preprocessing.pixels(Image.fromarray(image.numpy())) for image in images])
            with torch.no_grad():
                expected = of(preprocessing.normalise(torch.from_numpy(pixels)))
            assert (exported(images) - expected).abs().max() < 0.02 * expected.abs().max(), (size, batch)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("openvino") / "model.xml"
    export(model(), path)
    return path


@pytest.mark.compile
def test_both_files_are_needed(written: Path, tmp_path: Path) -> None:
    (tmp_path / "a.xml").write_bytes(written.read_bytes())
    with pytest.raises(UserError, match=r"a\.bin, which is not beside it"):
        load_exported(tmp_path / "a.xml")
    (tmp_path / "a.bin").write_bytes(written.with_suffix(".bin").read_bytes()[:100])
    with pytest.raises(UserError, match=r"a\.xml cannot be read by OpenVINO"):
        load_exported(tmp_path / "a.xml")


@pytest.mark.parametrize("content", [b"", b"no model at all", b"<net name='x' version='11'><layers>", b"<svg/>"])
def test_a_damaged_file_is_named(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.xml").write_bytes(content)
    (tmp_path / "a.bin").write_bytes(b"")
    with pytest.raises(UserError, match=r"a\.xml cannot be read by OpenVINO: .") as refusal:
        load_exported(tmp_path / "a.xml")
    assert "\n" not in str(refusal.value)


def test_another_programs_file_is_refused(tmp_path: Path) -> None:
    source = openvino.opset13.parameter([1, 3], openvino.Type.f32)
    openvino.save_model(openvino.Model([openvino.opset13.relu(source)], [source], "other"), tmp_path / "other.xml")
    with pytest.raises(UserError, match=r"other\.xml was not written by vitral export"):
        load_exported(tmp_path / "other.xml")


def test_int8_needs_images(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--images"):
        export_model(
            model(), tmp_path / "a.xml", ExportOptions(to="openvino", precision="int8"), verify=lambda exported: ""
        )
    assert not list(tmp_path.iterdir())


@pytest.mark.compile
def test_a_full_disk_leaves_neither_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = writing.write_atomically

    def full(path: Path, content: Any) -> None:
        if path.suffix == ".xml":
            raise OSError(28, "No space left on device", str(path))
        write(path, content)

    monkeypatch.setattr(writing, "write_atomically", full)
    with pytest.raises(OSError, match="No space left"):
        export(model(), tmp_path / "a.xml")
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_openvino_reports_nothing_to_its_makers(tmp_path: Path) -> None:
    """Importing it alone would write a client number into the home folder, and send it."""
    save_model(tmp_path / "model", small_model(), small_card())
    environment = {"HOME": str(tmp_path), "PYTHONPATH": str(SOURCES), "OMP_NUM_THREADS": "1"}
    words = [sys.executable, "-m", "vitral", "export", "model", "a.xml"]
    subprocess.run(words, cwd=tmp_path, env=environment, check=True, capture_output=True)
    assert load_exported(tmp_path / "a.xml").metadata.precision == "float32"
    assert not (tmp_path / "intel").exists()
