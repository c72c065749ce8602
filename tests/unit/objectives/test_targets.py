"""Losses of several labels, of numbers and of weighted classes, against PyTorch's and scikit-learn's."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.utils.class_weight import compute_class_weight

from tiny import build_context
from vitral.data.augment.mixing import Examples
from vitral.data.batches import UNREADABLE
from vitral.data.images.preprocess import Preprocessing
from vitral.objectives.class_weights import balanced_weights, positive_weights
from vitral.objectives.classification import Classification, ClassificationConfig, build_classification
from vitral.objectives.multi_label import MultiLabel, MultiLabelConfig
from vitral.objectives.objective import Objective
from vitral.objectives.regression import Regression, RegressionConfig

IMAGES = torch.zeros(6, 1, 2, 2)
LABELS = torch.tensor([0, 1, 2, 3, 3, 1])
WEIGHTS = torch.tensor([0.5, 2.0, 1.0, 3.0])


def parted(objective: Objective, logits: torch.Tensor, labels: torch.Tensor, parts: int) -> torch.Tensor:
    """The loss of a batch as a session adds it up from its parts."""
    examples = Examples(images=IMAGES, labels=labels)
    total = objective.weight(labels)
    return sum(
        objective.loss(lambda _, part=part: part, chunk)[0] * objective.weight(chunk.labels) / total
        for part, chunk in zip(logits.chunk(parts), examples.chunk(parts), strict=True)
    )


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("parts", [1, 3])
def test_weighted_classes_equal_pytorch(smoothing: float, parts: int) -> None:
    logits = torch.randn(6, 4)
    objective = Classification(ClassificationConfig(label_smoothing=smoothing), class_weights=WEIGHTS)
    expected = F.cross_entropy(logits, LABELS, WEIGHTS, label_smoothing=smoothing)
    torch.testing.assert_close(parted(objective, logits, LABELS, parts), expected)


def test_weighted_sigmoid_is_a_weighted_mean() -> None:
    logits = torch.randn(6, 4)
    objective = Classification(ClassificationConfig(loss="sigmoid"), class_weights=WEIGHTS)
    losses = F.binary_cross_entropy_with_logits(logits, F.one_hot(LABELS, 4).float(), reduction="none").sum(1)
    weights = WEIGHTS[LABELS]
    torch.testing.assert_close(parted(objective, logits, LABELS, 2), (losses * weights).sum() / weights.sum())


def test_unreadable_images_have_no_weight() -> None:
    labels = LABELS.clone()
    labels[[1, 4]] = UNREADABLE
    logits = torch.randn(6, 4)
    objective = Classification(ClassificationConfig(), class_weights=WEIGHTS)
    expected = F.cross_entropy(logits, labels, WEIGHTS)
    torch.testing.assert_close(parted(objective, logits, labels, 1), expected)
    none = torch.full((6,), UNREADABLE)
    assert objective.loss(lambda _: logits, Examples(images=IMAGES, labels=none))[0].item() == 0


def test_balanced_weights_equal_scikit_learn() -> None:
    labels = np.array([0] * 5 + [1] * 90 + [2] * 7)
    expected = compute_class_weight("balanced", classes=np.arange(3), y=labels)
    assert balanced_weights(np.bincount(labels)) == pytest.approx(expected)
    assert balanced_weights(np.array([2, 0, 2])) == (1.0, 1.0, 1.0)
    assert positive_weights(np.array([1, 2, 0, 4]), 4) == (3.0, 1.0, 1.0, 1.0)


def test_a_weight_for_each_class() -> None:
    preprocessing = Preprocessing(image_size=(8, 8), channels=1)
    context = build_context(preprocessing, classes=("a", "b", "c"))
    with pytest.raises(ValueError, match="has 2 weights for 3 classes: give one for each, in the order a, b, c"):
        build_classification(ClassificationConfig(class_weights=(1.0, 2.0)), context)
    with pytest.raises(ValueError, match=r"must be above 0, not 1 -2"):
        ClassificationConfig(class_weights=(1.0, -2.0))
    assert build_classification(ClassificationConfig(class_weights=(1.0, 2.0, 3.0)), context).class_weights is not None


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("weighted", [False, True])
def test_several_labels_equal_pytorch(smoothing: float, weighted: bool) -> None:
    logits, weights = torch.randn(6, 4, requires_grad=True), WEIGHTS if weighted else None
    labels = (torch.rand(6, 4) < 0.4).float()
    objective = MultiLabel(MultiLabelConfig(label_smoothing=smoothing), positive_weights=weights)
    targets = labels * (1 - smoothing) + smoothing / 2
    expected = F.binary_cross_entropy_with_logits(logits, targets, pos_weight=weights) * 4
    loss = parted(objective, logits, labels, 2)
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(*(torch.autograd.grad(value, logits)[0] for value in (loss, expected)))


def test_unreadable_images_have_no_labels() -> None:
    logits = torch.randn(6, 4, requires_grad=True)
    labels = torch.ones(6, 4)
    labels[[1, 4]] = torch.nan
    loss, _ = MultiLabel(MultiLabelConfig()).loss(lambda _: logits, Examples(images=IMAGES, labels=labels))
    readable = [0, 2, 3, 5]
    torch.testing.assert_close(loss, F.softplus(-logits[readable]).sum(1).mean())
    loss.backward()
    assert not logits.grad[[1, 4]].any()
    assert logits.grad.isfinite().all()


def test_numbers() -> None:
    outputs = torch.randn(6, 1, requires_grad=True)
    labels = torch.arange(6.0)[:, None]
    labels[2] = torch.nan
    loss, metrics = Regression(std=2.0).loss(lambda _: outputs, Examples(images=IMAGES, labels=labels))
    readable = [0, 1, 3, 4, 5]
    torch.testing.assert_close(loss, F.mse_loss(outputs[readable], labels[readable]) / 4)
    torch.testing.assert_close(metrics["mae"], F.l1_loss(outputs[readable], labels[readable]))
    loss.backward()
    assert outputs.grad[2].item() == 0
    with pytest.raises(ValueError, match="standard deviation of the numbers must be above 0"):
        RegressionConfig(mean=0.0, std=0.0)
