"""The model card of an upstream checkpoint: its preprocessing and class names."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from vitral.card import ModelCard
from vitral.data.images.decode import MODES
from vitral.data.images.preprocess import Preprocessing
from vitral.errors import UserError
from vitral.vit_config import ViTConfig
from vitral.weights.class_names.imagenet import imagenet_aliases, imagenet_classes
from vitral.weights.lineages.lineage import IMAGENET, Images, Lineage
from vitral.weights.lineages.timm_preprocessing import timm_preprocessing

__all__ = ["CARD_KEYS", "upstream_card"]

CARD_KEYS = frozenset(
    (
        *("pretrained_cfg", "preprocess_cfg", "label_names", "id2label", "image_processor_type"),
        *("feature_extractor_type", "processor_class", "crop_size", "do_center_crop", "do_convert_rgb", "do_normalize"),
        *("do_rescale", "do_resize", "image_mean", "image_std", "resample", "rescale_factor", "size"),
    )
)
"""Keys of upstream configurations that the card is read from, or that its notes name."""

IMAGE_KEYS = CARD_KEYS - {"label_names", "id2label", "processor_class"}
"""Those of them that describe preprocessing."""
Filter = Literal["bilinear", "bicubic", "lanczos"]
FILTERS: dict[Any, Filter] = {"lanczos": "lanczos", "bilinear": "bilinear", "bicubic": "bicubic"}
PILLOW = ("nearest", "lanczos", "bilinear", "bicubic", "box", "hamming")
"""Names of Pillow's filters by number, which transformers writes."""
CROPPING = ("CLIP", "Bit", "DeiT")
"""Processors of transformers that crop the centre, if their configuration does not state it."""
BICUBIC = (*CROPPING, "Siglip")
"""Processors of transformers whose default filter is bicubic."""


@dataclass(kw_only=True)
class _Found:
    """Preprocessing as upstream states it, as near as Vitral has it, and notes on the differences."""

    mean: Any = None
    std: Any = None
    scale: float = 1.0
    """What mean and standard deviation are divided by to apply to values in 0..1."""
    filter: Filter = "bilinear"
    crop_ratio: float | None = None
    """Fraction of the short side that the centre crop keeps; None: the whole image is squashed."""
    size: tuple[int, int] | None = None
    """Height and width of the images that upstream makes."""
    notes: list[str] = field(default_factory=list)

    def set_filter(self, name: Any) -> None:
        """Sets the filter, or notes that Vitral lacks it."""
        if name in FILTERS:
            self.filter = FILTERS[name]
        else:
            self.notes.append(f"its preprocessing resizes with the filter {name}, Vitral with {self.filter}")


def upstream_card(
    config: ViTConfig, lineage: Lineage, upstream_config: Mapping[str, Any], *, origin: str, named: bool = True
) -> tuple[ModelCard, list[str]]:
    """Builds the card from timm's `pretrained_cfg`, OpenCLIP's `preprocess_cfg`, or transformers'
    `preprocessor_config.json`; class names from `label_names` or `id2label`.

    Without them, preprocessing is that of timm's architecture of this name, else the format's default, which a note
    names unless all models of the format have it. Class names are ImageNet's if one of its lists has as many classes,
    else numbers.

    Args:
        config: architecture of the model.
        lineage: format of the checkpoint.
        upstream_config: the upstream `config.json` and similar files.
        origin: name of the file.
        named: whether the file has a head that names classes.

    Returns:
        The card, and one sentence for each difference from what the configuration states.

    Raises:
        UserError: the stated preprocessing has values of a wrong type or range.
    """
    try:
        preprocessing, notes = _preprocessing(config, lineage, upstream_config)
    except (TypeError, ValueError, ArithmeticError) as error:
        raise UserError(f"{origin}: the preprocessing that its configuration states cannot be read: {error}") from None
    classes, class_notes = _classes(config.num_classes, upstream_config)
    card = ModelCard(
        preprocessing=preprocessing,
        classes=classes if named else (),
        provenance={"weights": origin, "lineage": lineage.name},
    )
    return card, [*notes, *(class_notes if named else ())]


