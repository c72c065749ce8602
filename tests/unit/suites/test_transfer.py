"""Evaluation of frozen features: only validation images select hyperparameters; every test image counts."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier

from vitral.evals.features import FeatureSet
from vitral.evals.fewshot import SHOTS, STRENGTH_GRID, few_shot_predictions, sample_few_shot
from vitral.suites.transfer import (
    FEW_SHOT,
    METHODS,
    RETRIEVAL,
    Score,
    TaskFeatures,
    evaluate_features,
    grid_scores,
    group_means,
)


def clusters(count: int, seed: int) -> FeatureSet:
    """Three overlapping Gaussian clusters."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % 3
    centres = 3 * torch.eye(3, 5)
    features = centres[labels] + torch.randn(count, 5, generator=generator)
    return FeatureSet(features=features, labels=labels, readable=torch.ones(count, dtype=torch.bool))


FEATURES = TaskFeatures(train=clusters(120, 0), val=clusters(30, 1), test=clusters(77, 2), num_classes=3)


@pytest.mark.parametrize("method", METHODS)
def test_every_method_classifies_clusters(method: str) -> None:
    for score in evaluate_features(method, FEATURES, seeds=(0, 1)):
        assert score.num_images == 77
        assert len(score.values) == (2 if "shot" in score.method else 1)
        assert score.mean > (0.5 if score.method.startswith("1-shot") else 0.85), "chance is 0.33"
        assert all(value * 77 == pytest.approx(round(value * 77)) for value in score.values)


def test_retrieval_has_a_score_for_each_metric() -> None:
    scores = evaluate_features(RETRIEVAL, FEATURES, seeds=(0,))
    assert len({score.seconds for score in scores}) == 1, "all come from one search"
    means = {score.method: score.mean for score in scores}
    assert list(means) == ["recall@1", "recall@5", "recall@10", "mAP"]
    assert 0.8 < means["recall@1"] <= means["recall@5"] <= means["recall@10"] <= 1.0
    assert 0.6 < means["mAP"] < 1.0


@pytest.mark.parametrize("shots", SHOTS)
def test_few_shot_classifiers_equal_scikit_learn_on_the_same_images(shots: int) -> None:
    """kNN by cosine similarity with as many neighbours as images per class; logistic regression with C = 1."""
    trainval, test = FEATURES.trainval, FEATURES.test
    rows = sample_few_shot(trainval.labels, shots, num_classes=3, seed=4)
    train, labels = trainval.features[rows], trainval.labels[rows]
    knn = KNeighborsClassifier(shots, metric="cosine", weights=lambda distance: np.exp((1 - distance) / 0.07))
    expected = knn.fit(train, labels).predict(test.features)
    (predicted,) = METHODS[FEW_SHOT["knn"]][f"{shots}-shot kNN"](FEATURES, (4,))
    assert (predicted.numpy() == expected).mean() > 0.98, "all but ties"
    mean, std = train.mean(0), train.std(0)
    logistic = LogisticRegression(C=1.0, max_iter=1000).fit((train - mean) / std, labels)
    (predicted,) = METHODS[FEW_SHOT["logistic"]][f"{shots}-shot logistic"](FEATURES, (4,))
    assert (predicted.numpy() == logistic.predict((test.features - mean) / std)).mean() > 0.98


@pytest.mark.parametrize("method", FEW_SHOT.values())
def test_scores_are_a_function_of_the_seeds(method: str) -> None:
    first, second, other = (
        [score.values for score in evaluate_features(method, FEATURES, seeds=seeds)]
        for seeds in ((3, 4), (3, 4), (5, 6))
    )
    assert first == second
    assert first != other


def test_test_labels_do_not_influence_predictions() -> None:
    classify = METHODS["knn"]["kNN"]
    test = FEATURES.test
    shifted = FeatureSet(features=test.features, labels=(test.labels + 1) % 3, readable=test.readable)
    other = TaskFeatures(train=FEATURES.train, val=FEATURES.val, test=shifted, num_classes=3)
    assert torch.equal(classify(FEATURES, (0,))[0], classify(other, (0,))[0])


def test_group_means_weight_tasks_equally() -> None:
    def row(value: float) -> dict[str, Score]:
        return {"kNN": Score(method="kNN", values=[value], num_images=1, seconds=0.0)}

    scores = {"a": row(0.2), "b": row(0.4), "c": row(0.9)}
    means = group_means(scores, {"a": "natural", "b": "natural", "c": "structured"})
    assert means["natural"]["kNN"] == pytest.approx(0.3)
    assert means["structured"]["kNN"] == pytest.approx(0.9)
    assert means["mean"]["kNN"] == pytest.approx(0.5)


def test_mean_and_standard_deviation_of_a_score() -> None:
    score = Score(method="5-shot", values=[0.2, 0.4], num_images=10, seconds=0.1)
    assert (score.mean, score.std) == (pytest.approx(0.3), pytest.approx(0.02**0.5))
    assert Score(method="kNN", values=[0.5], num_images=1, seconds=0.0).std == 0


def test_the_grid_selects_one_strength_for_all_tasks_on_val() -> None:
    """Two equal tasks give the scores of one; by hand for the strength that is best on its validation images."""
    alone = grid_scores({"a": FEATURES})["a"]
    assert list(alone) == ["1-shot grid", "5-shot grid", "10-shot grid", "25-shot grid"]
    twice = grid_scores({"a": FEATURES, "b": FEATURES})
    assert [score.values for score in twice["b"].values()] == [score.values for score in alone.values()]
    train = FEATURES.train
    rows = sample_few_shot(train.labels, 5, num_classes=3, seed=None)

    def accuracies(test: FeatureSet) -> torch.Tensor:
        predicted = few_shot_predictions(
            train.features[rows], train.labels[rows], test.features, num_classes=3, strengths=STRENGTH_GRID
        )
        return (predicted == test.labels).double().mean(1)

    best = int(accuracies(FEATURES.val).argmax())
    assert alone["5-shot grid"].values == [pytest.approx(accuracies(FEATURES.test)[best].item())]
    assert alone["25-shot grid"].mean > 0.85
    assert alone["5-shot grid"].num_images == 77
