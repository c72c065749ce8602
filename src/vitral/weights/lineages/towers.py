"""Image towers of transformers' image-text models: CLIP and SigLIP.

CLIP's projection to the joint embedding space becomes the head, without a bias. The text tower is ignored.
"""

import re
from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor

from vitral.errors import UserError
from vitral.vit_config import ViTConfig
from vitral.weights.lineages.lineage import (
    CLIP_IMAGES,
    HALF,
    SIGLIP_HEADS,
    Images,
    Lineage,
    Tensors,
    count_indices,
    default_num_heads,
    shape_fields,
)
from vitral.weights.lineages.stated import (
    COMMON_KEYS,
    check_classifier,
    check_model_type,
    check_sizes,
    common_sizes,
    gelu_form,
    image_size,
    stated_heads,
)
from vitral.weights.mapping import UNBATCHED, VECTOR, TensorMapping

__all__ = ["CLIP", "SIGLIP"]

PATCHES, POSITIONS = "embeddings.patch_embedding", "embeddings.position_embedding.weight"
CLASS_TOKEN, REGISTERS = "embeddings.class_embedding", "embeddings.register_tokens"

TEXT_TOWER = r"^text_|^logit_|position_ids$"
"""Other tensors in files of transformers' image-text models."""
CLIP_TYPES = tuple(
    f"{family}{tower}" for family in ("chinese_clip", "clip", "metaclip_2") for tower in ("", "_vision_model")
)
SIGLIP_TYPES = ("siglip", "siglip_vision_model")
UNKNOWN_GELU = (
    "its GELU: OpenAI's weights need --gelu quick (in Python gelu=\"quick\"), LAION's --gelu erf; or name a folder "
    "with this file and its config.json"
)
SIGLIP_MARKS = {"model_type", "vision_use_head"}
UNKNOWN_TOWER = (
    "whether its tower is SigLIP's or PaddleOCR-VL's, which has rotary positions: for SigLIP's mean of patches, "
    'name a folder with this file and a config.json of {"vision_use_head": false} (in Python pool="gap")'
)

MODULES = {PATCHES: "patch_embed.proj", "pre_layrnorm": "norm_pre", "post_layernorm": "norm"}
BLOCK_MODULES = {
    "layer_norm1": "norm1",
    "self_attn.out_proj": "attn.proj",
    "layer_norm2": "norm2",
    "mlp.fc1": "mlp.fc1",
    "mlp.fc2": "mlp.fc2",
}
MAP_HEAD_MODULES = {
    "head.attention.out_proj": "pool.proj",
    "head.layernorm": "pool.norm",
    "head.mlp.fc1": "pool.mlp.fc1",
    "head.mlp.fc2": "pool.mlp.fc2",
    "head.attention.q": "pool.q",
    "head.attention.kv": "pool.kv",
}


def _vision_config(upstream_config: Mapping[str, Any]) -> Mapping[str, Any]:
    """Configuration of the image tower; older files state it in `vision_config_dict`, which comes first."""
    vision = upstream_config.get("vision_config_dict") or upstream_config.get("vision_config")
    return vision if isinstance(vision, dict) else upstream_config


def _num_heads(tensors: Tensors, upstream_config: Mapping[str, Any]) -> int | None:
    section = _vision_config(upstream_config)
    if section is not upstream_config:  # a part may leave out its model type
        section = {"model_type": upstream_config.get("model_type"), **section}
    return stated_heads(section, upstream_config.get("num_heads"))


def _canonicalise(tensors: Tensors) -> dict[str, Tensor]:
    return {re.sub(r"^vision_model\.", "", name): tensor for name, tensor in tensors.items()}


def _tower_config(
    tensors: Tensors,
    upstream_config: Mapping[str, Any],
    *,
    gelu: Literal["tanh", "quick"],
    norm_eps: float,
    num_classes: int,
    **parts: Any,
) -> ViTConfig:
    """Sizes come from the shapes and `config.json`; the other arguments are defaults and parts of the architecture."""
    stated = _vision_config(upstream_config)
    width, channels, p, q = tensors[f"{PATCHES}.weight"].shape
    hidden = len(tensors["encoder.layers.0.mlp.fc1.weight"])
    depth = count_indices(tensors, "encoder.layers.", ".layer_norm1.weight")
    shapes: dict[str, Any] = dict(width=width, depth=depth, hidden=hidden, channels=channels, patch=(p, q))
    check_sizes(stated, **common_sizes(**shapes))
    patches = len(tensors[POSITIONS]) - (CLASS_TOKEN in tensors)
    published = None if parts.get("pre_norm") else SIGLIP_HEADS
    return ViTConfig(
        image_size=image_size(stated, patches=patches, patch=(p, q), name=POSITIONS),
        **shape_fields(**shapes, heads=_num_heads(tensors, upstream_config) or default_num_heads(width, published)),
        num_classes=num_classes,
        position_resample="huggingface",
        gelu=gelu_form(stated, gelu),
        norm_eps=stated.get("layer_norm_eps", norm_eps),
        **parts,
    )


