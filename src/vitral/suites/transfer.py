"""What frozen representations are worth on many tasks: kNN, a linear probe, few-shot least squares, retrieval."""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module

from jaxtyping import Int64
from torch import Tensor

from vitral.evals.features import FeatureSet
from vitral.evals.fewshot import GRID, SHOTS, best_strength, few, predictions
from vitral.evals.knn import knn_predictions
from vitral.evals.linear import linear_predictions
from vitral.evals.retrieval import retrieval

__all__ = ["DRAWN", "GRIDDED", "METHODS", "RETRIEVAL", "Known", "Score", "by_group", "grid_scores", "score"]

NEIGHBOURS = (1, 5, 10, 20, 50, 100)
"""Numbers of neighbours to choose from."""

RETRIEVAL = "retrieval"
"""The suite that ranks images instead of classifying them."""

DRAWN = ("fewshot",)
"""Suites that learn from images that are drawn with a seed."""

GRIDDED = " grid"
"""Behind the names of few-shot methods whose strength is chosen for all tasks together."""


@dataclass(frozen=True, kw_only=True)
class Score:
    """What one way of measuring found on one task."""

    method: str
    values: list[float]
    """Accuracy of each seed, a share of the test images; of retrieval the figure that the method names."""
    num_images: int
    """Test images."""
    seconds: float
    """Time without the features, which all ways share."""

    @property
    def mean(self) -> float:
        """Over seeds."""
        return statistics.fmean(self.values)

    @property
    def spread(self) -> float:
        """Standard deviation over seeds; 0 where nothing is drawn."""
        return statistics.stdev(self.values) if len(self.values) > 1 else 0.0


@dataclass(frozen=True, kw_only=True)
class Known:
    """The images of one task, as a model sees them."""

    train: FeatureSet
    val: FeatureSet
    """Part of what may be learned from, to choose settings by."""
    test: FeatureSet
    num_classes: int


def joined(one: FeatureSet, other: FeatureSet) -> FeatureSet:
    """The images of both, which a final model learns from."""
    return FeatureSet.concatenate([one, other])


def score(method: str, known: Known, *, seeds: Sequence[int]) -> list[Score]:
    """Measures a task in one way, which may have several rows.

    Raises:
        UserError: retrieval needs faiss, which is not installed.
    """
    if method == RETRIEVAL:
        return _retrieved(known)
    if method == "linear":
        import_module("sklearn.linear_model")  # takes seconds, which are none of measuring
    found = []
    for name, classify in METHODS[method].items():
        start = time.perf_counter()
        values = [(told == known.test.labels).double().mean().item() for told in classify(known, seeds)]
        seconds = time.perf_counter() - start
        found.append(Score(method=name, values=values, num_images=len(known.test.labels), seconds=seconds))
    return found


def grid_scores(tasks: Mapping[str, Known]) -> dict[str, dict[str, Score]]:
    """Few-shot least squares as older forks of the paper's code have it, by task, then by method.

    The first images of each class are learned from, with the strength of the grid whose mean rank over all tasks is
    best; ranks are those on the validation images, so that test images choose nothing.
    """
    found: dict[str, dict[str, Score]] = {title: {} for title in tasks}
    for shots in SHOTS:
        start, right = time.perf_counter(), {}
        for title, known in tasks.items():
            train, asked = known.train, joined(known.val, known.test)
            rows = few(train.labels, shots, num_classes=known.num_classes, seed=None)
            told = predictions(
                train.features[rows],
                train.labels[rows],
                asked.features,
                num_classes=known.num_classes,
                strengths=GRID,
            )
            right[title] = (told == asked.labels).double().split([len(known.val.labels), len(known.test.labels)], dim=1)
        best = best_strength({title: on_val.mean(1).tolist() for title, (on_val, _) in right.items()})
        seconds = (time.perf_counter() - start) / len(tasks)
        for title, (_, on_test) in right.items():
            name, value = f"{shots}-shot{GRIDDED}", on_test[best].mean().item()
            found[title][name] = Score(method=name, values=[value], num_images=on_test.shape[1], seconds=seconds)
    return found


def _retrieved(known: Known) -> list[Score]:
    """Test images search all others for their class; nothing is told of single images, so each figure is a row."""
    start = time.perf_counter()
    found = retrieval(joined(known.train, known.val), known.test)
    figures = list(found.metrics())
    seconds = (time.perf_counter() - start) / len(figures)
    return [Score(method=name, values=[value], num_images=found.num_images, seconds=seconds) for name, value in figures]


def by_group(scores: Mapping[str, Mapping[str, Score]], groups: Mapping[str, str]) -> dict[str, dict[str, float]]:
    """Means of each way of measuring over the tasks of each group, and over all tasks as `mean`.

    Args:
        scores: by task, then by method.
        groups: of each task.
    """
    table: dict[str, dict[str, float]] = {}
    methods = dict.fromkeys(method for row in scores.values() for method in row)
    for group in (*dict.fromkeys(groups.values()), "mean"):
        members = [row for task, row in scores.items() if group in (groups[task], "mean")]
        if members:
            table[group] = {method: statistics.fmean(row[method].mean for row in members) for method in methods}
    return table


Told = list[Int64[Tensor, " m"]]
Classify = Callable[[Known, Sequence[int]], Told]


def _knn(known: Known, _: Sequence[int]) -> Told:
    """The number of neighbours is chosen on the validation images; then all images vote."""
    train, val, test = known.train, known.val, known.test
    asked = knn_predictions(train.features, train.labels, val.features, ks=NEIGHBOURS, num_classes=known.num_classes)
    best = max(NEIGHBOURS, key=lambda k: ((asked[k] == val.labels).double().mean().item(), -k))
    both = joined(train, val)
    return [knn_predictions(both.features, both.labels, test.features, ks=(best,), num_classes=known.num_classes)[best]]


def _linear(known: Known, _: Sequence[int]) -> Told:
    both = joined(known.train, known.val)
    return [linear_predictions(both.features, both.labels, known.test.features)]


def _fewshot(shots: int) -> Classify:
    def classify(known: Known, seeds: Sequence[int]) -> Told:
        both, told = joined(known.train, known.val), []
        for seed in seeds:
            rows = few(both.labels, shots, num_classes=known.num_classes, seed=seed)
            found = predictions(
                both.features[rows], both.labels[rows], known.test.features, num_classes=known.num_classes
            )
            told.append(found[0])
        return told

    return classify


METHODS: dict[str, dict[str, Classify]] = {
    "knn": {"kNN": _knn},
    "linear": {"linear": _linear},
    "fewshot": {f"{shots}-shot": _fewshot(shots) for shots in SHOTS},
}
"""Ways of measuring by the name of their suite, and their rows."""
