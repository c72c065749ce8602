"""Errors of a classifier on corrupted images: ImageNet-C, and its mean corruption error (mCE)."""

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from vitral.data.config import DataConfig
from vitral.datasets.originals.imagenet_c import CORRUPTIONS, SEVERITIES, Corruption, find_corruption, open_corruption
from vitral.distributed.world import World
from vitral.errors import UserError
from vitral.serve.predictor import Predictor
from vitral.suites.imagenet import discard, evaluate_test_set, folder_of_tests

__all__ = ["CorruptionResult", "evaluate_imagenet_c", "mean_corruption_error"]

NUM_IMAGES = 50_000
"""Images of each severity of the complete set."""


@dataclass(frozen=True, kw_only=True)
class CorruptionResult:
    """Errors on one corruption."""

    corruption: Corruption
    errors: tuple[float, ...]
    """Top-1 error at each severity, as fractions."""
    num_images: int
    """Images of all severities."""
    seconds: float

    @property
    def error(self) -> float:
        """Mean error over severities."""
        return statistics.fmean(self.errors)

    @property
    def ce(self) -> float:
        """Corruption error: this error as a fraction of AlexNet's."""
        return self.error / self.corruption.alexnet


def mean_corruption_error(results: Sequence[CorruptionResult]) -> float | None:
    """The mean of the fifteen corruption errors (mCE), as a fraction; None if one is missing."""
    return statistics.fmean(result.ce for result in results) if len(results) == len(CORRUPTIONS) else None


def evaluate_imagenet_c(
    predictor: Predictor,
    identifiers: Sequence[str],
    data: DataConfig,
    world: World,
    *,
    log: Callable[[str], None],
) -> tuple[list[CorruptionResult], dict[str, str]]:
    """Evaluates a classifier on every corruption in a folder. Called by all processes.

    The images are crops of 224 pixels already, so they are resized to the model's size whole.

    Args:
        predictor: a classifier of ImageNet's 1,000 classes.
        identifiers: WordNet identifier of each class of the classifier.
        data: `root`, the folder of all corruptions, and how to read their images.
        world: the processes that share the work.
        log: receives each result as it comes, and a sentence for each corruption or image that is missing or
            unreadable, on the main process.

    Returns:
        A result for each corruption, and by title why another could not be read.

    Raises:
        UserError: the folder has no corruption, or none can be read.
    """
    root = folder_of_tests(data, title="ImageNet-C")
    folders = {each: folder for each in CORRUPTIONS if (folder := find_corruption(root, each))}
    if not folders:
        raise UserError(
            f"{root} has no corruption of ImageNet-C, such as {CORRUPTIONS[0].name}: unpack the archives of "
            "https://zenodo.org/records/2235448 there"
        )
    log = log if world.is_main else discard
    if missing := [each.name for each in CORRUPTIONS if each not in folders]:
        log(f"skipped: {root} has no {', '.join(missing)}; the mean corruption error needs all {len(CORRUPTIONS)}")
    results: list[CorruptionResult] = []
    failures: dict[str, str] = {}
    for corruption, folder in folders.items():
        try:
            result = _evaluate(predictor, corruption, folder, identifiers, data, world, log=log)
        except UserError as error:
            if len(folders) == len(failures) + 1:
                raise
            failures[corruption.title] = str(error)
            log(f"skipped: {corruption.title}: {error}")
            continue
        complete = NUM_IMAGES * len(SEVERITIES)
        if result.num_images != complete:
            log(f"{corruption.title} has {result.num_images:,} images here, and {complete:,} when complete")
        log(f"{corruption.title}: error {result.error:.2%}, CE {result.ce:.2%}")
        results.append(result)
    return results, failures


def _evaluate(
    predictor: Predictor,
    corruption: Corruption,
    folder: Path,
    identifiers: Sequence[str],
    data: DataConfig,
    world: World,
    *,
    log: Callable[[str], None],
) -> CorruptionResult:
    tests = [open_corruption(folder, severity, identifiers) for severity in SEVERITIES]  # errors come before hours
    whole = predictor.card.preprocessing.whole
    parts = [
        evaluate_test_set(predictor, test, corruption.title, data, world, log=log, preprocessing=whole)
        for test in tests
    ]
    return CorruptionResult(
        corruption=corruption,
        errors=tuple(1 - part.top1 for part in parts),
        num_images=sum(part.num_images for part in parts),
        seconds=sum(part.seconds for part in parts),
    )
