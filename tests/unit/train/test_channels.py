"""Runs on images of any number of channels, configured from Python."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tiny import tiny_run
from vitral.data.config import DataConfig
from vitral.data.sources.source import FileSource
from vitral.distributed.world import SINGLE_PROCESS
from vitral.errors import UserError
from vitral.objectives.masked_patch import MaskedPatchConfig
from vitral.train.channels import measure_channels

FIELDS = DataConfig(source="folder", channels=13)
NO_IMAGES = FileSource(root=Path("nowhere"), files=(), labels=np.zeros(0, np.int64), classes=("a", "b"))


def test_model_and_preprocessing_get_the_channels() -> None:
    config = replace(tiny_run(), data=FIELDS).resolved(num_classes=2)
    assert config.model.architecture.channels == 13
    assert (config.preprocessing.bands, config.preprocessing.channels, config.preprocessing.mean) == (True, 13, ())
    assert config.preprocessing.image_size == config.model.architecture.image_hw


def test_what_is_known_is_not_measured_again() -> None:
    config = replace(tiny_run(), data=FIELDS).resolved(num_classes=2)
    known = replace(config, preprocessing=replace(config.preprocessing, mean=(1.0,), std=(2.0,)))
    for run in (known, known.resolved(num_classes=2), tiny_run().resolved(num_classes=10)):
        assert measure_channels(run, NO_IMAGES, SINGLE_PROCESS) == (run, [])


def test_objectives_of_colours_are_refused() -> None:
    images = replace(FIELDS, source="images")
    with pytest.raises(UserError, match=r"--objective\.target pixels"):
        replace(tiny_run(), data=images, objective=MaskedPatchConfig())
    replace(tiny_run(), data=images, objective=MaskedPatchConfig(target="pixels"))
