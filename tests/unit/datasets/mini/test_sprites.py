"""Sprites, their places and turns."""

import numpy as np
import pytest

from vitral.datasets.mini.sprites import (
    SHAPES,
    Sprite,
    coverage,
    draw_location,
    draw_orientation,
    location_class,
    orientation_class,
)

PIXELS = np.arange(64) + 0.5


def centre_of_mass(covered: np.ndarray) -> tuple[float, float]:
    """Across and down, in pixels."""
    weight = covered[:, :, 0] / covered.sum()
    return float((weight.sum(0) * PIXELS).sum()), float((weight.sum(1) * PIXELS).sum())


def test_classes_at_their_edges():
    assert [location_class(place) for place in (0, 1, 2, 29, 30, 31)] == [0, 0, 1, 14, 15, 15]
    assert [orientation_class(turn) for turn in (0, 2, 3, 4, 5, 37, 38, 39)] == [0, 0, 1, 1, 2, 14, 15, 15]
    counts = np.bincount([orientation_class(turn) for turn in range(40)])
    assert counts.tolist() == [3, 2] * 8


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("x", "y", "turn"), [(0, 31, 0), (31, 0, 7), (1, 2, 39), (16, 15, 20)])
def test_a_sprite_is_where_its_place_says(shape, x, y, turn):
    sprite = Sprite(shape=shape, radius=12.0, turn=turn, x=x, y=y)
    covered = coverage(sprite)
    # two places make a bin of 2.5 pixels, of which the middle of the first begins at 12 pixels
    left = 12 + 2.5 * location_class(x)
    across, down = centre_of_mass(covered)
    assert left < across < left + 2.5
    assert (across, down) == pytest.approx(sprite.centre, abs=0.15)
    assert sprite.centre == (32 + (x - 15.5) * 1.25, 32 + (y - 15.5) * 1.25)
    whole = coverage(Sprite(shape=shape, radius=12.0, turn=turn, x=16, y=15)).sum()
    assert covered.sum() == pytest.approx(whole, rel=0.03), "no part is cut off"


@pytest.mark.parametrize("shape", SHAPES)
def test_no_shape_equals_itself_when_turned(shape):
    turned = [coverage(Sprite(shape=shape, radius=12.0, turn=turn, x=15, y=15)) for turn in range(40)]
    areas = np.array([covered.sum() for covered in turned])
    assert np.abs(areas / areas.mean() - 1).max() < 0.03
    for turn, covered in enumerate(turned[1:], 1):
        assert np.abs(covered - turned[0]).sum() > 0.06 * areas[0], turn


@pytest.mark.parametrize("shape", SHAPES)
def test_turns_are_counter_clockwise(shape):
    """A quarter of a full turn is 10 steps; the picture turned around its middle takes place 15 to place 16 down."""
    one = coverage(Sprite(shape=shape, radius=16.0, turn=3, x=15, y=15))
    assert np.abs(np.rot90(one) - coverage(Sprite(shape=shape, radius=16.0, turn=13, x=15, y=16))).sum() < 1


def test_an_unturned_dart_points_up():
    rows = coverage(Sprite(shape="dart", radius=16.0, turn=0, x=15, y=15)).sum((1, 2))
    covered = rows[rows > 0]
    assert covered[:4].sum() < 0.5 * covered[-4:].sum()


@pytest.mark.parametrize("draw", [draw_location, draw_orientation])
def test_pictures_have_a_lighter_sprite_on_an_even_ground(draw):
    for index in range(20):
        picture = draw("t", index, index)
        ground = picture[0, 0]
        sprite = np.abs(picture - ground).max(2) > 1e-9
        assert 40 < sprite.sum() < 900
        assert picture[sprite].max() > ground.max() + 0.1
        assert (picture[[0, -1]] == ground).all()
        assert picture.min() >= 0
        assert picture.max() <= 1


def test_other_factors_vary_by_image_alone():
    one, same, other = draw_location("t", 5, 3), draw_location("t", 5, 3), draw_location("t", 6, 3)
    assert (one == same).all()
    assert (one[0, 0] != other[0, 0]).any()
    moved = draw_location("t", 5, 19)
    assert np.abs(one[:, :44] - moved[:, 20:]).max() < 1e-12, "16 places are 20 pixels"
