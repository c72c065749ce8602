"""The plot of a confusion matrix, from two classes to hundreds."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from vitral.evals.confusion import draw_confusion


@pytest.mark.parametrize("count", [2, 10, 24, 60, 300])
def test_any_number_of_classes_is_drawn(count: int, tmp_path: Path) -> None:
    classes = tuple(f"$ a rather long name of class_{label} $" for label in range(count))
    draw_confusion(torch.eye(count, dtype=torch.int64) * 7, classes, tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as picture:
        pixels = np.asarray(picture.convert("L"))
    assert 300 < max(pixels.shape) < 2500
    assert min(pixels[0].min(), pixels[-1].min(), pixels[:, 0].min(), pixels[:, -1].min()) == 255
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


def test_classes_without_images_are_drawn(tmp_path: Path) -> None:
    confusion = torch.tensor([[5, 1], [0, 0]])
    draw_confusion(confusion, ("cat", "dog"), tmp_path / "a.png")
    assert (tmp_path / "a.png").stat().st_size > 1000


def test_names_with_characters_that_no_font_has_are_drawn(tmp_path: Path) -> None:
    draw_confusion(torch.eye(2, dtype=torch.int64), ("caf\udce9", "猫"), tmp_path / "a.png")
    assert (tmp_path / "a.png").stat().st_size > 1000
