"""Model soups: the average of the weights of several runs (Wortsman et al. 2022, arXiv 2203.05482).

Weights that were fine-tuned from the same pretrained model can be averaged: the average costs as much as one model, and
is often better than each.
"""

import functools
import platform
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vitral import __version__
from vitral.card import ModelCard
from vitral.data.config import DataConfig
from vitral.data.sources.source import Source
from vitral.datasets.opening import open_data
from vitral.errors import UserError
from vitral.models import Architecture, Model
from vitral.runs.fingerprint import fingerprint
from vitral.runs.run import Run
from vitral.sweeps.config import read_sweep_config
from vitral.sweeps.results import read_results
from vitral.train.config import RunConfig, read_run_config
from vitral.weights.folder import ModelConfig, load_model, read_config

__all__ = [
    "Ingredient",
    "average",
    "best_runs",
    "greedy_soup",
    "mean_thresholds",
    "read_ingredients",
    "same_start",
    "shared_split",
    "soup_card",
]

TRAINING_ONLY: dict[str, Any] = {"dropout": 0.0, "patch_dropout": 0.0, "drop_path": 0.0, "drop_path_form": "sample"}
"""Fields of an architecture that change nothing in a trained model."""


@dataclass(frozen=True, kw_only=True)
class Ingredient:
    """A finished run whose weights are averaged."""

    path: Path
    model: ModelConfig
    config: RunConfig


def best_runs(sweep: Path, *, top: int) -> list[Path]:
    """The runs of a sweep's finished trials with the best metric, the best first.

    Args:
        sweep: its folder.
        top: how many runs, or all if there are fewer.

    Raises:
        UserError: the folder is no sweep, or no trial succeeded.
    """
    config, results = read_sweep_config(sweep), read_results(sweep)
    # a trial with the settings of an earlier one has no runs of its own
    values = {
        config.run_folder(result.number, fold, seed): value
        for result in results
        for (fold, seed), value in zip(config.runs if result.values else (), result.values, strict=True)
    }
    if not values:
        raise UserError(f"{sweep} has no finished trial: run the sweep to its end")
    ranked = sorted(values, key=values.__getitem__, reverse=not config.lower_is_better)
    return [sweep / name for name in ranked[:top]]


def read_ingredients(paths: Sequence[Path]) -> list[Ingredient]:
    """Reads runs, and checks that their weights can be averaged.

    Raises:
        UserError: there are fewer than two, one is given twice, is not finished or has no classes, or they have
            different architectures, classes or preprocessing.
    """
    if len(paths) < 2:
        raise UserError(f"a soup averages several runs, and {paths[0]} is the only one: give two or more")
    for index, path in enumerate(paths):
        if path.resolve() in (other.resolve() for other in paths[:index]):
            raise UserError(f"{path} is given twice: give each run once")
    ingredients = [
        Ingredient(path=path, model=read_config(path), config=read_run_config(Run.open(path))) for path in paths
    ]
    first = ingredients[0]
    for each in ingredients:
        if not each.model.card.classes:
            raise UserError(f"{each.path} was trained without classes: a soup averages classifiers")
        for what, one, other in (
            ("architectures", _as_trained(first.model.architecture), _as_trained(each.model.architecture)),
            ("targets", first.model.card.target, each.model.card.target),
            ("classes", first.model.card.classes, each.model.card.classes),
            ("preprocessing", first.model.card.preprocessing, each.model.card.preprocessing),
        ):
            if one != other:
                raise UserError(
                    f"{first.path} and {each.path} have different {what}: a soup needs the same in all runs"
                )
    return ingredients


def _as_trained(architecture: Architecture) -> Architecture:
    """The architecture without what matters in training only."""
    return replace(
        architecture, **{name: value for name, value in TRAINING_ONLY.items() if hasattr(architecture, name)}
    )


def same_start(ingredients: Iterable[Ingredient]) -> bool:
    """Whether all runs started from the same pretrained weights."""
    starts = {each.config.model.weights for each in ingredients}
    return len(starts) == 1 and None not in starts


