"""Scenes of solids: their counts and distances."""

from dataclasses import replace

import numpy as np
import pytest

from vitral.datasets.mini.rays import PER_PIXEL, render
from vitral.datasets.mini.scenes import COUNTS, count_scene, distance_class, distance_scene, draw_count, draw_distance
from vitral.datasets.registry import TASKS


def test_classes_of_distances_at_their_edges():
    """As in VTAB: the index of the last threshold strictly below."""
    edges = (8.0, 8.5, 9.0, 9.5, 10.0)
    assert [distance_class(edge) for edge in edges] == [0, 1, 2, 3, 4]
    assert [distance_class(float(np.nextafter(edge, 99))) for edge in edges] == [1, 2, 3, 4, 5]
    assert (distance_class(0.1), distance_class(99.0)) == (0, 5)


def test_classes_of_counts_are_three_to_ten():
    assert list(COUNTS) == [3, 4, 5, 6, 7, 8, 9, 10]
    for label in range(8):
        assert len(count_scene("t", label, label).solids) == label + 3


def test_the_nearest_solid_is_as_near_as_the_label_says():
    labels = np.concatenate([split.labels for split in TASKS["mini-distance"].open(None).values()])
    distances = []
    for index in range(0, 2000, 9):
        scene = distance_scene("mini-distance", index, int(labels[index]))
        assert distance_class(scene.distance) == labels[index]
        assert 3 <= len(scene.solids) <= 10
        distances.append(scene.distance)
    assert 7.3 < min(distances) < 7.5
    assert 10.8 < max(distances) <= 11


def visible_pixels(title: str, index: int, label: int) -> list[float]:
    """Pixels that show each solid of a scene, counted by colouring three at a time."""
    scene = count_scene(title, index, label)
    ground = np.zeros((64 * PER_PIXEL, 64 * PER_PIXEL, 3))
    seen = []
    for start in range(0, len(scene.solids), 3):
        colours = np.zeros((len(scene.solids), 3))
        colours[start : start + 3] = np.eye(3)[: len(scene.solids) - start]
        solids = [replace(solid, colour=colour) for solid, colour in zip(scene.solids, colours, strict=True)]
        picture = render(scene.camera, solids, light=scene.light, ground=ground)
        seen += (picture > 0).sum((0, 1))[: len(solids) - start].tolist()
    return seen


def test_every_solid_that_counts_is_seen():
    for index in range(25):
        seen = visible_pixels("mini-count", index, 7)
        assert len(seen) == 10
        assert min(seen) >= 12, index


def test_solids_stand_on_the_ground_within_the_picture():
    for index in range(30):
        scene = count_scene("t", index, 7)
        for solid in scene.solids:
            across, down = scene.camera.project(solid.centre)
            assert 0 < across < 64
            assert 0 < down < 64
            assert solid.centre[2] == pytest.approx(solid.half[2], abs=1e-12)
            assert 7.3 <= scene.camera.depth(solid.centre) <= 15.5


@pytest.mark.parametrize("draw", [draw_count, draw_distance])
def test_pictures(draw):
    pictures = np.stack([draw("t", index, 3) for index in range(20)])
    assert (draw("t", 4, 3) == pictures[4]).all()
    assert pictures.min() >= 0
    assert pictures.max() <= 1
    assert (pictures.std((1, 2)).max(1) > 0.03).all()
    assert 0.2 < pictures.mean() < 0.6
