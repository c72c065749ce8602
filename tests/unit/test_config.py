"""Configurations come back from JSON as they went, and say what is wrong with one edited by hand."""

import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vitral.config import from_dict, load_config, read_json, renamed, save_config, to_dict
from vitral.errors import UserError
from vitral.recipes import RECIPES
from vitral.resnet import ResNetConfig
from vitral.train.config import RunConfig, TrainConfig
from vitral.vit_config import ViTConfig


@dataclass(frozen=True, kw_only=True)
class Inner:
    sizes: tuple[int, int] = (1, 2)
    kind: Literal["a", "b"] = "a"

    def __post_init__(self) -> None:
        if self.sizes[0] > self.sizes[1]:
            raise ValueError(f"sizes must not fall, as {self.sizes} do")


@dataclass(frozen=True, kw_only=True)
class Outer:
    name: str
    root: Path | None = None
    fraction: float = 0.5
    size: int | tuple[int, int] = 8
    inner: Inner = field(default_factory=Inner)
    extra: dict[str, Any] = field(default_factory=dict)


OUTERS = st.builds(
    Outer,
    name=st.text(),
    root=st.none() | st.just(Path("a/b")),
    fraction=st.floats(allow_nan=False, allow_infinity=False),
    size=st.integers() | st.tuples(st.integers(), st.integers()),
    inner=st.builds(Inner, sizes=st.tuples(st.integers(-9, 0), st.integers(1, 9)), kind=st.sampled_from("ab")),
    extra=st.dictionaries(st.text(), st.integers() | st.text() | st.none()),
)


@given(OUTERS)
def test_there_and_back(config):
    assert from_dict(Outer, json.loads(json.dumps(to_dict(config))), origin="here") == config


@pytest.mark.parametrize("recipe", sorted(RECIPES))
def test_every_recipe_comes_back_from_its_file(tmp_path, recipe):
    config = replace(RECIPES[recipe](), out=tmp_path, seed=3)
    save_config(tmp_path / "run.json", config)
    assert load_config(RunConfig, tmp_path / "run.json") == config


def test_plain_values():
    values = to_dict(Outer(name="x", root=Path("a"), size=(1, 2)))
    assert values["root"] == "a"
    assert values["size"] == [1, 2]
    assert values["inner"] == {"sizes": [1, 2], "kind": "a"}


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"name": "x", "nmae": "y"}, "here: nmae is not a known key"),
        ({"name": "x", "inner": {"colour": 1}}, "here: inner.colour is not a known key"),
        ({}, "here: name is wrong: Field required"),
        ({"name": "x", "fraction": "much"}, "here: fraction is wrong: Input should be a valid number"),
        ({"name": "x", "inner": {"kind": "c"}}, "here: inner.kind is wrong: Input should be 'a' or 'b'"),
        ({"name": "x", "inner": {"sizes": [3, 1]}}, "here: inner is wrong: .*sizes must not fall, as"),
        ([1, 2], "here: the whole is wrong: "),
    ],
)
def test_what_is_wrong_with_it(values, sentence):
    with pytest.raises(ValueError, match=sentence) as caught:
        from_dict(Outer, values, origin="here")
    assert "\n" not in str(caught.value)


@renamed(keys={"views": "crops"}, values={"mix": {"shares": "weighted"}})
@dataclass(frozen=True, kw_only=True)
class Renamed:
    crops: int = 1
    mix: Literal["weighted", "both"] = "weighted"


@dataclass(frozen=True, kw_only=True)
class Outside:
    views: int = 1
    inner: Renamed = field(default_factory=Renamed)
    again: Renamed = field(default_factory=Renamed)


def test_old_names_are_read_and_new_ones_written():
    old = {"views": 2, "inner": {"views": 3, "mix": "shares"}, "again": {"views": 4}}
    config = from_dict(Outside, old, origin="here")
    assert config == Outside(views=2, inner=Renamed(crops=3, mix="weighted"), again=Renamed(crops=4))
    assert to_dict(config) == {
        "views": 2,
        "inner": {"crops": 3, "mix": "weighted"},
        "again": {"crops": 4, "mix": "weighted"},
    }
    assert old["inner"] == {"views": 3, "mix": "shares"}, "the input is not changed"
    assert from_dict(Outside, to_dict(config), origin="here") == config


@pytest.mark.parametrize(
    ("inner", "sentence"),
    [
        ({"views": 3, "crops": 3}, "here: inner.views is not a known key"),
        ({"views": "x"}, "here: inner.crops is wrong: Input should be a valid integer"),
        ({"mix": 1}, "here: inner.mix is wrong: Input should be 'weighted' or 'both'"),
        ([1], "here: inner is wrong: "),
    ],
)
def test_old_names_with_mistakes(inner, sentence):
    with pytest.raises(ValueError, match=sentence):
        from_dict(Outside, {"inner": inner}, origin="here")


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe\x00", b"not json"])
def test_a_damaged_file_is_named(tmp_path, content):
    path = tmp_path / "run.json"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"run\.json is not JSON"):
        load_config(RunConfig, path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"run\.json"):
        load_config(RunConfig, tmp_path / "run.json")


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"batch_size": 0}, "--train.batch-size must be at least 1, not 0"),
        (
            {"batch_size": 10, "accumulate": 3},
            "--train.batch-size must be a multiple of --train.accumulate, not 10 and 3",
        ),
        ({"epochs": 0.0}, "--train.epochs must be above 0, not 0.0"),
        ({"epochs": float("nan")}, "--train.epochs must be above 0, not nan"),
        ({"steps": 0}, "--train.steps must be at least 1, not 0"),
        ({"ema": 1.0}, "--train.ema must be above 0 and below 1, not 1.0"),
        ({"evaluate": "sometimes"}, "'sometimes' is not a duration"),
        ({"log": "5"}, "'5' is not a duration"),
    ],
)
def test_training_out_of_range(values, reason):
    with pytest.raises(ValueError, match=reason):
        TrainConfig(**values)


@pytest.mark.parametrize("seed", [-1, 2**63])
def test_seeds_out_of_range(seed):
    with pytest.raises(ValueError, match="seed must be at least 0 and below"):
        replace(RECIPES["digits"](), seed=seed)


@pytest.mark.parametrize(
    ("content", "reason"),
    [("[" * 100_000, "nested too deeply"), ('{"a": ' * 100_000, "nested too deeply"), ("1" * 5000, "is not JSON")],
)
def test_json_that_attacks_the_parser_is_refused(tmp_path: Path, content: str, reason: str) -> None:
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(UserError, match=reason):
        read_json(tmp_path / "config.json")


@pytest.mark.parametrize(
    ("config", "sizes"),
    [
        (ViTConfig, {"width": 10**9, "num_heads": 1}),
        (ViTConfig, {"mlp_dim": 2**70}),
        (ViTConfig, {"depth": 10_000}),
        (ViTConfig, {"stem_stages": (1_000_000,)}),
        (ViTConfig, {"stem_stages": (1,) * 100}),
        (ViTConfig, {"num_classes": 10**9}),
        (ResNetConfig, {"stages": (10**6,)}),
        (ResNetConfig, {"stages": (1,) * 40}),
        (ResNetConfig, {"width_factor": 10**6}),
    ],
)
def test_sizes_beyond_any_model_are_refused_before_one_is_built(config: type, sizes: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=f"{next(iter(sizes))} must be at most"):
        config(**sizes)
