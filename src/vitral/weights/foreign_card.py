"""What another project says of images and classes, as a card."""

from collections.abc import Mapping
from typing import Any, Literal

from vitral.card import ModelCard
from vitral.data.images.preprocess import Preprocessing
from vitral.vit_config import ViTConfig
from vitral.weights.class_names.imagenet import imagenet_aliases, imagenet_classes
from vitral.weights.lineages.lineage import Lineage

__all__ = ["foreign_card"]

Filter = Literal["bilinear", "bicubic", "lanczos"]
FILTERS: dict[Any, Filter] = {1: "lanczos", 2: "bilinear", 3: "bicubic"}
"""Pillow's numbers, which transformers writes."""


def foreign_card(config: ViTConfig, lineage: Lineage, settings: Mapping[str, Any], *, origin: str) -> ModelCard:
    """The card of a model that another project made.

    Where its settings (timm's `pretrained_cfg`, transformers' `preprocessor_config.json` and `id2label`) say nothing,
    images are scaled as is usual for the format, as many classes as a list of ImageNet has are its own, and others have
    numbers.

    Args:
        config: the model's architecture.
        lineage: the format.
        settings: what stood beside the weights.
        origin: the file's name.
    """
    timm = settings.get("pretrained_cfg")
    told = timm if isinstance(timm, dict) else {}
    mean = _numbers(told.get("mean") or settings.get("image_mean"), lineage.mean, config.channels)
    std = _numbers(told.get("std") or settings.get("image_std"), lineage.std, config.channels)
    filter: Filter = FILTERS.get(settings.get("resample"), "bilinear")
    if told.get("interpolation") in ("bilinear", "bicubic", "lanczos"):
        filter = told["interpolation"]
    crop_ratio = None if told.get("crop_mode") == "squash" else _crop_ratio(told, settings)
    preprocessing = Preprocessing(
        image_size=config.image_hw,
        channels=config.channels,
        resize="squash" if crop_ratio is None else "crop",
        crop_ratio=crop_ratio or 0.875,
        interpolation=filter,
        mean=mean,
        std=std,
    )
    return ModelCard(
        preprocessing=preprocessing,
        classes=_classes(config.num_classes, settings),
        provenance={"weights": origin, "lineage": lineage.name},
    )


def _crop_ratio(timm: Mapping[str, Any], settings: Mapping[str, Any]) -> float | None:
    """The share of the short side that is cut out: in timm's words, or transformers'."""
    ratio, size, crop = timm.get("crop_pct"), settings.get("size"), settings.get("crop_size")
    if settings.get("do_center_crop") and isinstance(size, dict) and isinstance(crop, dict):
        edge, height = size.get("shortest_edge"), crop.get("height")
        ratio = height / edge if isinstance(edge, int) and isinstance(height, int) and edge else None
    return float(ratio) if isinstance(ratio, int | float) and 0 < ratio <= 1 else None


def _numbers(found: Any, usual: tuple[float, ...], channels: int) -> tuple[float, ...]:
    """One number a channel; their mean where there are other channels than the file knows."""
    numbers = tuple(map(float, found)) if isinstance(found, list | tuple) and found else usual
    return numbers if len(numbers) == channels else (sum(numbers) / len(numbers),) * channels


def _classes(count: int, settings: Mapping[str, Any]) -> tuple[str, ...]:
    labels = settings.get("id2label")
    if isinstance(labels, dict) and len(labels) == count and all(str(index) in labels for index in range(count)):
        return tuple(str(labels[str(index)]) for index in range(count))
    known = imagenet_classes(count)
    names = settings.get("label_names")
    if isinstance(names, list) and len(names) == count:
        aliases = imagenet_aliases(known or ())
        return tuple(aliases.get(name, name) for name in map(str, names))
    return known or tuple(f"class {label}" for label in range(count))
