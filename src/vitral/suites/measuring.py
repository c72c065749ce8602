"""Several models on several tasks: what is done is kept on disk, and a task that fails does not cost the others."""

import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from vitral.config import to_dict
from vitral.data.config import DataConfig
from vitral.data.images.preprocess import Preprocessing
from vitral.data.sources.source import Source
from vitral.distributed.world import World
from vitral.errors import UserError
from vitral.evals.cache import Cache
from vitral.evals.evaluate import check_finite, extract_features, read_by_first
from vitral.evals.features import FeatureSet
from vitral.evals.fewshot import SHOTS
from vitral.runs.fingerprint import contents, fingerprint
from vitral.suites.finetuning import Protocol, finetuning_images, finetuning_score, training_images, varied_as
from vitral.suites.score_cache import Kept
from vitral.suites.transfer import DRAWN, Known, Score, grid_scores, score
from vitral.train.config import RunConfig

__all__ = ["Measuring", "Subject", "Task", "Watch"]

NOTHING = FeatureSet(
    features=torch.zeros(0, 1), labels=torch.zeros(0, dtype=torch.int64), readable=torch.zeros(0, dtype=torch.bool)
)
"""What the other processes have where the first found representations on disk."""


@dataclass(frozen=True, kw_only=True)
class Subject:
    """Something that makes representations of images."""

    encode: Callable[[UInt8[Tensor, "b h w c"]], Float[Tensor, "b d"]]
    preprocessing: Preprocessing
    identity: str
    """Changes with anything that its representations depend on."""
    tuned: Literal["trained", "fresh", "never"] = "trained"
    """Which weights its fine-tuning begins with, if it has any."""


@dataclass(frozen=True, kw_only=True)
class Task:
    """The splits of a task, and the group that its score counts in."""

    splits: dict[str, Source]
    """train, val and test."""
    group: str
    crop: bool = True
    """Whether parts of a training image have its class."""
    flip: bool = True
    """Whether the mirror image of a training image has its class."""

    @cached_property
    def images(self) -> dict[str, str]:
        """Of each split what changes with its images."""
        return {split: f"{fingerprint(source)} {contents(source)}" for split, source in self.splits.items()}

    def fewest(self) -> int:
        """Images that can be learned from of the class that has the fewest, but some."""
        counts = np.bincount(np.concatenate([self.splits["train"].labels, self.splits["val"].labels]))
        return int(counts[counts > 0].min())


@typing.runtime_checkable
class Watch(typing.Protocol):
    """Who wants to know how far things are."""

    def begin(self, what: str, num_images: int) -> None:
        """A subject's task begins."""
        ...

    def advance(self, num_images: int) -> None:
        """So many more of its images are done."""
        ...

    def end(self) -> None:
        """It is done."""
        ...


