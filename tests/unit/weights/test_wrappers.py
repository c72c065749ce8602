"""Training checkpoints, prefixes and names beside a model: it loads equal, or is refused in one sentence."""

import argparse
import datetime
import os
import pickle
import sys
import tempfile
import types
from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path, PureWindowsPath
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from models import small_model
from vitral.errors import UserError
from vitral.weights.lineages.registry import LINEAGES
from vitral.weights.read import load_upstream
from vitral.weights.tensor_file import read_tensor_file
from vitral.weights.wrappers import KEYS
from vitral.weights.write import upstream_state_dict

FORMATS = ("timm", "torchvision", "transformers")
MODEL = small_model(image_size=16, gelu="erf")
STATES = {format: upstream_state_dict(LINEAGES[format], MODEL)[0] for format in FORMATS}
EXTRA: dict[str, Tensor] = {
    "n_averaged": torch.tensor(3),
    "queue": torch.rand(4, 4),
    "decoder.weight": torch.rand(4, 4),
    "momentum_encoder.cls_token": torch.rand(1, 1, 12),
    "projector.0.weight": torch.rand(4, 4),
    "fc.weight": torch.rand(4, 4),
    "model.other": torch.rand(4),
    "head.mlp.0.weight": torch.rand(4, 4),
    "blocks.2.norm1.weight": torch.rand(12),
    "cls_token": torch.rand(1, 1, 12),
    "": torch.rand(3),
}
"""Tensors beside a model's; some are harmless, some not."""
PREFIXES = ("module.", "_orig_mod.", "model.", "backbone.", "encoder.", "net.", "base_encoder.", "vit.", "x.", "head.")
VALUES: dict[str, Any] = {
    "epoch": 3,
    "args": argparse.Namespace(path=Path("x")),
    "loss": {"center": torch.zeros(2)},
    "optimizer": {"state": {0: {"exp_avg": torch.rand(4)}}},
    "temperature": torch.tensor(0.1),
    "student": {"cls_token": torch.rand(1, 1, 12)},
    "ema": None,
    "hyper_parameters": {"model_name": "vit_base_patch16_224", "act_layer": "relu", "num_heads": 7},
    "callbacks": {"EMA": {"ema_state_dict": {"cls_token": torch.rand(1, 1, 12)}, "averages": [torch.rand(2)]}},
    "history": [1.0, torch.rand(2)],
}


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(FORMATS),
    st.lists(st.sampled_from(PREFIXES), max_size=3),
    st.sets(st.sampled_from(sorted(EXTRA)), max_size=3),
    st.lists(st.sampled_from([*KEYS, "mine"]), max_size=3),
    st.sets(st.sampled_from(sorted(VALUES)), max_size=3),
)
def test_anything_around_a_model_loads_equal_or_is_refused(
    format: str, prefixes: list[str], extra: set[str], keys: list[str], values: set[str]
) -> None:
    state = {"".join(prefixes) + name: tensor for name, tensor in STATES[format].items()}
    state = {**{name: EXTRA[name] for name in extra}, **state}
    content: dict[str, Any] = state
    for key in reversed(keys):
        content = {**{name: VALUES[name] for name in values if name != key}, key: content}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "checkpoint.pth"
        torch.save(content, path)
        try:
            loaded, _ = load_upstream(path, num_heads=3, gelu="erf", norm_eps=MODEL.config.norm_eps)
        except UserError as error:
            assert "\n" not in str(error)  # noqa: PT017 - either outcome is right
            return
    images = torch.rand(2, 3, 16, 16)
    with torch.inference_mode():
        assert torch.equal(loaded.features(images).pooled, MODEL.features(images).pooled)
        assert torch.equal(loaded(images), MODEL(images))


def save(content: Any, folder: Path) -> Path:
    torch.save(content, folder / "x.pth")
    return folder / "x.pth"


def refusal(call: Callable[[], Any]) -> str:
    with pytest.raises(UserError) as caught:
        call()
    assert "\n" not in str(caught.value)
    return str(caught.value)


class Writes:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.write_text, (self.path, "executed")


class Setting:
    """A class that the reader does not have."""


