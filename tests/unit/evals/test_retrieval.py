"""Retrieval metrics against scikit-learn and by hand."""

import pytest
import torch
from sklearn.metrics import average_precision_score

from vitral.evals.features import FeatureSet
from vitral.evals.retrieval import average_precision, build_index, retrieval, search_index


def feature_set(features: torch.Tensor, labels: torch.Tensor) -> FeatureSet:
    return FeatureSet(features=features, labels=labels, readable=torch.ones(len(labels), dtype=torch.bool))


def clusters(count: int, seed: int) -> FeatureSet:
    """Three overlapping Gaussian clusters."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(3, (count,), generator=generator)
    return feature_set(torch.eye(3)[labels] + 0.7 * torch.randn(count, 3, generator=generator), labels)


def test_precision_by_hand() -> None:
    rankings = torch.tensor([[True, False, True, False], [False, False, False, True], [True, True, True, True]])
    assert average_precision(rankings).tolist() == pytest.approx([(1 + 2 / 3) / 2, 1 / 4, 1.0], abs=1e-12)


def test_mean_average_precision_equals_scikit_learn() -> None:
    gallery, queries = clusters(150, 0), clusters(300, 1)
    result = retrieval(gallery, queries, ks=(1, 5, 150))
    similarity = torch.cosine_similarity(queries.features[:, None], gallery.features[None], dim=2)
    theirs = [
        average_precision_score((gallery.labels == label).numpy(), row.numpy())
        for label, row in zip(queries.labels, similarity, strict=True)
    ]
    assert result.mean_average_precision == pytest.approx(sum(theirs) / len(theirs), abs=1e-4)
    for k in (1, 5):
        hits = gallery.labels[similarity.topk(k).indices] == queries.labels[:, None]
        assert result.recall[k] == pytest.approx(hits.any(1).double().mean().item(), abs=1e-9)
    assert result.recall[150] == 1.0
    assert list(dict(result.metrics())) == ["recall@1", "recall@5", "recall@150", "mAP"]


def test_similarity_ignores_the_length_of_features() -> None:
    gallery = torch.tensor([[100.0, 100.0], [0.0, 0.1], [-1.0, 0.0]])
    assert search_index(build_index(gallery), torch.tensor([[0.0, 7.0]]), k=3).tolist() == [[1, 0, 2]]


def test_queries_without_relevant_images_are_left_out() -> None:
    gallery = feature_set(torch.eye(2), torch.tensor([0, 1]))
    result = retrieval(gallery, feature_set(torch.eye(2), torch.tensor([0, 5])), ks=(1,))
    assert (result.num_images, result.recall, result.mean_average_precision) == (1, {1: 1.0}, 1.0)
    with pytest.raises(ValueError, match="no image of the queries' classes"):
        retrieval(gallery, feature_set(torch.eye(2), torch.tensor([5, 6])))
