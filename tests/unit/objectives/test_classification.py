"""The classification objective against PyTorch's own cross-entropy."""

import math

import pytest
import torch
import torch.nn.functional as F

from vitral.data.augment.mixing import Examples
from vitral.data.batches import UNREADABLE
from vitral.objectives.classification import Classification, ClassificationConfig

IMAGES = torch.zeros(6, 1, 2, 2)
LABELS = torch.tensor([0, 1, 2, 3, 3, 1])


def objective(label_smoothing: float = 0.0) -> Classification:
    return Classification(ClassificationConfig(label_smoothing=label_smoothing))


@pytest.mark.parametrize("label_smoothing", [0.0, 0.1])
def test_equals_cross_entropy_with_gradient(label_smoothing):
    logits = torch.randn(6, 4, requires_grad=True)
    loss, metrics = objective(label_smoothing).loss(lambda _: logits, Examples(images=IMAGES, labels=LABELS))
    expected = F.cross_entropy(logits, LABELS, label_smoothing=label_smoothing)
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(*(torch.autograd.grad(value, logits)[0] for value in (loss, expected)))
    assert metrics["accuracy"].item() == pytest.approx((logits.argmax(1) == LABELS).float().mean().item())


def test_label_smoothing_by_hand():
    """Targets are 0.925 and three times 0.025 with smoothing 0.1 over four classes."""
    logits = torch.tensor([[2.0, 0.0, 0.0, 0.0]]).expand(6, 4)
    log_total = math.log(math.exp(2) + 3)
    expected = 0.925 * (log_total - 2) + 3 * 0.025 * log_total
    loss, _ = objective(0.1).loss(lambda _: logits, Examples(images=IMAGES, labels=torch.zeros(6, dtype=torch.long)))
    assert loss.item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("label_smoothing", [0.0, 0.1])
def test_unreadable_images_are_ignored(label_smoothing):
    logits = torch.randn(6, 4, requires_grad=True)
    labels = LABELS.clone()
    labels[[1, 4]] = UNREADABLE
    readable = [0, 2, 3, 5]
    loss, metrics = objective(label_smoothing).loss(lambda _: logits, Examples(images=IMAGES, labels=labels))
    expected = F.cross_entropy(logits[readable], labels[readable], label_smoothing=label_smoothing)
    torch.testing.assert_close(loss, expected)
    assert metrics["accuracy"].item() == pytest.approx((logits.argmax(1) == labels)[readable].float().mean().item())
    loss.backward()
    assert not logits.grad[[1, 4]].any()


@pytest.mark.parametrize("label_smoothing", [0.0, 0.1])
def test_a_batch_without_readable_images_has_no_gradient(label_smoothing):
    logits = torch.randn(6, 4, requires_grad=True)
    loss, metrics = objective(label_smoothing).loss(
        lambda _: logits, Examples(images=IMAGES, labels=torch.full((6,), UNREADABLE))
    )
    loss.backward()
    assert loss.item() == 0
    assert metrics["accuracy"].item() == 0
    assert torch.equal(logits.grad, torch.zeros(6, 4))


def test_the_loss_of_half_precision_logits_is_float32():
    logits = torch.randn(6, 4).bfloat16()
    loss, _ = objective().loss(lambda _: logits, Examples(images=IMAGES, labels=LABELS))
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, F.cross_entropy(logits.float(), LABELS))


@pytest.mark.parametrize("smoothing", [-0.1, 1.0, float("nan")])
def test_smoothing_out_of_range(smoothing):
    with pytest.raises(ValueError, match="label_smoothing must be at least 0 and below 1"):
        ClassificationConfig(label_smoothing=smoothing)


class TestSigmoid:
    def loss(self, logits: torch.Tensor, examples: Examples, smoothing: float = 0.0) -> torch.Tensor:
        config = ClassificationConfig(loss="sigmoid", label_smoothing=smoothing)
        return Classification(config).loss(lambda _: logits, examples)[0]

    @pytest.mark.parametrize("smoothing", [0.0, 0.1])
    def test_is_the_sum_over_classes_of_binary_cross_entropy(self, smoothing):
        logits = torch.randn(6, 4, dtype=torch.float64)
        target = F.one_hot(LABELS, 4) * (1 - smoothing) + smoothing / 4
        expected = F.binary_cross_entropy_with_logits(logits.float(), target.float(), reduction="none").sum(1).mean()
        torch.testing.assert_close(self.loss(logits, Examples(images=IMAGES, labels=LABELS), smoothing), expected)

    def test_unreadable_images_are_ignored(self):
        logits, labels = torch.randn(6, 4), LABELS.clone()
        labels[[0, 5]] = UNREADABLE
        readable = Examples(images=IMAGES[1:5], labels=LABELS[1:5])
        actual = self.loss(logits, Examples(images=IMAGES, labels=labels))
        torch.testing.assert_close(actual, self.loss(logits[1:5], readable))

    def test_a_head_bias_of_minus_ten_starts_near_ten(self):
        """As the paper initialises: every class is improbable, so the loss is that of one missed class."""
        loss = self.loss(torch.full((6, 1000), -10.0), Examples(images=IMAGES, labels=LABELS))
        assert loss.item() == pytest.approx(10 + 1000 * math.log1p(math.exp(-10)), rel=1e-6)


@pytest.mark.parametrize("form", ["softmax", "sigmoid"])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_mixed_images_have_the_loss_of_a_mixed_target(form, smoothing):
    logits, weights, partners = torch.randn(6, 4), torch.rand(6), LABELS.flip(0)
    target = F.one_hot(LABELS, 4) * weights[:, None] + F.one_hot(partners, 4) * (1 - weights[:, None])
    target = target * (1 - smoothing) + smoothing / 4
    examples = Examples(images=IMAGES, labels=LABELS, partners=partners, mix_weights=weights)
    actual, _ = Classification(ClassificationConfig(loss=form, label_smoothing=smoothing)).loss(
        lambda _: logits, examples
    )
    if form == "softmax":
        expected = F.cross_entropy(logits, target)
    else:
        expected = F.binary_cross_entropy_with_logits(logits, target, reduction="none").sum(1).mean()
    torch.testing.assert_close(actual, expected)


def test_multi_hot_targets_of_mixed_images_are_1_for_both_visible_classes():
    """The second label adds nothing if it is the same class, if it is not visible, or if its image is unreadable."""
    logits = torch.randn(6, 4)
    labels, partners = torch.tensor([0, 1, 2, 3, UNREADABLE, 1]), torch.tensor([1, 0, 2, 1, UNREADABLE, 2])
    weights = torch.tensor([0.6, 0.6, 0.5, 1.0, 1.0, 0.2])
    target = torch.tensor([[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1], [0, 1, 1, 0]]).float()
    examples = Examples(images=IMAGES, labels=labels, partners=partners, mix_weights=weights)
    actual, _ = Classification(ClassificationConfig(loss="sigmoid", mixed_labels="multi_hot")).loss(
        lambda _: logits, examples
    )
    readable = logits[[0, 1, 2, 3, 5]]
    torch.testing.assert_close(actual, F.binary_cross_entropy_with_logits(readable, target, reduction="sum") / 5)


@pytest.mark.parametrize("values", [{"loss": "softmax"}, {"loss": "sigmoid", "label_smoothing": 0.1}])
def test_multi_hot_targets_need_the_sigmoid_without_smoothing(values):
    with pytest.raises(ValueError, match="multi_hot needs the loss sigmoid, and label_smoothing 0"):
        ClassificationConfig(mixed_labels="multi_hot", **values)
