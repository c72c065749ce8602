"""Ten kinds of textures: stationary patterns, as in satellite and microscope images.

Each has a random direction, scale, contrast and pair of colours, light on dark or dark on light, so that no single
pixel reveals its kind.
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
    weight = (field if words[9] < 0.5 else 1 - field)[:, :, None]
    noise = numbers(f"{title} noise", index, SIZE * SIZE).reshape(SIZE, SIZE, 1) - 0.5
    return dark + (light - dark) * weight + between(0.05, 0.3, words[10]) * noise


def _grating(words: Words, title: str, index: int) -> Plane:
    """Waves in one direction."""
    return np.sin(_phase(words, between(5.0, 12.0, words[1])))


def _plaid(words: Words, title: str, index: int) -> Plane:
    """Waves in two perpendicular directions."""
    period = between(5.0, 12.0, words[1])
    return np.sin(_phase(words, period)) + np.sin(_phase(np.array([words[0] + 0.5, *words[1:]]), period))


def _rings(words: Words, title: str, index: int) -> Plane:
    """Circular waves around a point that may be outside the image."""
    x, y = _grid()
    middle_x, middle_y = between(-16.0, 80.0, words[0]), between(-16.0, 80.0, words[2])
    return np.sin(np.hypot(x - middle_x, y - middle_y) * 2 * math.pi / between(5.0, 12.0, words[1]))


def _ripples(words: Words, title: str, index: int) -> Plane:
    """Waves in one direction, distorted by low-frequency noise."""
    return np.sin(_phase(words, between(5.0, 12.0, words[1])) + 1.2 * _noise(title, index, 20.0, 40.0, 0.0, 1.0))


def _clouds(words: Words, title: str, index: int) -> Plane:
    """Isotropic noise of one scale."""
    period = between(5.0, 12.0, words[1])
    return _noise(title, index, period, 2 * period, 0.0, 1.0)


def _fibres(words: Words, title: str, index: int) -> Plane:
    """Noise stretched in one direction."""
    period = between(3.0, 6.0, words[1])
    return _noise(title, index, period, 3 * period, math.pi * words[0], 6.0)


def _labyrinth(words: Words, title: str, index: int) -> Plane:
    """Narrow-band noise, thresholded at its mean: stripes as in reaction-diffusion systems."""
    period = between(5.0, 12.0, words[1])
    return np.tanh(4 * _noise(title, index, period, 1.3 * period, 0.0, 1.0))


def _spots(words: Words, title: str, index: int) -> Plane:
    """Narrow-band noise, thresholded well above its mean: spots as in reaction-diffusion systems."""
    period = between(5.0, 12.0, words[1])
    return np.tanh(4 * (_noise(title, index, period, 1.3 * period, 0.0, 1.0) - 0.9))


def _cells(words: Words, title: str, index: int) -> Plane:
    """Edges of a Voronoi diagram."""
    cells = regions(title, index, spacing=between(9.0, 18.0, words[1]), jitter=1.0)
    return np.tanh(0.8 * (cells.second - cells.nearest))


def _mosaic(words: Words, title: str, index: int) -> Plane:
    """Regions of a Voronoi diagram, each with one brightness."""
    cells = regions(title, index, spacing=between(7.0, 14.0, words[1]), jitter=1.0)
    shades = numbers(f"{title} shades", index, len(cells.x))
    inner, outer = shades[cells.owner], shades[cells.neighbour]
    # within half a pixel of its edge, a region blends into the next
    return inner + (outer - inner) * (0.5 - (cells.second - cells.nearest)).clip(0)


def _grid() -> tuple[Plane, Plane]:
    """Centres of the pixels, horizontally and vertically."""
    x, y = np.meshgrid(samples(1), samples(1))
    return x, y


def _phase(words: Words, period: float) -> Plane:
    x, y = _grid()
    angle = math.pi * words[0]
    return (math.cos(angle) * x + math.sin(angle) * y) * 2 * math.pi / period + 2 * math.pi * words[2]


def _noise(title: str, index: int, shortest: float, longest: float, angle: float, ratio: float) -> Plane:
    """Band-pass filtered white noise with mean 0 and standard deviation 1.

    Args:
        title: seeds the noise.
        index: seeds the noise.
        shortest: smallest period, in pixels.
        longest: largest period, in pixels.
        angle: direction in which the noise is stretched.
        ratio: factor of the stretch.
    """
    white = numbers(title, index, SIZE * SIZE).reshape(SIZE, SIZE) - 0.5
    down, across = np.fft.fftfreq(SIZE)[:, None], np.fft.rfftfreq(SIZE)[None]
    along, beside = math.cos(angle) * across + math.sin(angle) * down, math.cos(angle) * down - math.sin(angle) * across
    frequency = np.sqrt((along * ratio) ** 2 + beside**2)
    passed = (frequency >= 1 / longest) & (frequency <= 1 / shortest)
    waves = np.fft.irfft2(np.fft.rfft2(white) * passed, (SIZE, SIZE))
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
"""The field of each kind of texture, in an arbitrary range."""