@pytest.mark.parametrize("legacy", [False, True])
def test_nothing_beside_the_tensors_is_executed(legacy: bool, tmp_path: Path) -> None:
    content = {"model": STATES["timm"], "args": argparse.Namespace(x=Writes(tmp_path / "trace"))}
    torch.save(content, tmp_path / "x.pth", _use_new_zipfile_serialization=not legacy)
    assert "x.pth" in refusal(lambda: read_tensor_file(tmp_path / "x.pth"))
    (tmp_path / "x.pkl").write_bytes(pickle.dumps(content))
    assert "is not a checkpoint" in refusal(lambda: read_tensor_file(tmp_path / "x.pkl"))
    assert not (tmp_path / "trace").exists()


def test_the_allow_list_ends_with_the_call(tmp_path: Path) -> None:
    read_tensor_file(save({"model": {"x": torch.zeros(1)}}, tmp_path))
    assert not any("Namespace" in str(each) for each in torch.serialization.get_safe_globals())


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("wrapped", [False, True])
def test_whole_modules_are_refused_by_name(legacy: bool, wrapped: bool, tmp_path: Path) -> None:
    module = nn.Linear(2, 2)
    content = {"model": module} if wrapped else module
    torch.save(content, tmp_path / "x.pth", _use_new_zipfile_serialization=not legacy)
    sentence = refusal(lambda: read_tensor_file(tmp_path / "x.pth"))
    assert "whole module (torch.nn.modules.linear.Linear)" in sentence
    assert "damaged" not in sentence


def test_objects_of_other_classes_are_named(tmp_path: Path) -> None:
    path = save({"model": {"x": torch.zeros(1)}, "config": Setting()}, tmp_path)
    sentence = refusal(lambda: read_tensor_file(path))
    assert f"objects of {Setting.__module__}.Setting" in sentence
    torch.save({"x": torch.zeros(1)}, path, pickle_protocol=4)
    assert "another pickle protocol" in refusal(lambda: read_tensor_file(path))


def test_a_checkpoint_that_contains_itself_is_refused(tmp_path: Path) -> None:
    content: dict[str, Any] = {}
    content["model"] = content
    refusal(lambda: read_tensor_file(save(content, tmp_path)))
    repeated: dict[str, Any] = {"x": torch.zeros(1)}
    for _ in range(12):
        repeated = dict.fromkeys(KEYS, repeated)
    refusal(lambda: read_tensor_file(save(repeated, tmp_path)))


def test_several_state_dicts_are_chosen_by_key(tmp_path: Path) -> None:
    one, other = {"x": torch.zeros(1)}, {"x": torch.ones(1)}
    path = save({"net": one, "model_ema": other, "epoch": 1}, tmp_path)
    assert read_tensor_file(path).tensors == other
    assert "net" in read_tensor_file(path).notes[0]
    chosen = read_tensor_file(path, checkpoint_key="net")
    assert (chosen.tensors, chosen.notes) == (one, ())
    assert "choose one of net, model_ema" in refusal(lambda: read_tensor_file(path, checkpoint_key="teacher"))
    path = save({"generator": one, "discriminator": other}, tmp_path)
    assert "--checkpoint-key generator, discriminator" in refusal(lambda: read_tensor_file(path))
    assert read_tensor_file(path, checkpoint_key="generator").tensors == one


@pytest.mark.parametrize("key", ["swa_model", "ema_model", "state_dict_ema"])
def test_averaged_weights_come_first(key: str, tmp_path: Path) -> None:
    raw = {name: tensor + 1 for name, tensor in STATES["timm"].items()}
    average = {"n_averaged": torch.tensor(3), **{f"module.{name}": tensor for name, tensor in STATES["timm"].items()}}
    model, report = load_upstream(save({"model": raw, key: average}, tmp_path), num_heads=MODEL.config.num_heads)
    assert torch.equal(model.head.weight, MODEL.head.weight)
    assert any(f"{key} was read" in note for note in report.notes)


def test_a_larger_teacher_is_another_model(tmp_path: Path) -> None:
    """That of distillation; a teacher as large as the student is its average."""
    student, average = {"a": torch.zeros(1), "b": torch.zeros(1)}, {"a": torch.ones(1), "b": torch.ones(1)}
    larger = {f"blocks.{index}": torch.ones(1) for index in range(8)}
    for key in ("model", "student"):
        path = save({key: student, "teacher": larger}, tmp_path)
        assert read_tensor_file(path).tensors == student
        assert f"{key} was read; the file also has teacher" in read_tensor_file(path).notes[0]
        assert read_tensor_file(path, checkpoint_key="teacher").tensors == larger
        assert read_tensor_file(save({key: student, "teacher": average}, tmp_path)).tensors == average
    assert read_tensor_file(save({"weights": {"x": torch.ones(1)}, "net": larger}, tmp_path)).tensors == larger


