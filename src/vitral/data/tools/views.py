"""What a model is given of an image: as it is stored, preprocessed, and augmented in several epochs."""

from dataclasses import dataclass, replace

import numpy as np
import torch
from einops import rearrange, reduce
from jaxtyping import UInt8
from PIL import Image

from vitral.data.augment.apply import augment_batch
from vitral.data.augment.config import AugmentConfig
from vitral.data.batches import TrainingBatches
from vitral.data.images.bands import BandImage
from vitral.data.images.preprocess import Preprocessing
from vitral.data.sources.source import Source, Subset
from vitral.data.sources.targets import label_text

__all__ = ["Views", "views_of"]


@dataclass(frozen=True, kw_only=True)
class Views:
    """An image on its way to the model."""

    name: str
    """Its name in messages."""
    label: str
    """Its class."""
    original: Image.Image
    """Upright, grey or colour; of images of any channels the mean of their normalised channels."""
    preprocessed: UInt8[np.ndarray, "h w *c"]
    """As in evaluation."""
    augmented: UInt8[np.ndarray, "n h w c"]
    """As in n epochs of training, without mixing."""


def views_of(
    source: Source, index: int, *, preprocessing: Preprocessing, augment: AugmentConfig, count: int, seed: int
) -> Views:
    """Reads image `index` of a source once as evaluation does, and `count` times as training does.

    Raises:
        UnreadableImage: the image cannot be read.
        UserError: images keep their aspect ratio.
    """
    preprocessing.check_one_size("a picture of augmented images")
    image = preprocessing.read(source.stored(index), name=source.name(index))
    # a source of one image: each sample of the batch is of another epoch
    alone = Subset(source=source, indices=np.array([index]))
    augment = replace(augment, mixup=0.0, cutmix=0.0, repeats=1)
    batches = TrainingBatches(
        source=alone, preprocessing=preprocessing, augment=augment, batch_size=count, seed=seed + index
    )
    batch = batches[0]
    assert batch.augment_params is not None
    examples = augment_batch(
        batch.images, batch.labels, batch.augment_params, config=augment, preprocessing=preprocessing
    )
    shown = preprocessing.to_unit_range(examples.images)
    if preprocessing.bands:
        shown = reduce(shown, "n c h w -> n 1 h w", "mean")
    levels = (shown * 255).round().to(torch.uint8)
    pixels = preprocessing.pixels(image)
    return Views(
        name=source.name(index),
        label=label_text(source, index),
        original=preprocessing.picture(image),
        preprocessed=np.asarray(preprocessing.picture(BandImage(values=pixels))) if preprocessing.bands else pixels,
        augmented=rearrange(levels, "n c h w -> n h w c").numpy(),
    )
