"""Tissue: cells, and which of them are sick."""

import numpy as np

from vitral.datasets.mini.regions import Regions, regions
from vitral.datasets.mini.tissue import draw_tissue, in_the_middle, tissue


def test_regions_by_brute_force():
    parts = regions("t", 3, spacing=9.0, jitter=1.0)
    for row, column in [(0, 0), (63, 0), (17, 40), (63, 63)]:
        distances = np.hypot(column + 0.5 - parts.x, row + 0.5 - parts.y)
        order = np.argsort(distances)
        assert (parts.owner[row, column], parts.neighbour[row, column]) == (order[0], order[1])
        assert np.allclose((parts.nearest[row, column], parts.second[row, column]), distances[order[:2]], atol=1e-9)
    # every cell of the grid around the picture has one point
    columns, rows = np.floor(parts.x / 9).astype(int), np.floor(parts.y / 9).astype(int)
    assert sorted(zip(rows.tolist(), columns.tolist(), strict=True)) == [
        (r, c) for r in range(-1, 9) for c in range(-1, 9)
    ]


def test_the_middle_is_32_pixels_wide():
    x, y = np.array([16.0, 16.01, 47.99, 48.0, 32.0]), np.array([32.0, 32.0, 16.01, 20.0, 48.0])
    none, which = np.zeros((64, 64)), np.zeros((64, 64), np.int64)
    cells = Regions(x=x, y=y, nearest=none, second=none, owner=which, neighbour=which)
    assert in_the_middle(cells).tolist() == [False, True, True, False, False]


def test_the_label_is_what_lies_in_the_middle():
    totals = []
    for index in range(150):
        for label in (0, 1):
            shown = tissue("t", index, label)
            assert (shown.sick & in_the_middle(shown.cells)).any() == (label == 1)
            sick_x, sick_y = shown.cells.x[shown.sick], shown.cells.y[shown.sick]
            assert ((sick_x > 0) & (sick_x < 64) & (sick_y > 0) & (sick_y < 64)).all()
            totals.append(int(shown.sick.sum()))
    assert totals[::2] == totals[1::2], "as much is sick in either class"
    assert set(totals) == {2, 3, 4, 5, 6}


def test_the_mean_of_the_pixels_tells_no_class():
    means = np.array([[draw_tissue("t", index, label).mean() for label in (0, 1)] for index in range(30)])
    assert abs((means[:, 1] - means[:, 0]).mean()) < 0.05 * means.std()
    assert 0.4 < means.mean() < 0.9


def test_sick_kernels_are_larger_and_paler_inside():
    shown = tissue("t", 1, 1)
    picture = draw_tissue("t", 1, 1).mean(2)
    cells = shown.cells
    rim = (cells.nearest > 2.8) & (cells.nearest < 3.2)
    sick = shown.sick[cells.owner]
    body = np.median(picture)
    assert picture[(cells.nearest < 1.5) & ~sick].mean() < body - 0.1
    assert picture[rim & sick].mean() < picture[rim & ~sick].mean() - 0.05
