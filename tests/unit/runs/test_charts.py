"""Chart coordinates, ticks and downsampling."""

import pytest

from vitral.runs.charts import HEIGHT, MAX_POINTS, WIDTH, Curve, chart, downsample, ticks


def test_ticks_are_round_numbers():
    assert ticks(0, 1) == pytest.approx([0, 0.5, 1])
    assert ticks(0, 100) == [0, 50, 100]
    assert ticks(0, 80) == [0, 20, 40, 60, 80]
    assert ticks(0, 2.3) == [0, 1, 2, 3]
    assert ticks(-3, 5) == [-4, -2, 0, 2, 4, 6]
    assert ticks(0, 0.0009) == pytest.approx([0, 0.0005, 0.001])
    assert ticks(5, 5)[0] <= 5 <= ticks(5, 5)[-1]
    assert ticks(0, 0) == pytest.approx([0, 0.5, 1])


def test_values_become_pixels():
    drawn = chart(
        "Loss", [Curve(label="test", kind="test", points=[(0, 0.0), (50, 1.0), (100, 2.0)])], format_value=str
    )
    assert drawn is not None
    (line,) = drawn.lines
    assert line.points == [(58, HEIGHT - 28), ((58 + WIDTH - 10) / 2, (10 + HEIGHT - 28) / 2), (WIDTH - 10, 10)]
    assert line.path == "58.0,212.0 264.0,111.0 470.0,10.0"
    assert drawn.description == "test: 0.0 at step 0, 2.0 at step 100"
    assert drawn.y_ticks == [(212, "0.0"), (161.5, "0.5"), (111, "1.0"), (60.5, "1.5"), (10, "2.0")]
    assert drawn.x_ticks == [(58, "0"), (264, "50"), (470, "100")]


def test_curves_without_points_are_left_out():
    empty = Curve(label="val", kind="val", points=[])
    assert chart("Loss", [empty], format_value=str) is None
    drawn = chart("Loss", [empty, Curve(label="test", kind="test", points=[(0, 3.0)])], format_value=str)
    assert drawn is not None
    assert [line.label for line in drawn.lines] == ["test"]


def test_long_curves_are_downsampled_by_means():
    points = [(step, float(step % 2)) for step in range(2 * MAX_POINTS)]
    assert downsample(points) == [(2 * number + 0.5, 0.5) for number in range(MAX_POINTS)]
    assert downsample(points[:3]) == points[:3]
