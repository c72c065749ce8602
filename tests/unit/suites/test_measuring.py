"""Subjects on tasks: one that fails costs no other, and what is kept is taken for the same alone."""

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
from vitral.suites import finetuning
from vitral.suites import measuring as module
from vitral.suites.finetuning import PROTOCOLS
from vitral.suites.measuring import Measuring, Subject, Task
from vitral.suites.transfer import Score
from vitral.train.config import RunConfig

SUBJECT = Subject(
    encode=lambda images: images.flatten(1).float(),
    preprocessing=Preprocessing(image_size=(8, 8), channels=1),
    identity="pixels",
)
DATA = DataConfig(source="digits")


class Noted:
    """What was told of how far things are."""

    def __init__(self) -> None:
        self.whats: list[str] = []
        self.total = self.done = self.ended = 0

    def begin(self, what: str, num_images: int) -> None:
        self.whats.append(what)
        self.total += num_images

    def advance(self, num_images: int) -> None:
        self.done += num_images

    def end(self) -> None:
        self.ended += 1


class Torn(ArraySource):
    """Images of which the last cannot be read."""

    def stored(self, index: int) -> Image.Image:
        if index == len(self) - 1:
            raise UnreadableImage("the last image is torn")
        return super().stored(index)


def task(kind: type[ArraySource] = ArraySource, shift: int = 0) -> Task:
    images, labels = digits()
    parts: dict[str, Source] = {}
    for split, (start, end) in {"train": (0, 60), "val": (60, 80), "test": (80, 117)}.items():
        rows = np.arange(start, end) + shift
        parts[split] = kind(title="digits", images=images[rows], labels=labels[rows], classes=tuple("0123456789"))
    return Task(splits=parts, group="natural")


def measuring(tasks: dict[str, Task], folder: Path | None = None, **changes: Any) -> tuple[Measuring, Noted, list[str]]:
    watch, said = Noted(), []
    given: dict[str, Any] = {"subjects": {"model": SUBJECT, "other": replace(SUBJECT, identity="other")}, "data": DATA}
    return (
        Measuring(tasks=tasks, folder=folder, world=SINGLE_PROCESS, watch=watch, say=said.append, **given | changes),
        watch,
        said,
    )


def test_a_task_that_cannot_be_read_is_left_out_for_all() -> None:
    found, watch, said = measuring({"whole": task(), "torn": task(Torn), "last": task()})
    found.extract()
    found.measure(("knn",), seeds=(0,), grid=True)
    reason = "the last image is torn; remove the file, or leave such files out with --data.on-error skip"
    assert found.left_out == {"torn": reason}
    assert said == [f"left out: torn, as {reason}"]
    assert list(found.tasks) == ["whole", "last"]
    for scores in found.scores.values():
        assert list(scores) == ["whole", "last"]
        assert scores["whole"]["kNN"].num_images == 37
    assert "torn: reading for other" not in watch.whats
    assert watch.ended == len(watch.whats)


def test_the_last_task_that_fails_is_an_error() -> None:
    found, _, _ = measuring({"torn": task(Torn)})
    with pytest.raises(ValueError, match="the last image is torn"):
        found.extract()


def test_unreadable_images_are_skipped_where_they_may_be(tmp_path: Path) -> None:
    """What was read so is not taken by who asks for all."""
    skipping, _, said = measuring({"torn": task(Torn)}, tmp_path, data=replace(DATA, on_error="skip"))
    skipping.extract()
    skipping.measure(("knn",), seeds=(0,), grid=False)
    assert skipping.scores["model"]["torn"]["kNN"].num_images == 36
    assert said == ["left out: the last image is torn"], "once, for three splits and two subjects"
    strict, _, _ = measuring({"torn": task(Torn)}, tmp_path)
    with pytest.raises(ValueError, match="the last image is torn"):
        strict.extract()


def test_what_fails_later_is_left_out_as_well(monkeypatch: pytest.MonkeyPatch, config: RunConfig) -> None:
    def failing(_: RunConfig, splits: dict[str, Source], **__: Any) -> Score:
        if splits["train"].labels[0] == second.splits["train"].labels[0]:
            raise ValueError("it diverged")
        return Score(method="fine-tuned", values=[0.5], num_images=37, seconds=1.0)

    monkeypatch.setattr(module, "finetuning_score", failing)
    second = task(shift=1)
    found, _, said = measuring({"a": task(), "b": second})
    found.tune({"model": config}, PROTOCOLS["light"], seeds=(0,))
    assert found.left_out == {"b": "it diverged"}
    assert said == ["left out: b, as it diverged"]
    assert found.scores == {
        "model": {"a": {"fine-tuned": found.scores["model"]["a"]["fine-tuned"]}},
        "other": {"a": {}},
    }


