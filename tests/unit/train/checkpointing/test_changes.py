"""What may become another when a run goes on: every setting belongs to one of three kinds."""

from dataclasses import replace
from typing import Any

import pytest

from tiny import tiny_run
from vitral.config import from_dict, to_dict
from vitral.objectives.masked_patch import MaskedPatchConfig
from vitral.train.checkpointing.changes import AS_BEFORE, FIXED, OTHERWISE, Change, changes_between
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
def test_where_it_computes_and_what_it_tells_do_not_count(name: str, value: Any) -> None:
    (change,) = changes_between(BEFORE, with_setting(name, value))
    assert change.name == name
    assert not change.counts


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
def test_what_is_learned_otherwise_counts_and_is_told(name: str, value: Any) -> None:
    (change,) = changes_between(BEFORE, with_setting(name, value))
    assert change.counts
    assert change.told(8) == f"{name} is {change.new} instead of {change.old} from step 8 on"


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
        ("data.val_share", 0.1),
        ("data.held_out", 0.3),
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
def test_what_would_be_another_run_is_refused(name: str, value: Any) -> None:
    with pytest.raises(
        ValueError, match=rf"^{name} was .* and cannot become .* when a run goes on, as .*: leave it out"
    ):
        changes_between(BEFORE, with_setting(name, value))


def test_another_objective_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^objective\.name was classification and cannot become masked_patch"):
        changes_between(BEFORE, replace(BEFORE, objective=MaskedPatchConfig()))


def test_only_what_order_depends_on_is_told_to_be_order() -> None:
    with pytest.raises(ValueError, match="as samples would come twice or never"):
        Change("train.batch_size", 64, 32).check()
    with pytest.raises(ValueError, match="as it would be another run"):
        Change("model.probe", False, True).check()


def test_where_a_run_lies_and_what_was_typed_is_no_change(tmp_path) -> None:
    assert changes_between(BEFORE, replace(BEFORE, out=tmp_path, command=("typed",), changes=("told",))) == []


def test_every_name_is_that_of_a_setting() -> None:
    for name in (*AS_BEFORE, *OTHERWISE, *FIXED):
        part: Any = to_dict(BEFORE)
        for key in name.split("."):
            assert key in part, name
            part = part[key]
