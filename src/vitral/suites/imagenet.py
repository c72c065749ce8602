"""ImageNet's validation images, and the test sets made for the same classes: ReaL, V2, ObjectNet, A, R, Sketch."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from vitral.data.config import DataConfig
from vitral.data.images.preprocess import PixelBatch, Preprocessing
from vitral.data.sources.source import Subset
from vitral.datasets.originals.imagenet_tests import TESTS, Right, TestSet
from vitral.distributed.world import World
from vitral.errors import UserError
from vitral.evals.loop import check_finite
from vitral.evals.predictions import predict_all
from vitral.serve.predictor import Predictor

__all__ = ["ImageNetResult", "discard", "evaluate_imagenet", "evaluate_test_set", "folder_of_tests"]

Classifier = Callable[[PixelBatch], Float[Tensor, "b classes"]]
"""From images to logits."""


@dataclass(frozen=True, kw_only=True)
class ImageNetResult:
    """Accuracy on one test set."""

    test: str
    """Its title."""
    top1: float
    """Fraction of images whose most probable class is correct."""
    top5: float
    """Fraction of images with a correct class among the five most probable."""
    num_images: int
    """Images with at least one correct class."""
    seconds: float
    """Time of the evaluation."""


def evaluate_imagenet(
    predictor: Predictor,
    identifiers: Sequence[str],
    data: DataConfig,
    world: World,
    *,
    log: Callable[[str], None],
) -> tuple[list[ImageNetResult], dict[str, str]]:
    """Evaluates a classifier on every test set in a folder.

    Args:
        predictor: a classifier of ImageNet's 1,000 classes.
        identifiers: WordNet identifier of each class of the classifier.
        data: `root`, the folder of all test sets, and how to read their images.
        world: the processes that share the work.
        log: receives one sentence for each test set or image that is missing or unreadable, on the main process.

    Returns:
        A result for each test set, and by title why another could not be read.

    Raises:
        UserError: the folder has no test set, or none can be read.
    """
    root = folder_of_tests(data, title="ImageNet's test sets")
    present = [test for test in TESTS if (root / test.place).exists()]
    if not present:
        raise UserError(f"{root} has none of {', '.join(test.place for test in TESTS)}: put one there")
    log = log if world.is_main else discard
    for test in TESTS:
        if test not in present:
            log(f"skipped: {test.title} needs {test.place} in {root}, from {test.origin}")
    results: list[ImageNetResult] = []
    failures: dict[str, str] = {}
    for test in present:
        try:
            result = evaluate_test_set(predictor, test.open(root, identifiers), test.title, data, world, log=log)
        except UserError as error:
            if len(present) == len(failures) + 1:
                raise
            failures[test.title] = str(error)
            log(f"skipped: {test.title}: {error}")
            continue
        if result.num_images != test.num_images:
            log(f"{test.title} has {result.num_images:,} labelled images here, and {test.num_images:,} when complete")
        results.append(result)
    return results, failures


def folder_of_tests(data: DataConfig, *, title: str) -> Path:
    """The folder of `--data.root`.

    Args:
        data: names it.
        title: what is in it, for errors.

    Raises:
        UserError: there is no such folder.
    """
    if data.root is None or not data.root.is_dir():
        reason = "no folder is given" if data.root is None else f"{data.root} is not a folder"
        raise UserError(f"{reason}: give the folder of {title} as --data.root")
    return data.root


def discard(_: str) -> None:
    """Logs nothing."""


def evaluate_test_set(
    predictor: Predictor,
    test: TestSet,
    title: str,
    data: DataConfig,
    world: World,
    *,
    log: Callable[[str], None],
    preprocessing: Preprocessing | None = None,
) -> ImageNetResult:
    """Top-1 and top-5 accuracy over the images that have a correct class. Called by all processes.

    Args:
        predictor: a classifier of ImageNet's 1,000 classes.
        test: the images.
        title: of the result.
        data: how to read images.
        world: the processes that share the work.
        log: receives a sentence for each image that cannot be read.
        preprocessing: by default the model's.

    Raises:
        UserError: an image cannot be read, unless `data.on_error` is skip, or the model's outputs are not finite.
    """
    start = time.perf_counter()
    labelled = np.flatnonzero((test.right >= 0).any(1))
    predictions = predict_all(
        _restricted(predictor.logits, test.among),
        Subset(source=test.source, indices=labelled),
        preprocessing=preprocessing or predictor.card.preprocessing,
        data=data,
        world=world,
    )
    for sentence in predictions.unreadable:
        log(f"skipped: {sentence}")
    check_finite(predictions.confidence)
    correct = _correct(predictions.top, test.right[labelled][predictions.positions().numpy()])
    return ImageNetResult(
        test=title,
        top1=correct[:, 0].double().mean().item(),
        top5=correct.any(1).double().mean().item(),
        num_images=len(correct),
        seconds=time.perf_counter() - start,
    )


def _restricted(logits: Classifier, classes: Sequence[int] | None) -> Classifier:
    """A classifier with logits of minus infinity for all but the given classes."""
    if classes is None:
        return logits

    def restricted(images: PixelBatch) -> Float[Tensor, "b classes"]:
        full = logits(images)
        masked = torch.full_like(full, -torch.inf)
        masked[:, classes] = full[:, classes]
        return masked

    return restricted


def _correct(top: Int64[Tensor, "n five"], right: Right) -> Bool[Tensor, "n five"]:
    """Whether each of the predicted classes is a correct one."""
    return (top[:, :, None] == torch.from_numpy(right)[:, None, :]).any(2)
