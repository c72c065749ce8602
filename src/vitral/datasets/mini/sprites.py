"""Sprites: one flat shape of random size, rotation and position, after dSprites (Matthey et al. 2017).

As in dSprites, there are 32 horizontal positions, two to a class, and 40 rotations, 2.5 to a class. Unlike dSprites, no
shape is rotationally symmetric and the 40 rotations are all different, so each can be recognised; and shape and ground
have colours, so that the mean of the pixels does not reveal the position.
"""

import math
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
from einops import rearrange
from jaxtyping import Bool, Float64

from vitral.datasets.mini.drawing import SIZE, Picture, between, colour, numbers, pick, samples, shrink

__all__ = [
    "PLACES",
    "SHAPES",
    "TURNS",
    "Sprite",
    "coverage",
    "draw_location",
    "draw_orientation",
    "location_class",
    "orientation_class",
]

PLACES, TURNS = 32, 40

STEP = 1.25
"""Distance between neighbouring positions, in pixels."""

Plane = Float64[np.ndarray, "h w"]


@dataclass(frozen=True, kw_only=True)
class Sprite:
    """The content of an image."""

    shape: str
    radius: float
    """Radius of the bounding circle, in pixels."""
    turn: int
    """Counter-clockwise rotation, in 40ths of a full turn."""
    x: int
    """Horizontal position, 0 to 31."""
    y: int
    """Vertical position, 0 to 31."""

    @property
    def centre(self) -> tuple[float, float]:
        """Horizontal and vertical position of the centre of mass, in pixels from the upper left corner."""
        return SIZE / 2 + (self.x - (PLACES - 1) / 2) * STEP, SIZE / 2 + (self.y - (PLACES - 1) / 2) * STEP


def location_class(place: int) -> int:
    """Class of a position: two positions per class."""
    return place // 2


def orientation_class(turn: int) -> int:
    """Class of a rotation: its index over 2.5, rounded down."""
    return turn * 2 // 5


def draw_location(title: str, index: int, place: int) -> Picture:
    """A sprite at a given horizontal position."""
    sprite = _any_sprite(title, index, radii=(6.0, 12.0), places=range(PLACES))
    return _painted(replace(sprite, x=place), numbers(f"{title} colours", index, 6))


def draw_orientation(title: str, index: int, turn: int) -> Picture:
    """A larger sprite near the centre with a given rotation."""
    sprite = _any_sprite(title, index, radii=(10.0, 16.0), places=range(10, 22))
    return _painted(replace(sprite, turn=turn), numbers(f"{title} colours", index, 6))


def _any_sprite(title: str, index: int, *, radii: tuple[float, float], places: range) -> Sprite:
    """A sprite with random factors."""
    shape, radius, turn, x, y = numbers(title, index, 5)
    return Sprite(
        shape=pick(SHAPES, shape),
        radius=between(*radii, radius),
        turn=pick(range(TURNS), turn),
        x=pick(places, x),
        y=pick(places, y),
    )


def coverage(sprite: Sprite) -> Float64[np.ndarray, "64 64 1"]:
    """Fraction of each pixel that the sprite covers."""
    positions = samples(4)
    (left, top), angle = sprite.centre, sprite.turn * 2 * math.pi / TURNS
    right, up = (positions[None] - left) / sprite.radius, (top - positions[:, None]) / sprite.radius
    x, y = math.cos(angle) * right + math.sin(angle) * up, math.cos(angle) * up - math.sin(angle) * right
    size, middle_x, middle_y = _extent(sprite.shape)
    return shrink(rearrange(SHAPES[sprite.shape](x * size + middle_x, y * size + middle_y), "h w -> h w 1"))


def _painted(sprite: Sprite, colours: Float64[np.ndarray, "6"]) -> Picture:
    """Paints the sprite on a darker ground."""
    covered = coverage(sprite)
    front = colour(colours[0], between(0.0, 0.7, colours[1]), between(0.6, 1.0, colours[2]))
    ground = colour(colours[3], between(0.0, 0.7, colours[4]), between(0.0, 0.4, colours[5]))
    return covered * front + (1 - covered) * ground


@cache
def _extent(shape: str) -> tuple[float, float, float]:
    """Radius around the centre of mass, and that centre, in the shape's units."""
    line = np.linspace(-2, 2, 801)
    x, y = np.meshgrid(line, line)
    inside = SHAPES[shape](x, y)
    x, y = x[inside], y[inside]
    return float(np.sqrt((x - x.mean()) ** 2 + (y - y.mean()) ** 2).max()), float(x.mean()), float(y.mean())


def _heart(x: Plane, y: Plane) -> Bool[np.ndarray, "h w"]:
    return (x * x + y * y - 1) ** 3 < x * x * y * y * y


def _dart(x: Plane, y: Plane) -> Bool[np.ndarray, "h w"]:
    return (np.abs(x) < 0.4 * (1 - y)) & (y > -0.4 - 0.7 * np.abs(x))


def _hook(x: Plane, y: Plane) -> Bool[np.ndarray, "h w"]:
    return ((np.abs(x) < 0.3) & (np.abs(y) < 1)) | ((x >= 0.3) & (x < 0.9) & (np.abs(y + 0.7) < 0.3))


SHAPES = {"heart": _heart, "dart": _dart, "hook": _hook}
"""Whether points are inside a shape, in its own units; none is rotationally symmetric."""
