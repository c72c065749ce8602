"""The assessment of a classifier: what it lists, and which advice it gives."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from vitral.evals.baselines import Baselines, PretrainedProbe
from vitral.evals.predictions import Predictions
from vitral.runs.assessment import ASSESSMENT, Advisor, assess, load_assessment, save_assessment

CLASSES = ("cat", "dog", "owl")


def predictions(truth: list[int], predicted: list[int]) -> Predictions:
    count = len(truth)
    return Predictions(
        truth=torch.tensor(truth),
        top=torch.tensor(predicted)[:, None],
        confidence=torch.ones(count),
        loss=torch.ones(count),
        readable=torch.ones(count, dtype=torch.bool),
        num_classes=3,
    )


def baselines(best: float = 0.1) -> Baselines:
    return Baselines(majority_class=0.1, nearest_neighbour=best, logistic_regression=None, num_train=9, num_test=6)


def advisor(*, counts: tuple[int, ...] = (5, 5, 5), pretrained: bool = False) -> Advisor:
    return Advisor(
        classes=CLASSES,
        counts=np.array(counts),
        longer="--train.epochs 80",
        pretrained=pretrained,
        finetune="vitral train finetune --data.root photos",
    )


MIXED = predictions([0, 0, 0, 1, 1, 2], [0, 1, 1, 1, 1, 1])


def test_what_is_listed():
    found = assess("test", MIXED, baselines(), advisor())
    assert found.accuracy == 0.5
    assert found.never_predicted == ("owl",)
    assert found.confusions == (("cat", "dog", 2, 3), ("owl", "dog", 1, 1))
    lines = "\n".join(found.lines())
    assert "never predicted: owl" in lines
    assert "cat as dog (2 of 3)" in lines
    assert "logistic" not in lines


@pytest.mark.parametrize(
    ("truth", "predicted", "best", "options", "advice"),
    [
        ([0, 1, 2], [0, 1, 1], 0.9, {}, ["no better", "nearest neighbour", "--train.epochs 80", "finetune"]),
        ([0, 1, 2], [0, 1, 1], 0.9, {"pretrained": True}, ["no better", "--train.epochs 80"]),
        ([0, 1, 2], [0, 1, 2], 0.1, {}, ["no mistake"]),
        ([0, 1, 2], [0, 1, 1], 0.1, {"counts": (50, 50, 2)}, ["owl", "2 of 102", "--data.sampling balanced"]),
        ([0, 0, 1, 2], [0, 1, 0, 2], 0.1, {}, ["2 of 2 mistakes", "cat and dog"]),
    ],
)
def test_advice(truth, predicted, best, options, advice):
    found = assess("test", predictions(truth, predicted), baselines(best), advisor(**options)).advice
    assert all(part in found for part in advice), found
    assert ("finetune" in found) == ("finetune" in advice)


@pytest.mark.parametrize(("pretrained", "advice"), [(False, "vitral train finetune"), (True, "add images of")])
def test_mistakes_that_spread_over_five_classes(pretrained, advice):
    classes = ("a", "b", "c", "d", "e")
    pairs = [(truth, predicted) for truth in range(5) for predicted in range(5)]
    spread = replace(predictions(*map(list, zip(*pairs, strict=True))), num_classes=5)
    of_five = replace(advisor(pretrained=pretrained), classes=classes, counts=np.full(5, 9))
    assert advice in assess("test", spread, baselines(), of_five).advice


def test_it_comes_back_from_its_file(tmp_path):
    found = assess("test", MIXED, baselines(), advisor())
    save_assessment(tmp_path, found)
    assert load_assessment(tmp_path) == found
    assert json.loads((tmp_path / ASSESSMENT).read_text())["baselines"]["majority_class"] == 0.1


def test_a_linear_probe_is_listed_first_and_comes_back(tmp_path):
    """With the number of its images, if it has fewer than the others."""
    probe = PretrainedProbe(model="ViT-S/16@dino", accuracy=0.75, num_train=40, num_test=4)
    found = assess("test", MIXED, replace(baselines(), linear_probe=probe), advisor())
    assert found.rows()[1] == ("linear probe of ViT-S/16@dino (4 of the images)", "75.0%")
    assert "no better than linear probe of ViT-S/16@dino" in found.advice
    save_assessment(tmp_path, found)
    assert load_assessment(tmp_path) == found
    whole = replace(found.baselines, linear_probe=replace(probe, num_test=6))
    assert replace(found, baselines=whole).rows()[1][0] == "linear probe of ViT-S/16@dino"


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"baselines": 1, "never_predicted": [], "confusions": []}'])
def test_a_damaged_file_is_ignored(tmp_path, text):
    (tmp_path / ASSESSMENT).write_text(text)
    assert load_assessment(tmp_path) is None
