"""Files that are written, read again, and computed beside their model. Without the shape checks, as graphs need it."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from PIL import Image
from torch import Tensor

from models import SMALL, small_card, small_model
from vitral.commands.arguments.formats import EXPORTED_BESIDE, EXPORTS
from vitral.errors import UserError
from vitral.export.exported import ExportedModel, is_exported, load_exported
from vitral.export.images import photographs
from vitral.export.parity import ParityReport, compare
from vitral.export.precision import has_int8_instructions
from vitral.export.registry import BACKENDS
from vitral.export.writing import ExportOptions, export_model
from vitral.models import Architecture, Model, build
from vitral.weights.adapt import adapt_model


def random_model(config: Architecture) -> Model:
    model = build(config).eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.3, generator=generator)
    model.card = small_card(config)
    return model


def export(model: Model, path: Path, **options: Any) -> ParityReport:
    reports = []

    def verify(exported: ExportedModel) -> str:
        reports.append(compare(model, exported, photographs()))
        return "" if reports[0].passed else reports[0].verdict

    export_model(model, path, ExportOptions(**options), verify=verify)
    return reports[0]


def test_backends_are_those_of_the_command_line() -> None:
    assert {name: backend.suffix for name, backend in BACKENDS.items()} == EXPORTS
    assert {name: tuple(backend.beside) for name, backend in BACKENDS.items() if backend.beside} == EXPORTED_BESIDE
    assert is_exported("a/b.ONNX")
    assert not is_exported("a/onnx")


@pytest.mark.compile
@pytest.mark.parametrize(
    ("options", "bound"),
    [
        (dict(to="onnx"), 1e-6),
        (dict(to="onnx", precision="float16"), 5e-3),
        (dict(to="onnx", precision="int8"), 0.1),
        (dict(to="onnx", with_preprocessing=True), 1e-6),
        (dict(to="torch"), 1e-6),
        (dict(to="torch", with_preprocessing=True), 1e-6),
    ],
    ids=str,
)
def test_a_file_is_its_model(options: dict[str, Any], bound: float, tmp_path: Path) -> None:
    model = small_model(image_size=(32, 48), width=24)
    path = tmp_path / f"model{EXPORTS[options['to']]}"
    report = export(model, path, **options)
    assert max(row.largest / row.scale for row in report.comparisons) < bound
    assert list(tmp_path.iterdir()) == [path]
    exported = load_exported(path)
    assert exported.card == model.card
    assert exported.config == model.config
    assert exported.metadata.warning == ("" if report.passed else report.verdict)


@pytest.mark.compile
@pytest.mark.parametrize(
    ("options", "bound"),
    [
        (dict(to="onnx", with_preprocessing=True), 1e-5),
        (dict(to="onnx", precision="int8"), 0.1),
        (dict(to="torch", with_preprocessing=True), 1e-5),
    ],
    ids=str,
)
def test_a_hybrid_is_its_model(options: dict[str, Any], bound: float, tmp_path: Path) -> None:
    model = small_model(image_size=64, patch_size=16, stem_stages=(1, 1), stem_width=32, pool="gap")
    report = export(model, tmp_path / f"model{EXPORTS[options['to']]}", **options)
    assert max(row.largest / row.scale for row in report.comparisons) < bound


@pytest.mark.compile
def test_an_onnx_file_names_its_ends_and_its_classes(tmp_path: Path) -> None:
    model = small_model()
    export(model, tmp_path / "model.onnx", to="onnx", image_size="dynamic")
    proto = onnx.load(tmp_path / "model.onnx")
    onnx.checker.check_model(proto)
    (source,), (target,) = proto.graph.input, proto.graph.output
    assert (source.name, target.name) == ("images", "logits")
    lengths = [length.dim_param or length.dim_value for length in source.type.tensor_type.shape.dim]
    assert lengths == ["batch", 3, "8*rows", "8*columns"]
    assert '"class 0"' in {entry.key: entry.value for entry in proto.metadata_props}["classes"]


@pytest.mark.compile
def test_a_file_of_any_size_is_resized_to_one(tmp_path: Path) -> None:
    model = small_model(image_size=16)
    export(model, tmp_path / "any.pt2", to="torch", image_size="dynamic")
    resized = load_exported(tmp_path / "any.pt2", image_size=24)
    assert resized.card.preprocessing.image_size == (24, 24)
    images = torch.rand(2, 3, 24, 24)
    with torch.no_grad():
        torch.testing.assert_close(resized(images), model(images), rtol=1e-5, atol=1e-5)
    with pytest.raises(UserError, match="25"):
        load_exported(tmp_path / "any.pt2", image_size=25)
    export(model, tmp_path / "one.pt2", to="torch")
    with pytest.raises(UserError, match="16x16 pixels only"):
        load_exported(tmp_path / "one.pt2", image_size=24)


@pytest.mark.compile
def test_an_untrained_head_leaves_features(tmp_path: Path) -> None:
    model = small_model()
    torch.nn.init.zeros_(model.head.weight)
    model.card = replace(model.card, classes=())
    report = export(model, tmp_path / "model.pt2", to="torch")
    assert report.output == "features"
    exported = load_exported(tmp_path / "model.pt2")
    assert exported(torch.zeros(1, 3, 16, 24)).shape == (1, SMALL.width)
    with pytest.raises(UserError, match="features only"):
        exported.features(torch.zeros(1, 3, 16, 24))


@pytest.mark.compile
def test_int8_takes_its_ranges_from_images(tmp_path: Path) -> None:
    model = small_model(image_size=(32, 48), width=24)
    batches = [
        model.card.preprocessing.normalise(part.pixels)
        for part, _ in photographs().batches(model.card.preprocessing, 16)
    ]
    outputs = []

    def verify(exported: ExportedModel) -> str:
        outputs.append(exported(batches[0]))
        return "worse"

    export_model(
        model, tmp_path / "a.onnx", ExportOptions(to="onnx", precision="int8"), calibration=batches, verify=verify
    )
    with torch.no_grad():
        expected = model(batches[0])
    assert (outputs[0] - expected).abs().max() < 0.2 * expected.abs().max()
    assert load_exported(tmp_path / "a.onnx").metadata.warning == "worse"
    assert isinstance(has_int8_instructions(), bool)


def never(*_: Any, **__: Any) -> str:
    raise AssertionError("nothing is compared or opened here")


REFUSED: dict[str, tuple[Callable[[], Model], dict[str, Any], str]] = {
    "without a card": (lambda: build(SMALL), dict(to="onnx"), "no card"),
    "resized before": (
        lambda: adapt_model(small_model(), image_size=(32, 32))[0],
        dict(to="onnx", image_size="dynamic"),
        "interpolated from 2x3",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_exported_is_refused(name: str, tmp_path: Path) -> None:
    make, options, reason = REFUSED[name]
    with pytest.raises(UserError, match=reason):
        export_model(make(), tmp_path / "model.onnx", ExportOptions(**options), verify=never)
    assert not list(tmp_path.iterdir())


def test_choices_that_exclude_each_other_are_refused() -> None:
    with pytest.raises(UserError, match="--to torch writes float32"):
        ExportOptions(to="torch", precision="int8")
    with pytest.raises(UserError, match="leave out --image-size dynamic"):
        ExportOptions(to="onnx", with_preprocessing=True, image_size="dynamic")


@pytest.mark.parametrize("suffix", [".onnx", ".pt2"])
@pytest.mark.parametrize("content", [b"", b"no model at all", b"PK\x03\x04 cut"])
def test_a_damaged_file_is_named(suffix: str, content: bytes, tmp_path: Path) -> None:
    path = tmp_path / f"model{suffix}"
    path.write_bytes(content)
    with pytest.raises(UserError, match="cannot be read by") as refusal:
        load_exported(path)
    assert path.name in str(refusal.value)


@pytest.mark.compile
def test_the_pt2_files_of_others_are_opened_only_if_trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    export(small_model(), tmp_path / "a.pt2", to="torch")
    assert load_exported(tmp_path / "a.pt2").metadata.precision == "float32"
    monkeypatch.setenv("VITRAL_CACHE", str(tmp_path / "another user's"))
    monkeypatch.setattr(torch.export, "load", never)
    with pytest.raises(UserError, match=r"a\.pt2 may run code .*VITRAL_TRUST_PT2=1"):
        load_exported(tmp_path / "a.pt2")
    monkeypatch.undo()
    monkeypatch.setenv("VITRAL_CACHE", str(tmp_path / "another user's"))
    monkeypatch.setenv("VITRAL_TRUST_PT2", "1")
    assert load_exported(tmp_path / "a.pt2").metadata.precision == "float32"


def test_another_programs_onnx_file_is_refused(tmp_path: Path) -> None:
    value = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Identity", ["x"], ["y"])],
        "copy",
        [value("x", onnx.TensorProto.FLOAT, [1])],
        [value("y", onnx.TensorProto.FLOAT, [1])],
    )
    proto = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(proto, tmp_path / "other.onnx")
    with pytest.raises(UserError, match=r"other\.onnx was not written by vitral export"):
        load_exported(tmp_path / "other.onnx")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is not a file"):
        load_exported(tmp_path / "none.onnx")


def test_a_whole_photograph_gives_the_same_logits(tmp_path: Path) -> None:
    """The graph's own preprocessing, outside of the graph: the module that is traced."""
    from vitral.export.preprocessing import WithPreprocessing

    model = small_model()
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (50, 70, 3), np.uint8))
    expected = model(model.card.preprocessing.normalise(torch.from_numpy(model.card.preprocessing.pixels(image))[None]))
    found: Tensor = WithPreprocessing(model, model.card.preprocessing)(torch.from_numpy(np.array(image))[None])
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
