"""Pictures in the documentation show what the committed results say."""

import runpy
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from contracts.project import ROOT

IMAGES = ROOT / "docs" / "images"


def test_the_picture_of_training_steps_is_that_of_its_table(tmp_path: Path) -> None:
    script = runpy.run_path(str(IMAGES / "train_step.py"))
    assert script["rates"]()["S/16", "timm"] == 8086
    script["draw"](tmp_path / "drawn.png")
    with Image.open(tmp_path / "drawn.png") as drawn, Image.open(IMAGES / "train-step.png") as committed:
        assert drawn.size == committed.size
        difference = np.abs(np.asarray(drawn, np.float64) - np.asarray(committed, np.float64))
    assert difference.mean() == pytest.approx(0, abs=3)  # fonts differ a little between versions
