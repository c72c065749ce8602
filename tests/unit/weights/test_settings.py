"""Settings beside the tensors of a training checkpoint are honoured, refused or named."""

from argparse import Namespace
from typing import Any

import pytest
import torch

from vitral.errors import UserError
from vitral.weights.settings import read_settings


def overrides(**values: Any) -> tuple[dict[str, Any], list[str]]:
    return read_settings({"hyper_parameters": values}).overrides(given=(), gated=False)


@pytest.mark.parametrize("key", ["act_layer", "hidden_act", "activation_fn", "act_fn", "activation_function"])
def test_activations_under_every_usual_key_count(key: str) -> None:
    assert overrides(**{key: "quick_gelu"})[0] == {"gelu": "quick"}
    with pytest.raises(UserError, match=f"{key} relu, which Vitral does not compute"):
        overrides(**{key: "relu"})


@pytest.mark.parametrize("values", [{"pool": "mean"}, {"use_mean_pooling": True}, {"qk_scale": 0.5}, {"eps": 0.001}])
def test_what_may_be_of_the_encoder_is_named(values: dict[str, Any]) -> None:
    fields, notes = overrides(**values)
    (key,) = values
    assert fields == {}
    assert len(notes) == 1
    assert f"hyper_parameters.{key} {values[key]}" in notes[0]


@pytest.mark.parametrize(
    "values", [{"pool": "cls"}, {"qk_scale": None}, {"use_mean_pooling": False}, {"optim": {"eps": 1e-8}}]
)
def test_what_changes_nothing_is_passed_over(values: dict[str, Any]) -> None:
    assert overrides(**values) == ({}, [])


def test_settings_that_nobody_knows_are_named_in_one_line() -> None:
    unknown = {f"part_{index}": index + 1 for index in range(7)}
    fields, notes = overrides(
        lr=0.1, batch_size=8, optimizer={"lr": 1, "momentum": 0.9}, model={"window": 7, **unknown}
    )
    assert fields == {}
    assert len(notes) == 1
    assert "hyper_parameters.model.window, hyper_parameters.model.part_0" in notes[0]
    assert notes[0].endswith("and 3 more")


def test_arguments_of_training_scripts_are_not_named() -> None:
    args = Namespace(
        **dict(
            aa="rand-m9-mstd0.5", blr=1e-3, warmup_epochs=5, mask_ratio=0.75, norm_pix_loss=True, momentum_teacher=1
        ),
        **dict(moco_dim=256, model="mae_vit_base_patch16", data_path="x", local_crops_scale=(0.05, 0.4), reprob=0.25),
        **dict(finetune="x.pth", unknown_switch=False, unknown_text="", model_kwargs={}, init_values=1e-6),
    )
    assert read_settings({"args": args, "epoch": 3}).unknown == ()


def test_arguments_of_a_named_architecture_are_left_to_its_format() -> None:
    kwargs = {"novel": 1}
    assert read_settings({"args": {"model_kwargs": kwargs}}).unknown == ("args.model_kwargs.novel",)
    named = read_settings({"args": {"model": "vit_base_patch16_224", "model_kwargs": kwargs}})
    assert named.unknown == ()
    assert named.timm["model_args"] == kwargs


def test_a_state_dict_under_a_key_of_settings_is_no_settings() -> None:
    tensors = {"weight": torch.zeros(1), "version": "2", "window": 7}
    assert read_settings({"model": tensors, "args": {"encoder": tensors, "part": tensors}}).unknown == ()