def test_the_last_task_keeps_what_was_measured_before_it_failed(
    monkeypatch: pytest.MonkeyPatch, config: RunConfig
) -> None:
    def failing(*_: Any, **__: Any) -> Score:
        raise ValueError("it diverged")

    monkeypatch.setattr(module, "finetuning_score", failing)
    found, watch, said = measuring({"only": task()})
    found.extract()
    found.measure(("knn",), seeds=(0,), grid=False)
    found.tune({"model": config}, PROTOCOLS["light"], seeds=(0,))
    assert found.left_out == {"only": "model: it diverged"}
    assert said == ["broken off: only for model, as it diverged"]
    assert [list(scores["only"]) for scores in found.scores.values()] == [["kNN"], ["kNN"]]
    assert watch.ended == len(watch.whats)


def test_images_of_one_class_that_can_be_read_tell_nothing_apart() -> None:
    """Whatever other classes the data has."""
    found, _, _ = measuring({"one": Task(splits={**task().splits, **one_class()}, group="natural")})
    found.extract()
    with pytest.raises(ValueError, match="the images that can be read are of one class"):
        found.measure(("knn",), seeds=(0,), grid=False)


def one_class() -> dict[str, Source]:
    images = np.zeros((9, 8, 8), np.uint8)
    one = ArraySource(title="one", images=images, labels=np.full(9, 3), classes=tuple("0123456789"))
    return {"train": one, "val": one}


def test_outputs_that_are_not_finite_are_refused() -> None:
    def broken(images: torch.Tensor) -> torch.Tensor:
        return images.flatten(1).float() / 0

    found, _, _ = measuring({"a": task()}, subjects={"model": replace(SUBJECT, encode=broken)})
    with pytest.raises(ValueError, match="the model's outputs are not finite: its weights are damaged"):
        found.extract()


@pytest.fixture
def config() -> RunConfig:
    from vitral.recipes.digits import digits as recipe

    return recipe()


@pytest.mark.parametrize("change", ["nothing", "identity", "preprocessing", "images", "title", "seeds", "workers"])
def test_scores_are_taken_for_the_same_model_images_and_settings(tmp_path: Path, change: str) -> None:
    first, _, _ = measuring({"digits": task()}, tmp_path, subjects={"model": SUBJECT})
    first.extract()
    first.measure(("knn", "fewshot"), seeds=(0,), grid=False)
    subject = {
        "identity": replace(SUBJECT, identity="other"),
        "preprocessing": replace(SUBJECT, preprocessing=replace(SUBJECT.preprocessing, resize="crop")),
    }.get(change, SUBJECT)
    again, _, said = measuring(
        {"other" if change == "title" else "digits": task(shift=change == "images")},
        tmp_path,
        subjects={"model": subject},
        data=replace(DATA, workers=1 if change == "workers" else 0),
    )
    again.extract()
    again.measure(("knn", "fewshot"), seeds=(1,) if change == "seeds" else (0,), grid=False)
    # seeds draw the images of few shots alone
    assert again.kept.taken == {"nothing": 2, "workers": 2, "seeds": 1}.get(change, 0)
    assert not any("cannot be used" in sentence for sentence in said)


@pytest.mark.parametrize("change", ["nothing", "weights", "rates", "another seed", "more seeds", "steps", "varied"])
def test_fine_tunings_are_taken_for_the_same_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, config: RunConfig, change: str
) -> None:
    """Each training by itself, so that another seed costs one more."""
    row = Score(method="fine-tuned", values=[0.5], num_images=37, seconds=1.0)
    monkeypatch.setattr(finetuning, "tested", lambda *_, **__: row)
    light = PROTOCOLS["light"]
    changed = {
        "rates": replace(light, rates=(0.5,)),
        "varied": replace(light, varied=True),
    }.get(change, light)
    other = {
        # the weights are known by the subject's identity, wherever they lie
        "weights": replace(config, model=replace(config.model, weights=tmp_path)),
        "steps": replace(config, train=replace(config.train, steps=7)),
    }.get(change, config)
    again = {"another seed": (1,), "more seeds": (0, 1)}.get(change, (0,))
    for run, protocol, seeds in ((config, light, (0,)), (other, changed, again)):
        found, watch, _ = measuring({"digits": task()}, tmp_path)
        found.tune({"model": run}, protocol, seeds=seeds)
    assert found.kept.taken == (len(light.rates) + 1 if change in ("nothing", "weights", "more seeds") else 0)
    assert found.scores["model"]["digits"]["fine-tuned"].values == [0.5] * len(again)
    if change == "nothing":
        assert watch.done == watch.total


def test_every_image_is_told_of() -> None:
    found, watch, _ = measuring({"digits": task()})
    found.extract()
    assert watch.whats == ["digits: reading for model", "digits: reading for other"]
    assert watch.done == watch.total == 2 * 117


def test_a_part_of_a_source_is_a_source_of_its_own() -> None:
    whole = task().splits["train"]
    halves = [
        Task(splits={"train": Subset(source=whole, indices=np.arange(30) + start)}, group="a") for start in (0, 30)
    ]
    assert halves[0].images != halves[1].images