def _clip_canonicalise(tensors: Tensors) -> dict[str, Tensor]:
    """A class token that the classifier does not read becomes a register, with its position added.

    `CLIPForImageClassification` reads the mean of the patches.
    """
    canonical = _canonicalise(tensors)
    if "classifier.weight" in canonical and CLASS_TOKEN in canonical and POSITIONS in canonical:
        positions = canonical[POSITIONS]
        canonical[REGISTERS], canonical[POSITIONS] = canonical.pop(CLASS_TOKEN) + positions[0], positions[1:]
    return canonical


def _clip_config(tensors: Tensors, upstream_config: Mapping[str, Any]) -> ViTConfig:
    """OpenAI's quick GELU is the default, as in transformers."""
    section = _vision_config(upstream_config)
    check_model_type(section, CLIP_TYPES)
    head, classifier = tensors.get("visual_projection.weight"), tensors.get("classifier.weight")
    if head is not None:
        check_sizes(upstream_config, projection_dim=len(head))
    if classifier is None:
        parts: dict[str, Any] = dict(head_bias=None, num_classes=1000 if head is None else len(head))
    else:  # it reads the patches before the final norm
        check_classifier(upstream_config, "mean of the patches", "the pooled output", "CLIPForImageClassification")
        parts = dict(pool="gap", num_registers=1, final_norm=False, num_classes=len(classifier))
    return _tower_config(
        tensors, upstream_config, gelu="quick", norm_eps=1e-5, patch_bias=False, pre_norm=True, **parts
    )


def _clip_undecided(tensors: Tensors, upstream_config: Mapping[str, Any]) -> dict[str, str]:
    stated = "hidden_act" in _vision_config(upstream_config) or "model_type" in upstream_config
    return {} if stated else {"gelu": UNKNOWN_GELU}


def _siglip_config(tensors: Tensors, upstream_config: Mapping[str, Any]) -> ViTConfig:
    """Without a classifier, texts are compared with the vector that attention pools.

    Raises:
        UserError: a NaFlex model of SigLIP 2, whose patches come from images of any aspect ratio.
    """
    section = _vision_config(upstream_config)
    if tensors[f"{PATCHES}.weight"].ndim == 2 or str(section.get("model_type")).startswith("siglip2"):
        raise UserError("it is a NaFlex model of SigLIP 2, which Vitral does not support: load one of a fixed size")
    check_model_type(section, SIGLIP_TYPES)
    classifier = tensors.get("classifier.weight")
    if classifier is not None:
        check_classifier(upstream_config, "mean of the patches", "the pooled output", "SiglipForImageClassification")
    attention = "head.probe" in tensors and classifier is None and section.get("vision_use_head") is not False
    return _tower_config(
        tensors,
        upstream_config,
        gelu="tanh",
        norm_eps=1e-6,
        num_classes=1000 if classifier is None else len(classifier),
        pool="map" if attention else "gap",
    )


def _siglip_undecided(tensors: Tensors, upstream_config: Mapping[str, Any]) -> dict[str, str]:
    """Without pooling, classifier and configuration, the tensors may be PaddleOCR-VL's, whose rotary positions have
    none of their own.
    """
    decided = any(name.startswith(("head.", "classifier.")) for name in tensors)
    return {} if decided or _vision_config(upstream_config).keys() & SIGLIP_MARKS else {"pool": UNKNOWN_TOWER}


def _siglip_assumptions(config: ViTConfig, tensors: Tensors, upstream_config: Mapping[str, Any]) -> list[str]:
    headless = config.pool == "gap" and "classifier.weight" not in tensors
    return ["the model has no pooling: the mean of the patches is used, as by its classifiers"] if headless else []


