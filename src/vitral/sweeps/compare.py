"""Finished runs side by side: what each reached, what it took, and whether the differences are more than luck."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from vitral.card import ModelCard
from vitral.config import to_dict
from vitral.errors import UserError
from vitral.evals.paired import Difference, paired_difference
from vitral.models import blank_model
from vitral.runs.metrics import read_metrics, training_seconds
from vitral.runs.predictions import PREDICTIONS, SavedPredictions, load_predictions
from vitral.train.config import RunConfig
from vitral.train.run import Run
from vitral.weights.folder import read_config

__all__ = ["Contender", "contenders", "different_settings"]

NO_SETTINGS = ("out", "command")
"""Keys of a configuration in which all runs differ."""


@dataclass(frozen=True, kw_only=True)
class Contender:
    """A finished run among those that are compared."""

    path: Path
    config: RunConfig
    metrics: dict[str, float]
    """Final figures by name, such as `test/top1`; accuracies are fractions."""
    parameters: int
    steps: int
    seconds: float
    """Time of all steps; evaluations do not count."""
    records: list[dict[str, Any]]
    """The run's record."""
    num_images: int | None
    """Held-out images that could be read; None where predictions were not kept."""
    accuracy: Difference | None
    """Accuracy with the interval that other images would have given; None where predictions were not kept."""
    difference: Difference | None
    """To the first run; None for that itself, and where either kept no predictions."""

    @property
    def images_per_second(self) -> float:
        """Over the whole training; NaN where its time was not recorded."""
        return self.steps * self.config.train.batch_size / self.seconds if self.seconds else float("nan")


def contenders(paths: Sequence[Path]) -> list[Contender]:
    """Reads finished runs, each compared with the first image by image where both kept what they predicted.

    Raises:
        UserError: there are fewer than two, one is named twice, has not finished or is damaged, or their data
            differs.
    """
    if len(paths) < 2:
        raise UserError("comparing takes two runs at least: vitral compare RUN RUN ...")
    for index, path in enumerate(paths):
        if path.resolve() in (other.resolve() for other in paths[:index]):
            raise UserError(f"{path} is named twice: name each run once")
        if not (path / "run.json").is_file():
            raise UserError(f"{path} is no folder of a training run: it has no run.json")
    cards = [read_config(path) for path in paths]
    configs = [Run.open(path)[1] for path in paths]
    kept = [load_predictions(path) for path in paths]
    for path, predictions in zip(paths, kept, strict=True):
        if predictions is None and (path / PREDICTIONS).exists():
            raise UserError(f"{path / PREDICTIONS} is damaged: remove it, and vitral report {path} makes it again")
    _check_same_data(paths, configs, kept)
    found = []
    for path, model, config, predictions in zip(paths, cards, configs, kept, strict=True):
        records = read_metrics(path / "metrics.jsonl")
        parameters = sum(parameter.numel() for parameter in blank_model(model.architecture).parameters())
        found.append(
            Contender(
                path=path,
                config=config,
                metrics=model.card.metrics,
                parameters=parameters,
                steps=_steps(path, model.card),
                seconds=training_seconds(records, batch_size=config.train.batch_size),
                records=records,
                num_images=None if predictions is None else len(predictions.predictions.truth),
                accuracy=_accuracy(predictions),
                difference=None if path is paths[0] else _difference(predictions, kept[0]),
            )
        )
    return found


def _steps(path: Path, card: ModelCard) -> int:
    steps = card.provenance.get("steps")
    if not isinstance(steps, int):
        raise UserError(f"{path / 'config.json'} tells not for how many steps the run was trained: it is damaged")
    return steps


def different_settings(configs: Sequence[RunConfig]) -> dict[str, list[Any]]:
    """Keys in which configurations differ, such as `optim.lr`, with the value of each; None where one has no such."""
    flat = [dict(_flat(to_dict(config))) for config in configs]
    keys = dict.fromkeys(key for values in flat for key in values if key not in NO_SETTINGS)
    columns = {key: [values.get(key) for values in flat] for key in keys}
    return {key: values for key, values in columns.items() if any(value != values[0] for value in values)}


def _flat(tree: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The leaves of a tree of settings, by their path."""
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _check_same_data(
    paths: Sequence[Path], configs: Sequence[RunConfig], kept: Sequence[SavedPredictions | None]
) -> None:
    """Refuses runs whose figures are of different images, as far as that can be told."""
    for path, config, predictions in zip(paths, configs, kept, strict=True):
        if predictions and kept[0]:
            same = predictions.images == kept[0].images
        else:
            same = (config.data.source, config.data.root) == (configs[0].data.source, configs[0].data.root)
        if not same:
            raise UserError(
                f"{paths[0]} and {path} were measured on different images ({_described(configs[0], kept[0])}; "
                f"{_described(config, predictions)}): compare runs with the same held-out images"
            )


def _described(config: RunConfig, predictions: SavedPredictions | None) -> str:
    where = str(config.data.root or config.data.source)
    return f"{where}, {len(predictions.predictions.readable):,} {predictions.split} images" if predictions else where


def _right(predictions: SavedPredictions) -> torch.Tensor:
    """Of each image that could be read, whether the most probable class is the true one."""
    return predictions.predictions.top[:, 0] == predictions.predictions.truth


def _accuracy(predictions: SavedPredictions | None) -> Difference | None:
    if predictions is None:
        return None
    right = _right(predictions)
    return paired_difference(right, torch.zeros_like(right))


def _difference(one: SavedPredictions | None, other: SavedPredictions | None) -> Difference | None:
    """Of the images that both could read."""
    if one is None or other is None:
        return None
    both = one.predictions.readable & other.predictions.readable
    return paired_difference(*(_right(each)[both[each.predictions.positions()]] for each in (one, other)))
