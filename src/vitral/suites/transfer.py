"""Transfer evaluation of frozen features on one task: kNN, linear probe, few-shot classifiers, retrieval."""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module

from jaxtyping import Int64
from torch import Tensor

from vitral.evals.features import FeatureSet
from vitral.evals.fewshot import SHOTS, STRENGTH_GRID, best_strength, few_shot_predictions, sample_few_shot
from vitral.evals.knn import knn_predictions
from vitral.evals.linear import linear_predictions
from vitral.evals.linear_grid import Columns, linear_grid
from vitral.evals.retrieval import retrieval

__all__ = [
    "FEW_SHOT",
    "GRID_SUFFIX",
    "LINEAR_GRID",
    "METHODS",
    "RETRIEVAL",
    "SEEDED_METHODS",
    "Score",
    "TaskFeatures",
    "evaluate_features",
    "grid_scores",
    "group_means",
]

NUM_NEIGHBOURS = (1, 5, 10, 20, 50, 100)
"""Candidate numbers of neighbours."""

RETRIEVAL = "retrieval"
"""The suite that ranks images instead of classifying them."""

LINEAR_GRID = "linear-grid"
"""The method that compares features of several blocks and poolings, each with several learning rates."""

FEW_SHOT = {"least-squares": "fewshot", "knn": "fewshot-knn", "logistic": "fewshot-logistic"}
"""Methods that train on a few images of each class, by their classifier."""

SEEDED_METHODS = tuple(FEW_SHOT.values())
"""Methods that train on a random sample of the images."""

FEW_SHOT_STRENGTH = 1.0
"""Inverse strength of few-shot logistic regression (scikit-learn's C); one image per class leaves none to select it."""

GRID_SUFFIX = " grid"
"""Suffix of few-shot methods whose strength is selected over all tasks."""


@dataclass(frozen=True, kw_only=True)
class Score:
    """The result of one evaluation method on one task."""

    method: str
    values: list[float]
    """One value per seed: accuracy on the test images as a fraction, or the retrieval metric that `method` names."""
    num_images: int
    """Number of test images."""
    seconds: float
    """Time without extraction of features, which all methods share."""
    grid: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    """Accuracy on the validation images of everything that `linear-grid` compared, by features and learning rate."""

    @property
    def mean(self) -> float:
        """Mean over seeds."""
        return statistics.fmean(self.values)

    @property
    def std(self) -> float:
        """Standard deviation over seeds; 0 for a single value."""
        return statistics.stdev(self.values) if len(self.values) > 1 else 0.0


@dataclass(frozen=True, kw_only=True)
class TaskFeatures:
    """The features of one task's images."""

    train: FeatureSet
    val: FeatureSet
    """Selects hyperparameters; the final classifiers are trained on these images as well."""
    test: FeatureSet
    num_classes: int
    variants: Mapping[str, Columns] = field(default_factory=dict)
    """Columns of the features that `linear-grid` compares, by name."""

    @property
    def trainval(self) -> FeatureSet:
        """Training and validation images together."""
        return FeatureSet.concatenate([self.train, self.val])


def evaluate_features(method: str, features: TaskFeatures, *, seeds: Sequence[int]) -> list[Score]:
    """Evaluates a task's features with one method, which may give several scores.

    Raises:
        UserError: retrieval needs faiss, which is not installed.
    """
    if method == RETRIEVAL:
        return _evaluate_retrieval(features)
    if method == LINEAR_GRID:
        return [_evaluate_linear_grid(features)]
    if method in ("linear", FEW_SHOT["logistic"]):
        import_module("sklearn.linear_model")  # the import takes seconds, which are not part of the evaluation
    scores = []
    for name, classify in METHODS[method].items():
        start = time.perf_counter()
        predictions = classify(features, seeds)
        values = [(predicted == features.test.labels).double().mean().item() for predicted in predictions]
        seconds = time.perf_counter() - start
        scores.append(Score(method=name, values=values, num_images=len(features.test.labels), seconds=seconds))
    return scores


def grid_scores(tasks: Mapping[str, TaskFeatures]) -> dict[str, dict[str, Score]]:
    """Few-shot least squares as in older forks of the paper's code, by task and method.

    Trains on the first images of each class, with the strength of the grid that has the best mean rank over all tasks.
    Ranks are those on the validation images, so that no test image selects the strength.
    """
    scores: dict[str, dict[str, Score]] = {title: {} for title in tasks}
    for shots in SHOTS:
        start, hits = time.perf_counter(), {}
        for title, features in tasks.items():
            train, evaluated = features.train, FeatureSet.concatenate([features.val, features.test])
            rows = sample_few_shot(train.labels, shots, num_classes=features.num_classes, seed=None)
            predicted = few_shot_predictions(
                train.features[rows],
                train.labels[rows],
                evaluated.features,
                num_classes=features.num_classes,
                strengths=STRENGTH_GRID,
            )
            sizes = [len(features.val.labels), len(features.test.labels)]
            hits[title] = (predicted == evaluated.labels).double().split(sizes, dim=1)
        best = best_strength({title: on_val.mean(1).tolist() for title, (on_val, _) in hits.items()})
        seconds = (time.perf_counter() - start) / len(tasks)
        for title, (_, on_test) in hits.items():
            name, value = f"{shots}-shot{GRID_SUFFIX}", on_test[best].mean().item()
            scores[title][name] = Score(method=name, values=[value], num_images=on_test.shape[1], seconds=seconds)
    return scores


