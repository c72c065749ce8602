"""What suites measure: a model, and what it is compared with."""

import hashlib
from dataclasses import replace

import torch

from vitral.config import to_dict
from vitral.models import Model, fresh
from vitral.serve.predictor import Predictor
from vitral.suites.measuring import Subject

__all__ = ["subjects"]

RAW = 32
"""Pixels of the sides of images whose raw pixels are compared."""


def subjects(model: Model, *, device: torch.device, whole: bool, baselines: bool) -> dict[str, Subject]:
    """The model, and what it is compared with.

    Args:
        model: what is measured.
        device: where it computes.
        whole: whether images are squashed instead of cut.
        baselines: whether it is compared with random weights and raw pixels.
    """
    predictor = Predictor(model, device=device)
    preprocessing = predictor.card.preprocessing
    if whole:
        preprocessing = replace(preprocessing, resize="squash")
    encoded_on = f" on {device.type}"  # a GPU computes in 16 bits
    found = {
        "model": Subject(
            encode=predictor.extract_features, preprocessing=preprocessing, identity=identity(model) + encoded_on
        )
    }
    if baselines:
        random = fresh(model)
        found["random weights"] = Subject(
            encode=Predictor(random, device=device).extract_features,
            preprocessing=preprocessing,
            identity=identity(random) + encoded_on,
            tuned="fresh",
        )
        small = replace(preprocessing, image_size=(RAW, RAW), resize="squash")
        found["raw pixels"] = Subject(
            encode=lambda images: images.flatten(1).float(), preprocessing=small, identity="raw pixels", tuned="never"
        )
    return found


def identity(model: Model) -> str:
    """A hash of a model's weights and of what it does with them."""
    digest = hashlib.sha256(str(to_dict(model.config)).encode())
    for name, tensor in model.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