def _preprocessing(
    config: ViTConfig, lineage: Lineage, upstream_config: Mapping[str, Any]
) -> tuple[Preprocessing, list[str]]:
    """Preprocessing, and notes on its differences from the upstream one."""
    default = lineage.images(config, upstream_config)
    found = _found(upstream_config, default, bands=config.channels not in MODES)
    if found.size not in (None, config.image_hw):
        made, takes = ("x".join(map(str, size)) for size in (found.size, config.image_hw))
        found.notes.append(
            f"its preprocessing makes images of {made} pixels, the model takes {takes}: "
            "--image-size (in Python image_size=) sets another size"
        )
    mean, std = (
        tuple(value / found.scale for value in _per_channel(name, values, default, config.channels))
        for name, values, default in (("mean", found.mean, default.mean), ("std", found.std, default.std))
    )
    # the mean and deviation of other images than pictures are in units that are not known
    bands = config.channels not in MODES
    if bands:
        found.notes.append(
            f"it takes images of {config.channels} channels: train it with --data.channels {config.channels}, which "
            "measures their mean and deviation"
        )
    preprocessing = Preprocessing(
        image_size=config.image_hw,
        channels=config.channels,
        bands=bands,
        resize="squash" if found.crop_ratio is None else "crop",
        crop_ratio=found.crop_ratio or 0.875,
        interpolation=found.filter,
        mean=() if bands else mean,
        std=() if bands else std,
    )
    return preprocessing, found.notes


def _found(upstream_config: Mapping[str, Any], default: Images, *, bands: bool) -> _Found:
    """What the configuration states; else what timm's table says of the architecture; else the default, with a note."""
    if isinstance(timm := upstream_config.get("pretrained_cfg"), dict):
        return _timm(timm)
    if isinstance(open_clip := upstream_config.get("preprocess_cfg"), dict):
        return _open_clip(open_clip)
    if IMAGE_KEYS & upstream_config.keys():
        return _transformers(upstream_config)
    if stated := timm_preprocessing(str(upstream_config.get("architecture") or "")):
        return _timm(stated)
    found = _Found(filter=default.interpolation, crop_ratio=default.crop_ratio)
    if default.like and not bands:
        mean = ", ".join(f"{value:g}" for value in dict.fromkeys(default.mean))
        shape = "the whole image" if default.crop_ratio is None else f"a centre crop of {default.crop_ratio:g}"
        named = "a config.json that names its architecture"
        file = named if default.like.startswith("timm") else "a preprocessor_config.json"
        beside = upstream_config.keys() - {"num_heads", "num_attention_heads"}
        fix = f"put {file} beside it" if beside else f"name a folder with this file and {file}"
        found.notes.append(
            f"the file does not store its preprocessing: mean {mean} and {shape} are assumed, as of {default.like}; "
            f"to state another, {fix}"
        )
    return found


def _timm(pretrained_cfg: Mapping[str, Any]) -> _Found:
    """timm's evaluation transform: a centre crop, unless `crop_mode` is another."""
    found = _Found(
        mean=pretrained_cfg.get("mean") or IMAGENET["mean"], std=pretrained_cfg.get("std") or IMAGENET["std"]
    )
    found.set_filter(pretrained_cfg.get("interpolation") or "bicubic")
    ratio, mode = pretrained_cfg.get("crop_pct") or 0.875, pretrained_cfg.get("crop_mode") or "center"
    if mode != "squash":
        found.crop_ratio = min(float(ratio), 1.0)
    elif ratio != 1:
        found.notes.append("its preprocessing crops the squashed image, Vitral keeps all of it")
    if mode not in ("center", "squash"):
        found.notes.append(f"its preprocessing has the crop_mode {mode}, Vitral crops the centre")
    return found


def _open_clip(preprocess_cfg: Mapping[str, Any]) -> _Found:
    """OpenCLIP's evaluation transform: the short side is resized and the centre cropped, unless it squashes."""
    found = _Found(mean=preprocess_cfg.get("mean"), std=preprocess_cfg.get("std"), filter="bicubic", crop_ratio=1.0)
    found.set_filter(preprocess_cfg.get("interpolation") or "bicubic")
    mode, size = preprocess_cfg.get("resize_mode") or "shortest", preprocess_cfg.get("size")
    if mode == "squash":
        found.crop_ratio = None
    elif mode != "shortest":
        found.notes.append(f"its preprocessing has the resize_mode {mode}, Vitral crops the centre")
    found.size = _height_width(size)
    return found


