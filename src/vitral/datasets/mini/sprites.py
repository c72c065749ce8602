"""Sprites: one flat shape of some size and turn somewhere, after dSprites (Matthey et al. 2017).

As there, a place across is one of 32 steps and a turn one of 40, of which two (2.5) make a class. Other than there, no
shape equals itself when turned, so every turn can be told; the 40 turns are all different; and shape and ground have
colours, so that the mean of the pixels does not tell the place.
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
"""Pixels from one place to the next."""

Plane = Float64[np.ndarray, "h w"]


@dataclass(frozen=True, kw_only=True)
class Sprite:
    """What is seen."""

    shape: str
    radius: float
    """Of the circle that just holds the shape, in pixels."""
    turn: int
    """Counter-clockwise, in 40ths of a full one."""
    x: int
    """Place across, 0 to 31."""
    y: int
    """Place down, 0 to 31."""

    @property
    def centre(self) -> tuple[float, float]:
        """Centre of mass across and down, in pixels from the upper left corner."""
        return SIZE / 2 + (self.x - (PLACES - 1) / 2) * STEP, SIZE / 2 + (self.y - (PLACES - 1) / 2) * STEP


def location_class(place: int) -> int:
    """32 places to 16 classes."""
    return place // 2


def orientation_class(turn: int) -> int:
    """40 turns to 16 classes: the whole part of a 2.5th."""
    return turn * 2 // 5


def draw_location(title: str, index: int, place: int) -> Picture:
    """A sprite whose place across is given."""
    sprite = _any_sprite(title, index, radii=(6.0, 12.0), places=range(PLACES))
    return _painted(replace(sprite, x=place), numbers(f"{title} colours", index, 6))


def draw_orientation(title: str, index: int, turn: int) -> Picture:
    """A larger sprite near the middle whose turn is given."""
    sprite = _any_sprite(title, index, radii=(10.0, 16.0), places=range(10, 22))
    return _painted(replace(sprite, turn=turn), numbers(f"{title} colours", index, 6))


def _any_sprite(title: str, index: int, *, radii: tuple[float, float], places: range) -> Sprite:
    """A sprite all of whose factors are open."""
    shape, radius, turn, x, y = numbers(title, index, 5)
    return Sprite(
        shape=pick(SHAPES, shape),
        radius=between(*radii, radius),
        turn=pick(range(TURNS), turn),
        x=pick(places, x),
        y=pick(places, y),
    )


def coverage(sprite: Sprite) -> Float64[np.ndarray, "64 64 1"]:
    """Share of each pixel that the sprite covers."""
    places = samples(4)
    (left, top), angle = sprite.centre, sprite.turn * 2 * math.pi / TURNS
    right, up = (places[None] - left) / sprite.radius, (top - places[:, None]) / sprite.radius
    x, y = math.cos(angle) * right + math.sin(angle) * up, math.cos(angle) * up - math.sin(angle) * right
    size, middle_x, middle_y = _extent(sprite.shape)
    return shrink(rearrange(SHAPES[sprite.shape](x * size + middle_x, y * size + middle_y), "h w -> h w 1"))


def _painted(sprite: Sprite, colours: Float64[np.ndarray, "6"]) -> Picture:
    """The sprite on a darker ground."""
    covered = coverage(sprite)
    front = colour(colours[0], between(0.0, 0.7, colours[1]), between(0.6, 1.0, colours[2]))
    ground = colour(colours[3], between(0.0, 0.7, colours[4]), between(0.0, 0.4, colours[5]))
    return covered * front + (1 - covered) * ground


@cache
def _extent(shape: str) -> tuple[float, float, float]:
    """Radius around its centre of mass, and that centre, of a shape in its own units."""
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
"""Whether points belong to a shape, in units of its own; none equals itself when turned."""
