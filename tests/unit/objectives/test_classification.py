"""The classification objective against PyTorch's own cross-entropy."""

import math

import pytest
import torch
import torch.nn.functional as F

from vitral.data.examples import UNREADABLE, Examples
from vitral.objectives.classification import Classification, ClassificationConfig

IMAGES = torch.zeros(6, 1, 2, 2)
LABELS = torch.tensor([0, 1, 2, 3, 3, 1])


def objective(label_smoothing: float = 0.0, loss: str = "softmax") -> Classification:
    return Classification(ClassificationConfig(label_smoothing=label_smoothing, loss=loss))


def examples(labels: torch.Tensor = LABELS) -> Examples:
    return Examples(images=IMAGES, labels=labels)


def targets(labels: torch.Tensor, smoothing: float) -> torch.Tensor:
    """A row for each image with the weight of each of four classes."""
    return F.one_hot(labels, 4) * (1 - smoothing) + smoothing / 4


@pytest.mark.parametrize("label_smoothing", [0.0, 0.1])
def test_equals_cross_entropy_with_gradient(label_smoothing):
    logits = torch.randn(6, 4, requires_grad=True)
    loss, figures = objective(label_smoothing).loss(lambda _: logits, examples())
    expected = F.cross_entropy(logits, LABELS, label_smoothing=label_smoothing)
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(*(torch.autograd.grad(value, logits)[0] for value in (loss, expected)))
    assert figures["accuracy"].item() == pytest.approx((logits.argmax(1) == LABELS).float().mean().item())


def test_label_smoothing_by_hand():
    """Targets are 0.925 and three times 0.025 with smoothing 0.1 over four classes."""
    logits = torch.tensor([[2.0, 0.0, 0.0, 0.0]]).expand(6, 4)
    log_total = math.log(math.exp(2) + 3)
    expected = 0.925 * (log_total - 2) + 3 * 0.025 * log_total
    loss, _ = objective(0.1).loss(lambda _: logits, examples(torch.zeros(6, dtype=torch.long)))
    assert loss.item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("label_smoothing", [0.0, 0.1])
def test_unreadable_images_count_for_nothing(label_smoothing):
    logits = torch.randn(6, 4, requires_grad=True)
    labels = LABELS.clone()
    labels[[1, 4]] = UNREADABLE
    kept = [0, 2, 3, 5]
    loss, figures = objective(label_smoothing).loss(lambda _: logits, examples(labels))
    expected = F.cross_entropy(logits[kept], labels[kept], label_smoothing=label_smoothing)
    torch.testing.assert_close(loss, expected)
    assert figures["accuracy"].item() == pytest.approx((logits.argmax(1) == labels)[kept].float().mean().item())
    loss.backward()
    assert not logits.grad[[1, 4]].any()


@pytest.mark.parametrize("label_smoothing", [0.0, 0.1])
def test_a_batch_without_a_readable_image_teaches_nothing(label_smoothing):
    logits = torch.randn(6, 4, requires_grad=True)
    loss, figures = objective(label_smoothing).loss(lambda _: logits, examples(torch.full((6,), UNREADABLE)))
    loss.backward()
    assert loss.item() == 0
    assert figures["accuracy"].item() == 0
    assert torch.equal(logits.grad, torch.zeros(6, 4))


def test_half_precision_logits_are_compared_in_single():
    logits = torch.randn(6, 4).bfloat16()
    loss, _ = objective().loss(lambda _: logits, examples())
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, F.cross_entropy(logits.float(), LABELS))


@pytest.mark.parametrize("share", [-0.1, 1.0, float("nan")])
def test_smoothing_out_of_range(share):
    with pytest.raises(ValueError, match="label_smoothing must be at least 0 and below 1"):
        ClassificationConfig(label_smoothing=share)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_sigmoid_is_summed_over_classes_and_averaged_over_images(smoothing):
    logits = torch.randn(6, 4, dtype=torch.float64).float().requires_grad_()
    loss, _ = objective(smoothing, "sigmoid").loss(lambda _: logits, examples())
    expected = F.binary_cross_entropy_with_logits(logits, targets(LABELS, smoothing), reduction="sum") / 6
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(*(torch.autograd.grad(value, logits)[0] for value in (loss, expected)))


@pytest.mark.parametrize(("classes", "bias", "expected"), [(21_843, -10.0, 10.9916), (18_291, -10.0, 10.8304)])
def test_sigmoid_begins_where_the_papers_pre_training_does(classes, bias, expected):
    """Zero weights and the published bias of the head, on ImageNet-21k and JFT."""
    loss, _ = objective(loss="sigmoid").loss(lambda _: torch.full((6, classes), bias), examples())
    assert loss.item() == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("loss", ["softmax", "sigmoid"])
def test_mixed_labels_equal_dense_targets(loss, smoothing):
    """Also where both labels are the same, and where one image could not be read."""
    logits = torch.randn(6, 4, requires_grad=True)
    labels, partners = torch.tensor([0, 1, 2, 2, UNREADABLE, 1]), torch.tensor([1, 0, 2, 2, UNREADABLE, 1])
    shares = torch.tensor([0.7, 0.7, 0.6, 0.6, 1.0, 1.0])
    mixed = Examples(images=IMAGES, labels=labels, partners=partners, shares=shares)
    found, figures = objective(smoothing, loss).loss(lambda _: logits, mixed)
    kept = [0, 1, 2, 3, 5]
    dense = shares[kept, None] * targets(labels[kept], smoothing)
    dense += (1 - shares[kept, None]) * targets(partners[kept], smoothing)
    if loss == "softmax":
        expected = F.cross_entropy(logits[kept], dense)
    else:
        expected = F.binary_cross_entropy_with_logits(logits[kept], dense, reduction="sum") / 5
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(*(torch.autograd.grad(value, logits)[0] for value in (found, expected)))
    assert figures["accuracy"].item() == pytest.approx((logits.argmax(1) == labels)[kept].float().mean().item())


def test_parts_of_a_step_hold_what_belongs_together():
    images, labels = torch.arange(6.0).reshape(6, 1, 1, 1), torch.arange(6)
    parts = Examples(images=images, labels=labels, partners=labels + 10, shares=labels / 6).chunk(3)
    assert [part.labels.tolist() for part in parts] == [[0, 1], [2, 3], [4, 5]]
    for part in parts:
        assert torch.equal(part.images.flatten(), part.labels.float())
        assert torch.equal(part.partners, part.labels + 10)
        assert torch.equal(part.shares, part.labels / 6)
    assert all(part.partners is None for part in Examples(images=images, labels=labels).chunk(2))
