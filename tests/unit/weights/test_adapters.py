"""LoRA adapters: merged as PEFT merges them, and damaged ones are a one-line error."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from models import small_card, small_model
from vitral.errors import UserError
from vitral.weights.adapters import read_adapter
from vitral.weights.folder import save_model
from vitral.weights.load import load, load_with_report
from vitral.weights.save import save_as

MODULE = "base_model.model.vit.layers.0.attention.q_proj"
CONFIG: dict[str, Any] = dict(peft_type="LORA", r=2, lora_alpha=6, target_modules=["q_proj"])


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    """An adapter of the first queries of a model in transformers' format."""
    save_as(small_model(image_size=16), tmp_path / "base", "transformers")
    torch.manual_seed(0)
    (tmp_path / "adapter").mkdir()
    halves = {f"{MODULE}.lora_A.weight": torch.randn(2, 12), f"{MODULE}.lora_B.weight": torch.randn(12, 2)}
    save_file(halves, tmp_path / "adapter" / "adapter_model.safetensors")
    write(tmp_path / "adapter", base_model_name_or_path=str(tmp_path / "base"))
    return tmp_path / "adapter"


def write(adapter: Path, **changes: Any) -> None:
    file = adapter / "adapter_config.json"
    config = json.loads(file.read_text()) if file.exists() else CONFIG
    file.write_text(json.dumps({**config, **changes}))


def refusal(adapter: Path) -> str:
    with pytest.raises(UserError) as caught:
        load(adapter)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_the_update_is_added_with_its_scale(adapter: Path) -> None:
    halves = load_file(adapter / "adapter_model.safetensors")
    base, merged = load(adapter.parent / "base"), load(adapter)
    expected = base.state_dict()["blocks.0.attn.qkv.weight"].clone()
    expected[:12] += 3 * halves[f"{MODULE}.lora_B.weight"] @ halves[f"{MODULE}.lora_A.weight"]
    torch.testing.assert_close(merged.state_dict()["blocks.0.attn.qkv.weight"], expected)
    others = [name for name in base.state_dict() if name != "blocks.0.attn.qkv.weight"]
    assert all(torch.equal(base.state_dict()[name], merged.state_dict()[name]) for name in others)


def test_names_of_older_transformers_fit(adapter: Path) -> None:
    expected = load(adapter)
    halves = load_file(adapter / "adapter_model.safetensors")
    older = {
        name.replace("layers.0.attention.q_proj", "encoder.layer.0.attention.attention.query"): tensor
        for name, tensor in halves.items()
    }
    save_file(older, adapter / "adapter_model.safetensors")
    images = torch.rand(1, 3, 16, 16)
    assert torch.equal(load(adapter)(images), expected(images))
    (adapter / "adapter_model.safetensors").unlink()
    torch.save(older, adapter / "adapter_model.bin")
    assert torch.equal(load(adapter)(images), expected(images))


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        ({"peft_type": "IA3"}, "of the type IA3"),
        ({"use_dora": True}, "has use_dora"),
        ({"target_parameters": ["x"]}, "has target_parameters"),
        ({"a_new_idea": 3}, "has a_new_idea"),
        ({"init_lora_weights": "olora"}, "init_lora_weights olora"),
        ({"base_model_name_or_path": None}, "does not name the model"),
        ({"base_model_name_or_path": "/no/such"}, "adapts /no/such, which cannot be read: it does not exist here"),
        ({"r": 3}, "has rank 2"),
        ({"lora_alpha": "six"}, "lora_alpha"),
        ({"alpha_pattern": {"(": 3}}, "'(', which is no regular expression"),
    ],
)
def test_other_adapters_are_refused(changes: dict[str, Any], part: str, adapter: Path) -> None:
    write(adapter, **changes)
    assert part in refusal(adapter)


def test_other_bases_are_refused(adapter: Path, tmp_path: Path) -> None:
    write(adapter, base_model_name_or_path=str(adapter))
    assert "itself an adapter" in refusal(adapter)
    model = small_model(image_size=16)
    save_model(tmp_path / "vitral", model, small_card(model.config))
    write(adapter, base_model_name_or_path=str(tmp_path / "vitral"))
    assert "no folder or file of another project" in refusal(adapter)
    save_as(small_model(image_size=16, depth=1, width=24), tmp_path / "wide", "transformers")
    write(adapter, base_model_name_or_path=str(tmp_path / "wide"))
    assert "changes layers.0.attention.q_proj.weight" in refusal(adapter)


@pytest.mark.parametrize(
    ("name", "shape", "part"),
    [
        (f"{MODULE}.lora_A.weight", (2, 13), "changes layers.0"),
        (f"{MODULE}.lora_A.weight", (2,), "do not fit"),
        (f"{MODULE}.lora_B.weight", (12, 3), "do not fit"),
        ("base_model.model.vit.layers.9.attention.q_proj.lora_A.weight", (2, 12), "one half"),
        (f"{MODULE}.lora_embedding_A", (2, 12), "is no linear or convolutional update"),
        ("base_model.model.vit.layers.9.attention.q_proj.bias", (12,), "replaces layers.9"),
        ("base_model.model.vit.layernorm.weight", (13,), "replaces layernorm.weight"),
        ("base_model.model.other.weight", (13,), "replaces other.weight"),
    ],
)
def test_tensors_that_do_not_fit_are_named(name: str, shape: tuple[int, ...], part: str, adapter: Path) -> None:
    file = adapter / "adapter_model.safetensors"
    save_file({**load_file(file), name: torch.zeros(shape)}, file)
    assert part in refusal(adapter)


def test_a_missing_or_damaged_adapter_is_named(adapter: Path) -> None:
    file = adapter / "adapter_model.safetensors"
    file.write_bytes(file.read_bytes()[:-3])
    assert "adapter_model.safetensors is damaged" in refusal(adapter)
    file.unlink()
    assert "no adapter_model.safetensors" in refusal(adapter)
    (adapter / "adapter_config.json").write_text("[]")
    assert "adapter_config.json is not a JSON object" in refusal(adapter)


@settings(max_examples=80, deadline=None)
@given(
    st.sampled_from(["adapter_config.json", "adapter_model.safetensors"]),
    st.integers(0, 2**30),
    st.binary(min_size=1, max_size=4),
)
def test_a_changed_adapter_is_read_or_refused(name: str, place: int, new: bytes) -> None:
    folder = Path(os.environ.get("TMPDIR", "/tmp")) / f"vitral-adapter-{os.getpid()}"
    folder.mkdir()
    try:
        save_file({f"{MODULE}.lora_A.weight": torch.zeros(2, 12)}, folder / "adapter_model.safetensors")
        write(folder, base_model_name_or_path="x", rank_pattern={"q_proj": 2})
        whole = (folder / name).read_bytes()
        place %= len(whole)
        (folder / name).write_bytes(whole[:place] + new + whole[place + len(new) :])
        read_adapter(folder)
    except UserError as error:
        assert "\n" not in str(error)  # noqa: PT017 - either outcome is right
    finally:
        shutil.rmtree(folder)


def test_the_report_names_the_adapter(adapter: Path) -> None:
    _, report = load_with_report(adapter)
    assert report is not None
    assert any("changed 1 weights and replaced 0 tensors" in note for note in report.notes)
