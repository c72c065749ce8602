"""Batches of images that keep their aspect ratio: of one shape, and functions of seed, epoch and image alone."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from vitral.data.augment.apply import augment_batch
from vitral.data.augment.config import AugmentConfig
from vitral.data.augment.crop import crop_box
from vitral.data.batches import UNREADABLE, EvaluationBatches, TrainingBatches, load
from vitral.data.config import DataConfig
from vitral.data.images.patch_rows import PLACE, fit_grid
from vitral.data.images.preprocess import Preprocessing
from vitral.data.order import sample_at
from vitral.data.sources.source import FileSource
from vitral.datasets.opening import open_data
from vitral.errors import UserError

SPEC = Preprocessing(image_size=(24, 24), channels=3, resize="native_aspect", patch_size=(8, 8), max_patches=11)
SIZES = [(64, 64), (160, 20), (24, 120), (90, 60), (33, 50), (300, 10)]
CROPS = AugmentConfig(crop="inception", crop_area=(0.25, 1.0), flip=True)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> FileSource:
    """Smooth JPEGs and PNGs of many aspect ratios, and a damaged one."""
    root = tmp_path_factory.mktemp("native") / "photos"
    prng = np.random.default_rng(0)
    for number in range(12):
        small = Image.fromarray(prng.integers(0, 256, (3, 3, 3), np.uint8))
        folder = root / f"{number % 2}"
        folder.mkdir(parents=True, exist_ok=True)
        image = small.resize(SIZES[number % len(SIZES)], Image.Resampling.BICUBIC)
        image.save(folder / f"{number:02}.{'jpg' if number % 3 else 'png'}")
    (root / "0" / "damaged.jpg").write_bytes(b"no picture")
    source = open_data(DataConfig(source="folder", root=root, test_fraction=0.2))["train"]
    return source.source


def training(source: FileSource, *, augment: AugmentConfig = CROPS, spec: Preprocessing = SPEC) -> TrainingBatches:
    return TrainingBatches(source=source, preprocessing=spec, augment=augment, batch_size=6, seed=3)


def test_batches_have_one_shape_and_do_not_depend_on_the_workers(photos: FileSource) -> None:
    alone = list(load(training(photos), range(2, 6), workers=0, pin=False))
    together = load(training(photos), range(2, 6), workers=2, pin=False)
    for one, other in zip(alone, together, strict=True):
        assert one.images.shape == (6, *SPEC.shape) == (6, 11, PLACE + 64, 3)
        assert torch.equal(one.images, other.images)
    numbers = torch.cat([batch.images[:, :, 0, 0] for batch in alone])
    assert len({int((row > 0).sum()) for row in numbers}) > 2  # images fill sequences differently


def test_crops_keep_the_aspect_ratio_of_the_image(photos: FileSource) -> None:
    augment = replace(CROPS, crop_aspect=(1.0, 1.0), flip=False)
    batches = training(photos, augment=augment)
    for step in range(4):
        images, position = batches[step].images, step * 6 + np.arange(6)
        epoch, index = sample_at(position, size=len(photos), seed=3)
        for row in range(6):
            try:
                image = SPEC.read(photos.stored(int(index[row])), name="image")
            except UserError:
                assert not images[row].any()
                continue
            box = crop_box(augment, (1, 1), seed=3, epoch=int(epoch[row]), index=int(index[row]))
            part = round((box[3] - box[1]) * image.height), round((box[2] - box[0]) * image.width)
            gh, gw = fit_grid((max(part[0], 1), max(part[1], 1)), patch_hw=(8, 8), max_patches=11)
            assert images[row, :, :PLACE, 0].amax(dim=0).tolist() == [gh, gw]
            # JPEGs are decoded at a reduced size, cut at whole pixels of it
            expected = torch.from_numpy(SPEC.crop(image, box)[: gh * gw].astype(np.float32))
            assert (images[row, : gh * gw].float() - expected).abs().mean() < 12


def test_evaluation_reads_whole_images_in_order(photos: FileSource) -> None:
    images, labels = [], []
    for batch in (EvaluationBatches(source=photos, preprocessing=SPEC, batch_size=4)[number] for number in range(3)):
        images += [*batch.images]
        labels += batch.labels.tolist()
    for number, (image, label) in enumerate(zip(images, labels, strict=True)):
        if label == UNREADABLE:
            assert not image.any()
        else:
            read = SPEC.read(photos.stored(number), name="image")
            assert np.array_equal(image.numpy(), SPEC.pixels(read))


def test_the_length_of_a_batch_is_drawn_by_its_step(photos: FileSource) -> None:
    batches = training(photos, augment=replace(CROPS, sequence_lengths=(4, 20)))
    lengths = [batches[step].images.shape[1] for step in range(8)]
    assert set(lengths) == {4, 20}
    assert lengths[:4] == [replace(batches, rows=range(2, 4))[step].images.shape[1] for step in range(4)]
    fixed = training(photos, spec=replace(SPEC, max_patches=lengths[7]))
    assert torch.equal(batches[7].images, fixed[7].images)


def test_examples_are_flipped_and_normalised(photos: FileSource) -> None:
    batch = training(photos)[1]
    params = batch.augment_params
    assert params is not None
    assert 0 < params.flips.sum() < 6
    examples = augment_batch(batch.images, batch.labels, params, config=CROPS, preprocessing=SPEC)
    plain = SPEC.normalise(batch.images)
    for row, flip in enumerate(params.flips.tolist()):
        count = int((plain[row, :, 0] > 0).sum())
        columns = plain[row, :count, 1]
        wanted = columns.max() + 1 - columns if flip else columns
        assert torch.equal(examples.images[row, :count, 1], wanted)
        pixels = plain[row, :, PLACE:].unflatten(1, (3, 8, 8))
        assert torch.equal(examples.images[row, :, PLACE:].unflatten(1, (3, 8, 8)), pixels.flip(3) if flip else pixels)


def test_lengths_out_of_range_raise() -> None:
    with pytest.raises(UserError, match="sequence_lengths must be from 1 to 16384"):
        AugmentConfig(sequence_lengths=(0, 64))
