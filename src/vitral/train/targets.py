"""Settings of a run that follow from the targets of its training images: class weights, and the scale of numbers."""

from dataclasses import replace
from typing import Any

import numpy as np

from vitral.data.config import DataConfig
from vitral.data.sources.source import Source
from vitral.data.sources.targets import label_counts
from vitral.errors import UserError
from vitral.objectives.class_weights import balanced_weights, positive_weights
from vitral.objectives.classification import ClassificationConfig
from vitral.objectives.multi_label import MultiLabelConfig
from vitral.objectives.regression import RegressionConfig
from vitral.train.config import RunConfig

__all__ = ["fit_targets", "with_data"]

OBJECTIVES = {"class": ClassificationConfig(), "multi-label": MultiLabelConfig(), "regression": RegressionConfig()}
"""The objective of each target."""

IMBALANCED = 10
"""Ratio of the largest to the smallest class that is noted."""

LISTED = 5
"""Classes whose weights are printed."""


def with_data(config: RunConfig, data: DataConfig) -> RunConfig:
    """The configuration with other data; if they have another target, with its objective, and images are not mixed."""
    if data.target == config.data.target:
        return replace(config, data=data)
    augment = replace(config.augment, mixup=0.0, cutmix=0.0)
    return replace(config, data=data, objective=OBJECTIVES[data.target], augment=augment)


def fit_targets(config: RunConfig, source: Source) -> tuple[RunConfig, list[str]]:
    """The configuration with the numbers that depend on the training images, unless it has them; and notes.

    Args:
        config: of the run.
        source: the training images.

    Raises:
        UserError: all images have the same number.
    """
    if config.data.target == "regression":
        return _scaled(config, source)
    objective: Any = config.objective
    if getattr(objective, "class_weights", None) == "balanced":
        counts = label_counts(source)
        several = config.data.target == "multi-label"
        weights = positive_weights(counts, len(source)) if several else balanced_weights(counts)
        note = f"class weights: {_listed(weights, source.classes)}"
        return replace(config, objective=replace(objective, balanced_weights=weights)), [*_kind(config, source), note]
    return config, [*_kind(config, source), *_imbalance(config, source)]


def _kind(config: RunConfig, source: Source) -> list[str]:
    """What is learned, where it is not one class for each image."""
    if config.data.target != "multi-label":
        return []
    mean = source.labels.sum() / len(source)
    return [f"multi-label: {len(source.classes)} labels, {mean:.2f} for each image; a sigmoid for each label"]


def _imbalance(config: RunConfig, source: Source) -> list[str]:
    """A note if some classes have far fewer images than others, and nothing is done about it."""
    weighted = getattr(config.objective, "class_weights", None)
    if weighted != "none" or config.data.sampling != "uniform":
        return []
    counts = label_counts(source)
    present = np.flatnonzero(counts)
    most, fewest = present[counts[present].argmax()], present[counts[present].argmin()]
    if counts[most] < IMBALANCED * counts[fewest]:
        return []
    names = source.classes
    what, flags = "labels", "--objective.class-weights balanced"
    if config.data.target == "class":
        what, flags = "classes", f"{flags} or --data.sampling balanced"
    return [
        f"the {what} are imbalanced: {names[most]!r} has {counts[most]:,} training images, {names[fewest]!r} "
        f"{counts[fewest]:,}; {flags} makes them count alike"
    ]


def _scaled(config: RunConfig, source: Source) -> tuple[RunConfig, list[str]]:
    objective = config.objective
    assert isinstance(objective, RegressionConfig)
    numbers = source.labels[:, 0].astype(np.float64)
    mean, std = float(numbers.mean()), float(numbers.std())
    if not std:
        raise UserError(
            f"all training images have the {source.classes[0]} {mean:g}: regression needs numbers that differ"
        )
    note = (
        f"regression: {source.classes[0]} from {numbers.min():g} to {numbers.max():g} in the training images, mean "
        f"{mean:.4g}, standard deviation {std:.4g}"
    )
    if objective.std is not None:
        return config, [note]
    return replace(config, objective=replace(objective, mean=mean, std=std)), [note]


def _listed(weights: tuple[float, ...], classes: tuple[str, ...]) -> str:
    pairs = [f"{name} {weight:.3g}" for name, weight in zip(classes, weights, strict=True)]
    return ", ".join(pairs[:LISTED]) + (f" and {len(pairs) - LISTED} more" if len(pairs) > LISTED else "")
