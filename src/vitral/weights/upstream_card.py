"""The model card of an upstream checkpoint: its preprocessing and class names."""

from collections.abc import Mapping
from typing import Any, Literal

from vitral.card import ModelCard
from vitral.data.images.preprocess import Preprocessing
from vitral.vit_config import ViTConfig
from vitral.weights.class_names.imagenet import imagenet_aliases, imagenet_classes
from vitral.weights.lineages.lineage import Lineage

__all__ = ["upstream_card"]

Filter = Literal["bilinear", "bicubic", "lanczos"]
FILTERS: dict[Any, Filter] = {1: "lanczos", 2: "bilinear", 3: "bicubic"}
"""Pillow's filter numbers, which transformers writes."""


def upstream_card(config: ViTConfig, lineage: Lineage, upstream_config: Mapping[str, Any], *, origin: str) -> ModelCard:
    """Builds the card from timm's `pretrained_cfg`, or transformers' `preprocessor_config.json` and `id2label`.

    Without them, images are normalised with the format's defaults, and class names are ImageNet's if one of its lists
    has as many classes, else numbers.

    Args:
        config: architecture of the model.
        lineage: format of the checkpoint.
        upstream_config: the upstream `config.json` and similar files.
        origin: name of the file.
    """
    timm = upstream_config.get("pretrained_cfg")
    pretrained_cfg = timm if isinstance(timm, dict) else {}
    mean = _per_channel(pretrained_cfg.get("mean") or upstream_config.get("image_mean"), lineage.mean, config.channels)
    std = _per_channel(pretrained_cfg.get("std") or upstream_config.get("image_std"), lineage.std, config.channels)
    filter: Filter = FILTERS.get(upstream_config.get("resample"), "bilinear")
    if pretrained_cfg.get("interpolation") in ("bilinear", "bicubic", "lanczos"):
        filter = pretrained_cfg["interpolation"]
    crop_ratio = None if pretrained_cfg.get("crop_mode") == "squash" else _crop_ratio(pretrained_cfg, upstream_config)
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
        classes=_classes(config.num_classes, upstream_config),
        provenance={"weights": origin, "lineage": lineage.name},
    )


def _crop_ratio(pretrained_cfg: Mapping[str, Any], upstream_config: Mapping[str, Any]) -> float | None:
    """Fraction of the short side that the centre crop keeps; None if there is no centre crop."""
    ratio, size, crop = pretrained_cfg.get("crop_pct"), upstream_config.get("size"), upstream_config.get("crop_size")
    if upstream_config.get("do_center_crop") and isinstance(size, dict) and isinstance(crop, dict):
        edge, height = size.get("shortest_edge"), crop.get("height")
        ratio = height / edge if isinstance(edge, int) and isinstance(height, int) and edge else None
    return float(ratio) if isinstance(ratio, int | float) and 0 < ratio <= 1 else None


def _per_channel(values: Any, default: tuple[float, ...], channels: int) -> tuple[float, ...]:
    """One number per channel; their mean for every channel if the model has another number of channels."""
    numbers = tuple(map(float, values)) if isinstance(values, list | tuple) and values else default
    return numbers if len(numbers) == channels else (sum(numbers) / len(numbers),) * channels


def _classes(count: int, upstream_config: Mapping[str, Any]) -> tuple[str, ...]:
    labels = upstream_config.get("id2label")
    if isinstance(labels, dict) and len(labels) == count and all(str(index) in labels for index in range(count)):
        return tuple(str(labels[str(index)]) for index in range(count))
    imagenet = imagenet_classes(count)
    names = upstream_config.get("label_names")
    if isinstance(names, list) and len(names) == count:
        aliases = imagenet_aliases(imagenet or ())
        return tuple(aliases.get(name, name) for name in map(str, names))
    return imagenet or tuple(f"class {label}" for label in range(count))