def _evaluate_retrieval(features: TaskFeatures) -> list[Score]:
    """Test images are the queries, all others the gallery; one score per metric."""
    start = time.perf_counter()
    result = retrieval(features.trainval, features.test)
    metrics = list(result.metrics())
    seconds = (time.perf_counter() - start) / len(metrics)
    return [
        Score(method=name, values=[value], num_images=result.num_images, seconds=seconds) for name, value in metrics
    ]


def _evaluate_linear_grid(features: TaskFeatures) -> Score:
    """The best probe of the grid, on the test images."""
    start = time.perf_counter()
    result = linear_grid(
        features.train, features.val, features.test, variants=features.variants, num_classes=features.num_classes
    )
    correct = result.predictions == features.test.labels
    return Score(
        method="linear (best)",
        values=[correct.double().mean().item()],
        num_images=len(correct),
        seconds=time.perf_counter() - start,
        grid=result.accuracies,
    )


def group_means(scores: Mapping[str, Mapping[str, Score]], groups: Mapping[str, str]) -> dict[str, dict[str, float]]:
    """The mean of each method over the tasks of each group, and over all tasks as `mean`.

    Args:
        scores: by task, then by method.
        groups: the group of each task.
    """
    table: dict[str, dict[str, float]] = {}
    methods = dict.fromkeys(method for row in scores.values() for method in row)
    for group in (*dict.fromkeys(groups.values()), "mean"):
        members = [row for task, row in scores.items() if group in (groups[task], "mean")]
        if members:
            table[group] = {method: statistics.fmean(row[method].mean for row in members) for method in methods}
    return table


Classify = Callable[[TaskFeatures, Sequence[int]], list[Int64[Tensor, " m"]]]
"""From features and seeds to the predicted classes of the test images, once per seed or once in all."""

FewShotPredict = Callable[[Tensor, Tensor, Tensor, int], Int64[Tensor, " m"]]
"""From training features, their labels, test features and the number of classes to the predicted classes."""


def _knn(features: TaskFeatures, _: Sequence[int]) -> list[Int64[Tensor, " m"]]:
    """The number of neighbours is selected on the validation images; then all images vote."""
    train, val, trainval, num_classes = features.train, features.val, features.trainval, features.num_classes
    predicted = knn_predictions(train.features, train.labels, val.features, ks=NUM_NEIGHBOURS, num_classes=num_classes)
    best = max(NUM_NEIGHBOURS, key=lambda k: ((predicted[k] == val.labels).double().mean().item(), -k))
    test = features.test.features
    return [knn_predictions(trainval.features, trainval.labels, test, ks=(best,), num_classes=num_classes)[best]]


def _linear(features: TaskFeatures, _: Sequence[int]) -> list[Int64[Tensor, " m"]]:
    trainval = features.trainval
    return [linear_predictions(trainval.features, trainval.labels, features.test.features)]


def _few_shot(shots: int, predict: FewShotPredict) -> Classify:
    def classify(features: TaskFeatures, seeds: Sequence[int]) -> list[Int64[Tensor, " m"]]:
        trainval, num_classes = features.trainval, features.num_classes
        predictions = []
        for seed in seeds:
            rows = sample_few_shot(trainval.labels, shots, num_classes=num_classes, seed=seed)
            train, labels = trainval.features[rows], trainval.labels[rows]
            predictions.append(predict(train, labels, features.test.features, num_classes))
        return predictions

    return classify


def _least_squares(train: Tensor, labels: Tensor, test: Tensor, num_classes: int) -> Int64[Tensor, " m"]:
    return few_shot_predictions(train, labels, test, num_classes=num_classes)[0]


def _logistic(train: Tensor, labels: Tensor, test: Tensor, _: int) -> Int64[Tensor, " m"]:
    return linear_predictions(train, labels, test, strengths=(FEW_SHOT_STRENGTH,))


def _nearest(k: int) -> FewShotPredict:
    """As many neighbours vote as there are images of a class."""

    def predict(train: Tensor, labels: Tensor, test: Tensor, num_classes: int) -> Int64[Tensor, " m"]:
        return knn_predictions(train, labels, test, ks=(k,), num_classes=num_classes)[k]

    return predict


METHODS: dict[str, dict[str, Classify]] = {
    "knn": {"kNN": _knn},
    "linear": {"linear": _linear},
    "fewshot": {f"{shots}-shot": _few_shot(shots, _least_squares) for shots in SHOTS},
    "fewshot-knn": {f"{shots}-shot kNN": _few_shot(shots, _nearest(shots)) for shots in SHOTS},
    "fewshot-logistic": {f"{shots}-shot logistic": _few_shot(shots, _logistic) for shots in SHOTS},
}
"""Classifiers by the name of their method, then by the name of their score."""