def _mapping(c: ViTConfig) -> list[TensorMapping]:
    optional = {"norm_pre": c.pre_norm, "norm": c.final_norm}
    names = {upstream: name for upstream, name in MODULES.items() if optional.get(name, True)}
    mapping = [TensorMapping("pos_embed", (POSITIONS,), UNBATCHED)]
    for index in range(c.depth):
        layer, block = f"encoder.layers.{index}.", f"blocks.{index}."
        names |= {layer + upstream: block + name for upstream, name in BLOCK_MODULES.items()}
        for kind in ("weight", "bias"):
            parts = tuple(f"{layer}self_attn.{part}_proj.{kind}" for part in "qkv")
            mapping.append(TensorMapping(f"{block}attn.qkv.{kind}", parts))
    if c.pool == "cls":
        mapping.append(TensorMapping("cls_token", (CLASS_TOKEN,), VECTOR))
        mapping.append(TensorMapping("head.weight", ("visual_projection.weight",)))
    else:
        names["classifier"] = "head"
    if c.num_registers:
        mapping.append(TensorMapping("reg_token", (REGISTERS,), VECTOR))
    if c.pool == "map":
        names |= MAP_HEAD_MODULES
        mapping.append(TensorMapping("pool.latent", ("head.probe",)))
    for upstream, name in names.items():
        kinds = ("weight", "bias") if c.patch_bias or name != "patch_embed.proj" else ("weight",)
        mapping += [TensorMapping(f"{name}.{kind}", (f"{upstream}.{kind}",)) for kind in kinds]
    return mapping


def _siglip_canonicalise(tensors: Tensors) -> dict[str, Tensor]:
    """Splits the fused projection of SigLIP's pooling into queries, and keys with values."""
    split = _canonicalise(tensors)
    for kind in ("weight", "bias"):
        if (fused := split.pop(f"head.attention.in_proj_{kind}", None)) is not None:
            width = len(fused) // 3
            split[f"head.attention.q.{kind}"], split[f"head.attention.kv.{kind}"] = fused[:width], fused[width:]
    return split


def _siglip_finalise(tensors: dict[str, Tensor], config: ViTConfig) -> dict[str, Tensor]:
    """Tensors of `SiglipVisionModel`, which has no classifier."""
    for kind in ("weight", "bias"):
        parts = [tensors.pop(f"head.attention.{part}.{kind}") for part in ("q", "kv")]
        tensors[f"head.attention.in_proj_{kind}"] = torch.cat(parts)
    return {name: tensor for name, tensor in tensors.items() if not name.startswith("classifier.")}


def _clip_finalise(tensors: dict[str, Tensor], config: ViTConfig) -> dict[str, Tensor]:
    """Tensors of `CLIPVisionModelWithProjection`, or of `CLIPVisionModel` if there is no projection."""
    return {name if name.startswith("visual_") else f"vision_model.{name}": tensor for name, tensor in tensors.items()}


KEYS = COMMON_KEYS - {"head_dim", "qkv_bias"}
STORES = {
    **dict.fromkeys(("qk_norm", "pooled_norm", "distillation"), (False,)),
    **dict.fromkeys(("layer_scale", "stem_stages", "representation_size"), (None,)),
    "num_registers": (0,),
    "mlp": ("gelu",),
}
CLIP = Lineage(
    name="clip",
    matches=lambda tensors: "pre_layrnorm.weight" in tensors and f"{PATCHES}.weight" in tensors,
    infer_config=_clip_config,
    mapping=_mapping,
    images=lambda config, stated: Images(**CLIP_IMAGES),
    num_heads=_num_heads,
    config_keys=KEYS | {"projection_dim"},
    config_section=_vision_config,
    canonicalise=_clip_canonicalise,
    stores=STORES | {"pool": ("cls",), "pre_norm": (True,)},
    ignore=TEXT_TOWER + r"|^post_layernorm\.",
    undecided=_clip_undecided,
    finalise=_clip_finalise,
)
"""`CLIPModel`, `CLIPVisionModel`, `CLIPVisionModelWithProjection` and `CLIPForImageClassification`."""
SIGLIP = Lineage(
    name="siglip",
    matches=lambda tensors: (
        POSITIONS in tensors and "post_layernorm.weight" in tensors and "pre_layrnorm.weight" not in tensors
    ),
    infer_config=_siglip_config,
    mapping=_mapping,
    images=lambda config, stated: Images(**HALF, interpolation="bicubic", like="SigLIP of fixed size"),
    num_heads=_num_heads,
    config_keys=KEYS | {"num_patches", "vision_use_head"},
    config_section=_vision_config,
    canonicalise=_siglip_canonicalise,
    stores=STORES | {"pool": ("map",), "pre_norm": (False,)},
    ignore=TEXT_TOWER + r"|^head\.",
    undecided=_siglip_undecided,
    assumptions=_siglip_assumptions,
    finalise=_siglip_finalise,
)
"""`SiglipModel`, `SiglipVisionModel` and `SiglipForImageClassification`."""
