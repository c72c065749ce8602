"""The metrics of studies: of a trained model's features, and of an architecture."""

import statistics
import time
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from vitral.data.config import DataConfig
from vitral.data.sources.source import Source, Subset
from vitral.datasets.opening import open_data
from vitral.datasets.registry import tasks_of
from vitral.device import pick_device, prefers_bfloat16, synchronize
from vitral.evals.features import FeatureSet, extract_features
from vitral.evals.fewshot import few_shot_predictions, sample_few_shot
from vitral.evals.linear import linear_predictions
from vitral.evals.splits import final_split
from vitral.inspection.cost import activation_memory, cost
from vitral.inspection.devices import DEVICES
from vitral.inspection.plan import footprint
from vitral.models import Architecture, Model, build
from vitral.serve.predictor import Predictor

__all__ = [
    "TRANSFER_TASKS",
    "few_shot_accuracy",
    "images_per_second",
    "largest_batch",
    "transfer_accuracy",
]

SHOTS, FEW_SHOT_SAMPLES = 5, 5
"""Images of a class, as in the paper, and the number of random samples that the metric is a mean over."""

TRANSFER_TASKS = {name: task for name, task in tasks_of("vtab-mini").items() if name != "mini-fashion"}
"""The tasks of vtab-mini that are not of the data which `mini` pre-trains on."""

DEVICE = "h100"
"""The device whose largest batch is counted."""

TIMED_SECONDS, SLOW_SECONDS, LARGEST_TIMED = 0.5, 2.0, 1024
"""How long a batch size is timed; the largest is one of more seconds than this, or of as many images."""


def few_shot_accuracy(folder: Path, data: DataConfig) -> float:
    """Accuracy of regularised least squares on the model's features of 5 training images a class.

    It is a mean over five random samples of training images, the same for every run.
    """
    predictor = Predictor(folder)
    splits = open_data(replace(data, limit=None))  # few-shot images come from all training images
    test = _features(predictor, splits[final_split(splits)], data)
    train, num_classes = splits["train"], len(splits["train"].classes)
    hits = []
    for seed in range(FEW_SHOT_SAMPLES):
        rows = sample_few_shot(
            torch.from_numpy(train.labels.astype(np.int64)), SHOTS, num_classes=num_classes, seed=seed
        )
        few = _features(predictor, Subset(source=train, indices=rows.numpy()), data)
        predicted = few_shot_predictions(few.features, few.labels, test.features, num_classes=num_classes)[0]
        hits.append((predicted == test.labels).double().mean().item())
    return float(np.mean(hits))


def _features(predictor: Predictor, source: Source, data: DataConfig) -> FeatureSet:
    return extract_features(predictor.extract_features, source, preprocessing=predictor.card.preprocessing, data=data)


def transfer_accuracy(folder: Path, data: DataConfig) -> float:
    """Mean accuracy over tasks of a linear probe on the model's features of the 1,000 training images of each."""
    predictor = Predictor(folder)
    accuracies = []
    for task in TRANSFER_TASKS.values():
        features = {split: _features(predictor, source, data) for split, source in task.open(None).items()}
        train = FeatureSet.concatenate([features["train"], features["val"]])
        predicted = linear_predictions(train.features, train.labels, features["test"].features)
        accuracies.append((predicted == features["test"].labels).double().mean().item())
    return statistics.fmean(accuracies)


def largest_batch(architecture: Architecture) -> int:
    """Images of a training step in bfloat16 that fit an H100, counted without running it."""
    memory = activation_memory(architecture, bfloat16=True, recompute=False)
    return footprint(
        "one device",
        cost=cost(architecture),
        memory=memory,
        batch_size=1,
        device=DEVICES[DEVICE],
        shards=1,
        average=False,
    ).largest_batch


def images_per_second(architecture: Architecture, *, seed: int) -> float:
    """The highest speed of inference over batch sizes that are powers of two, as the paper measures it.

    In bfloat16 on a GPU, in float32 on a CPU.
    """
    torch.manual_seed(seed)
    return max(_rates(build(architecture).to(pick_device("auto")).eval(), architecture))


def _rates(model: Model, architecture: Architecture) -> Iterator[float]:
    """Images per second of every batch size, until one is slow or does not fit."""
    device = pick_device("auto")
    size = 1
    while size <= LARGEST_TIMED:
        images = torch.zeros(size, architecture.channels, *architecture.image_hw, device=device)
        autocast = torch.autocast(device.type, torch.bfloat16) if prefers_bfloat16(device) else nullcontext()
        try:
            with torch.inference_mode(), autocast:
                seconds = _fastest(model, images)
        except torch.OutOfMemoryError:
            return
        yield size / seconds
        if seconds > SLOW_SECONDS:
            return
        size *= 2


def _fastest(model: Model, images: torch.Tensor) -> float:
    """Seconds of the fastest pass; the first is not counted."""
    times, end = [], time.perf_counter() + TIMED_SECONDS
    while len(times) < 3 or time.perf_counter() < end:
        started = time.perf_counter()
        model(images)
        synchronize(images.device)
        times.append(time.perf_counter() - started)
    return min(times[1:])
