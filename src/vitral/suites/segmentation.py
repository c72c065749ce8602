"""Semantic segmentation with a linear head on frozen patch tokens."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from vitral.data.images.decode import UnreadableImage, read_image
from vitral.data.images.masks import largest_class, mask_pairs, read_mask
from vitral.data.images.preprocess import Preprocessing
from vitral.errors import UserError
from vitral.evals.segmentation import Segmentation, fit_segmentation, segmentation
from vitral.serve.predictor import Predictor

__all__ = ["SegmentationData", "evaluate_segmentation", "open_segmentation"]

BATCH_SIZE = 32
Pair = tuple[Path, Path]
"""Image and mask."""


@dataclass(frozen=True, kw_only=True)
class SegmentationData:
    """Images with masks to train the head on, and others to evaluate it on."""

    train: Sequence[Pair]
    test: Sequence[Pair]
    num_classes: int
    """Classes of the training masks."""


def open_segmentation(root: Path, *, skip: bool, log: Callable[[str], None]) -> SegmentationData:
    """Lists images and masks, and reads each once to check it.

    Args:
        root: has `images` and `masks` in `train` and in `test`.
        skip: whether unreadable files are skipped.
        log: receives one sentence for each pair that is skipped.

    Raises:
        UserError: a folder is missing, a file cannot be read, or a test mask has a class that no training mask has.
    """
    train, test = (_readable(mask_pairs(root / part), skip=skip, log=log) for part in ("train", "test"))
    num_classes = 1 + max(train.values())
    for (_, mask), value in test.items():
        if value >= num_classes:
            raise UserError(
                f"{mask} has pixels of class {value}, but no mask in {root / 'train'} does: add one, or set them to "
                "255, which is no class"
            )
    return SegmentationData(train=list(train), test=list(test), num_classes=num_classes)


def evaluate_segmentation(
    predictors: Mapping[str, Predictor], data: SegmentationData
) -> dict[str, tuple[Segmentation, float]]:
    """The metrics of each model, and the seconds that its evaluation took.

    Args:
        predictors: Vision Transformers by name.
        data: as `open_segmentation` returns it.
    """
    results = {}
    for name, predictor in predictors.items():
        start = time.perf_counter()
        head = fit_segmentation(_tokens_and_masks(predictor, data.train, data), num_classes=data.num_classes)
        result = segmentation(head, _tokens_and_masks(predictor, data.test, data), num_classes=data.num_classes)
        results[name] = (result, time.perf_counter() - start)
    return results


def _readable(pairs: Sequence[Pair], *, skip: bool, log: Callable[[str], None]) -> Mapping[Pair, int]:
    """The pairs of which both files can be read, with the largest class of each mask.

    Raises:
        UserError: a file cannot be read, unless it may be skipped, or no pair is left.
    """
    readable = {}
    for image, mask in pairs:
        try:
            read_image(image, channels=1)
            largest = largest_class(mask)
        except UnreadableImage as error:
            if not skip:
                raise UserError(
                    f"{error}; remove image and mask, or skip such files with --data.on-error skip"
                ) from error
            log(f"skipped: {error}")
        else:
            readable[image, mask] = largest
    if not readable:
        raise UserError(f"none of the {len(pairs)} images in {pairs[0][0].parent} can be read")
    return readable


def _tokens_and_masks(
    predictor: Predictor, pairs: Sequence[Pair], data: SegmentationData
) -> Iterator[tuple[Float[Tensor, "b gh gw d"], Int64[Tensor, "b h w"]]]:
    """Patch tokens and masks in batches; images are resized to the model's size without cropping, and so are masks."""
    preprocessing: Preprocessing = predictor.card.preprocessing.whole
    preprocessing.check_one_size("segmentation")
    for start in range(0, len(pairs), BATCH_SIZE):
        batch = pairs[start : start + BATCH_SIZE]
        images = [preprocessing.pixels(read_image(image, channels=preprocessing.channels)) for image, _ in batch]
        masks = [read_mask(mask, size=preprocessing.image_size, num_classes=data.num_classes) for _, mask in batch]
        yield predictor.patches(torch.from_numpy(np.stack(images))), torch.from_numpy(np.stack(masks)).long()
