"""Which files of a folder are read, and that a file is read with the configuration that belongs to it."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import vitral
from hub import Hub, serving
from models import small_card, small_model
from vitral.errors import UserError
from vitral.weights.folder import save_model
from vitral.weights.load import load_with_report
from vitral.weights.save import save_as
from vitral.weights.upstream_folder import find_upstream

IMAGES = torch.rand(2, 3, 16, 16)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model in transformers' format, whose configuration changes the numbers."""
    save_as(small_model(image_size=16, gelu="erf", norm_eps=1e-2), tmp_path / "vit", "transformers")
    return tmp_path / "vit"


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with serving(tmp_path / "cache", monkeypatch) as hub:
        yield hub


def shard(folder: Path) -> None:
    """Replaces the weights by PyTorch shards."""
    state = load_file(folder / "model.safetensors")
    placed = {name: f"pytorch_model-0000{1 + index % 2}-of-00002.bin" for index, name in enumerate(state)}
    for file in set(placed.values()):
        torch.save({name: state[name] for name in state if placed[name] == file}, folder / file)
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": placed}))
    (folder / "model.safetensors").unlink()


def push(hub: Hub, folder: Path, name: str) -> None:
    hub.repos[name] = {"main": {file.name: file.read_bytes() for file in folder.iterdir()}}


def test_a_file_is_read_with_the_configuration_beside_it(folder: Path) -> None:
    expected = vitral.load(folder)
    assert isinstance(expected, vitral.ViT)
    assert expected.config.norm_eps == 1e-2
    assert torch.equal(vitral.load(folder / "model.safetensors")(IMAGES), expected(IMAGES))
    shard(folder)
    for path in (folder, folder / "pytorch_model.bin.index.json"):
        assert torch.equal(vitral.load(path)(IMAGES), expected(IMAGES))


def test_the_weights_file_of_a_vitral_folder_is_the_model(tmp_path: Path) -> None:
    model = small_model(image_size=16)
    save_model(tmp_path / "run", model, small_card(model.config))
    assert torch.equal(vitral.load(tmp_path / "run" / "model.safetensors")(IMAGES), model(IMAGES))
    options: list[dict[str, Any]] = [{"prefix": "x"}, {"checkpoint_key": "x"}]
    for option in options:
        with pytest.raises(UserError, match=f"stores its whole architecture: leave out {next(iter(option))}"):
            vitral.load(tmp_path / "run", **option)


def test_shards_and_adapters_come_from_the_hub(hub: Hub, folder: Path, tmp_path: Path) -> None:
    expected = vitral.load(folder)
    shard(folder)
    push(hub, folder, "me/vit")
    assert torch.equal(vitral.load("hf-hub:me/vit")(IMAGES), expected(IMAGES))
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    module = "base_model.model.vit.layers.0.mlp.fc1"
    halves = {f"{module}.lora_A.weight": torch.zeros(2, 12), f"{module}.lora_B.weight": torch.zeros(24, 2)}
    torch.save(halves, adapter / "adapter_model.bin")
    config = dict(peft_type="LORA", r=2, lora_alpha=2, base_model_name_or_path="me/vit", revision="main")
    (adapter / "adapter_config.json").write_text(json.dumps(config))
    push(hub, adapter, "me/lora")
    assert torch.equal(vitral.load("hf-hub:me/lora")(IMAGES), expected(IMAGES))
    assert torch.equal(vitral.load(adapter)(IMAGES), expected(IMAGES))


def test_safetensors_spare_the_download_of_the_same_weights(hub: Hub, folder: Path, tmp_path: Path) -> None:
    (folder / "pytorch_model.bin").write_bytes(b"never read")
    push(hub, folder, "me/both")
    vitral.load("hf-hub:me/both")
    assert not list((tmp_path / "cache").rglob("*.bin"))


def test_open_clips_names_come_with_its_configuration(tmp_path: Path) -> None:
    clip: dict[str, Any] = {"model_cfg": {"quick_gelu": True}, "preprocess_cfg": {}}
    (tmp_path / "open_clip_config.json").write_text(json.dumps(clip))
    (tmp_path / "config.json").write_text('{"model_type": "clip"}')
    (tmp_path / "open_clip_model.safetensors").write_bytes(b"")
    found = find_upstream(tmp_path)
    assert found is not None
    assert (found.weights.name, found.config) == ("open_clip_model.safetensors", clip)
    (tmp_path / "model.safetensors").write_bytes(b"")
    found = find_upstream(tmp_path)
    assert found is not None
    assert (found.weights.name, found.config) == ("model.safetensors", {"model_type": "clip"})


def test_folders_without_one_model_are_refused(tmp_path: Path) -> None:
    assert find_upstream(tmp_path) is None
    with pytest.raises(UserError, match="is not a Vitral model"):
        vitral.load(tmp_path)
    for name in ("a.pth", "b.pth"):
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(UserError, match=r"several weights files: name one of a\.pth, b\.pth"):
        vitral.load(tmp_path)
    (tmp_path / "run.json").write_text("{}")
    assert find_upstream(tmp_path) is None


def test_the_only_weights_file_of_a_repository_is_read_whatever_its_name(hub: Hub, folder: Path) -> None:
    expected = vitral.load(folder)
    content = (folder / "model.safetensors").read_bytes()
    config = (folder / "config.json").read_bytes()
    hub.repos["me/one"] = {"main": {"checkpoint-best.safetensors": content, "config.json": config, "x.py": b""}}
    model, report = load_with_report("hf-hub:me/one")
    assert torch.equal(model(IMAGES), expected(IMAGES))
    assert report is not None
    assert "checkpoint-best.safetensors was read, the only weights file" in report.notes
    hub.repos["me/deep"] = {"main": {"sub/best.safetensors": content}}
    _, report = load_with_report("hf-hub:me/deep", num_heads=3)
    assert report is not None
    assert "best.safetensors was read, the only weights file" in report.notes
    hub.repos["me/two"] = {"main": {"a.safetensors": content, "sub/b.safetensors": content}}
    with pytest.raises(UserError, match=r"files \(a.safetensors, sub/b.safetensors\): name one, such as"):
        vitral.load("hf-hub:me/two")
    for file in ("a", "sub/b"):
        _, report = load_with_report(f"hf-hub:me/two/{file}.safetensors@main", num_heads=3)
        assert report is not None
        assert report.lineage == "transformers"
    with pytest.raises(UserError, match=r"me/two has no file c.safetensors"):
        vitral.load("hf-hub:me/two/c.safetensors")
    hub.repos["me/none"] = {"main": {"tf_model.h5": b"", "README.md": b""}}
    with pytest.raises(UserError, match=r"no weights that Vitral reads: its files are tf_model.h5, README.md"):
        vitral.load("hf-hub:me/none")
