"""What `vitral data show` draws is what a model is given."""

import numpy as np
import torch

from vitral.data.augment.apply import augment_batch
from vitral.data.augment.config import AugmentConfig
from vitral.data.batches import TrainingBatches
from vitral.data.images.preprocess import Preprocessing
from vitral.data.sources.source import ArraySource, read_from
from vitral.data.tools.views import Views, views_of

PREPROCESSING = Preprocessing(image_size=(12, 10), channels=3, mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.4))
VARIED = AugmentConfig(crop="inception", flip=True, colour_jitter=0.3, erase=0.2)
SOURCE = ArraySource(
    title="noise",
    images=np.random.default_rng(0).integers(256, size=(3, 20, 30, 3), dtype=np.uint8),
    labels=np.array([1, 0, 1]),
    classes=("cat", "dog"),
)


def views(augment: AugmentConfig, *, index: int = 2, seed: int = 5) -> Views:
    return views_of(SOURCE, index, preprocessing=PREPROCESSING, augment=augment, count=4, seed=seed)


def test_without_augmentation_training_is_given_what_evaluation_is():
    shown = views(AugmentConfig())
    assert (shown.name, shown.label) == ("noise[2]", "dog")
    assert np.array_equal(np.asarray(shown.original), SOURCE.images[2])
    assert np.array_equal(shown.preprocessed, PREPROCESSING.pixels(read_from(SOURCE, 2, channels=3)))
    assert shown.augmented.shape == (4, 12, 10, 3)
    assert all(np.array_equal(view, shown.preprocessed) for view in shown.augmented)


def test_views_are_those_of_training():
    """A run on this image alone, which every step sees in another epoch."""
    alone = ArraySource(title="", images=SOURCE.images[2:], labels=SOURCE.labels[2:], classes=SOURCE.classes)
    batch = TrainingBatches(source=alone, preprocessing=PREPROCESSING, augment=VARIED, batch_size=4, seed=7)[0]
    examples = augment_batch(
        batch.images, batch.labels, batch.augment_params, config=VARIED, preprocessing=PREPROCESSING
    )
    pixels = PREPROCESSING.to_unit_range(examples.images).permute(0, 2, 3, 1) * 255
    shown = torch.from_numpy(views(VARIED).augmented)
    torch.testing.assert_close(shown.float(), pixels, rtol=0, atol=0.51)
    assert len({view.numpy().tobytes() for view in shown}) == 4


def test_the_seed_chooses_the_views_and_nothing_is_mixed():
    mixed = AugmentConfig(crop="inception", mixup=0.5, cutmix=0.5, repeats=3)
    first, again, other = views(mixed), views(mixed), views(mixed, seed=6)
    assert np.array_equal(first.augmented, again.augmented)
    assert not np.array_equal(first.augmented, other.augmented)
    assert np.array_equal(first.augmented, views(AugmentConfig(crop="inception")).augmented)
