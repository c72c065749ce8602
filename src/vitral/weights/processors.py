"""Image processors of transformers: which one prepares a model's images, and the defaults of its class."""

import re
from collections.abc import Mapping
from typing import Any

from vitral.weights.lineages.lineage import CLIP_IMAGES, HALF, IMAGENET

__all__ = ["PROCESSORS", "PROCESSOR_OF", "SQUASHING", "processor_defaults", "processor_name"]

SQUARE = {"height": 224, "width": 224}


def _defaults(images: Mapping[str, Any], resample: str, **geometry: Any) -> dict[str, Any]:
    return dict(image_mean=images["mean"], image_std=images["std"], resample=resample, **geometry)


_CROPPED: dict[str, Any] = dict(do_center_crop=True, crop_size=SQUARE)
_CLIP = _defaults(CLIP_IMAGES, "bicubic", size={"shortest_edge": 224}, **_CROPPED)
PROCESSORS: dict[str, dict[str, Any]] = {
    "Bit": _CLIP,
    "CLIP": _CLIP,
    "ChineseCLIP": _CLIP,
    "DINOv3ViT": _defaults(IMAGENET, "bilinear", size=SQUARE),
    "DeiT": _defaults(HALF, "bicubic", size={"height": 256, "width": 256}, **_CROPPED),
    "Siglip": _defaults(HALF, "bicubic", size=SQUARE),
    "ViT": _defaults(HALF, "bilinear", size=SQUARE),
}
"""Defaults of each class by its name, without the ending `ImageProcessor`; a test compares them with transformers."""
SQUASHING = ("DINOv3ViT", "DeiT", "ViT")
"""Those for which a size of one number is that of both sides, not of the short one."""
PROCESSOR_OF = {
    "chinese_clip": "ChineseCLIP",
    "clip": "CLIP",
    "clip_vision_model": "CLIP",
    "deit": "DeiT",
    "dinov2": "Bit",
    "dinov2_with_registers": "Bit",
    "dinov3_vit": "DINOv3ViT",
    "ijepa": "ViT",
    "metaclip_2": "CLIP",
    "siglip": "Siglip",
    "siglip_vision_model": "Siglip",
    "vit": "ViT",
    "vit_mae": "ViT",
    "vit_msn": "ViT",
}
"""Processor by `model_type`, for a configuration that does not name one."""


def processor_name(stated: Mapping[str, Any]) -> str:
    """The processor that a configuration names, or that belongs to its `model_type`; empty if neither is known."""
    name = stated.get("image_processor_type") or stated.get("feature_extractor_type")
    if isinstance(name, str):
        return re.sub(r"(FeatureExtractor|ImageProcessor(Fast|Pil)?)$", "", name)
    return PROCESSOR_OF.get(str(stated.get("model_type")), "")


def processor_defaults(name: str) -> dict[str, Any] | None:
    """What its class has where the configuration states nothing; None for a class that Vitral does not know."""
    return PROCESSORS.get(name)