class Measuring:
    """Measures every subject on every task; a task that fails for one is left out for all.

    The last one that is left keeps what was measured before it failed.

    Args:
        subjects: by name.
        tasks: by title.
        data: how images are read.
        folder: where representations and scores are kept; None: nowhere.
        world: the processes that extract together; the first measures.
        watch: is told how far things are.
        say: is told of what is found on disk or left out.
    """

    def __init__(
        self,
        subjects: Mapping[str, Subject],
        tasks: Mapping[str, Task],
        *,
        data: DataConfig,
        folder: Path | None,
        world: World,
        watch: Watch,
        say: Callable[[str], None],
    ) -> None:
        self.subjects, self.tasks, self.data = subjects, dict(tasks), data
        self.world, self.watch, self.say = world, watch, say
        self.cache, self.kept = Cache(folder, say=say), Kept(folder, say=say)
        self.known: dict[str, dict[str, Known]] = {name: {} for name in subjects}
        """What each subject makes of the images of each task; of the first process alone."""
        self.scores: dict[str, dict[str, dict[str, Score]]] = {
            name: {title: {} for title in tasks} for name in subjects
        }
        """By subject, task and method."""
        self.left_out: dict[str, str] = {}
        """Tasks that failed, and why."""
        self.unreadable: set[str] = set()
        """What was said of images that cannot be read."""

    def extract(self) -> None:
        """FeatureSet of all images of every task; all processes together.

        Raises:
            UserError: no task is left.
        """
        self._each(self.subjects, self._extract)

    def measure(self, methods: Sequence[str], *, seeds: Sequence[int], grid: bool) -> None:
        """Scores of representations that stay as they are; the first process alone.

        Args:
            methods: as `score` takes them.
            seeds: of the draws of few images.
            grid: also few-shot least squares with the strength that is best for all tasks.

        Raises:
            UserError: no task is left, and nothing was measured.
        """
        for title, task in self.tasks.items() if "fewshot" in methods else ():
            if (fewest := task.fewest()) < max(SHOTS):
                self.say(
                    f"{title}: a class has {fewest} images to learn from, all of which count where more are asked for"
                )
        self._each(self.subjects, partial(self._measure, methods=methods, seeds=seeds))
        for name in self.subjects if grid else ():
            for title, scores in grid_scores(self.known[name]).items():
                self.scores[name][title] |= scores

    def tune(self, runs: Mapping[str, RunConfig], protocol: Protocol, *, seeds: Sequence[int]) -> None:
        """Fine-tunes on every task; one process.

        Args:
            runs: of `configured`, by subject.
            protocol: what they were configured by.
            seeds: of the final trainings.

        Raises:
            UserError: no task is left, and nothing was measured.
        """
        self._each(runs, partial(self._tune, runs=runs, protocol=protocol, seeds=seeds))

    def _each(self, names: Iterable[str], work: Callable[[str, str], None]) -> None:
        """Does something for some subjects on every task, and goes on with the others where it fails on one."""
        for name in names:
            for title in list(self.tasks):
                try:
                    work(name, title)
                except UserError as error:
                    last = len(self.tasks) == 1
                    if last and not any(by_task[title] for by_task in self.scores.values()):
                        raise
                    if last:
                        self.say(f"broken off: {title} for {name}, as {error}")
                        before = self.left_out.get(title)
                        self.left_out[title] = f"{before}; {name}: {error}" if before else f"{name}: {error}"
                    else:
                        self.say(f"left out: {title}, as {error}")
                        self._leave_out(title, str(error))
                self.watch.end()

    def _extract(self, name: str, title: str) -> None:
        task, subject = self.tasks[title], self.subjects[name]
        images = sum(read_by_first(len(source), self.world) for source in task.splits.values())
        self.watch.begin(f"{title}: reading for {name}", images)
        seen = {split: self._seen(subject, title, split) for split in task.splits}
        if self.world.is_main:
            self.known[name][title] = Known(**seen, num_classes=len(task.splits["train"].classes))
            for sentence in (sentence for part in seen.values() for sentence in part.unreadable):
                self._tell_unreadable(sentence)

    def _tell_unreadable(self, sentence: str) -> None:
        """Once for each image, whoever cannot read it."""
        if sentence not in self.unreadable:
            self.unreadable.add(sentence)
            self.say(f"left out: {sentence}")

    def _seen(self, subject: Subject, title: str, split: str) -> FeatureSet:
        """What a subject makes of a split, or made of it before, which the first process alone knows then."""
        task, kept = self.tasks[title], None
        source = task.splits[split]
        key = (subject.identity, str(to_dict(subject.preprocessing)), title, split)
        if self.world.is_main:
            key = (*key, task.images[split])
            kept = self.cache.find(key)
            if kept is not None and kept.unreadable and self.data.on_error == "stop":
                kept = None  # reading them again says so
        if self.world.run_on_main(lambda: kept is not None):
            self.watch.advance(read_by_first(len(source), self.world))
            return NOTHING if kept is None else kept

        def encode(images: UInt8[Tensor, "b h w c"]) -> Float[Tensor, "b d"]:
            self.watch.advance(len(images))
            return subject.encode(images)

        found = extract_features(encode, source, preprocessing=subject.preprocessing, data=self.data, world=self.world)
        if not len(found.labels):
            raise UserError(f"no {split} image could be read: {found.unreadable[0]}")
        check_finite(found.features)
        self.world.run_on_main(lambda: self.cache.keep(key, found))
        return found

    def _measure(self, name: str, title: str, *, methods: Sequence[str], seeds: Sequence[int]) -> None:
        self.watch.begin(f"{title}: measuring {name}", len(methods))
        known = self.known[name][title]
        if len(torch.cat([known.train.labels, known.val.labels]).unique()) < 2:
            raise UserError("the images that can be read are of one class: there is nothing to tell apart")
        for method in methods:
            measure = partial(score, method, known, seeds=seeds)
            drawn = tuple(seeds) if method in DRAWN else ()
            found = self._kept(name, title, (method, str(drawn)), measure)
            self.scores[name][title] |= {score.method: score for score in found}
            self.watch.advance(1)

    def _tune(
        self, name: str, title: str, *, runs: Mapping[str, RunConfig], protocol: Protocol, seeds: Sequence[int]
    ) -> None:
        task, rates = self.tasks[title], protocol.rates
        config = varied_as(runs[name], crop=task.crop, flip=task.flip) if protocol.varied else runs[name]
        images = finetuning_images(config, task.splits, rates=rates, seeds=len(seeds))
        self.watch.begin(f"{title}: fine-tuning {name}", images)

        def keep(training: RunConfig, split: str, train: Callable[[], Score]) -> Score:
            taken = self.kept.taken
            (found,) = self._kept(name, title, (_settings(training), split), lambda: [train()])
            if self.kept.taken > taken:
                self.watch.advance(training_images(training, task.splits[split]))
            return found

        found = finetuning_score(
            config,
            task.splits,
            rates=rates,
            seeds=seeds,
            advance=self.watch.advance,
            tell=self._tell_unreadable,
            keep=keep,
        )
        self.scores[name][title][found.method] = found

    def _kept(
        self, name: str, title: str, settings: tuple[str, ...], measure: Callable[[], list[Score]]
    ) -> list[Score]:
        """Scores as they were kept, under a key of all that they depend on, or else as they are measured."""
        subject = self.subjects[name]
        preprocessing = str(to_dict(subject.preprocessing))
        images = self.tasks[title].images.values()
        key = (subject.identity, preprocessing, title, *images, self.data.on_error, *settings)
        return self.kept.of(key, measure)

    def _leave_out(self, title: str, reason: str) -> None:
        self.left_out[title] = reason
        del self.tasks[title]
        for by_task in (*self.scores.values(), *self.known.values()):
            by_task.pop(title, None)


def _settings(config: RunConfig) -> str:
    """What the result of a training depends on, but for its weights, which are known by what they are."""
    model, data = replace(config.model, weights=None), replace(config.data, workers=0)
    return str(to_dict(replace(config, model=model, data=data)))
