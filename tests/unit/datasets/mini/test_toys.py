"""Toys on their turntable."""

import math

import numpy as np
import pytest

from vitral.datasets.mini.rays import PER_PIXEL, Solid, render
from vitral.datasets.mini.toys import AZIMUTHS, ELEVATIONS, TOYS, camera_at, draw_azimuth, draw_elevation

GROUND = np.zeros((64 * PER_PIXEL, 64 * PER_PIXEL, 3))


def test_classes_are_those_of_small_norb():
    assert ELEVATIONS == (30, 35, 40, 45, 50, 55, 60, 65, 70)
    assert len(AZIMUTHS) == 18
    assert AZIMUTHS[-1] == 340


@pytest.mark.parametrize(("elevation", "azimuth"), [(0, 0), (8, 17), (4, 9)])
def test_the_camera_stands_where_the_classes_say(elevation, azimuth):
    x, y, z = camera_at(elevation, azimuth).position
    assert math.degrees(math.atan2(z, math.hypot(x, y))) == pytest.approx(30 + 5 * elevation)
    assert math.degrees(math.atan2(y, x)) % 360 == pytest.approx(20 * azimuth)


@pytest.mark.parametrize("kind", TOYS)
def test_every_side_of_a_toy_looks_different(kind):
    """Also under a light straight from above, which reveals no side."""
    solids = [
        Solid(form=form, centre=np.array(centre, float), half=np.array(half, float), colour=np.ones(3))
        for form, centre, half in TOYS[kind]
    ]
    up = np.array([0.0, 0.0, 1.0])
    views = np.stack([render(camera_at(2, side), solids, light=up, ground=GROUND)[:, :, 0] for side in range(18)])
    size = (views > 0).sum((1, 2)).min()
    for one in range(18):
        for other in range(one):
            # a mirrored toy is recognised by the whole picture, not from its outline alone
            assert np.abs(views[one] - views[other]).sum() > 0.05 * size, (one, other)


@pytest.mark.parametrize("draw", [draw_azimuth, draw_elevation])
def test_toys_are_whole_and_before_an_even_ground(draw):
    sizes = []
    for index in range(40):
        picture = draw("t", index, index % 9)
        ground = picture[0, 0]
        for edge in (picture[0], picture[-1], picture[:, 0], picture[:, -1]):
            assert (edge == ground).all()
        sizes.append((np.abs(picture - ground).max(2) > 0.01).mean())
    assert min(sizes) > 0.04
    assert max(sizes) < 0.7
