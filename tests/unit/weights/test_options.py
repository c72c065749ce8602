"""Options of `vitral.load`: a wrong name or type is refused in one sentence."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.torch import save_file

import vitral
from models import small_model
from vitral.errors import UserError
from vitral.vit_config import ViTConfig
from vitral.weights.adapt import adapt_model
from vitral.weights.lineages.registry import LINEAGES
from vitral.weights.options import check_options
from vitral.weights.write import upstream_state_dict


@pytest.fixture
def file(tmp_path: Path) -> Path:
    save_file(upstream_state_dict(LINEAGES["timm"], small_model(image_size=16))[0], tmp_path / "x.safetensors")
    return tmp_path / "x.safetensors"


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"foo": 1}, "unknown option 'foo'"),
        ({"num_head": 3}, r"unknown option 'num_head' \(did you mean num_heads\?\)"),
        ({"num_heads": "3"}, "num_heads is '3', but must be an integer"),
        ({"num_heads": 3, "gelu": "relu"}, "gelu is 'relu', but must be one of 'tanh', 'erf', 'quick'"),
        ({"num_heads": 3, "norm_eps": None}, "norm_eps is None, but must be a number"),
        ({"num_heads": 3, "num_classes": 0}, r"call model\.features\(images\)\.pooled"),
    ],
)
def test_a_wrong_option_is_named_with_its_type(file: Path, options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        vitral.load(file, **options)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"image_size": "64"}, "image_size is '64', but must be an integer or a pair of integers"),
        ({"image_size": True}, "image_size is True"),
        ({"patch_size": 4.0}, r"patch_size is 4\.0, but must be an integer"),
    ],
)
def test_a_wrong_size_is_named_with_its_type(changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        adapt_model(small_model(), **changes)


def test_integers_of_numpy_are_integers(file: Path) -> None:
    assert vitral.load(file, num_heads=np.int64(3)).config.num_heads == 3
    model, _ = adapt_model(small_model(image_size=16), image_size=np.int32(32))
    assert model.config.image_hw == (32, 32)
    assert type(check_options({"depth": np.int64(2)}, ViTConfig)["depth"]) is int
    assert check_options({"norm_eps": 1}, ViTConfig) == {"norm_eps": 1}


@pytest.mark.parametrize("name", ["", "  "])
def test_an_empty_name_is_refused(name: str) -> None:
    with pytest.raises(UserError, match="the name of the model is empty"):
        vitral.load(name)
