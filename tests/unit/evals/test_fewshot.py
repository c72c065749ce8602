"""Few-shot least squares against a direct solution; the sample of images; the choice of the strength."""

import numpy as np
import pytest
import torch

from vitral.evals.fewshot import (
    BIAS_VALUE,
    FIXED_STRENGTH,
    STRENGTH_GRID,
    best_strength,
    few_shot_predictions,
    ridge_regression,
    sample_few_shot,
)


def data(n: int, d: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(n)
    return torch.randn(n, d, generator=generator).double(), torch.randn(n, 3, generator=generator).double()


@pytest.mark.parametrize(("n", "d"), [(50, 8), (8, 50), (20, 20)])
def test_both_branches_equal_the_direct_solution(n: int, d: int) -> None:
    features, targets = data(n, d)
    strengths = (0.5, 2.0**10)
    solutions = ridge_regression(features, targets, strengths)
    for weights, l2 in zip(solutions, strengths, strict=True):
        system = features.T @ features + l2 * torch.eye(d).double()
        direct = torch.linalg.solve(system, features.T @ targets)
        torch.testing.assert_close(weights, direct, atol=1e-9, rtol=1e-9)


@pytest.mark.parametrize("d", [6, 60])
def test_predictions_by_hand(d: int) -> None:
    """As in big_vision: standardised features, a constant feature of 100, targets -1 and 1, strength 2^10."""
    generator = torch.Generator().manual_seed(0)
    train, test = torch.randn(24, d, generator=generator) * 3 + 1, torch.randn(40, d, generator=generator)
    labels = torch.arange(24) % 4
    mean, std = train.double().mean(0), train.double().std(0, unbiased=False) + 1e-5
    standard = ((x.double() - mean) / std for x in (train, test))
    train_inputs, test_inputs = (torch.cat([x, torch.full((len(x), 1), BIAS_VALUE)], 1) for x in standard)
    targets = torch.full((24, 4), -1.0).double()
    targets[torch.arange(24), labels] = 1.0
    system = train_inputs.T @ train_inputs + FIXED_STRENGTH * torch.eye(d + 1)
    weights = torch.linalg.solve(system, train_inputs.T @ targets)
    predicted = few_shot_predictions(train, labels, test, num_classes=4)
    assert predicted.shape == (1, 40)
    assert torch.equal(predicted[0], (test_inputs @ weights).argmax(1))
    assert few_shot_predictions(train, labels, test, num_classes=4, strengths=STRENGTH_GRID).shape == (30, 40)


def test_a_class_with_fewer_images_than_shots_gives_all() -> None:
    labels = torch.tensor([2, 0, 1, 0, 2, 0, 2])
    rows = sample_few_shot(labels, 2, num_classes=3, seed=1)
    assert labels[rows].tolist() == [0, 0, 1, 2, 2]
    assert len(set(rows.tolist())) == 5
    assert sample_few_shot(labels, 2, num_classes=3, seed=None).tolist() == [1, 3, 2, 0, 4]
    generator = np.random.default_rng(1)
    members = [np.flatnonzero(labels.numpy() == label) for label in range(3)]
    expected = np.concatenate([part[generator.permutation(len(part))[:2]] for part in members])
    assert rows.tolist() == expected.tolist()


def test_the_best_strength_is_by_mean_rank() -> None:
    """The second is never the best, but never far; the first wins once by much."""
    assert best_strength({"a": [0.99, 0.5, 0.1], "b": [0.1, 0.5, 0.6], "c": [0.1, 0.5, 0.6]}) == 2
    assert best_strength({"a": [0.9, 0.5, 0.1], "b": [0.1, 0.5, 0.4]}) == 1
    assert best_strength({"a": [0.5, 0.5]}) == 0


def test_published_strengths() -> None:
    assert FIXED_STRENGTH == 1024
    assert (len(STRENGTH_GRID), STRENGTH_GRID[0], STRENGTH_GRID[-1]) == (30, 2.0**-10, 2.0**19)
