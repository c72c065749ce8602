"""Baselines on hand-made pixels."""

import numpy as np
import pytest
import torch

from vitral.evals.baselines import MAX_CLASSES, fit_baselines
from vitral.evals.features import FeatureSet


def features(values: list[list[float]], labels: list[int]) -> FeatureSet:
    return FeatureSet(
        features=torch.tensor(values), labels=torch.tensor(labels), readable=torch.ones(len(labels), dtype=torch.bool)
    )


TRAIN = features([[0.0, 0.0], [0.1, 0.0], [1.0, 1.0]], [0, 0, 1])


def test_each_accuracy_by_hand():
    test = features([[0.05, 0.0], [0.9, 1.0], [1.0, 0.9], [0.0, 0.1]], [0, 1, 1, 1])
    found = fit_baselines(TRAIN, test, counts=np.array([2, 1]))
    assert found.majority_class == 0.25
    assert found.nearest_neighbour == 0.75  # the last image is nearest to class 0
    assert (found.num_train, found.num_test) == (3, 4)


def test_logistic_regression_separates_classes_that_a_line_separates():
    values = torch.cat([torch.randn(40, 5, generator=torch.Generator().manual_seed(0)) - 2 * k for k in (0, 1)])
    both = FeatureSet(features=values, labels=torch.arange(80) // 40, readable=torch.ones(80, dtype=torch.bool))
    found = fit_baselines(both, both, counts=np.array([40, 40]))
    assert found.logistic_regression == pytest.approx(1.0, abs=0.03)


def test_the_majority_is_that_of_all_training_images():
    found = fit_baselines(TRAIN, TRAIN, counts=np.array([2, 50]))
    assert found.majority_class == pytest.approx(1 / 3)


@pytest.mark.parametrize(("labels", "classes"), [([0, 0, 0], 2), ([0, 1, 1], MAX_CLASSES + 1)])
def test_logistic_regression_is_left_out(labels, classes):
    """With one class it cannot be fitted; with hundreds it would take minutes."""
    only = features([[0.0], [1.0], [2.0]], labels)
    found = fit_baselines(only, only, counts=np.bincount(labels, minlength=classes))
    assert found.logistic_regression is None
    assert "logistic_regression" not in found.accuracies()
