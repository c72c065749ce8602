"""Metrics of several labels and of numbers equal scikit-learn's; thresholds have the best F1."""

import warnings

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics

from vitral.evals.multi_label import best_thresholds, evaluate_labels
from vitral.evals.regression import evaluate_numbers
from vitral.evals.target_predictions import TargetPredictions


def predictions(truth: torch.Tensor, outputs: torch.Tensor) -> TargetPredictions:
    return TargetPredictions(truth=truth, outputs=outputs, readable=torch.ones(len(truth), dtype=torch.bool))


def random_labels(seed: int, count: int = 60, k: int = 5) -> TargetPredictions:
    generator = torch.Generator().manual_seed(seed)
    truth = (torch.rand(count, k, generator=generator) < 0.3).float()
    truth[0] = 1  # every label occurs
    outputs = torch.randn(count, k, generator=generator) + truth
    return predictions(truth, outputs.round(decimals=1))  # with ties


@pytest.mark.parametrize("seed", range(5))
def test_metrics_equal_scikit_learn(seed: int) -> None:
    found, thresholds = random_labels(seed), (0.2, 0.4, 0.5, 0.6, 0.7)
    result = evaluate_labels(found, thresholds)
    truth, scores = found.truth.numpy(), found.outputs.double().sigmoid().numpy()
    predicted = scores >= np.array(thresholds)
    assert result.map == pytest.approx(metrics.average_precision_score(truth, scores, average="macro"))
    assert result.map_micro == pytest.approx(metrics.average_precision_score(truth, scores, average="micro"))
    assert result.f1 == pytest.approx(metrics.f1_score(truth, predicted, average="macro"))
    assert result.f1_micro == pytest.approx(metrics.f1_score(truth, predicted, average="micro"))
    assert result.exact == pytest.approx(metrics.accuracy_score(truth, predicted))
    assert result.label_f1 == pytest.approx(metrics.f1_score(truth, predicted, average=None))
    assert result.average_precision == pytest.approx(metrics.average_precision_score(truth, scores, average=None))
    loss = [metrics.log_loss(truth[:, k], scores[:, k]) for k in range(5)]
    assert result.loss == pytest.approx(sum(loss), rel=1e-5)


def test_a_label_without_images_counts_for_nothing() -> None:
    found = random_labels(0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        alone = evaluate_labels(found, ())
        padded = predictions(
            torch.cat([found.truth, torch.zeros(60, 1)], 1), torch.cat([found.outputs, torch.zeros(60, 1)], 1)
        )
        result = evaluate_labels(padded, ())
        assert best_thresholds(padded)[-1] == 0.5
    assert (result.map, result.f1) == pytest.approx((alone.map, alone.f1))
    assert np.isnan(result.average_precision[-1])


@pytest.mark.slow
@given(st.integers(0, 2**31))
def test_thresholds_have_the_best_f1(seed: int) -> None:
    found = random_labels(seed, count=20, k=2)
    best = evaluate_labels(found, best_thresholds(found)).label_f1
    truth, scores = found.truth.numpy(), found.outputs.double().sigmoid().numpy()
    for k in range(2):
        others = [metrics.f1_score(truth[:, k], scores[:, k] >= cut) for cut in scores[:, k]]
        assert best[k] == pytest.approx(max(others))


def test_numbers_equal_scikit_learn() -> None:
    truth, outputs = torch.randn(50, 1) * 30, torch.randn(50, 1)
    result = evaluate_numbers(predictions(truth, truth + outputs))
    arrays = truth.double().numpy(), (truth + outputs).double().numpy()
    assert result.r2 == pytest.approx(metrics.r2_score(*arrays))
    assert result.mae == pytest.approx(metrics.mean_absolute_error(*arrays))
    assert result.rmse == pytest.approx(metrics.root_mean_squared_error(*arrays))
    same = torch.ones(4, 1)
    assert evaluate_numbers(predictions(same, same)).r2 == 0
