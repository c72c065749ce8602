"""Scenes of 3 to 10 solids on a ground, after CLEVR (Johnson et al. 2017).

The labels are VTAB's: the number of solids, and the distance of the nearest one to the camera.
"""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from vitral.datasets.mini.drawing import SIZE, Picture, between, colour, numbers, pick
from vitral.datasets.mini.rays import FORMS, PER_PIXEL, Camera, Solid, light_from, render

__all__ = [
    "COUNTS",
    "THRESHOLDS",
    "Scene",
    "count_scene",
    "distance_class",
    "distance_scene",
    "draw_count",
    "draw_distance",
]

COUNTS = range(3, 11)

THRESHOLDS = (0.0, 8.0, 8.5, 9.0, 9.5, 10.0, 100.0)
"""The class of a depth is the last threshold below it; no depth exceeds the last one."""

NEAREST, FARTHEST = 7.3, 15.5
"""Smallest and largest depth of a centre, in world units."""

LAST_NEAREST = 11.0
"""Largest depth of the nearest solid in the farthest class."""

TRIES = 24
"""Candidate positions of a solid; the one with the least overlap is used."""

Places = Float64[np.ndarray, " n"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Scene:
    """The content of an image."""

    camera: Camera
    solids: list[Solid]
    light: Float64[np.ndarray, "3"]
    ground: Float64[np.ndarray, "3"]
    """Its colour."""

    @property
    def distance(self) -> float:
        """Depth of the nearest solid's centre."""
        return min(self.camera.depth(solid.centre) for solid in self.solids)


def distance_class(distance: float) -> int:
    """Which of the six ranges a distance is in; a threshold belongs to the nearer range."""
    return sum(distance > threshold for threshold in THRESHOLDS) - 1


def draw_count(title: str, index: int, label: int) -> Picture:
    """A scene with a given number of solids."""
    return _painted(count_scene(title, index, label))


def draw_distance(title: str, index: int, label: int) -> Picture:
    """A scene with a given range of the nearest solid."""
    return _painted(distance_scene(title, index, label))


def count_scene(title: str, index: int, label: int) -> Scene:
    """The scene of an image with this class of counts."""
    return _scene(title, index, count=COUNTS[label], nearest=None)


def distance_scene(title: str, index: int, label: int) -> Scene:
    """The scene of an image with this class of distances."""
    count, nearest = numbers(f"{title} nearest", index, 2)
    low, high = max(THRESHOLDS[label], NEAREST), min(THRESHOLDS[label + 1], LAST_NEAREST)
    # 1 - nearest is in (0, 1]: a threshold belongs to the range that ends there
    return _scene(title, index, count=pick(COUNTS, count), nearest=between(low, high, 1 - nearest))


def _scene(title: str, index: int, *, count: int, nearest: float | None) -> Scene:
    """A scene of `count` solids; the first is at depth `nearest`, if that is given, and none is nearer."""
    azimuth, elevation, distance, sun, height, hue, saturation, value = numbers(title, index, 8)
    camera = Camera(
        azimuth=between(0.0, 2 * math.pi, azimuth),
        elevation=math.radians(between(33.0, 37.0, elevation)),
        distance=between(10.7, 11.3, distance),
        focal=78.0,
    )
    solids: list[Solid] = []
    first = NEAREST if nearest is None else nearest
    for place in range(count):
        last = first if nearest is not None and not solids else FARTHEST
        solids.append(_standing(camera, solids, numbers(f"{title} {place}", index, 6 + 2 * TRIES), first, last))
    return Scene(
        camera=camera,
        solids=solids,
        light=light_from(sun, between(0.5, 0.9, height)),
        ground=colour(hue, between(0.0, 0.2, saturation), between(0.6, 0.8, value)),
    )


def _standing(
    camera: Camera, others: list[Solid], words: Float64[np.ndarray, " n"], first: float, last: float
) -> Solid:
    """A solid on the ground, between two depths, at the candidate position with the least overlap."""
    large, turn, hue, saturation, value, *_ = words
    form = pick(FORMS, words[5])
    size = 0.7 if large < 0.5 else 0.45
    depths, across = first + (last - first) * words[6::2], 2 * words[7::2] - 1
    # vertical offset of the centre from the line of sight, and horizontal offset within the picture
    up = (size - camera.position[2] - depths * camera.forward[2]) / camera.up[2]
    right = across * (depths * (SIZE / 2) / camera.focal - 1.2 * size)
    best = np.argmax(_clearance(camera, depths, right, up, size, others))
    flat = 0.8 * size if form == "box" else size
    return Solid(
        form=form,
        centre=camera.position + depths[best] * camera.forward + right[best] * camera.right + up[best] * camera.up,
        half=np.array([flat, flat, size]),
        turn=between(0.0, 2 * math.pi, turn),
        colour=colour(hue, between(0.3, 1.0, saturation), between(0.3, 0.9, value)),
    )


def _clearance(
    camera: Camera, depths: Places, right: Places, up: Places, size: float, others: list[Solid]
) -> Float64[np.ndarray, " n"]:
    """Distance in pixels from candidate positions to the nearest other solid, negative if they overlap."""
    room = np.full(len(depths), np.inf)
    for other in others:
        across, down = camera.project(other.centre)
        apart_x = SIZE / 2 + camera.focal * right / depths - across
        apart_y = SIZE / 2 - camera.focal * up / depths - down
        radii = camera.focal * (size / depths + float(other.half[2]) / camera.depth(other.centre))
        room = np.minimum(room, np.sqrt(apart_x**2 + apart_y**2) - radii)
    return room


def _painted(scene: Scene) -> Picture:
    side = SIZE * PER_PIXEL
    # the ground is darker towards the horizon
    shade = np.linspace(0.8, 1, side)[:, None, None]
    ground = np.broadcast_to(shade * scene.ground, (side, side, 3))
    return render(scene.camera, scene.solids, light=scene.light, ground=ground)
