"""Soups: averages of weights, which runs a greedy soup takes, which runs cannot be averaged."""

from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tiny import tiny_run
from vitral.models import Model
from vitral.runs.run import Run
from vitral.sweeps.config import SweepConfig
from vitral.sweeps.results import TrialResult, write_results
from vitral.sweeps.soup import (
    Ingredient,
    average,
    best_runs,
    greedy_soup,
    mean_thresholds,
    read_ingredients,
    same_start,
    shared_split,
    soup_card,
)
from vitral.train.config import RunConfig
from vitral.train.fit import fit
from vitral.weights.folder import load_model


def train(config: RunConfig) -> Path:
    with closing(Run.create(config.out, recipe=config.recipe)) as run:
        fit(run, config)
        return run.path


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Three runs of one step, with different seeds and dropout."""
    root = tmp_path_factory.mktemp("runs")
    base = tiny_run(steps=1, track="none")
    runs = []
    for seed in range(3):
        architecture = replace(base.model.architecture, dropout=0.1 * seed)
        config = replace(base, out=root / str(seed), seed=seed, model=replace(base.model, architecture=architecture))
        runs.append(train(replace(config, data=replace(config.data, val_fraction=0.2))))
    return runs


def weight(model: Model) -> float:
    return model.state_dict()["blocks.0.attn.qkv.weight"].double().sum().item()


def test_the_average_is_the_mean_of_each_weight(paths: list[Path]) -> None:
    states = [load_model(path).state_dict() for path in paths]
    for name, tensor in average(read_ingredients(paths)).state_dict().items():
        assert torch.allclose(tensor, sum(state[name] for state in states) / 3, atol=1e-7), name


def by_weight(ingredients: list[Ingredient], scores: dict[frozenset[int], float]) -> Callable[[Model], float]:
    """Scores averages by which runs are in them."""
    weights = [weight(load_model(each.path)) for each in ingredients]
    means = {sum(weights[index] for index in chosen) / len(chosen): score for chosen, score in scores.items()}

    def score(model: Model) -> float:
        return means[min(means, key=lambda mean: abs(mean - weight(model)))]

    return score


@pytest.mark.parametrize(("both", "kept"), [(0.5, True), (0.49, False)])
def test_the_greedy_soup_keeps_what_is_not_worse(paths: list[Path], both: float, kept: bool) -> None:
    """From best to worst: run 1, then 2 that helps, then 0, with or without."""
    ingredients = read_ingredients(paths)
    scores = {frozenset([0]): 0.1, frozenset([1]): 0.4, frozenset([2]): 0.3}
    scores |= {frozenset([1, 2]): 0.5, frozenset([0, 1, 2]): both}
    model, best, rows = greedy_soup(ingredients, by_weight(ingredients, scores))
    assert [(each.path, score, kept) for each, score, kept in rows] == [
        (paths[1], 0.4, True),
        (paths[2], 0.3, True),
        (paths[0], 0.1, kept),
    ]
    assert best == 0.5
    chosen = ingredients if kept else ingredients[1:]
    assert weight(model) == pytest.approx(weight(average(chosen)), abs=1e-6)


def test_the_card_names_the_ingredients(paths: list[Path]) -> None:
    ingredients = read_ingredients(paths)
    card = soup_card(ingredients, method="greedy", metrics={"test/top1": 0.5}, thresholds=())
    assert card.provenance["ingredients"] == "; ".join(map(str, paths))
    assert card.provenance["soup"] == "greedy"
    assert card.metrics == {"test/top1": 0.5}
    assert card.classes == ingredients[0].model.card.classes
    assert not same_start(ingredients)


def test_thresholds_of_labels_are_averaged(paths: list[Path]) -> None:
    """A run without chosen thresholds has 0.5 for each label."""
    first, second, _ = read_ingredients(paths)
    assert mean_thresholds([first, second]) == ()
    cards = [
        replace(first.model.card, target="multi-label", thresholds=thresholds)
        for thresholds in ((0.25,) * 9 + (0.75,), ())
    ]
    changed = [replace(first, model=replace(first.model, card=card)) for card in cards]
    assert mean_thresholds(changed) == (0.375,) * 9 + (0.625,)


def test_runs_hold_out_the_same_images(paths: list[Path], tmp_path: Path) -> None:
    config = tiny_run(tmp_path / "other", steps=1, track="none")
    other = train(replace(config, data=replace(config.data, val_fraction=0.2, split_seed=1)))
    ingredients = read_ingredients(paths)
    images = shared_split(ingredients, "val")
    assert images is not None
    assert len(images) == 287
    for split in ("val", "test"):
        with pytest.raises(ValueError, match=f"have different {split} images"):
            shared_split([*ingredients, *read_ingredients([paths[0], other])], split)


@pytest.mark.parametrize("change", ["depth", "classes"])
def test_runs_that_cannot_be_averaged(paths: list[Path], tmp_path: Path, change: str) -> None:
    config = tiny_run(tmp_path / "other", steps=1, track="none")
    if change == "depth":
        config = replace(config, model=replace(config.model, architecture=replace(config.model.architecture, depth=1)))
    else:
        config = replace(config, data=replace(config.data, class_names=tuple("abcdefghij")))
    what = "architectures" if change == "depth" else "classes"
    with pytest.raises(ValueError, match=rf"other have different {what}: a soup needs the same"):
        read_ingredients([*paths, train(config)])


def test_wrong_runs(paths: list[Path], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="is the only one"):
        read_ingredients(paths[:1])
    with pytest.raises(ValueError, match="is given twice"):
        read_ingredients([*paths, paths[0] / ".." / paths[0].name])
    with pytest.raises(ValueError, match="does not exist"):
        read_ingredients([*paths, tmp_path / "none"])


@pytest.mark.parametrize(("metric", "best"), [("val/top1", "000-fold2-seed0"), ("val/loss", "002-fold1-seed0")])
def test_the_best_runs_of_a_sweep(tmp_path: Path, metric: str, best: str) -> None:
    """Failed trials have none, and trials with the settings of another one have no others."""
    config = SweepConfig(recipe=["tiny"], grid={"lr": ["1", "2", "3", "1"]}, seeds=[0], folds=2, metric=metric)
    first = TrialResult(number=0, settings={"lr": "1"}, values=[0.5, 0.9])
    failed = TrialResult(number=1, settings={"lr": "2"}, values=[], failure="the loss became NaN")
    third = TrialResult(number=2, settings={"lr": "3"}, values=[0.2, 0.7])
    (tmp_path / "sweep.json").write_text(
        '{"recipe": ["tiny"], "grid": {"lr": ["1", "2", "3", "1"]}, "search": {}, "seeds": [0], "folds": 2, '
        f'"metric": "{metric}"}}'
    )
    with pytest.raises(ValueError, match="has no finished trial"):
        best_runs(tmp_path, top=2)
    write_results(tmp_path, config, [first, failed, third, first], best=None)
    assert len(best_runs(tmp_path, top=9)) == 4
    found = best_runs(tmp_path, top=2)
    assert (len(found), found[0]) == (2, tmp_path / best)
