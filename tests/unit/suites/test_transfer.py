"""Measures of frozen representations: settings chosen on validation images alone, every test image counted."""

import pytest
import torch

from vitral.evals.features import FeatureSet
from vitral.evals.fewshot import GRID, few, predictions
from vitral.suites.transfer import METHODS, RETRIEVAL, Known, Score, by_group, grid_scores, score


def clouds(count: int, seed: int) -> FeatureSet:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % 3
    centres = 3 * torch.eye(3, 5)
    features = centres[labels] + torch.randn(count, 5, generator=generator)
    return FeatureSet(features=features, labels=labels, readable=torch.ones(count, dtype=torch.bool))


KNOWN = Known(train=clouds(120, 0), val=clouds(30, 1), test=clouds(77, 2), num_classes=3)


@pytest.mark.parametrize("method", METHODS)
def test_every_measure_tells_clouds_apart(method: str) -> None:
    for found in score(method, KNOWN, seeds=(0, 1)):
        assert found.num_images == 77
        assert len(found.values) == (2 if "shot" in found.method else 1)
        assert found.mean > (0.6 if found.method == "1-shot" else 0.85)
        assert all(value * 77 == pytest.approx(round(value * 77)) for value in found.values)


def test_retrieval_has_a_row_for_each_figure() -> None:
    scores = score(RETRIEVAL, KNOWN, seeds=(0,))
    assert len({each.seconds for each in scores}) == 1, "one search made them all"
    found = {each.method: each.mean for each in scores}
    assert list(found) == ["recall@1", "recall@5", "recall@10", "mAP"]
    assert 0.8 < found["recall@1"] <= found["recall@5"] <= found["recall@10"] <= 1.0
    assert 0.6 < found["mAP"] < 1.0


def test_the_same_seeds_give_the_same() -> None:
    first, second = (score("fewshot", KNOWN, seeds=(3, 4)) for _ in range(2))
    assert [found.values for found in first] == [found.values for found in second]
    other = score("fewshot", KNOWN, seeds=(5, 6))
    assert [found.values for found in first] != [found.values for found in other]


def test_test_images_choose_nothing() -> None:
    """With other labels of the test images, what is told of them stays."""
    classify = METHODS["knn"]["kNN"]
    turned = FeatureSet(features=KNOWN.test.features, labels=(KNOWN.test.labels + 1) % 3, readable=KNOWN.test.readable)
    other = Known(train=KNOWN.train, val=KNOWN.val, test=turned, num_classes=3)
    assert torch.equal(classify(KNOWN, (0,))[0], classify(other, (0,))[0])


def test_means_by_group_weigh_tasks_alike() -> None:
    def row(value: float) -> dict[str, Score]:
        return {"kNN": Score(method="kNN", values=[value], num_images=1, seconds=0.0)}

    scores = {"a": row(0.2), "b": row(0.4), "c": row(0.9)}
    found = by_group(scores, {"a": "natural", "b": "natural", "c": "structured"})
    assert found["natural"]["kNN"] == pytest.approx(0.3)
    assert found["structured"]["kNN"] == pytest.approx(0.9)
    assert found["mean"]["kNN"] == pytest.approx(0.5)


def test_a_score_has_mean_and_deviation() -> None:
    found = Score(method="5-shot", values=[0.2, 0.4], num_images=10, seconds=0.1)
    assert (found.mean, found.spread) == (pytest.approx(0.3), pytest.approx(0.02**0.5))
    assert Score(method="kNN", values=[0.5], num_images=1, seconds=0.0).spread == 0


def test_the_grid_has_one_strength_for_all_tasks_chosen_on_val() -> None:
    """Two tasks alike come to what one alone does; by hand for the strength that is best on its validation images."""
    alone = grid_scores({"a": KNOWN})["a"]
    assert list(alone) == ["1-shot grid", "5-shot grid", "10-shot grid", "25-shot grid"]
    twice = grid_scores({"a": KNOWN, "b": KNOWN})
    assert [row.values for row in twice["b"].values()] == [row.values for row in alone.values()]
    rows = few(KNOWN.train.labels, 5, num_classes=3, seed=None)

    def told(asked: FeatureSet) -> torch.Tensor:
        train = KNOWN.train
        classes = predictions(train.features[rows], train.labels[rows], asked.features, num_classes=3, strengths=GRID)
        return (classes == asked.labels).double().mean(1)

    best = int(told(KNOWN.val).argmax())
    assert alone["5-shot grid"].values == [pytest.approx(told(KNOWN.test)[best].item())]
    assert alone["25-shot grid"].mean > 0.85
    assert alone["5-shot grid"].num_images == 77
