"""Toys: one shaded object on a turntable, seen from a given direction, after small NORB (LeCun et al. 2004).

As there, the camera has one of 9 elevations, 30 to 70 degrees above the horizon, and one of 18 azimuths, every 20
degrees. There are five kinds of toys with random proportions, lit from a random direction above.
"""

import math

import numpy as np

from vitral.datasets.mini.drawing import SIZE, Picture, between, colour, numbers, pick
from vitral.datasets.mini.rays import PER_PIXEL, Camera, Solid, light_from, render

__all__ = ["AZIMUTHS", "ELEVATIONS", "TOYS", "camera_at", "draw_azimuth", "draw_elevation"]

ELEVATIONS = tuple(range(30, 75, 5))
"""Degrees above the horizon."""

AZIMUTHS = tuple(range(0, 360, 20))
"""Degrees around the vertical."""

TOYS = {
    "truck": (
        ("box", (-0.25, 0, 0.1), (0.7, 0.4, 0.45)),
        ("box", (0.72, 0, -0.08), (0.24, 0.36, 0.27)),
        ("box", (0.1, 0, -0.42), (0.85, 0.3, 0.1)),
    ),
    "car": (
        ("box", (0, 0, -0.2), (0.95, 0.4, 0.2)),
        ("box", (-0.25, 0, 0.15), (0.45, 0.34, 0.18)),
    ),
    "plane": (
        ("ball", (0, 0, 0), (0.95, 0.17, 0.17)),
        ("box", (0.15, 0, 0.02), (0.2, 0.9, 0.04)),
        ("box", (-0.78, 0, 0.05), (0.12, 0.35, 0.04)),
        ("box", (-0.8, 0, 0.25), (0.12, 0.03, 0.22)),
    ),
    "animal": (
        ("ball", (0, 0, 0.05), (0.7, 0.3, 0.3)),
        ("ball", (0.75, 0, 0.35), (0.28, 0.18, 0.2)),
        ("box", (0.4, 0.16, -0.35), (0.08, 0.08, 0.3)),
        ("box", (0.4, -0.16, -0.35), (0.08, 0.08, 0.3)),
        ("box", (-0.4, 0.16, -0.35), (0.08, 0.08, 0.3)),
        ("box", (-0.4, -0.16, -0.35), (0.08, 0.08, 0.3)),
    ),
    "figure": (
        ("box", (0, 0, 0), (0.2, 0.35, 0.4)),
        ("ball", (0.05, 0, 0.62), (0.2, 0.2, 0.22)),
        ("box", (0.4, 0.35, 0.2), (0.45, 0.08, 0.08)),
        ("box", (0.4, -0.35, 0.2), (0.45, 0.08, 0.08)),
        ("cylinder", (0, 0, -0.65), (0.2, 0.3, 0.3)),
    ),
}
"""Form, centre and half sizes of the parts of each toy; the front points along x."""


def draw_elevation(title: str, index: int, label: int) -> Picture:
    """A toy seen from a given elevation."""
    (side,) = numbers(f"{title} side", index, 1)
    return _painted(title, index, elevation=label, azimuth=pick(range(len(AZIMUTHS)), side))


def draw_azimuth(title: str, index: int, label: int) -> Picture:
    """A toy seen from a given azimuth."""
    (height,) = numbers(f"{title} height", index, 1)
    return _painted(title, index, elevation=pick(range(len(ELEVATIONS)), height), azimuth=label)


def camera_at(elevation: int, azimuth: int) -> Camera:
    """The camera of a class of elevations and a class of azimuths."""
    return Camera(
        azimuth=math.radians(AZIMUTHS[azimuth]),
        elevation=math.radians(ELEVATIONS[elevation]),
        distance=6.0,
        focal=145.0,
    )


def _painted(title: str, index: int, *, elevation: int, azimuth: int) -> Picture:
    kind, sun, height, hue, saturation, value, grey, *stretch = numbers(title, index, 10)
    size = np.array([between(0.85, 1.1, fraction) for fraction in stretch])
    tint = colour(hue, between(0.0, 0.8, saturation), between(0.5, 1.0, value))
    solids = [
        Solid(form=form, centre=np.array(centre) * size, half=np.array(half) * size, colour=tint)
        for form, centre, half in pick(TOYS.values(), kind)
    ]
    side = SIZE * PER_PIXEL
    return render(
        camera_at(elevation, azimuth),
        solids,
        light=light_from(sun, between(0.4, 0.95, height)),
        ground=np.full((side, side, 3), between(0.1, 0.9, grey)),
    )
