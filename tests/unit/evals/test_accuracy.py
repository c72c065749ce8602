"""Classification metrics against values computed by hand."""

import math
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor

from vitral.data.batches import UNREADABLE, Batch
from vitral.evals.accuracy import Accuracy
from vitral.evals.calibration import calibration
from vitral.evals.predictions import Predictions, predict_batches
from vitral.evals.reliability import draw_reliability


def batches(labels: list[int], size: int, unreadable: tuple[str, ...] = ()) -> list[Batch]:
    """Images of one pixel, whose value is the image's number."""
    pixels = torch.arange(len(labels), dtype=torch.uint8).reshape(-1, 1, 1, 1)
    parts = zip(pixels.split(size), torch.tensor(labels).split(size), strict=True)
    return [Batch(images=images, labels=truth, unreadable=unreadable) for images, truth in parts]


def evaluate(logits: list[list[float]] | Tensor, batches: list[Batch]) -> Accuracy:
    """Evaluates a classifier whose logits of image k are row k."""
    table = torch.as_tensor(logits)

    def predict(images: Tensor) -> Tensor:
        return table[images[:, 0, 0, 0].long()]

    return Predictions.concatenate(predict_batches(predict, batches)).accuracy()


def evaluate_labels(labels: list[int], logits: list[list[float]], size: int = 2) -> Accuracy:
    return evaluate(logits, batches(labels, size))


def test_by_hand() -> None:
    three_to_one = [math.log(3), 0.0]  # probabilities 3/4 and 1/4
    result = evaluate_labels([0, 0, 1, 1], [three_to_one, three_to_one, three_to_one, [0.0, math.log(3)]])
    assert result.num_images == 4
    assert result.top1 == 0.75
    assert result.confusion().tolist() == [[2, 0], [1, 1]]
    assert result.per_class().tolist() == [1.0, 0.5]
    assert result.loss == pytest.approx((3 * math.log(4 / 3) + math.log(4)) / 4)
    # every confidence is 3/4, and 3/4 are correct
    assert result.ece == pytest.approx(0, abs=1e-6)
    assert dict(result.metrics()) == {"top1": 0.75, "top5": 1.0, "loss": result.loss, "ece": result.ece}


def test_top5_counts_the_five_most_probable() -> None:
    falling = [[6.0, 5.0, 4.0, 3.0, 2.0, 1.0]] * 6
    result = evaluate_labels([0, 1, 2, 3, 4, 5], falling)
    assert result.top1 == pytest.approx(1 / 6)
    assert result.top5 == pytest.approx(5 / 6)


def test_top5_of_fewer_than_five_classes_is_one() -> None:
    assert evaluate_labels([0, 1, 2], [[3.0, 2.0, 1.0]] * 3).top5 == 1.0


def test_metrics_do_not_depend_on_the_batch_size() -> None:
    labels, logits = [0, 1, 1, 0, 1], torch.randn(5, 2).tolist()
    one, other = evaluate_labels(labels, logits, size=1), evaluate_labels(labels, logits, size=5)
    assert dict(one.metrics()) == pytest.approx(dict(other.metrics()))
    assert one.confusion().tolist() == other.confusion().tolist()


def test_a_class_without_images_has_no_accuracy() -> None:
    per_class = evaluate_labels([0, 0], [[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]).per_class()
    assert per_class[0] == 0.5
    assert per_class[1:].isnan().all()


def test_unreadable_images_are_left_out() -> None:
    parts = batches([1, UNREADABLE, 0], size=3, unreadable=("b.jpg cannot be read",))
    result = evaluate([[0.0, 1.0], [9.0, 0.0], [1.0, 0.0]], parts)
    assert (result.num_images, result.top1) == (2, 1.0)
    assert result.unreadable == ("b.jpg cannot be read",)


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ([], "there are no images to evaluate"),
        (batches([UNREADABLE], size=1, unreadable=("b.jpg is damaged",)), "no image could be read: b.jpg is damaged"),
    ],
)
def test_no_images_are_an_error(parts: list[Batch], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        evaluate([[0.0, 1.0]], parts)


def test_calibration_by_hand() -> None:
    confidence = torch.tensor([0.95, 0.91, 0.55, 0.51], dtype=torch.float64)
    correct = torch.tensor([True, False, True, True])
    # two bins of ten have images: |1 - 1.86| and |2 - 1.06|, over four images
    assert calibration(confidence, correct, num_bins=10).error == pytest.approx((0.86 + 0.94) / 4)


def test_a_bin_includes_its_upper_edge() -> None:
    confidence = torch.tensor([0.5, 0.75, 1.0], dtype=torch.float64)
    correct = torch.tensor([False, True, False])
    # of two bins, the first has 0.5 alone: |0 - 0.5|; the second |1 - 1.75|
    assert calibration(confidence, correct, num_bins=2).error == pytest.approx((0.5 + 0.75) / 3)


def test_full_confidence_is_calibrated_only_if_correct() -> None:
    sure = torch.ones(4, dtype=torch.float64)
    assert calibration(sure, sure.bool()).error == 0
    assert calibration(sure, ~sure.bool()).error == 1


def test_a_result_with_many_classes_stores_no_confusion_matrix():
    labels, many = torch.randint(21_843, (64,)), 21_843
    logits = torch.zeros(64, many).scatter(1, labels[:, None], 9.0)
    result = evaluate(logits, batches(labels.tolist(), size=64))
    assert result.top1 == 1.0
    stored = sum(getattr(result, name).numel() for name in ("truth", "predicted"))
    assert stored == 128
    assert result.per_class().nan_to_num(0).sum() == len(labels.unique())


def test_bins_of_confidence(tmp_path: Path) -> None:
    confidence = torch.tensor([0.95, 0.91, 0.55, 0.51], dtype=torch.float64)
    result = calibration(confidence, torch.tensor([True, False, True, True]), num_bins=10)
    assert result.counts.tolist() == [0, 0, 0, 0, 0, 2, 0, 0, 0, 2]
    assert result.accuracy[[5, 9]].tolist() == [1.0, 0.5]
    assert result.confidence[[5, 9]].tolist() == pytest.approx([0.53, 0.93])
    assert result.accuracy[:5].isnan().all()
    draw_reliability(result, tmp_path / "reliability.png")
    with Image.open(tmp_path / "reliability.png") as picture:
        assert min(picture.size) > 500
