"""The feature extractors that a suite evaluates: a model and its baselines."""

import hashlib
from dataclasses import replace
from functools import partial
from typing import Literal

import torch

from vitral.config import to_dict
from vitral.errors import UserError
from vitral.evals.linear_grid import Columns
from vitral.models import Model, fresh
from vitral.serve.predictor import Precision, Predictor
from vitral.suites.runner import FeatureExtractor
from vitral.vit import ViT

__all__ = ["feature_extractors"]

RAW_PIXEL_SIZE = 32
"""Image size, in pixels, of the raw-pixel baseline."""

GRID_BLOCKS = (1, 4)
"""Numbers of last blocks whose features `linear-grid` compares, as in DINOv2's evaluation."""


def feature_extractors(
    model: Model, *, device: torch.device, squash: bool, baselines: bool, precision: Precision, blocks: bool = False
) -> dict[str, FeatureExtractor]:
    """The model and its baselines, by name.

    Args:
        model: the model to evaluate.
        device: the device that it runs on.
        squash: whether images are squashed to the model's size instead of cropped.
        baselines: whether to add the same architecture with random weights, and raw pixels.
        precision: the precision that it runs in; see `Predictor`.
        blocks: whether to extract features of several blocks, for `linear-grid`.

    Raises:
        UserError: the model has no blocks.
    """
    suffix = f" on {device.type}"  # a GPU computes in 16 bits
    variants: dict[str, Columns] = {}
    if blocks:
        suffix += ", last blocks"
        variants = grid_variants(model)

    def extractor(subject: Model, initial_weights: Literal["pretrained", "random"]) -> FeatureExtractor:
        predictor = Predictor(subject, device=device, precision=precision)
        preprocessing = predictor.card.preprocessing
        return FeatureExtractor(
            extract=partial(predictor.extract_blocks, count=max(GRID_BLOCKS)) if blocks else predictor.extract_features,
            preprocessing=preprocessing.whole if squash else preprocessing,
            fingerprint=model_fingerprint(subject) + suffix,
            initial_weights=initial_weights,
            variants=variants,
        )

    extractors = {"model": extractor(model, "pretrained")}
    if baselines:
        size = (RAW_PIXEL_SIZE, RAW_PIXEL_SIZE)
        extractors["random weights"] = extractor(fresh(model), "random")
        extractors["raw pixels"] = FeatureExtractor(
            extract=lambda images: images.flatten(1).float(),
            preprocessing=replace(extractors["model"].preprocessing, image_size=size, resize="squash"),
            fingerprint="raw pixels",
            initial_weights=None,
            variants={"raw pixels": (slice(None),)},
        )
    return extractors


def grid_variants(model: Model) -> dict[str, Columns]:
    """Columns of `Predictor.extract_blocks` by what they are: class tokens and mean patches of the last block and of
    the last four, and both as in DINOv2, with the mean patch of the last block only.

    Raises:
        UserError: the model is a ResNet.
    """
    if not isinstance(model, ViT):
        raise UserError("--grid compares the blocks of a Vision Transformer, and this is a ResNet: leave it out")
    depth, width = model.config.depth, model.config.width
    parts = ("class token", "mean patch") if model.config.num_class_tokens else ("mean patch",)
    blocks = min(max(GRID_BLOCKS), depth)
    columns = {
        part: [
            slice(start, start + width)
            for start in range(number * width, blocks * len(parts) * width, len(parts) * width)
        ]
        for number, part in enumerate(parts)
    }
    variants: dict[str, Columns] = {}
    for count in sorted({min(count, depth) for count in GRID_BLOCKS}):
        where = "last block" if count == 1 else f"last {count} blocks"
        for part in parts:
            variants[f"{part}, {where}"] = tuple(columns[part][-count:])
        if len(parts) > 1:
            variants[f"both, {where}"] = (*columns["class token"][-count:], columns["mean patch"][-1])
    return variants


def model_fingerprint(model: Model) -> str:
    """A hash of a model's weights and configuration."""
    digest = hashlib.sha256(str(to_dict(model.config)).encode())
    for name, tensor in model.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
