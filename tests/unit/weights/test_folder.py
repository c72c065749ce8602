"""A saved model is read back unchanged, and an invalid folder gives a one-line error."""

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from subprocess import run
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from models import SMALL, small_card, small_model
from vitral.models import blank_model
from vitral.vit import ViT
from vitral.vit_config import ViTConfig
from vitral.weights.folder import load_model, read_config, save_model


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    model = small_model()
    save_model(tmp_path / "model", model, model.card)
    return tmp_path / "model"


def edit(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    values = json.loads((folder / "config.json").read_text())
    change(values)
    (folder / "config.json").write_text(json.dumps(values))


def refusal(folder: Path) -> str:
    """The one-line error for a folder."""
    with pytest.raises(ValueError, match=r"\S") as caught:
        load_model(folder)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    "changes",
    [{}, {"pool": "gap"}, {"position": "none"}, {"representation_size": 5}, {"channels": 1, "image_size": 8}],
)
def test_round_trip(changes: dict[str, Any], tmp_path: Path) -> None:
    model = small_model(**changes)
    card = replace(model.card, provenance={"seed": 3, "data": "x"}, metrics={"test/top1": 0.5})
    save_model(tmp_path, model, card)
    loaded = load_model(str(tmp_path))
    images = torch.rand(2, model.config.channels, *model.config.image_hw)
    assert torch.equal(loaded(images), model(images))
    assert (loaded.config, loaded.card) == (model.config, card)
    assert not loaded.training
    assert all(parameter.requires_grad for parameter in loaded.parameters())


def test_half_precision_weights_are_loaded_in_float32(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    save_file({name: tensor.bfloat16() for name, tensor in weights.items()}, folder / "model.safetensors")
    edit(folder, lambda values: values.pop("checksum"))
    assert {tensor.dtype for tensor in load_model(folder).state_dict().values()} == {torch.float32}


def test_a_folder_that_does_not_exist(tmp_path: Path) -> None:
    assert "does not exist: give the folder of a trained model" in refusal(tmp_path / "missing")


def test_a_folder_without_a_model(tmp_path: Path) -> None:
    assert refusal(tmp_path).endswith("is not a Vitral model: it lacks config.json and model.safetensors")


def test_a_file_is_not_a_folder(folder: Path) -> None:
    assert "is not a Vitral model" in refusal(folder / "config.json")


def test_a_missing_file_is_named(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    assert refusal(folder).endswith("is not a Vitral model: it lacks model.safetensors")


def test_the_error_for_an_unfinished_run_says_how_to_finish_it(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text("{}")
    assert refusal(tmp_path).endswith(f"finish it with: vitral train --resume {tmp_path}")
    (tmp_path / "my run").mkdir()
    (tmp_path / "my run" / "run.json").write_text("{}")
    assert refusal(tmp_path / "my run").endswith(f"finish it with: vitral train --resume '{tmp_path}/my run'")


@pytest.mark.parametrize("length", [0, 5, 100, -1])
def test_truncated_weights(folder: Path, length: int) -> None:
    content = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(content[:length])
    assert "model.safetensors is damaged" in refusal(folder)


def test_weights_of_another_shape(folder: Path) -> None:
    edit(folder, lambda values: values["architecture"].update(mlp_dim=25))
    assert "does not fit config.json in 6 tensors, first blocks.0.mlp.fc1.bias: expected (25,), found (24,)" in refusal(
        folder
    )


def test_weights_of_another_depth(folder: Path) -> None:
    edit(folder, lambda values: values["architecture"].update(depth=1))
    assert "first blocks.1.attn.proj.bias: expected none, found (12,)" in refusal(folder)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda values: values.update(colour="red"), "colour is not a known key"),
        (lambda values: values["architecture"].update(wdth=3), "architecture.wdth is not a known key"),
        (lambda values: values["architecture"].update(depth="deep"), "architecture.depth is wrong"),
        (lambda values: values["card"].pop("classes"), "card.classes is wrong"),
        (lambda values: values["card"]["classes"].pop(), "the card names 2 classes, but the model has 3 outputs"),
        (lambda values: values["architecture"].update(width=13), "width 13 is not divisible by 3 heads"),
        (
            lambda values: values["card"]["preprocessing"].update(image_size=[16, 16]),
            "images of shape (3, 16, 16), but the model expects (3, 16, 24)",
        ),
    ],
)
def test_a_wrong_value_in_the_config_is_named(
    folder: Path, change: Callable[[dict[str, Any]], None], reason: str
) -> None:
    edit(folder, change)
    error = refusal(folder)
    assert error.startswith(str(folder / "config.json"))
    assert reason in error


def test_a_config_that_is_not_json(folder: Path) -> None:
    (folder / "config.json").write_text("{")
    assert "config.json is not JSON" in refusal(folder)


def test_a_card_for_another_model_is_not_saved(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="names 4 classes, but the model has 3 outputs"):
        save_model(tmp_path / "model", small_model(), small_card(replace(SMALL, num_classes=4)))
    assert not (tmp_path / "model").exists()


def test_the_config_can_be_read_without_weights(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"")
    assert read_config(folder).architecture == SMALL


def test_a_blank_model_has_shapes_and_no_memory() -> None:
    blank = blank_model(ViTConfig())
    assert {tensor.device.type for tensor in blank.state_dict().values()} == {"meta"}
    shapes = {name: tensor.shape for name, tensor in blank_model(SMALL).state_dict().items()}
    assert shapes == {name: tensor.shape for name, tensor in ViT(SMALL).state_dict().items()}


def test_loading_does_not_import_the_compiler(folder: Path) -> None:
    code = f"import sys, vitral; vitral.load({str(folder)!r}); print('torch._dynamo' in sys.modules)"
    environment = {"PYTHONPATH": str(Path(__file__).parents[3] / "src"), "OMP_NUM_THREADS": "1"}
    result = run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert result.stdout == "False\n"


def test_a_flipped_bit_in_the_weights_is_refused(folder: Path) -> None:
    content = bytearray((folder / "model.safetensors").read_bytes())
    content[-3] ^= 1
    (folder / "model.safetensors").write_bytes(content)
    assert "checksum is not the one in config.json: copy it again" in refusal(folder)
    (folder / "run.json").write_text("{}")
    assert f"vitral train --resume {folder}" in refusal(folder)


def test_a_model_without_a_checksum_is_loaded(folder: Path) -> None:
    edit(folder, lambda values: values.pop("checksum"))
    assert load_model(folder).card == small_card()


@pytest.mark.parametrize("change", [{"depth": 1000}, {"stem_stages": [1000] * 8, "image_size": [256, 256]}])
def test_more_blocks_than_tensors_are_refused_before_any_is_built(
    folder: Path, change: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise AssertionError("it was built")

    monkeypatch.setattr("vitral.weights.folder.blank_model", fail)

    def enlarge(values: dict[str, Any]) -> None:
        values["architecture"] |= change | ({"patch_size": [256, 256]} if "image_size" in change else {})
        if "image_size" in change:
            values["card"]["preprocessing"]["image_size"] = change["image_size"]

    edit(folder, enlarge)
    assert "blocks need more than its" in refusal(folder)


@pytest.mark.parametrize("width", [10**9, 2**63, 10**400])
def test_sizes_beyond_any_model_are_refused(folder: Path, width: int) -> None:
    edit(folder, lambda values: values["architecture"].update(width=width))
    assert "config.json" in refusal(folder)
