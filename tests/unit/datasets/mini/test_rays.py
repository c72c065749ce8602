"""Solids seen by a camera, against geometry by hand."""

import math

import numpy as np
import pytest

from vitral.datasets.mini.rays import AMBIENT, FORMS, PER_PIXEL, Camera, Solid, light_from, render

UP = np.array([0.0, 0.0, 1.0])
WHITE = np.ones(3)
BLACK = np.zeros((64 * PER_PIXEL, 64 * PER_PIXEL, 3))


def solid(form: str = "ball", centre=(0, 0, 0), half=(1, 1, 1), turn: float = 0.0, colour=(1, 1, 1)) -> Solid:
    return Solid(
        form=form,
        centre=np.array(centre, float),
        half=np.array(half, float),
        turn=turn,
        colour=np.array(colour, float),
    )


def from_above(distance: float = 10.0, focal: float = 100.0) -> Camera:
    """A camera that looks straight down; x is up in its pictures, and y left."""
    return Camera(azimuth=math.pi, elevation=math.pi / 2, distance=distance, focal=focal)


def test_axes_of_a_camera_are_at_right_angles():
    camera = Camera(azimuth=0.7, elevation=0.4, distance=5.0, focal=100.0)
    axes = np.stack([camera.forward, camera.right, camera.up])
    assert axes @ axes.T == pytest.approx(np.eye(3), abs=1e-12)
    assert np.linalg.det(axes) == pytest.approx(-1), "right x forward is up in a right-handed world"
    assert camera.up[2] > 0


def test_depth_and_place_of_points():
    camera = Camera(azimuth=0.0, elevation=0.0, distance=10.0, focal=100.0)
    assert camera.position.tolist() == [10, 0, 0]
    assert camera.depth(np.array([4.0, 3.0, -2.0])) == 6
    assert camera.project(np.zeros(3)) == (32, 32)
    # from the x axis, y is to the right; one unit at a depth of 5 is 20 pixels
    assert camera.project(np.array([5.0, 1.0, 0.5])) == pytest.approx((52, 22))


def test_lights_are_directions():
    assert light_from(0.25, 0.6).tolist() == pytest.approx([0, 0.8, 0.6])
    assert light_from(0.5, 0.0).tolist() == pytest.approx([-1, 0, 0])


def test_the_outline_of_a_ball():
    """Its rim is seen at an angle of asin(radius / distance)."""
    picture = render(from_above(), [solid()], light=UP, ground=BLACK)
    radius = 100 * math.tan(math.asin(1 / 10))
    assert (picture[:, :, 0] > 0).sum() == pytest.approx(math.pi * radius**2, rel=0.15)
    brightness = picture[31:33, 31:33, 0].mean()
    assert brightness == pytest.approx(1, abs=0.01), "its top faces the light"
    # half way to the rim the normal leans by asin(0.5), seen from far away
    far = render(from_above(1000.0, 20_000.0), [solid()], light=UP, ground=BLACK)
    assert far[31:33, 41:43, 0].mean() == pytest.approx(AMBIENT + (1 - AMBIENT) * math.cos(math.asin(0.5)), abs=0.02)


def test_faces_of_a_box_by_lambert():
    far = Camera(azimuth=0.0, elevation=math.radians(45), distance=1000.0, focal=10_000.0)
    light = np.array([0.6, 0.0, 0.8])
    picture = render(far, [solid("box")], light=light, ground=BLACK)[:, :, 0]
    # two faces are seen from there, the top above, each 20 wide and 2 / sqrt(2) * 10 high
    assert picture[25, 32] == pytest.approx(AMBIENT + (1 - AMBIENT) * 0.8)
    assert picture[39, 32] == pytest.approx(AMBIENT + (1 - AMBIENT) * 0.6)
    assert (picture > 0).sum() == pytest.approx(20 * 20 * math.sqrt(2), rel=0.05)
    turned = render(far, [solid("box", turn=math.pi / 2)], light=light, ground=BLACK)[:, :, 0]
    assert np.abs(turned - picture).max() < 1e-9, "a quarter of a turn changes nothing"


def test_a_turned_box_is_turned_counter_clockwise():
    slab = solid("box", half=(2, 0.5, 0.1), turn=math.radians(30))
    picture = render(from_above(1000.0, 10_000.0), [slab], light=UP, ground=BLACK)[:, :, 0]
    down, left = np.nonzero(picture > 0)
    x, y = 32 - down - 0.5, 32 - left - 0.5
    angle = 0.5 * math.atan2(2 * (x * y).mean(), (x * x).mean() - (y * y).mean())
    assert math.degrees(angle) == pytest.approx(30, abs=1)


def test_a_cylinder_is_round_from_above_and_square_from_the_side():
    above = render(from_above(1000.0, 10_000.0), [solid("cylinder")], light=UP, ground=BLACK)[:, :, 0]
    assert above.sum() == pytest.approx(math.pi * 100, rel=0.03)
    side = Camera(azimuth=0.0, elevation=1e-6, distance=1000.0, focal=10_000.0)
    picture = render(side, [solid("cylinder")], light=np.array([1.0, 0, 0]), ground=BLACK)[:, :, 0]
    assert (picture > 0).sum() == pytest.approx(400, rel=0.05)
    assert picture[32, 32] == pytest.approx(1, abs=0.01)
    assert picture[32, 40] == pytest.approx(AMBIENT + (1 - AMBIENT) * math.sqrt(1 - 0.85**2), abs=0.03)


@pytest.mark.parametrize("first", [0, 1])
def test_the_nearer_solid_hides_the_farther(first):
    near, far = solid("box", (0, 0, 2), (0.5, 0.5, 0.5), colour=(1, 0, 0)), solid(colour=(0, 1, 0))
    solids = [near, far] if first == 0 else [far, near]
    picture = render(from_above(), solids, light=UP, ground=BLACK)
    assert picture[32, 32].tolist() == [1, 0, 0]
    assert picture[32, 41, 1] > 0
    assert picture[32, 41, 0] == 0


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("centre", [(0, 0, 0.7), (2.5, -3.2, 0.7), (-3, 3, 0.4)])
def test_no_part_of_a_solid_is_missed(form, centre):
    """Each is drawn within the window that its size predicts: a far larger window shows as much."""
    camera = Camera(azimuth=0.3, elevation=math.radians(35), distance=11.0, focal=78.0)
    shown = solid(form, centre, (0.7, 0.7, 0.7), 0.5)
    picture = render(camera, [shown], light=UP, ground=BLACK)
    camera.window = lambda solid: (slice(0, 64 * PER_PIXEL), slice(0, 64 * PER_PIXEL))
    assert (render(camera, [shown], light=UP, ground=BLACK) == picture).all()
    assert picture.max() > AMBIENT
