"""The feature extractors that a suite evaluates: a model and its baselines."""

import hashlib
from dataclasses import replace

import torch

from vitral.config import to_dict
from vitral.models import Model, fresh
from vitral.serve.predictor import Precision, Predictor
from vitral.suites.runner import FeatureExtractor

__all__ = ["feature_extractors"]

RAW_PIXEL_SIZE = 32
"""Image size, in pixels, of the raw-pixel baseline."""


def feature_extractors(
    model: Model, *, device: torch.device, squash: bool, baselines: bool, precision: Precision
) -> dict[str, FeatureExtractor]:
    """The model and its baselines, by name.

    Args:
        model: the model to evaluate.
        device: the device that it runs on.
        squash: whether images are squashed to the model's size instead of cropped.
        precision: the precision that it runs in; see `Predictor`.
        baselines: whether to add the same architecture with random weights, and raw pixels.
    """
    predictor = Predictor(model, device=device, precision=precision)
    preprocessing = predictor.card.preprocessing
    if squash:
        preprocessing = preprocessing.whole
    on_device = f" on {device.type}"  # a GPU computes in 16 bits
    extractors = {
        "model": FeatureExtractor(
            extract=predictor.extract_features,
            preprocessing=preprocessing,
            fingerprint=model_fingerprint(model) + on_device,
        )
    }
    if baselines:
        random = fresh(model)
        extractors["random weights"] = FeatureExtractor(
            extract=Predictor(random, device=device, precision=precision).extract_features,
            preprocessing=preprocessing,
            fingerprint=model_fingerprint(random) + on_device,
            initial_weights="random",
        )
        extractors["raw pixels"] = FeatureExtractor(
            extract=lambda images: images.flatten(1).float(),
            preprocessing=replace(preprocessing, image_size=(RAW_PIXEL_SIZE, RAW_PIXEL_SIZE), resize="squash"),
            fingerprint="raw pixels",
            initial_weights=None,
        )
    return extractors


def model_fingerprint(model: Model) -> str:
    """A hash of a model's weights and configuration."""
    digest = hashlib.sha256(str(to_dict(model.config)).encode())
    for name, tensor in model.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
