"""Runs a suite: several feature extractors on several tasks, with cached results; a task that fails is skipped."""

import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from vitral.config import to_dict
from vitral.data.config import DataConfig
from vitral.data.images.preprocess import PixelBatch, Preprocessing
from vitral.data.sources.source import Source
from vitral.distributed.world import World
from vitral.errors import UserError
from vitral.evals.cache import FeatureCache
from vitral.evals.features import FeatureSet, extract_features
from vitral.evals.fewshot import SHOTS
from vitral.evals.linear_grid import Columns
from vitral.evals.loop import check_finite, num_images_on_main
from vitral.runs.fingerprint import contents, fingerprint
from vitral.suites.finetuning import (
    Protocol,
    evaluate_finetuning,
    num_finetuning_images,
    num_training_images,
    with_augmentation,
)
from vitral.suites.score_cache import ScoreCache
from vitral.suites.transfer import SEEDED_METHODS, Score, TaskFeatures, evaluate_features, grid_scores
from vitral.train.config import RunConfig

__all__ = ["FeatureExtractor", "Progress", "SuiteRunner", "Task", "training_key"]

NO_FEATURES = FeatureSet(
    features=torch.zeros(0, 1), labels=torch.zeros(0, dtype=torch.int64), readable=torch.zeros(0, dtype=torch.bool)
)
"""What other processes have if the main process read features from the cache."""


@dataclass(frozen=True, kw_only=True)
class FeatureExtractor:
    """A function from images to features."""

    extract: Callable[[PixelBatch], Float[Tensor, "b d"]]
    preprocessing: Preprocessing
    fingerprint: str
    """Identifies everything that its features depend on, except preprocessing."""
    initial_weights: Literal["pretrained", "random"] | None = "pretrained"
    """Weights that fine-tuning starts from; None: it cannot be fine-tuned."""
    variants: Mapping[str, Columns] = field(default_factory=dict)
    """Columns of the features that `linear-grid` compares, by name."""


@dataclass(frozen=True, kw_only=True)
class Task:
    """A classification task of a suite."""

    splits: dict[str, Source]
    """train, val and test."""
    group: str
    """Group of tasks whose mean is reported."""
    crop: bool = True
    """Whether a crop of a training image keeps its class."""
    flip: bool = True
    """Whether a horizontal flip of a training image keeps its class."""

    @cached_property
    def fingerprints(self) -> dict[str, str]:
        """Of each split, an identifier of its images."""
        return {split: f"{fingerprint(source)} {contents(source)}" for split, source in self.splits.items()}

    def smallest_class_size(self) -> int:
        """Number of train and val images in the smallest class that has any."""
        counts = np.bincount(np.concatenate([self.splits["train"].labels, self.splits["val"].labels]))
        return int(counts[counts > 0].min())


@typing.runtime_checkable
class Progress(typing.Protocol):
    """Receives the progress of a suite."""

    def begin(self, description: str, total: int, /) -> None:
        """A part begins.

        Args:
            description: the task, and what is done with it.
            total: number of images, or of methods.
        """
        ...

    def advance(self, count: int, /) -> None:
        """So many more of the part's images or methods are finished."""
        ...

    def end(self) -> None:
        """The part is finished, or has failed."""
        ...


