"""Settings beside the tensors of a training checkpoint are honoured, refused or named."""

from typing import Any

import pytest

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
