"""Extractors on tasks: a task that fails is skipped, and cached results are used for the same inputs only."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from vitral.data.config import DataConfig
from vitral.data.images.decode import UnreadableImage
from vitral.data.images.preprocess import Preprocessing
from vitral.data.sources.source import ArraySource, Source, Subset
from vitral.datasets.digits import digits
from vitral.distributed.world import SINGLE_PROCESS
from vitral.errors import UserError
from vitral.suites import finetuning, runner
from vitral.suites.finetuning import PROTOCOLS
from vitral.suites.runner import FeatureExtractor, SuiteRunner, Task
from vitral.suites.transfer import Score
from vitral.train.config import RunConfig

EXTRACTOR = FeatureExtractor(
    extract=lambda images: images.flatten(1).float(),
    preprocessing=Preprocessing(image_size=(8, 8), channels=1),
    fingerprint="pixels",
)
DATA = DataConfig(source="digits")


class RecordedProgress:
    """Records the progress of a suite."""

    def __init__(self) -> None:
        self.descriptions: list[str] = []
        self.total = self.done = self.ended = 0

    def begin(self, description: str, total: int) -> None:
        self.descriptions.append(description)
        self.total += total

    def advance(self, count: int) -> None:
        self.done += count

    def end(self) -> None:
        self.ended += 1


class UnreadableSource(ArraySource):
    """Images of which the last cannot be read."""

    def stored(self, index: int) -> Image.Image:
        if index == len(self) - 1:
            raise UnreadableImage("the last image is unreadable")
        return super().stored(index)


def make_task(source: type[ArraySource] = ArraySource, shift: int = 0) -> Task:
    images, labels = digits()
    splits: dict[str, Source] = {}
    for split, (start, end) in {"train": (0, 60), "val": (60, 80), "test": (80, 117)}.items():
        rows = np.arange(start, end) + shift
        splits[split] = source(title="digits", images=images[rows], labels=labels[rows], classes=tuple("0123456789"))
    return Task(splits=splits, group="natural")


def make_runner(
    tasks: dict[str, Task], folder: Path | None = None, **changes: Any
) -> tuple[SuiteRunner, RecordedProgress, list[str]]:
    """A runner, its progress, and the messages that it logs."""
    progress, messages = RecordedProgress(), []
    arguments: dict[str, Any] = {
        "extractors": {"model": EXTRACTOR, "other": replace(EXTRACTOR, fingerprint="other")},
        "data": DATA,
        "folder": folder,
        "world": SINGLE_PROCESS,
        "progress": progress,
        "log": messages.append,
    }
    return SuiteRunner(tasks=tasks, **arguments | changes), progress, messages


def test_a_task_that_cannot_be_read_is_skipped_for_all_extractors() -> None:
    suite, progress, messages = make_runner(
        {"whole": make_task(), "unreadable": make_task(UnreadableSource), "last": make_task()}
    )
    suite.extract()
    suite.evaluate(("knn",), seeds=(0,), grid=True)
    reason = "the last image is unreadable; remove the file, or leave such files out with --data.on-error skip"
    assert suite.failures == {"unreadable": reason}
    assert messages == [f"skipped: unreadable: {reason}"]
    assert list(suite.tasks) == ["whole", "last"]
    for scores in suite.scores.values():
        assert list(scores) == ["whole", "last"]
        assert scores["whole"]["kNN"].num_images == 37
    assert not any("unreadable" in description and "other" in description for description in progress.descriptions)
    assert progress.ended == len(progress.descriptions)


def test_if_every_task_fails_the_last_failure_is_an_error() -> None:
    suite, _, _ = make_runner({"unreadable": make_task(UnreadableSource)})
    with pytest.raises(ValueError, match="the last image is unreadable"):
        suite.extract()


def test_unreadable_images_are_skipped_if_the_configuration_says_so(tmp_path: Path) -> None:
    """Their cached features are not used by a runner that may not skip images."""
    skipping, _, messages = make_runner(
        {"unreadable": make_task(UnreadableSource)}, tmp_path, data=replace(DATA, on_error="skip")
    )
    skipping.extract()
    skipping.evaluate(("knn",), seeds=(0,), grid=False)
    assert skipping.scores["model"]["unreadable"]["kNN"].num_images == 36
    assert messages == ["skipped: the last image is unreadable"], "once, for three splits and two extractors"
    strict, _, _ = make_runner({"unreadable": make_task(UnreadableSource)}, tmp_path)
    with pytest.raises(ValueError, match="the last image is unreadable"):
        strict.extract()


def test_a_task_that_fails_in_fine_tuning_is_skipped(monkeypatch: pytest.MonkeyPatch, config: RunConfig) -> None:
    second = make_task(shift=1)

    def fail_on_second(_: RunConfig, splits: dict[str, Source], **__: Any) -> Score:
        if splits["train"].labels[0] == second.splits["train"].labels[0]:
            raise UserError("it diverged")
        return Score(method="fine-tuned", values=[0.5], num_images=37, seconds=1.0)

    monkeypatch.setattr(runner, "evaluate_finetuning", fail_on_second)
    suite, _, messages = make_runner({"a": make_task(), "b": second})
    suite.finetune({"model": config}, PROTOCOLS["light"], seeds=(0,))
    assert suite.failures == {"b": "it diverged"}
    assert messages == ["skipped: b: it diverged"]
    assert suite.scores == {
        "model": {"a": {"fine-tuned": suite.scores["model"]["a"]["fine-tuned"]}},
        "other": {"a": {}},
    }


def test_the_last_task_keeps_its_scores_from_before_it_failed(
    monkeypatch: pytest.MonkeyPatch, config: RunConfig
) -> None:
    def fail(*_: Any, **__: Any) -> Score:
        raise UserError("it diverged")

    monkeypatch.setattr(runner, "evaluate_finetuning", fail)
    suite, progress, messages = make_runner({"only": make_task()})
    suite.extract()
    suite.evaluate(("knn",), seeds=(0,), grid=False)
    suite.finetune({"model": config}, PROTOCOLS["light"], seeds=(0,))
    assert suite.failures == {"only": "model: it diverged"}
    assert messages == ["stopped: only for model: it diverged"]
    assert [list(scores["only"]) for scores in suite.scores.values()] == [["kNN"], ["kNN"]]
    assert progress.ended == len(progress.descriptions)


def test_a_bug_is_not_a_failed_task(monkeypatch: pytest.MonkeyPatch, config: RunConfig) -> None:
    def fail(*_: Any, **__: Any) -> Score:
        raise ValueError("a bug")

    monkeypatch.setattr(runner, "evaluate_finetuning", fail)
    suite, _, _ = make_runner({"a": make_task(), "b": make_task()})
    with pytest.raises(ValueError, match="a bug"):
        suite.finetune({"model": config}, PROTOCOLS["light"], seeds=(0,))


def test_images_of_one_class_are_an_error() -> None:
    """Whatever other classes the data has."""
    suite, _, _ = make_runner({"one": Task(splits={**make_task().splits, **one_class()}, group="natural")})
    suite.extract()
    with pytest.raises(ValueError, match="of one class"):
        suite.evaluate(("knn",), seeds=(0,), grid=False)


def one_class() -> dict[str, Source]:
    images = np.zeros((9, 8, 8), np.uint8)
    one = ArraySource(title="one", images=images, labels=np.full(9, 3), classes=tuple("0123456789"))
    return {"train": one, "val": one}


def test_features_that_are_not_finite_are_an_error() -> None:
    def divide_by_zero(images: torch.Tensor) -> torch.Tensor:
        return images.flatten(1).float() / 0

    suite, _, _ = make_runner({"a": make_task()}, extractors={"model": replace(EXTRACTOR, extract=divide_by_zero)})
    with pytest.raises(ValueError, match="not finite"):
        suite.extract()


@pytest.fixture
def config() -> RunConfig:
    from vitral.recipes.digits import digits as recipe

    return recipe()


@pytest.mark.parametrize("change", ["nothing", "fingerprint", "preprocessing", "images", "title", "seeds", "workers"])
def test_cached_scores_are_used_for_the_same_model_images_and_settings(tmp_path: Path, change: str) -> None:
    first, _, _ = make_runner({"digits": make_task()}, tmp_path, extractors={"model": EXTRACTOR})
    first.extract()
    first.evaluate(("knn", "fewshot"), seeds=(0,), grid=False)
    extractor = {
        "fingerprint": replace(EXTRACTOR, fingerprint="other"),
        "preprocessing": replace(EXTRACTOR, preprocessing=replace(EXTRACTOR.preprocessing, resize="crop")),
    }.get(change, EXTRACTOR)
    again, _, messages = make_runner(
        {"other" if change == "title" else "digits": make_task(shift=change == "images")},
        tmp_path,
        extractors={"model": extractor},
        data=replace(DATA, workers=1 if change == "workers" else 0),
    )
    again.extract()
    again.evaluate(("knn", "fewshot"), seeds=(1,) if change == "seeds" else (0,), grid=False)
    # only few-shot depends on seeds
    assert again.score_cache.hits == {"nothing": 2, "workers": 2, "seeds": 1}.get(change, 0)
    assert not any("cannot be used" in message for message in messages)


@pytest.mark.parametrize("change", ["nothing", "weights", "rates", "another seed", "more seeds", "steps", "augment"])
def test_cached_trainings_are_used_for_the_same_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, config: RunConfig, change: str
) -> None:
    """Each training is cached by itself, so that another seed costs one more."""
    score = Score(method="fine-tuned", values=[0.5], num_images=37, seconds=1.0)
    monkeypatch.setattr(finetuning, "finetune_and_test", lambda *_, **__: score)
    light = PROTOCOLS["light"]
    changed_protocol = {
        "rates": replace(light, rates=(0.5,)),
        "augment": replace(light, augment=True),
    }.get(change, light)
    changed_config = {
        # the extractor's fingerprint identifies the weights, wherever their file is
        "weights": replace(config, model=replace(config.model, weights=tmp_path)),
        "steps": replace(config, train=replace(config.train, steps=7)),
    }.get(change, config)
    changed_seeds = {"another seed": (1,), "more seeds": (0, 1)}.get(change, (0,))
    for run, protocol, seeds in ((config, light, (0,)), (changed_config, changed_protocol, changed_seeds)):
        suite, progress, _ = make_runner({"digits": make_task()}, tmp_path)
        suite.finetune({"model": run}, protocol, seeds=seeds)
    hits = len(light.rates) + 1 if change in ("nothing", "weights", "more seeds") else 0
    assert suite.score_cache.hits == hits
    assert suite.scores["model"]["digits"]["fine-tuned"].values == [0.5] * len(changed_seeds)
    if change == "nothing":
        assert progress.done == progress.total


def test_progress_counts_every_image() -> None:
    suite, progress, _ = make_runner({"digits": make_task()})
    suite.extract()
    assert [description.split(":")[0] for description in progress.descriptions] == ["digits"] * 2
    assert [description.split()[-1] for description in progress.descriptions] == ["model", "other"]
    assert progress.done == progress.total == 2 * 117


def test_subsets_of_a_source_have_different_fingerprints() -> None:
    whole = make_task().splits["train"]
    halves = [
        Task(splits={"train": Subset(source=whole, indices=np.arange(30) + start)}, group="a") for start in (0, 30)
    ]
    assert halves[0].fingerprints != halves[1].fingerprints
