"""Textures: each has the structure of its name, and no single pixel reveals it."""

import numpy as np
import pytest

from vitral.datasets.mini.textures import TEXTURES, draw_texture

WORDS = np.array([0.0, 0.0, 0.25])


def spectrum(field: np.ndarray) -> np.ndarray:
    """Power by frequency down and across, in cycles a picture, without the mean."""
    return np.abs(np.fft.fft2(field - field.mean())) ** 2


def radii() -> np.ndarray:
    cycles = np.fft.fftfreq(64) * 64
    return np.hypot(cycles[:, None], cycles[None])


def test_a_grating_has_one_wave():
    """A period of 5 pixels across at the first angle: 12.8 cycles."""
    field = TEXTURES["grating"](WORDS, "t", 0)
    assert np.abs(field - field[0]).max() < 1e-12
    assert np.abs(field[:, 5:] - field[:, :-5]).max() < 1e-9
    plaid = TEXTURES["plaid"](WORDS, "t", 0)
    assert np.abs(plaid[5:] - plaid[:-5]).max() < 1e-9
    assert np.abs(plaid[:, 5:] - plaid[:, :-5]).max() < 1e-9
    assert np.abs(plaid - plaid[0]).max() > 1


def test_rings_are_round():
    field = TEXTURES["rings"](np.array([0.5, 0.0, 0.5]), "t", 0)
    for same in (field[::-1], field[:, ::-1], field.T):
        assert np.abs(field - same).max() < 1e-9


def test_noise_has_the_scale_of_its_words():
    """Clouds of a period of 8 pixels and more, up to twice that: 4 to 8 cycles."""
    field = TEXTURES["clouds"](np.array([0.0, 3 / 7, 0.0]), "t", 0)
    power = spectrum(field)
    inside = (radii() >= 3.99) & (radii() <= 8.01)
    assert power[inside].sum() > 0.999 * power.sum()
    assert (field.mean(), field.std()) == pytest.approx((0, 1))


def test_fibres_run_in_one_direction():
    field = TEXTURES["fibres"](WORDS, "t", 0)
    steps_across, steps_down = np.abs(np.diff(field, axis=1)).mean(), np.abs(np.diff(field, axis=0)).mean()
    assert steps_down > 2.5 * steps_across


def test_labyrinths_are_half_dark_and_spots_are_few():
    labyrinth = np.concatenate([TEXTURES["labyrinth"](WORDS, "t", index) for index in range(10)])
    spots = np.concatenate([TEXTURES["spots"](WORDS, "t", index) for index in range(10)])
    assert (labyrinth > 0).mean() == pytest.approx(0.5, abs=0.03)
    assert 0.1 < (spots > 0).mean() < 0.25


def test_cells_are_walled_and_mosaics_flat():
    cells = TEXTURES["cells"](np.array([0.0, 0.5, 0.0]), "t", 0)
    assert cells.min() < 0.3
    assert np.median(cells) > 0.9
    mosaic = TEXTURES["mosaic"](np.array([0.0, 0.5, 0.0]), "t", 0)
    flat = (mosaic[:, 1:] == mosaic[:, :-1]).mean()
    assert flat > 0.75


@pytest.mark.parametrize("label", range(10))
def test_brightness_and_colour_tell_no_kind(label):
    pictures = np.stack([draw_texture("t", index, label) for index in range(80)])
    assert pictures.mean() == pytest.approx(0.43, abs=0.08)
    assert (pictures.std((1, 2)).max(1) > 0.03).all()
    assert (draw_texture("t", 3, label) == pictures[3]).all()
