"""Calibration error, mean average precision and mean IoU against torchmetrics."""

import pytest
import torch
from torch import Tensor
from torchmetrics.functional.classification import (
    multiclass_accuracy,
    multiclass_calibration_error,
    multiclass_confusion_matrix,
    multiclass_jaccard_index,
)
from torchmetrics.functional.retrieval import retrieval_average_precision

from vitral.data.batches import Batch
from vitral.data.images.masks import UNLABELLED
from vitral.evals.features import FeatureSet
from vitral.evals.predictions import Predictions, predict_batches
from vitral.evals.retrieval import average_precision, retrieval
from vitral.evals.segmentation import SegmentationHead, segmentation


def randn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("sharpness", [0.3, 1.0, 5.0])
@pytest.mark.parametrize("num_classes", [2, 7, 100])
def test_classification(sharpness: float, num_classes: int) -> None:
    count = 500
    labels = torch.randint(num_classes, (count,), generator=torch.Generator().manual_seed(1))
    logits = sharpness * randn(count, num_classes)
    logits[torch.arange(count), labels] += sharpness
    batch = Batch(images=torch.zeros(count, 1, 1, 1, dtype=torch.uint8), labels=labels)
    ours = Predictions.concatenate(predict_batches(lambda _: logits, [batch])).accuracy()
    probabilities = logits.softmax(1)
    ece = multiclass_calibration_error(probabilities, labels, num_classes=num_classes, n_bins=15, norm="l1")
    assert ours.ece == pytest.approx(ece.item(), abs=1e-6)
    for accuracy, top_k in ((ours.top1, 1), (ours.top5, min(5, num_classes))):
        theirs = multiclass_accuracy(probabilities, labels, num_classes=num_classes, average="micro", top_k=top_k)
        assert accuracy == pytest.approx(theirs.item(), abs=1e-6)
    confusion = multiclass_confusion_matrix(probabilities, labels, num_classes=num_classes)
    assert torch.equal(ours.confusion(), confusion)


def test_average_precision_of_rankings() -> None:
    relevant = randn(40, 60) > 1
    relevant[:, 7] = True
    falling = 60 - torch.arange(60.0)  # torchmetrics ignores scores of 0 and less
    theirs = [retrieval_average_precision(falling, row).item() for row in relevant]
    torch.testing.assert_close(average_precision(relevant).float(), torch.tensor(theirs), rtol=1e-5, atol=1e-6)


def test_retrieval_by_cosine_similarity() -> None:
    labels = torch.arange(90) % 6
    features = randn(90, 16) + 2 * randn(6, 16, seed=1)[labels]
    gallery, queries = (
        FeatureSet(features=features[rows], labels=labels[rows], readable=labels[rows] >= 0)
        for rows in (slice(60), slice(60, 90))
    )
    similarity = torch.nn.functional.normalize(queries.features) @ torch.nn.functional.normalize(gallery.features).T
    theirs = [
        retrieval_average_precision(row + 2, gallery.labels == label).item()
        for row, label in zip(similarity, queries.labels, strict=True)
    ]
    assert retrieval(gallery, queries).mean_average_precision == pytest.approx(sum(theirs) / len(theirs), abs=1e-6)


def test_mean_iou() -> None:
    """Some pixels have no class; all classes occur."""
    head = SegmentationHead(weight=randn(8, 4).double(), bias=randn(4, seed=1).double())
    patches = randn(3, 4, 4, 8, seed=2)
    masks = torch.randint(4, (3, 16, 16), generator=torch.Generator().manual_seed(3))
    predicted = head.predict(patches, (16, 16))
    masks[:, ::2] = predicted[:, ::2]
    masks[:, :3, :5] = UNLABELLED
    ours = segmentation(head, [(patches, masks)], num_classes=4)
    theirs = multiclass_jaccard_index(predicted, masks, num_classes=4, ignore_index=UNLABELLED, average="macro")
    assert ours.mean_iou == pytest.approx(theirs.item(), abs=1e-6)
    classes = multiclass_jaccard_index(predicted, masks, num_classes=4, ignore_index=UNLABELLED, average="none")
    torch.testing.assert_close(ours.iou.float(), classes)
