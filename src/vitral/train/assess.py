"""Compares a run's classifier with simple methods, at the end of training."""

import shlex
from collections.abc import Mapping
from dataclasses import replace
from functools import partial

import numpy as np
from jaxtyping import Float
from torch import Tensor

from vitral.data.images.preprocess import PixelBatch, Preprocessing
from vitral.data.sources.source import Source
from vitral.data.sources.targets import label_counts
from vitral.evals.baselines import PIXELS, fit_baselines
from vitral.evals.features import extract_features
from vitral.evals.predictions import Predictions
from vitral.runs.assessment import Advisor, Assessment, assess
from vitral.train.config import RunConfig
from vitral.train.evaluation import SplitEvaluation, evenly_spaced
from vitral.train.pretrained_probe import probe_pretrained
from vitral.train.session import Session

__all__ = ["MAX_IMAGES", "SOURCES", "assess_run"]

SOURCES = ("folder", "csv")
"""Kinds of storage whose runs are compared: one's own images."""

MAX_IMAGES = 3000
"""Maximum number of training images, and of test images, that the simple methods use."""


def assess_run(
    session: Session, data: Mapping[str, Source], split: str, evaluation: SplitEvaluation
) -> Assessment | None:
    """The run's classifier beside simple methods on the same images; all processes together.

    Returns:
        None if the run is no classifier of a folder's or a label file's pictures.
    """
    config, predictions = session.config, evaluation.predictions
    if config.data.source not in SOURCES or session.preprocessing.bands or not isinstance(predictions, Predictions):
        return None
    small = Preprocessing(image_size=(PIXELS, PIXELS), channels=session.preprocessing.channels)

    def pixels(images: PixelBatch) -> Float[Tensor, "b d"]:
        return small.normalise(images).flatten(1)

    extract = partial(extract_features, pixels, preprocessing=small, data=config.data, world=session.world)
    train, test = (extract(evenly_spaced(data[name], MAX_IMAGES)) for name in ("train", split))
    if not len(train.labels) or not len(test.labels):
        return None
    counts = label_counts(data["train"])
    # fitted in one process, or rounding would differ between processes
    baselines = session.world.run_on_main(lambda: fit_baselines(train, test, counts=counts))
    probe = session.world.run_on_main(
        lambda: probe_pretrained(data["train"], data[split], data=config.data, device=session.device)
    )
    baselines = replace(baselines, linear_probe=probe)
    return assess(split, predictions, baselines, advisor(config, data["train"].classes, counts))


def advisor(config: RunConfig, classes: tuple[str, ...], counts: np.ndarray) -> Advisor:
    """What the advice of a run depends on."""
    root = shlex.quote(str(config.data.root))
    source = "" if config.data.source == "folder" else f" --data.source {config.data.source}"
    longer = "a larger --minutes"
    if config.recipe != "folder":
        steps, epochs = config.train.steps, config.train.epochs
        longer = f"--train.steps {2 * steps}" if steps else f"--train.epochs {2 * epochs:g}"
    return Advisor(
        classes=classes,
        counts=counts,
        longer=longer,
        pretrained=config.model.weights is not None,
        finetune=f"vitral train finetune{source} --data.root {root}",
    )
