"""Ten kinds of textures: patterns without a place of their own, as satellites and microscopes see them.

Each comes in any direction, scale, contrast and pair of colours, light on dark or dark on light, so that no pixel tells
its kind.
"""

import math
from collections.abc import Callable

import numpy as np
from jaxtyping import Float64

from vitral.datasets.mini.drawing import SIZE, Picture, between, colour, numbers, samples
from vitral.datasets.mini.regions import regions

__all__ = ["TEXTURES", "draw_texture"]

Plane = Float64[np.ndarray, "64 64"]
Words = Float64[np.ndarray, " n"]


def draw_texture(title: str, index: int, label: int) -> Picture:
    """A texture of a given kind, with a little noise."""
    words = numbers(title, index, 11)
    field = tuple(TEXTURES.values())[label](words[:3], f"{title} field", index)
    low, high = field.min(), field.max()
    field = (field - low) / (high - low)
    dark = colour(words[3], between(0.0, 0.6, words[4]), between(0.1, 0.4, words[5]))
    light = colour(words[6], between(0.0, 0.6, words[7]), between(0.6, 1.0, words[8]))
    share = (field if words[9] < 0.5 else 1 - field)[:, :, None]
    noise = numbers(f"{title} noise", index, SIZE * SIZE).reshape(SIZE, SIZE, 1) - 0.5
    return dark + (light - dark) * share + between(0.05, 0.3, words[10]) * noise


def _grating(words: Words, title: str, index: int) -> Plane:
    """Waves of one direction."""
    return np.sin(_phase(words, between(5.0, 12.0, words[1])))


def _plaid(words: Words, title: str, index: int) -> Plane:
    """Waves of two directions at right angles."""
    period = between(5.0, 12.0, words[1])
    return np.sin(_phase(words, period)) + np.sin(_phase(np.array([words[0] + 0.5, *words[1:]]), period))


def _rings(words: Words, title: str, index: int) -> Plane:
    """Waves around a point that may lie outside."""
    x, y = _grid()
    middle_x, middle_y = between(-16.0, 80.0, words[0]), between(-16.0, 80.0, words[2])
    return np.sin(np.hypot(x - middle_x, y - middle_y) * 2 * math.pi / between(5.0, 12.0, words[1]))


def _ripples(words: Words, title: str, index: int) -> Plane:
    """Waves of one direction, bent by slow noise."""
    return np.sin(_phase(words, between(5.0, 12.0, words[1])) + 1.2 * _noise(title, index, 20.0, 40.0, 0.0, 1.0))


def _clouds(words: Words, title: str, index: int) -> Plane:
    """Noise of one scale, alike in all directions."""
    period = between(5.0, 12.0, words[1])
    return _noise(title, index, period, 2 * period, 0.0, 1.0)


def _fibres(words: Words, title: str, index: int) -> Plane:
    """Noise drawn out in one direction."""
    period = between(3.0, 6.0, words[1])
    return _noise(title, index, period, 3 * period, math.pi * words[0], 6.0)


def _labyrinth(words: Words, title: str, index: int) -> Plane:
    """Narrow noise cut at its mean: the stripes in which reacting and diffusing substances settle."""
    period = between(5.0, 12.0, words[1])
    return np.tanh(4 * _noise(title, index, period, 1.3 * period, 0.0, 1.0))


def _spots(words: Words, title: str, index: int) -> Plane:
    """Narrow noise cut well above its mean: the spots in which they settle where one is scarce."""
    period = between(5.0, 12.0, words[1])
    return np.tanh(4 * (_noise(title, index, period, 1.3 * period, 0.0, 1.0) - 0.9))


def _cells(words: Words, title: str, index: int) -> Plane:
    """Walls between the regions nearest to random points."""
    cells = regions(title, index, spacing=between(9.0, 18.0, words[1]), jitter=1.0)
    return np.tanh(0.8 * (cells.second - cells.nearest))


def _mosaic(words: Words, title: str, index: int) -> Plane:
    """The regions nearest to random points, each of one brightness."""
    cells = regions(title, index, spacing=between(7.0, 14.0, words[1]), jitter=1.0)
    shades = numbers(f"{title} shades", index, len(cells.x))
    own, other = shades[cells.owner], shades[cells.neighbour]
    # within half a pixel of its edge a region fades into the next
    return own + (other - own) * (0.5 - (cells.second - cells.nearest)).clip(0)


def _grid() -> tuple[Plane, Plane]:
    """Centres of the pixels, across and down."""
    x, y = np.meshgrid(samples(1), samples(1))
    return x, y


def _phase(words: Words, period: float) -> Plane:
    x, y = _grid()
    angle = math.pi * words[0]
    return (math.cos(angle) * x + math.sin(angle) * y) * 2 * math.pi / period + 2 * math.pi * words[2]


def _noise(title: str, index: int, shortest: float, longest: float, angle: float, ratio: float) -> Plane:
    """White noise of which only some waves are left, of mean 0 and deviation 1.

    Args:
        title: what its numbers depend on.
        index: what its numbers depend on.
        shortest: period of waves, in pixels.
        longest: period of waves, in pixels.
        angle: direction in which waves are longer.
        ratio: how many times longer.
    """
    white = numbers(title, index, SIZE * SIZE).reshape(SIZE, SIZE) - 0.5
    down, across = np.fft.fftfreq(SIZE)[:, None], np.fft.rfftfreq(SIZE)[None]
    along, beside = math.cos(angle) * across + math.sin(angle) * down, math.cos(angle) * down - math.sin(angle) * across
    frequency = np.sqrt((along * ratio) ** 2 + beside**2)
    kept = (frequency >= 1 / longest) & (frequency <= 1 / shortest)
    waves = np.fft.irfft2(np.fft.rfft2(white) * kept, (SIZE, SIZE))
    return (waves - waves.mean()) / waves.std()


TEXTURES: dict[str, Callable[[Words, str, int], Plane]] = {
    "grating": _grating,
    "plaid": _plaid,
    "rings": _rings,
    "ripples": _ripples,
    "clouds": _clouds,
    "fibres": _fibres,
    "labyrinth": _labyrinth,
    "spots": _spots,
    "cells": _cells,
    "mosaic": _mosaic,
}
"""The field of each kind of texture, in any range."""