@pytest.mark.parametrize("value", [range(3), ..., len, "abc".upper], ids=["range", "ellipsis", "len", "method"])
def test_an_object_that_is_not_read_is_named_without_pytorchs_advice(tmp_path: Path, value: object) -> None:
    path = save({"state_dict": {"x": torch.zeros(1)}, "value": value}, tmp_path)
    assert "which Vitral does not read: save the state dict alone" in refusal(lambda: read_tensor_file(path))


def test_the_prefix_of_an_unusual_part_is_suggested(tmp_path: Path) -> None:
    state = {f"eye.tower.{name}": tensor for name, tensor in STATES["timm"].items()} | {"text.weight": torch.zeros(2)}
    path = save(state, tmp_path)
    assert "--prefix eye.tower." in refusal(lambda: load_upstream(path))
    model, report = load_upstream(path, prefix="eye.tower", num_heads=3)
    assert "text (1 tensor)" in report.notes[0]
    assert torch.equal(model.state_dict()["cls_token"], MODEL.state_dict()["cls_token"])


def test_a_stack_of_layers_is_no_projection_head(tmp_path: Path) -> None:
    state = {name: tensor for name, tensor in STATES["timm"].items() if not name.startswith("head.")}
    stacked = {"head.0.weight": torch.rand(4, 12), "head.2.weight": torch.rand(3, 4)}
    assert "unexpected: head.0.weight, head.2.weight" in refusal(
        lambda: load_upstream(save(state | stacked, tmp_path), num_heads=3)
    )


@pytest.mark.parametrize("where", ["names", "beside"])
def test_sparse_and_complex_tensors_are_refused(where: str, tmp_path: Path) -> None:
    for tensor in (torch.zeros(3, 3).to_sparse(), torch.zeros(3, 3, dtype=torch.complex64)):
        state = {**STATES["timm"], ("cls_token" if where == "names" else "other"): tensor}
        assert "dense tensors of real numbers" in refusal(lambda state=state: load_upstream(save(state, tmp_path)))


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**30), st.binary(min_size=1, max_size=4), st.booleans())
def test_a_changed_file_gives_tensors_or_one_sentence(place: int, new: bytes, legacy: bool) -> None:
    path = Path(os.environ.get("TMPDIR", "/tmp")) / f"vitral-changed-{os.getpid()}"
    content = {"model": {"x": torch.zeros(2)}, "args": argparse.Namespace(p=Path("x")), "n": torch.tensor(1)}
    torch.save(content, path, _use_new_zipfile_serialization=not legacy)
    whole = path.read_bytes()
    place %= len(whole)
    path.write_bytes(whole[:place] + new + whole[place + len(new) :])
    try:
        read_tensor_file(path)
    except UserError as error:
        assert "\n" not in str(error)  # noqa: PT017 - either outcome is right
    finally:
        path.unlink()


def test_settings_of_many_kinds_are_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = types.ModuleType("lightning.fabric.utilities.data")
    attributes = type("AttributeDict", (dict,), {"__module__": module.__name__})
    module.__dict__["AttributeDict"] = attributes
    for name in ("lightning", "lightning.fabric", "lightning.fabric.utilities", module.__name__):
        monkeypatch.setitem(sys.modules, name, module)
    values = {
        "hyper_parameters": attributes(lr=0.1, out=Path("x")),
        "windows": PureWindowsPath("C:/x"),
        "namespace": types.SimpleNamespace(a=1),
        "counter": Counter("aab"),
        "bool": np.bool_(True),
        "text": np.str_("abc"),
        "half": np.float16(1),
        "objects": np.array([None, "a"], dtype=object),
        "nested": [{"a": (1, {2})}, defaultdict(lambda: 0).default_factory is None],
        "dates": [datetime.datetime.now(datetime.UTC), datetime.date(2024, 1, 1)],
        "dtype": np.dtype("float32"),
        "device": torch.device("cpu"),
        "slice": slice(1, 2),
    }
    path = save({"model": {"x": torch.zeros(1)}, **values}, tmp_path)
    monkeypatch.undo()
    assert set(read_tensor_file(path).tensors) == {"x"}
