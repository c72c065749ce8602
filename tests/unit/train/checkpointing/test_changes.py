"""Changes of settings when a run resumes: each setting is neutral, effective or fixed."""

from dataclasses import replace
from typing import Any

import pytest

from tiny import tiny_run
from vitral.config import from_dict, to_dict
from vitral.objectives.masked_patch import MaskedPatchConfig
from vitral.train.checkpointing.changes import EFFECTIVE, FIXED, NEUTRAL, Change, changes_between
from vitral.train.config import RunConfig

BEFORE = tiny_run()


def with_setting(name: str, value: Any) -> RunConfig:
    """The tiny run with one setting changed."""
    values = to_dict(BEFORE)
    *path, key = name.split(".")
    part = values
    for step in path:
        part = part[step]
    assert key in part
    part[key] = value
    return from_dict(RunConfig, values, origin="test")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("train.device", "cuda"),
        ("train.compile", True),
        ("train.parallel", "fsdp"),
        ("train.shards", 2),
        ("train.recompute", True),
        ("train.evaluate", "1percent"),
        ("train.log", "2steps"),
        ("train.track", "none"),
        ("checkpoint.every", "1h"),
        ("checkpoint.keep", 7),
        ("data.workers", 3),
    ],
)
def test_hardware_and_logging_settings_do_not_affect_the_result(name: str, value: Any) -> None:
    (change,) = changes_between(BEFORE, with_setting(name, value))
    assert change.name == name
    assert not change.affects_result


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("optim.lr", 0.5),
        ("optim.weight_decay", 0.0),
        ("optim.clip", None),
        ("optim.rules", ["^head:lr=10"]),
        ("schedule.decay", "linear"),
        ("schedule.cooldown", "2steps"),
        ("augment.flip", False),
        ("objective.label_smoothing", 0.0),
        ("train.steps", 20),
        ("train.epochs", 20.0),
        ("train.accumulate", 2),
        ("train.precision", "bfloat16"),
        ("train.ema", 0.5),
        ("train.ema_warmup", False),
        ("data.on_error", "skip"),
    ],
)
def test_training_settings_affect_the_result(name: str, value: Any) -> None:
    (change,) = changes_between(BEFORE, with_setting(name, value))
    assert change.affects_result
    assert change.describe(8) == f"{name} is {change.new} instead of {change.old} from step 8 on"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("recipe", "another"),
        ("seed", 6),
        ("train.batch_size", 32),
        ("augment.repeats", 2),
        ("data.source", "idx"),
        ("data.root", "elsewhere"),
        ("data.limit", 9),
        ("data.val_fraction", 0.1),
        ("data.val_fold", "2/5"),
        ("data.test_fraction", 0.3),
        ("data.split_seed", 1),
        ("data.exclude", "list"),
        ("data.splits", ["train=a"]),
        ("data.image_column", "image"),
        ("model.weights", "elsewhere"),
        ("model.lora_alpha", 8.0),
        ("model.architecture.depth", 3),
        ("model.architecture.dropout", 0.3),
        ("preprocessing.interpolation", "bicubic"),
        ("optim.name", "sgd"),
        ("optim.momentum_dtype", "bfloat16"),
        ("train.ema", None),
    ],
)
def test_settings_that_cannot_change_raise(name: str, value: Any) -> None:
    with pytest.raises(
        ValueError, match=rf"^{name} was .* and cannot become .* when a run resumes, because .*: remove it"
    ):
        changes_between(BEFORE, with_setting(name, value))


def test_another_objective_raises() -> None:
    with pytest.raises(ValueError, match=r"^objective\.name was classification and cannot become masked_patch"):
        changes_between(BEFORE, replace(BEFORE, objective=MaskedPatchConfig()))


def test_the_reason_names_the_order_of_samples_only_where_it_changes() -> None:
    with pytest.raises(ValueError, match="because samples would be repeated or skipped"):
        Change("train.batch_size", 64, 32).check()
    with pytest.raises(ValueError, match="because it would be a different run"):
        Change("model.probe", False, True).check()


def test_folder_and_command_are_not_changes(tmp_path) -> None:
    assert changes_between(BEFORE, replace(BEFORE, out=tmp_path, command=("typed",), changes=("a change",))) == []


def test_all_listed_settings_exist() -> None:
    for name in (*NEUTRAL, *EFFECTIVE, *FIXED):
        part: Any = to_dict(BEFORE)
        for key in name.split("."):
            assert key in part, name
            part = part[key]
