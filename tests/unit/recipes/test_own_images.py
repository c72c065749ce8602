"""What recipes choose by the images they are given."""

from dataclasses import replace

import numpy as np
import pytest

from vitral.data.sources.source import ArraySource, FileSource
from vitral.recipes import RECIPES
from vitral.recipes.own_images import DESK_IMAGES, DESK_OBJECTIVES, Survey, choose, chosen_for, compare_classes, survey
from vitral.vit_config import ViTConfig

SMALL = Survey(num_train=1500, num_classes=10, short_side=28)
LARGE = Survey(num_train=1500, num_classes=10, short_side=600)


def test_a_survey_counts_and_measures():
    images = np.zeros((30, 20, 44, 3), np.uint8)
    source = ArraySource(title="x", images=images, labels=np.arange(30) % 3, classes=("a", "b", "c"))
    found = survey({"train": source, "test": source})
    assert (found.num_train, found.num_classes, found.short_side) == (30, 3, 20)
    assert found.small
    assert found.describe() == "30 training images of 3 classes, 20 pixels on the shorter side"


def test_unreadable_images_do_not_count(tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"no image")
    source = FileSource(root=tmp_path, files=["a.jpg", "missing.png"], labels=np.zeros(2, np.int64), classes=("a",))
    found = survey({"train": source})
    assert found.short_side is None
    assert not found.small


def test_icons_are_not_cropped():
    recipe = RECIPES["folder"]()
    assert chosen_for(recipe, LARGE) == recipe
    assert recipe.augment.crop == "inception"
    for side in (28, 64):
        icons = chosen_for(recipe, replace(SMALL, short_side=side))
        assert icons.model.architecture.image_hw == (64, 64)
        assert icons.augment.crop == "none"
        assert icons.augment.flip


@pytest.mark.parametrize("facts", [SMALL, LARGE])
def test_nothing_is_flipped_whose_mirror_image_is_of_another_class(facts):
    recipe = RECIPES["folder"]()
    assert not chosen_for(recipe, replace(facts, mirrors=False)).augment.flip


def half_bright(*, right: np.ndarray, axis: int) -> np.ndarray:
    """Noise of 12x12 pixels with one half bright: the second one along an axis where `right` is 1."""
    images = np.random.default_rng(0).integers(0, 60, (len(right), 12, 12, 3), np.uint8)
    for image, second in zip(images, right, strict=True):
        half = slice(6, 12) if second else slice(0, 6)
        image[(slice(None), half) if axis else (half,)] += 180
    return images


@pytest.mark.parametrize(("axis", "keeps"), [(0, True), (1, False)])
def test_mirror_images_are_compared_by_class(axis, keeps):
    """Top and bottom look the same in a mirror, left and right do not."""
    labels = np.arange(60) % 2
    images = half_bright(right=labels, axis=axis)
    source = ArraySource(title="x", images=images, labels=labels, classes=("a", "b"))
    assert compare_classes(source) == (keeps, False)
    assert choose(RECIPES["folder"](), {"train": source}).augment.flip == keeps


def test_flips_are_kept_where_nothing_can_be_compared(tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"no image")
    unreadable = FileSource(root=tmp_path, files=["a.jpg", "b.png"], labels=np.zeros(2, np.int64), classes=("a",))
    assert compare_classes(unreadable) == (True, False)
    several = np.ones((4, 3), np.float32)
    images = np.zeros((4, 8, 8, 3), np.uint8)
    labelled = ArraySource(title="x", images=images, labels=several, classes=("a", "b", "c"))
    assert compare_classes(labelled) == (True, False)


def test_classes_that_differ_by_brightness_get_plain_patches():
    """The norms of a convolutional stem remove it."""
    labels = np.arange(300) % 2
    images = np.random.default_rng(0).integers(0, 60, (300, 12, 12, 3), np.uint8) + 80 * labels[:, None, None, None]
    source = ArraySource(title="x", images=images.astype(np.uint8), labels=labels, classes=("a", "b"))
    assert compare_classes(source) == (True, True)
    recipe = RECIPES["folder"]()
    assert recipe.model.architecture.stem_stages == (1, 1)
    assert choose(recipe, {"train": source}).model.architecture.stem_stages is None
    for facts in (SMALL, LARGE):
        assert chosen_for(recipe, replace(facts, levels=True)).model.architecture.grid == (8, 8)


def test_channels_get_plain_patches():
    recipe = RECIPES["folder"]()
    recipe = replace(recipe, preprocessing=recipe.preprocessing.with_bands(13))
    source = ArraySource(
        title="x", images=np.zeros((4, 8, 8, 3), np.uint8), labels=np.arange(4) % 2, classes=("a", "b")
    )
    assert choose(recipe, {"train": source}).model.architecture.stem_stages is None


@pytest.mark.parametrize("name", DESK_OBJECTIVES)
def test_self_supervision_at_a_desk(name):
    paper = RECIPES[name]()
    for facts in (SMALL, LARGE):
        desk = chosen_for(paper, facts)
        assert isinstance(desk.model.architecture, ViTConfig)
        assert desk.train.batch_size == 64
        assert desk.model.architecture.grid == (8, 8)
        assert desk.objective == DESK_OBJECTIVES[name]
        assert desk.recipe == name
    assert chosen_for(paper, replace(LARGE, num_train=DESK_IMAGES)) == paper


def test_other_recipes_choose_nothing():
    assert chosen_for(RECIPES["digits"](), SMALL) == RECIPES["digits"]()