def _transformers(stated: Mapping[str, Any]) -> _Found:
    """transformers' image processors: resize, centre crop, rescale, normalise, each of which may be off."""
    processor = str(stated.get("image_processor_type") or stated.get("feature_extractor_type"))
    found = _Found(mean=stated.get("image_mean"), std=stated.get("image_std"))
    if stated.get("do_normalize") is False:
        found.mean, found.std = (0.0,), (1.0,)
    if stated.get("do_rescale") is False:
        found.scale = 255.0
    elif (factor := stated.get("rescale_factor")) is not None and abs(255 * factor - 1) > 1e-6:
        found.scale = 255.0 * factor
    filter = stated.get("resample", "bicubic" if processor.startswith(BICUBIC) else "bilinear")
    found.set_filter(PILLOW[filter] if isinstance(filter, int) and 0 <= filter < len(PILLOW) else filter)
    if stated.get("do_resize") is False:
        found.notes.append("its preprocessing does not resize images (do_resize false), Vitral resizes them")
    else:
        _set_geometry(found, stated, crop=bool(stated.get("do_center_crop", processor.startswith(CROPPING))))
    return found


def _set_geometry(found: _Found, stated: Mapping[str, Any], *, crop: bool) -> None:
    """Size and crop of transformers' processors, from the forms of `size` and `crop_size` of all versions."""
    size = stated.get("size")
    if isinstance(size, int):  # older versions: the short side if a crop follows
        size = {"shortest_edge": size} if crop else {"height": size, "width": size}
    if not isinstance(size, dict):
        return
    whole, edge = _height_width(size), size.get("shortest_edge")
    cropped = _height_width(stated.get("crop_size")) if crop else None
    if cropped is None and whole is not None:
        found.size = whole
    elif cropped is not None and whole is not None:
        found.size, found.crop_ratio = cropped, min(1.0, cropped[0] / whole[0])
        found.notes.append("its preprocessing squashes images before it crops them, Vitral keeps their aspect ratio")
    elif isinstance(edge, int) and edge > 0:
        found.size, found.crop_ratio = cropped, min(1.0, min(cropped or (edge,)) / edge)
        if cropped is None:
            found.notes.append("its preprocessing does not crop the resized image, Vitral crops its centre")
    else:
        found.notes.append(f"its preprocessing has the size {size}, Vitral squashes images to the model's size")


def _height_width(size: Any) -> tuple[int, int] | None:
    """Height and width in pixels of one number, a pair or a dictionary with both."""
    if isinstance(size, dict):
        size = (size.get("height"), size.get("width"))
    elif isinstance(size, int):
        size = (size, size)
    if isinstance(size, list | tuple) and len(size) == 2 and all(isinstance(side, int) and side > 0 for side in size):
        return size[0], size[1]
    return None


def _per_channel(name: str, values: Any, default: tuple[float, ...], channels: int) -> tuple[float, ...]:
    """One number per channel: one number stands for every channel, and three for colours become their mean.

    Raises:
        UserError: there are other numbers of values.
    """
    numbers = (values,) if isinstance(values, int | float) else tuple(values or default)
    if len(numbers) == channels:
        return tuple(map(float, numbers))
    if len(numbers) not in (1, 3):
        raise UserError(f"it has {len(numbers)} numbers as {name}, but the images have {channels} channels")
    return (sum(map(float, numbers)) / len(numbers),) * channels


def _classes(count: int, upstream_config: Mapping[str, Any]) -> tuple[tuple[str, ...], list[str]]:
    """Class names, and a note if the configuration has some that do not fit the head."""
    labels, names = upstream_config.get("id2label"), upstream_config.get("label_names")
    if isinstance(labels, dict) and len(labels) == count and all(str(index) in labels for index in range(count)):
        return tuple(str(labels[str(index)]) for index in range(count)), []
    imagenet = imagenet_classes(count)
    if isinstance(names, list) and len(names) == count:
        aliases = imagenet_aliases(imagenet or ())
        return tuple(aliases.get(name, name) for name in map(str, names)), []
    key, given = ("id2label", labels) if labels else ("label_names", names)
    classes = imagenet or tuple(f"class {label}" for label in range(count))
    if not given:
        return classes, []
    reason = f"names {len(given)} classes, and the head has {count}"
    reason = reason if len(given) != count else f"does not have the keys 0 to {count - 1}"
    return classes, [f"ignored its {key}, which {reason}: the classes are called {classes[0]} to {classes[-1]}"]
