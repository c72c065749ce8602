"""A linear probe of a pretrained model that is in the Hub's cache already, to compare a run with."""

import logging
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from vitral.data.config import DataConfig
from vitral.data.images.preprocess import PixelBatch
from vitral.data.sources.source import Source
from vitral.errors import UserError
from vitral.evals.baselines import PretrainedProbe
from vitral.evals.features import extract_features
from vitral.evals.linear import linear_predictions
from vitral.inspection.cost import forward_macs
from vitral.models import Model
from vitral.train.evaluation import evenly_spaced
from vitral.weights.load import load_with_report
from vitral.weights.pretrained import Pretrained, list_pretrained

__all__ = ["MAX_IMAGES", "choose_cached", "probe_pretrained"]

LOG = logging.getLogger("vitral")

MAX_MACS = {"cpu": 3e12, "cuda": 1e14}
"""Multiply-accumulates of all images: half a minute on two cores, some seconds on a GPU."""

MIN_IMAGES, MAX_IMAGES = 300, 6000
"""Fewest and most training and test images together."""

TARGET_IMAGES, FEWEST_IMAGES = 500, 100
"""The largest model that affords the former number of images is taken, else the smallest that affords the latter."""

CHUNK_SIZE = 32
"""Images computed together, so that the probe needs little memory."""


@dataclass(frozen=True, kw_only=True)
class _Cached:
    """A published checkpoint in the Hub's cache."""

    entry: Pretrained
    folder: Path
    macs: float
    """Estimated multiply-accumulates of an image: parameters times patches."""


def choose_cached(device: str) -> tuple[Pretrained, Path] | None:
    """The published checkpoint in the Hub's cache to probe, and its folder; None if there is none that is fast enough.

    Args:
        device: type of the device.
    """
    from vitral.weights.hub import find_cached  # imported here because it takes a fifth of a second

    limit = _limit(device)
    cached = [
        _Cached(entry=entry, folder=folder, macs=_estimated_macs(entry))
        for entry in list_pretrained().values()
        if _estimated_macs(entry) <= limit / FEWEST_IMAGES and (folder := find_cached(entry.address)) is not None
    ]
    if not cached:
        return None
    fast = [each for each in cached if each.macs <= limit / TARGET_IMAGES]
    chosen = max(fast, key=lambda each: each.macs) if fast else min(cached, key=lambda each: each.macs)
    return chosen.entry, chosen.folder


def _limit(device: str) -> float:
    return MAX_MACS.get(device, MAX_MACS["cpu"])


def _estimated_macs(entry: Pretrained) -> float:
    patch = re.search(r"/(\d+)@", entry.name)
    assert patch is not None
    return entry.parameters * (entry.image_size / int(patch[1])) ** 2


def probe_pretrained(train: Source, test: Source, *, data: DataConfig, device: torch.device) -> PretrainedProbe | None:
    """Fits a linear probe of the cached model to training images and evaluates it on test images; downloads nothing.

    Args:
        train: the training images, of which some are used.
        test: the test images, of which some are used.
        data: how images are read.
        device: where features are computed.

    Returns:
        None if the cache has no such model, or if it cannot be computed here, which is logged.
    """
    chosen = choose_cached(device.type)
    if chosen is None:
        return None
    entry, folder = chosen
    try:
        return _fit_probe(entry.name, load_with_report(folder, device=device)[0], train, test, data, device)
    except (UserError, OSError, torch.OutOfMemoryError) as error:
        # the run is finished, and must not fail for a comparison
        LOG.warning("%s, which is in the Hub's cache, is left out of the comparison: %s", entry.name, error)
        return None


def _fit_probe(
    name: str, model: Model, train: Source, test: Source, data: DataConfig, device: torch.device
) -> PretrainedProbe | None:
    """The probe on as many images as the model affords; None if they have a single class."""
    assert model.card is not None
    count = int(min(max(_limit(device.type) / forward_macs(model.config), MIN_IMAGES), MAX_IMAGES))
    num_test = min(len(test), count // 3)
    extract = partial(extract_features, _features(model, device), preprocessing=model.card.preprocessing, data=data)
    known = extract(evenly_spaced(train, min(len(train), count - num_test)))
    query = extract(evenly_spaced(test, num_test))
    if len(known.labels.unique()) < 2 or not len(query.labels):
        return None
    predicted = linear_predictions(known.features, known.labels, query.features)
    return PretrainedProbe(
        model=name,
        accuracy=(predicted == query.labels).double().mean().item(),
        num_train=len(known.labels),
        num_test=len(query.labels),
    )


def _features(model: Model, device: torch.device) -> Callable[[PixelBatch], Float[Tensor, "b d"]]:
    """From images as preprocessing reads them to features before the head."""
    assert model.card is not None
    preprocessing = model.card.preprocessing

    @torch.inference_mode()
    def features(images: PixelBatch) -> Float[Tensor, "b d"]:
        chunks = (preprocessing.normalise(chunk.to(device)) for chunk in images.split(CHUNK_SIZE))
        return torch.cat([model.features(chunk).pooled.float().cpu() for chunk in chunks])

    return features