def shared_split(ingredients: Sequence[Ingredient], split: str) -> Source | None:
    """The images of a split that all runs hold out; None if they have no such split.

    Raises:
        UserError: the runs' images differ, so that one may have been trained on another's.
    """
    open_cached = functools.cache(_open_split)
    sources = [open_cached(each.config.data, split) for each in ingredients]
    prints = [source and fingerprint(source) for source in sources]
    for each, found in zip(ingredients, prints, strict=True):
        if found != prints[0]:
            raise UserError(
                f"{ingredients[0].path} and {each.path} have different {split} images, and one may be trained on the "
                "other's: give runs that hold out the same images"
            )
    return sources[0]


def _open_split(data: DataConfig, split: str) -> Source | None:
    return open_data(data).get(split)


class _Sum:
    """The sum of state dicts, in double precision."""

    def __init__(self) -> None:
        self.count = 0
        self.total: dict[str, Tensor] = {}

    def plus(self, state: dict[str, Tensor]) -> "_Sum":
        """The sum with one more."""
        more = _Sum()
        more.count = self.count + 1
        more.total = {name: self.total.get(name, 0) + tensor.double() for name, tensor in state.items()}
        return more

    def mean(self, like: Model) -> Model:
        """`like` with the average as its weights."""
        state = like.state_dict()
        like.load_state_dict({name: (self.total[name] / self.count).to(state[name].dtype) for name in state})
        return like


def average(ingredients: Sequence[Ingredient]) -> Model:
    """The uniform soup: the mean of the weights of all runs."""
    total = _Sum()
    model = load_model(ingredients[0].path)
    for each in ingredients:
        total = total.plus(load_model(each.path).state_dict())
    return total.mean(model)


def greedy_soup(
    ingredients: Sequence[Ingredient], score: Callable[[Model], float]
) -> tuple[Model, float, list[tuple[Ingredient, float, bool]]]:
    """The greedy soup: runs are added from best to worst, and stay in the average if it is not worse with them.

    Args:
        ingredients: the runs.
        score: of a model on validation images, higher is better.

    Returns:
        The average, its score, and each run from best to worst with its own score, and whether it is in the average.
    """
    scores = [score(load_model(each.path)) for each in ingredients]
    order = sorted(range(len(ingredients)), key=lambda index: -scores[index])  # equal ones as given
    total, best = _Sum(), -float("inf")
    model = load_model(ingredients[0].path)
    rows: list[tuple[Ingredient, float, bool]] = []
    for index in order:
        candidate = total.plus(load_model(ingredients[index].path).state_dict())
        value = score(candidate.mean(model)) if total.count else scores[index]
        if kept := value >= best:
            total, best = candidate, value
        rows.append((ingredients[index], scores[index], kept))
    return total.mean(model), best, rows


def mean_thresholds(ingredients: Sequence[Ingredient]) -> tuple[float, ...]:
    """For each label the mean of the runs' thresholds; empty if images have a class or a number."""
    cards = [each.model.card for each in ingredients]
    if cards[0].target != "multi-label":
        return ()
    return tuple(sum(column) / len(cards) for column in zip(*(card.label_thresholds for card in cards), strict=True))


def soup_card(
    ingredients: Sequence[Ingredient], *, method: str, metrics: dict[str, float], thresholds: tuple[float, ...]
) -> ModelCard:
    """The card of a soup.

    Args:
        ingredients: the runs in the average.
        method: uniform or greedy.
        metrics: of its evaluation.
        thresholds: of the labels, if images have several.
    """
    first = ingredients[0]
    data = first.config.data
    provenance: dict[str, Any] = {
        "vitral": __version__,
        "recipe": first.config.recipe,
        "soup": method,
        "ingredients": "; ".join(str(each.path) for each in ingredients),
        "data": data.source if data.root is None else str(data.root),
        "torch": torch.__version__,
        "python": platform.python_version(),
    }
    if same_start(ingredients):
        provenance["weights"] = str(first.config.model.weights)
    card = first.model.card
    return replace(card, provenance=provenance, metrics=metrics, thresholds=thresholds)
