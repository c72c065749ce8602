"""`vitral.train(...)` trains as the command line does."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

import vitral
from tiny import tiny_run
from vitral.commands.keywords import as_flags
from vitral.recipes import RECIPES
from vitral.runs.reporter import LoggedMetrics

SMALL = dict(train_steps=3, train_batch_size=16, model_depth=1, train_device="cpu")


def test_a_call_trains_and_reports_each_step(tmp_path: Path) -> None:
    logged: list[LoggedMetrics] = []
    trained = vitral.train("digits", out=tmp_path / "run", callback=logged.append, train_log="1step", **SMALL)
    assert trained.folder == tmp_path / "run"
    assert (trained.folder / "report.html").is_file()
    steps = [one.step for one in logged if "train/loss" in one.metrics]
    assert steps == [1, 2, 3]
    assert {one.total for one in logged} == {3}
    assert trained.metrics["test/top1"] == logged[-1].metrics["test/top1"]
    assert len(trained.predictor.card.classes) == trained.model.config.num_classes == 10
    command = json.loads((trained.folder / "run.json").read_text())["command"][0]
    assert command.startswith("vitral train digits --train.log 1step --train.steps 3 --train.batch-size 16")


def test_a_configuration_is_trained_with_changes(tmp_path: Path) -> None:
    trained = vitral.train(tiny_run(steps=2), out=tmp_path / "run", seed=7)
    assert trained.predictor.card.provenance["seed"] == 7
    assert trained.predictor.card.provenance["steps"] == 2


def test_what_the_callback_raises_ends_the_run(tmp_path: Path) -> None:
    def stop(_: LoggedMetrics) -> None:
        raise RuntimeError("enough")

    with pytest.raises(RuntimeError, match="enough"):
        vitral.train(tiny_run(), out=tmp_path / "run", callback=stop)


@pytest.mark.parametrize(
    ("recipe", "keys", "sentence"),
    [
        ("digit", {}, "did you mean digits"),
        ("digits", {"train_batchsize": 3}, "--train.batchsize"),
        ("digits", {"help": True}, "vitral train digits --help"),
        ("digits", {"minutes": 0.0}, "--minutes must be a number above 0"),
        ("digits", {"minutes": 3.0, "train_steps": 3}, "both set the length"),
        ("folder", {"data_root": "nowhere"}, "nowhere"),
    ],
)
def test_wrong_calls_are_one_sentence(tmp_path: Path, recipe: str, keys: dict[str, object], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        vitral.train(recipe, out=tmp_path / "run", **keys)
    assert not (tmp_path / "run").exists()


def test_keywords_are_the_command_lines_keys() -> None:
    config = replace(RECIPES["digits"](), seed=1)
    keywords = dict(seed=3, data_root="a b", augment_flip=False, train_recompute=True, train_compile=False)
    assert as_flags(keywords, config) == [
        *("--seed", "3", "--data.root", "a b", "--augment.no-flip", "--train.recompute", "--train.compile", "False")
    ]
    assert as_flags({"objective.crops.num-local": 4, "augment_crop_area": (0.5, 1.0)}, config) == [
        *("--objective.crops.num-local", "4", "--augment.crop-area", "0.5", "1.0")
    ]
    assert as_flags({"model_qk_norm": True, "train_ema": None}, config) == ["--model.qk-norm", "--train.ema", "None"]
