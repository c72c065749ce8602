"""Comparison of finished runs: metrics, cost, and confidence intervals of the differences in accuracy."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from vitral.card import ModelCard
from vitral.config import to_dict
from vitral.errors import UserError
from vitral.evals.paired import Difference, paired_difference
from vitral.evals.predictions import Predictions
from vitral.models import blank_model
from vitral.runs.metrics import read_metrics, training_seconds
from vitral.runs.predictions import PREDICTIONS, SavedPredictions, load_predictions
from vitral.runs.run import Run
from vitral.train.config import RunConfig, read_run_config
from vitral.weights.folder import read_config

__all__ = ["RunSummary", "different_settings", "summarise_runs"]

IGNORED_SETTINGS = ("out", "command", "folder")
"""Keys of a configuration that differ in all runs."""


@dataclass(frozen=True, kw_only=True)
class RunSummary:
    """Metrics and cost of a finished run, and its difference to the first run of a comparison."""

    path: Path
    config: RunConfig
    metrics: dict[str, float]
    """Final metrics by name, such as `test/top1`; accuracies are fractions."""
    parameters: int
    steps: int
    seconds: float
    """Time of all training steps, without evaluation."""
    records: list[dict[str, Any]]
    """The lines of the run's `metrics.jsonl`."""
    num_images: int | None
    """Held-out images that could be read; None if the run saved no predictions."""
    accuracy: Difference | None
    """Accuracy with its confidence interval over images; None if the run saved no predictions."""
    difference: Difference | None
    """Difference to the first run's accuracy; None for the first run, and if either run saved no predictions."""

    @property
    def images_per_second(self) -> float:
        """Over the whole training; NaN if its time was not recorded."""
        return self.steps * self.config.train.batch_size / self.seconds if self.seconds else float("nan")


def summarise_runs(paths: Sequence[Path]) -> list[RunSummary]:
    """Reads finished runs, and compares each with the first image by image if both saved predictions.

    Raises:
        UserError: there are fewer than two runs, one is named twice, is not finished or is damaged, or they were
            evaluated on different images.
    """
    if len(paths) < 2:
        raise UserError("a comparison needs at least two runs: vitral compare RUN RUN ...")
    for index, path in enumerate(paths):
        if path.resolve() in (other.resolve() for other in paths[:index]):
            raise UserError(f"{path} is given twice: give each run once")
        if not (path / "run.json").is_file():
            raise UserError(f"{path} is not the folder of a training run: it has no run.json")
    cards = [read_config(path) for path in paths]
    configs = [read_run_config(Run.open(path)) for path in paths]
    saved = [load_predictions(path) for path in paths]
    for path, predictions in zip(paths, saved, strict=True):
        if predictions is None and (path / PREDICTIONS).exists():
            raise UserError(f"{path / PREDICTIONS} is damaged: remove it, and write it again with vitral report {path}")
    _check_same_images(paths, configs, saved)
    summaries = []
    for path, model, config, predictions in zip(paths, cards, configs, saved, strict=True):
        records = read_metrics(path / "metrics.jsonl")
        parameters = sum(parameter.numel() for parameter in blank_model(model.architecture).parameters())
        summaries.append(
            RunSummary(
                path=path,
                config=config,
                metrics=model.card.metrics,
                parameters=parameters,
                steps=_steps(path, model.card),
                seconds=training_seconds(records, batch_size=config.train.batch_size),
                records=records,
                num_images=None if predictions is None else len(predictions.predictions.truth),
                accuracy=_accuracy(predictions),
                difference=None if path is paths[0] else _difference(predictions, saved[0]),
            )
        )
    return summaries


def _steps(path: Path, card: ModelCard) -> int:
    steps = card.provenance.get("steps")
    if not isinstance(steps, int):
        raise UserError(f"{path / 'config.json'} does not state the number of training steps: it is damaged")
    return steps


def different_settings(configs: Sequence[RunConfig]) -> dict[str, list[Any]]:
    """Keys that differ between configurations, such as `optim.lr`, with the value in each; None if a key is missing."""
    flat = [dict(_flatten(to_dict(config))) for config in configs]
    keys = dict.fromkeys(key for values in flat for key in values if key not in IGNORED_SETTINGS)
    columns = {key: [values.get(key) for values in flat] for key in keys}
    return {key: values for key, values in columns.items() if any(value != values[0] for value in values)}


def _flatten(settings: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The leaves of nested settings, by dotted key."""
    for key, value in settings.items():
        if isinstance(value, dict):
            yield from _flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _check_same_images(
    paths: Sequence[Path], configs: Sequence[RunConfig], saved: Sequence[SavedPredictions | None]
) -> None:
    """Checks that all runs were evaluated on the same images: by their fingerprint if saved, else by their source."""
    for path, config, predictions in zip(paths, configs, saved, strict=True):
        if predictions and saved[0]:
            same = predictions.images == saved[0].images
        else:
            same = (config.data.source, config.data.root) == (configs[0].data.source, configs[0].data.root)
        if not same:
            raise UserError(
                f"{paths[0]} and {path} were evaluated on different images ({_describe_images(configs[0], saved[0])}; "
                f"{_describe_images(config, predictions)}): compare runs with the same held-out images"
            )


def _describe_images(config: RunConfig, predictions: SavedPredictions | None) -> str:
    source = str(config.data.root or config.data.source)
    return f"{source}, {len(predictions.predictions.readable):,} {predictions.split} images" if predictions else source


def _correct(predictions: SavedPredictions) -> torch.Tensor:
    """Whether the predicted class of each readable image is correct."""
    assert isinstance(predictions.predictions, Predictions)
    return predictions.predictions.top[:, 0] == predictions.predictions.truth


def _accuracy(predictions: SavedPredictions | None) -> Difference | None:
    if predictions is None or not isinstance(predictions.predictions, Predictions):
        return None
    correct = _correct(predictions)
    return paired_difference(correct, torch.zeros_like(correct))


def _difference(one: SavedPredictions | None, other: SavedPredictions | None) -> Difference | None:
    """The difference in accuracy on the images that both could read."""
    if one is None or other is None or not _accuracy(one) or not _accuracy(other):
        return None
    both = one.predictions.readable & other.predictions.readable
    return paired_difference(*(_correct(each)[both[each.predictions.positions()]] for each in (one, other)))