class SuiteRunner:
    """Evaluates every extractor on every task. A task that fails for one extractor is skipped for all.

    If only one task is left and it fails, its earlier scores are kept.

    Args:
        extractors: by name.
        tasks: by title.
        data: how images are read.
        folder: of the cached features and scores; None: nothing is cached.
        world: the processes that extract features together; the main process does the rest.
        progress: receives the progress.
        log: called with messages about cached files and skipped tasks.
    """

    def __init__(
        self,
        extractors: Mapping[str, FeatureExtractor],
        tasks: Mapping[str, Task],
        *,
        data: DataConfig,
        folder: Path | None,
        world: World,
        progress: Progress,
        log: Callable[[str], None],
    ) -> None:
        self.extractors, self.tasks, self.data = extractors, dict(tasks), data
        self.world, self.progress, self.log = world, progress, log
        self.feature_cache, self.score_cache = FeatureCache(folder, warn=log), ScoreCache(folder, warn=log)
        self.features: dict[str, dict[str, TaskFeatures]] = {name: {} for name in extractors}
        """By extractor and task; on the main process only."""
        self.scores: dict[str, dict[str, dict[str, Score]]] = {
            name: {title: {} for title in tasks} for name in extractors
        }
        """By extractor, task and method."""
        self.failures: dict[str, str] = {}
        """The error of each task that failed."""
        self.unreadable: set[str] = set()
        """Messages about images that cannot be read."""

    def extract(self) -> None:
        """Extracts the features of every task; called by all processes.

        Raises:
            UserError: every task failed.
        """
        self._for_each_task(self.extractors, self._extract)

    def evaluate(self, methods: Sequence[str], *, seeds: Sequence[int], grid: bool) -> None:
        """Evaluates the features of every task; on the main process only.

        Args:
            methods: as in `evaluate_features`.
            seeds: of the samples of few-shot methods.
            grid: also evaluate few-shot least squares with a strength selected over all tasks.

        Raises:
            UserError: every task failed, and there is no score.
        """
        for title, task in self.tasks.items() if {*methods} & {*SEEDED_METHODS} else ():
            if (size := task.smallest_class_size()) < max(SHOTS):
                self.log(f"{title}: the smallest class has {size} training images; more shots use all of them")
        self._for_each_task(self.extractors, partial(self._evaluate, methods=methods, seeds=seeds))
        for name in self.extractors if grid else ():
            for title, scores in grid_scores(self.features[name]).items():
                self.scores[name][title] |= scores

    def finetune(self, configs: Mapping[str, RunConfig], protocol: Protocol, *, seeds: Sequence[int]) -> None:
        """Fine-tunes on every task; in a single process.

        Args:
            configs: from `finetune_config`, by extractor.
            protocol: the protocol of these configurations.
            seeds: of the final trainings.

        Raises:
            UserError: every task failed, and there is no score.
        """
        self._for_each_task(configs, partial(self._finetune, configs=configs, protocol=protocol, seeds=seeds))

    def _for_each_task(self, names: Iterable[str], function: Callable[[str, str], None]) -> None:
        """Calls a function with each extractor and task; a task for which it fails is skipped from then on."""
        for name in names:
            for title in list(self.tasks):
                try:
                    function(name, title)
                except UserError as error:
                    is_last = len(self.tasks) == 1
                    if is_last and not any(by_task[title] for by_task in self.scores.values()):
                        raise
                    if is_last:
                        self.log(f"stopped: {title} for {name}: {error}")
                        previous = self.failures.get(title)
                        self.failures[title] = f"{previous}; {name}: {error}" if previous else f"{name}: {error}"
                    else:
                        self.log(f"skipped: {title}: {error}")
                        self._skip(title, str(error))
                self.progress.end()

    def _extract(self, name: str, title: str) -> None:
        task, extractor = self.tasks[title], self.extractors[name]
        num_images = sum(num_images_on_main(len(source), self.world) for source in task.splits.values())
        self.progress.begin(f"{title}: extracting features of {name}", num_images)
        features = {split: self._extract_split(extractor, title, split) for split in task.splits}
        if self.world.is_main:
            self.features[name][title] = TaskFeatures(
                **features, num_classes=len(task.splits["train"].classes), variants=extractor.variants
            )
            for message in (message for part in features.values() for message in part.unreadable):
                self._log_unreadable(message)

    def _log_unreadable(self, message: str) -> None:
        """Logs a message about an image once, however many extractors cannot read it."""
        if message not in self.unreadable:
            self.unreadable.add(message)
            self.log(f"skipped: {message}")

    def _extract_split(self, extractor: FeatureExtractor, title: str, split: str) -> FeatureSet:
        """The features of a split; if they are cached, `NO_FEATURES` on the other processes."""
        task, cached = self.tasks[title], None
        source = task.splits[split]
        key = (extractor.fingerprint, str(to_dict(extractor.preprocessing)), title, split)
        if self.world.is_main:
            key = (*key, task.fingerprints[split])
            cached = self.feature_cache.load(key)
            if cached is not None and cached.unreadable and self.data.on_error == "stop":
                cached = None  # reading the images again raises the error
        if self.world.run_on_main(lambda: cached is not None):
            self.progress.advance(num_images_on_main(len(source), self.world))
            return NO_FEATURES if cached is None else cached

        def extract(images: PixelBatch) -> Float[Tensor, "b d"]:
            self.progress.advance(len(images))
            return extractor.extract(images)

        features = extract_features(
            extract, source, preprocessing=extractor.preprocessing, data=self.data, world=self.world
        )
        if not len(features.labels):
            raise UserError(f"no {split} image could be read: {features.unreadable[0]}")
        check_finite(features.features)
        self.world.run_on_main(lambda: self.feature_cache.save(key, features))
        return features

    def _evaluate(self, name: str, title: str, *, methods: Sequence[str], seeds: Sequence[int]) -> None:
        self.progress.begin(f"{title}: evaluating {name}", len(methods))
        features = self.features[name][title]
        if len(torch.cat([features.train.labels, features.val.labels]).unique()) < 2:
            raise UserError("the images that can be read are of one class: classification needs two or more")
        for method in methods:
            evaluate = partial(evaluate_features, method, features, seeds=seeds)
            method_seeds = tuple(seeds) if method in SEEDED_METHODS else ()
            scores = self._cached(name, title, (method, str(method_seeds)), evaluate)
            self.scores[name][title] |= {score.method: score for score in scores}
            self.progress.advance(1)

    def _finetune(
        self, name: str, title: str, *, configs: Mapping[str, RunConfig], protocol: Protocol, seeds: Sequence[int]
    ) -> None:
        task, rates, config = self.tasks[title], protocol.rates, configs[name]
        if protocol.augment:
            config = with_augmentation(config, crop=task.crop, flip=task.flip)
        num_images = num_finetuning_images(config, task.splits, rates=rates, num_seeds=len(seeds))
        self.progress.begin(f"{title}: fine-tuning {name}", num_images)

        def cached(training: RunConfig, split: str, train: Callable[[], Score]) -> Score:
            hits = self.score_cache.hits
            (score,) = self._cached(name, title, (training_key(training), split), lambda: [train()])
            if self.score_cache.hits > hits:
                self.progress.advance(num_training_images(training, task.splits[split]))
            return score

        score = evaluate_finetuning(
            config,
            task.splits,
            rates=rates,
            seeds=seeds,
            advance=self.progress.advance,
            log=self._log_unreadable,
            cached=cached,
        )
        self.scores[name][title][score.method] = score

    def _cached(
        self, name: str, title: str, settings: tuple[str, ...], compute: Callable[[], list[Score]]
    ) -> list[Score]:
        """Scores from the cache, or computed; the key has everything that they depend on."""
        extractor = self.extractors[name]
        preprocessing = str(to_dict(extractor.preprocessing))
        images = self.tasks[title].fingerprints.values()
        key = (extractor.fingerprint, preprocessing, title, *images, self.data.on_error, *settings)
        return self.score_cache.get_or_compute(key, compute)

    def _skip(self, title: str, reason: str) -> None:
        self.failures[title] = reason
        del self.tasks[title]
        for by_task in (*self.scores.values(), *self.features.values()):
            by_task.pop(title, None)


def training_key(config: RunConfig) -> str:
    """What the score of a training depends on, except the weights, which the extractor's fingerprint identifies."""
    model = replace(config.model, weights=None, checkpoint_key=None, prefix=None, given=())
    data = replace(config.data, workers=0)
    return str(to_dict(replace(config, model=model, data=data)))
