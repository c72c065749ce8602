"""Wrong labels, outliers and ambiguous images are found among features."""

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from vitral.errors import UserError
from vitral.evals.suspects import cross_validated_probabilities, find_suspects


def flipped_digits(count: int = 500, fraction: float = 0.05) -> tuple[torch.Tensor, torch.Tensor, np.ndarray]:
    """Pixels, labels of which a fraction is wrong, and which ones are."""
    digits, prng = load_digits(), np.random.default_rng(0)
    labels = digits.target[:count].astype(np.int64)
    wrong = prng.choice(count, round(fraction * count), replace=False)
    labels[wrong] = (labels[wrong] + prng.integers(1, 10, len(wrong))) % 10
    return torch.from_numpy(digits.data[:count]).float(), torch.from_numpy(labels), wrong


def test_most_wrong_labels_are_in_the_first_tenth() -> None:
    features, labels, wrong = flipped_digits()
    suspects = find_suspects(features, labels)
    assert np.isin(wrong, suspects.ranking[: len(labels) // 10]).mean() >= 0.8
    assert suspects.wrong[wrong].mean() >= 0.6
    truth = load_digits().target[wrong]
    assert (suspects.likely[wrong] == truth).mean() >= 0.8
    assert not np.isin(suspects.ambiguous, np.flatnonzero(suspects.wrong)).any()


def test_an_image_is_predicted_without_its_label() -> None:
    features, labels, _ = flipped_digits(count=120, fraction=0.0)
    before = cross_validated_probabilities(features, labels, seed=0)
    assert before.sum(axis=1) == pytest.approx(np.ones(120))
    assert (before.argmax(axis=1) == labels.numpy()).mean() > 0.7
    assert (cross_validated_probabilities(features, labels, seed=0) == before).all()


def test_an_outlier_is_far_from_all_others() -> None:
    features, labels, _ = flipped_digits(count=200, fraction=0.0)
    features[17] = torch.rand(64, generator=torch.Generator().manual_seed(0)) * 400 - 200
    assert find_suspects(features, labels).outliers[0] == 17


def test_classes_without_images_are_skipped() -> None:
    features, labels, _ = flipped_digits(count=200, fraction=0.0)
    suspects = find_suspects(features, labels + 3)
    assert set(suspects.likely) <= set(range(3, 13))


@pytest.mark.parametrize("labels", [[0] * 40, [0, 1] * 4])
def test_too_little_is_refused(labels: list[int]) -> None:
    with pytest.raises(UserError, match="two classes and 10 images"):
        find_suspects(torch.rand(len(labels), 4), torch.tensor(labels))
