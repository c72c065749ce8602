"""kNN and the linear probe against scikit-learn."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier

from vitral.evals import linear
from vitral.evals.features import FeatureSet
from vitral.evals.knn import knn_predictions
from vitral.evals.linear import FINAL_STEPS, fit_logistic_regression, linear_predictions
from vitral.evals.linear_sgd import train_linear_heads
from vitral.evals.probe import probe


def clusters(count: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Three overlapping Gaussian clusters."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(3, (count,), generator=generator)
    centres = torch.tensor([[2.0, 0, 0, 1], [0, 2.0, 0, 1], [0, 0, 2.0, 1]])
    return centres[labels] + torch.randn(count, 4, generator=generator), labels


@pytest.mark.parametrize("k", [1, 5, 20])
def test_uniform_votes_equal_scikit_learn(k: int) -> None:
    (train, labels), (test, _) = clusters(200, 0), clusters(1500, 1)
    ours = knn_predictions(train, labels, test, ks=(k,), num_classes=3, temperature=None)[k]
    theirs = KNeighborsClassifier(k, metric="cosine").fit(train, labels).predict(test)
    assert (ours.numpy() == theirs).all()


def test_weighted_votes_equal_scikit_learn() -> None:
    (train, labels), (test, _) = clusters(200, 0), clusters(300, 1)
    ours = knn_predictions(train, labels, test, ks=(3, 10), num_classes=3, temperature=0.07)
    for k in (3, 10):
        weighted = KNeighborsClassifier(k, metric="cosine", weights=lambda distance: np.exp((1 - distance) / 0.07))
        assert (ours[k].numpy() == weighted.fit(train, labels).predict(test)).mean() > 0.995, "all but ties"


def test_all_images_vote_if_there_are_fewer_than_k() -> None:
    train, labels = torch.eye(3), torch.tensor([0, 1, 1])
    assert knn_predictions(train, labels, train[:1], ks=(20,), num_classes=2, temperature=None)[20].tolist() == [1]
    with pytest.raises(ValueError, match="no images to learn from"):
        knn_predictions(train[:0], labels[:0], train, ks=(1,), num_classes=2)


def test_the_linear_probe_is_logistic_regression() -> None:
    (train, labels), (test, truth) = clusters(400, 0), clusters(400, 1)
    ours = linear_predictions(train, labels, test, strengths=(1.0,))
    mean, std = train.mean(0), train.std(0)
    theirs = LogisticRegression(C=1.0, max_iter=1000).fit((train - mean) / std, labels)
    assert (ours.numpy() == theirs.predict((test - mean) / std)).mean() > 0.995
    selected = linear_predictions(train, labels, test)
    assert (selected == truth).float().mean() > 0.75


def mean_loss(weight: torch.Tensor, bias: torch.Tensor, features: torch.Tensor, labels: torch.Tensor) -> float:
    return F.cross_entropy(features.double() @ weight.double().T + bias.double(), labels).item()


def standardised(count: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    features, labels = clusters(count, seed)
    return (features - features.mean(0)) / features.std(0), labels


def test_the_linear_probe_reaches_the_optimum() -> None:
    """Against Newton's method run to convergence, regularisation included."""
    features, labels = standardised(400)
    ours = fit_logistic_regression(features, labels, 0.1, steps=FINAL_STEPS)
    theirs = LogisticRegression(C=0.1, solver="newton-cg", tol=1e-12, max_iter=1000).fit(features.double(), labels)

    def objective(model: LogisticRegression) -> float:
        weight, bias = torch.from_numpy(model.coef_), torch.from_numpy(model.intercept_)
        return mean_loss(weight, bias, features, labels) + weight.square().sum().item() / (2 * 0.1 * len(labels))

    assert objective(ours) == pytest.approx(objective(theirs), abs=1e-6)
    assert objective(ours) >= objective(theirs) - 1e-12


def test_sgd_comes_near_the_optimum_at_the_best_learning_rate() -> None:
    """Within 1 % of the optimum without regularisation; learning rates trained together do not influence each other."""
    features, labels = standardised(2000)
    rates = (0.01, 0.1, 0.3)
    weight, bias = train_linear_heads(features, labels, rates=rates, num_classes=3)
    losses = [mean_loss(weight[number], bias[number], features, labels) for number in range(3)]
    best = LogisticRegression(C=np.inf, tol=1e-10, max_iter=1000).fit(features.double(), labels)
    optimum = mean_loss(torch.from_numpy(best.coef_), torch.from_numpy(best.intercept_), features, labels)
    assert optimum <= min(losses) < 1.01 * optimum
    assert losses == sorted(losses, reverse=True)
    alone, _ = train_linear_heads(features, labels, rates=rates[1:2], num_classes=3)
    torch.testing.assert_close(weight[1], alone[0])


def test_large_sets_are_fit_by_sgd(monkeypatch: pytest.MonkeyPatch) -> None:
    (train, labels), (test, truth) = clusters(1200, 0), clusters(1001, 1)
    exact = linear_predictions(train, labels, test)
    monkeypatch.setattr(linear, "MAX_LBFGS_SIZE", 1000)
    monkeypatch.setattr(linear, "fit_logistic_regression", pytest.fail)
    predicted = linear_predictions(train, labels, test)
    assert torch.equal(predicted, linear_predictions(train, labels, test)), "deterministic"
    assert (predicted == exact).float().mean() > 0.98
    assert (predicted == truth).float().mean() > 0.75


def test_a_probe_counts_every_image() -> None:
    def feature_set(count: int, seed: int) -> FeatureSet:
        features, labels = clusters(count, seed)
        return FeatureSet(features=features, labels=labels, readable=torch.ones(count, dtype=torch.bool))

    result = probe(feature_set(300, 0), feature_set(77, 1), num_classes=3)
    assert result.num_images == 77
    assert dict(result.metrics()) == {"knn": result.knn, "linear": result.linear}
    assert min(result.knn, result.linear) > 0.7
    assert round(result.knn * 77, 4) == round(result.knn * 77)
