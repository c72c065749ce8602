"""What recipes choose by the images they are given."""

from dataclasses import replace

import numpy as np
import pytest

from vitral.data.sources.source import ArraySource, FileSource
from vitral.recipes import RECIPES
from vitral.recipes.own_images import DESK_IMAGES, DESK_OBJECTIVES, Survey, chosen_for, survey
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


def test_small_images_keep_their_detail():
    recipe = RECIPES["folder"]()
    assert chosen_for(recipe, LARGE) == recipe
    small = chosen_for(recipe, SMALL)
    assert small.model.architecture.grid == (8, 8)
    assert small.model.architecture.image_hw == (64, 64)
    assert small.augment.crop == "none"
    assert not small.augment.flip


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
