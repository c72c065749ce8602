"""Google's files give the logits of the original code, and are written back unchanged."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import vitral
from unit.weights.google_oracle import Oracle
from vitral.errors import UserError
from vitral.models import architecture, blank_model
from vitral.weights.lineages.registry import LINEAGES
from vitral.weights.mapping import to_upstream
from vitral.weights.read import LoadReport, load_upstream
from vitral.weights.write import upstream_state_dict

GENERATIONS = ("google", "google-linen", "big_vision")
MODELS = [
    pytest.param(dict(generation=generation, **form), id=f"{generation} {name}")
    for generation in GENERATIONS
    for name, form in {
        "class token": {},
        "mean of patches": {"pool": "gap"},
        "attention pooling": {"pool": "map"},
        "tanh layer": {"hidden": 7},
        "hybrid": {"stages": (1, 2), "patch": 1},
        "hybrid without stages": {"stages": (), "patch": 2},
    }.items()
]


def images(oracle: Oracle) -> np.ndarray:
    return np.random.default_rng(1).uniform(-1, 1, size=(2, oracle.side, oracle.side, 3))


def read(arrays: dict[str, np.ndarray], folder: Path) -> tuple[torch.nn.Module, LoadReport]:
    np.savez(folder / "x.npz", **arrays)
    return load_upstream(folder / "x.npz")


def logits(model: torch.nn.Module, pixels: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        return model.double()(torch.from_numpy(pixels).permute(0, 3, 1, 2)).numpy()


@pytest.mark.parametrize("form", MODELS)
def test_logits_equal_the_original(form: dict, tmp_path: Path) -> None:
    oracle = Oracle(**form)
    arrays = oracle.arrays()
    model, report = read(arrays, tmp_path)
    assert (report.lineage, report.missing, report.unexpected, report.notes) == (oracle.generation, (), (), ())
    expected = oracle.logits(arrays, images(oracle))
    assert expected.std() > 0.1
    np.testing.assert_allclose(logits(model, images(oracle)), expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("form", MODELS)
def test_files_are_written_back_unchanged(form: dict, tmp_path: Path) -> None:
    oracle = Oracle(**form)
    arrays = oracle.arrays()
    model, _ = read(arrays, tmp_path)
    written, notes = upstream_state_dict(LINEAGES[oracle.generation], model)
    assert notes == []
    assert set(written) == set(arrays)
    for name, array in arrays.items():
        assert written[name].numpy().tobytes() == array.tobytes(), name


@pytest.mark.parametrize("prefix", ["opt/target/", "params/", "params/img/"])
def test_prefixes_are_stripped(prefix: str, tmp_path: Path) -> None:
    oracle = Oracle(generation="big_vision")
    arrays = oracle.arrays()
    prefixed = {prefix + name: array for name, array in arrays.items()} | {"opt/state/step": np.zeros(1, np.float32)}
    model, _ = read(prefixed, tmp_path)
    expected = oracle.logits(arrays, images(oracle))
    np.testing.assert_allclose(logits(model, images(oracle)), expected, rtol=1e-9, atol=1e-9)


def test_early_big_vision_files_and_stacked_layers_are_read(tmp_path: Path) -> None:
    """Positions with a row for the class token, and one array for all layers."""
    oracle = Oracle(generation="big_vision", pool="cls")
    arrays = oracle.arrays()
    cls_position = np.full((1, 1, 12), 0.25, np.float32)
    early = {name: array for name, array in arrays.items() if "encoderblock" not in name and name != "pos_embedding"}
    early["Transformer/pos_embedding"] = np.concatenate([cls_position, arrays["pos_embedding"]], axis=1)
    early["cls"] = arrays["cls"] - cls_position
    for name in [name for name in arrays if "encoderblock_0/" in name]:
        layers = [arrays[name.replace("encoderblock_0", f"encoderblock_{index}")] for index in range(oracle.depth)]
        early[name.replace("encoderblock_0", "encoderblock")] = np.stack(layers)
    model, report = read(early, tmp_path)
    assert report.lineage == "big_vision"
    expected = oracle.logits(arrays, images(oracle))
    np.testing.assert_allclose(logits(model, images(oracle)), expected, rtol=1e-5, atol=1e-5)


def test_norms_with_four_axes_are_read(tmp_path: Path) -> None:
    oracle = Oracle(stages=(1,), patch=1)
    arrays = oracle.arrays()
    old = {name: array.reshape(1, 1, 1, -1) if "gn" in name else array for name, array in arrays.items()}
    model, _ = read(old, tmp_path)
    expected = oracle.logits(arrays, images(oracle))
    np.testing.assert_allclose(logits(model, images(oracle)), expected, rtol=1e-9, atol=1e-9)


def test_bfloat16_files_are_read_and_noted(tmp_path: Path) -> None:
    oracle = Oracle()
    short = {name: torch.from_numpy(array).bfloat16() for name, array in oracle.arrays().items()}
    model, report = read({name: array.view(torch.int16).numpy().view("V2") for name, array in short.items()}, tmp_path)
    assert report.notes == ("converted bfloat16 to float32",)
    expected = oracle.logits({name: array.float().numpy() for name, array in short.items()}, images(oracle))
    np.testing.assert_allclose(logits(model, images(oracle)), expected, rtol=1e-9, atol=1e-9)


def test_a_file_without_a_head_gives_a_zero_head(tmp_path: Path) -> None:
    arrays = {name: array for name, array in Oracle().arrays().items() if not name.startswith("head/")}
    model, report = read(arrays, tmp_path)
    note, consequence = report.notes
    assert "has no head" in note
    assert "1000 classes" in note
    assert "names no classes" in consequence
    assert model.card is not None
    assert model.card.classes == ()
    assert not model.head.weight.any()


def test_sine_cosine_files_are_written_back_and_fit_any_size(tmp_path: Path) -> None:
    oracle = Oracle(generation="big_vision", sincos=True, pool="gap")
    arrays = oracle.arrays()
    np.savez(tmp_path / "x.npz", **arrays)
    for model in (load_upstream(tmp_path / "x.npz")[0], vitral.load(tmp_path / "x.npz", image_size=12)):
        expected = oracle.logits(arrays, images(oracle))
        np.testing.assert_allclose(logits(model, images(oracle)), expected, rtol=0, atol=1e-6)
        written, notes = upstream_state_dict(LINEAGES["big_vision"], model.float())
        assert set(written) == set(arrays)
        assert "positions are not stored" in notes[0]
        with pytest.raises(UserError, match="convert with --to big_vision"):
            upstream_state_dict(LINEAGES["google-linen"], model)
    assert model.config.image_size == 12
    assert model.card is not None
    assert model.card.preprocessing.image_size == (12, 12)


@pytest.mark.parametrize(
    ("form", "more"),
    [
        (dict(stages=(1, 2), patch=1), -1),
        (dict(stages=(1, 2), patch=1), -7),
        *((dict(stages=(), patch=2), n) for n in (1, 4, -3)),
    ],
)
def test_a_hybrid_drops_the_rest_of_its_map(form: dict, more: int, tmp_path: Path) -> None:
    """As the original does at sizes that whole patches do not fill: its map is rounded up, its patches down."""
    oracle = Oracle(**form)
    arrays = oracle.arrays()
    model, _ = read(arrays, tmp_path)
    side = oracle.side + more
    pixels = np.random.default_rng(1).uniform(-1, 1, size=(2, side, side, 3))
    assert replace(model.config, image_size=side).grid == model.config.grid
    np.testing.assert_allclose(logits(model, pixels), oracle.logits(arrays, pixels), rtol=1e-9, atol=1e-9)


def test_a_hybrid_refuses_images_without_a_patch(tmp_path: Path) -> None:
    model, _ = read(Oracle(stages=(), patch=2).arrays(), tmp_path)
    with pytest.raises(UserError, match="image size 4x4 is not divisible by patch size 8x8"):
        model(torch.zeros(1, 3, 4, 4))


@pytest.mark.parametrize(
    ("name", "changes", "count"),
    [
        ("ViT-B/16", {}, 200),
        ("ViT-L/16", {}, 392),
        ("ViT-H/14", {}, 520),
        ("ViT-B/16", {"pool": "gap"}, 199),
        ("ViT-B/16", {"representation_size": 768}, 202),
        ("R+ViT-Ti/16", {}, 203),
        ("R26+ViT-S/32", {}, 287),
        ("R50+ViT-B/16", {}, 356),
        ("R50+ViT-L/32", {}, 551),
    ],
)
def test_real_models_have_as_many_arrays_as_the_released_files(name: str, changes: dict, count: int) -> None:
    model = blank_model(architecture(name, **changes))
    arrays, missing, unexpected = to_upstream(LINEAGES["google"].mapping(model.config), model.state_dict())
    assert (missing, unexpected) == ([], [])
    assert len(arrays) == count
    assert arrays["embedding/kernel"].shape[-1] == model.config.width
