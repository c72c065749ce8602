"""transformers' ViT, DeiT, MAE, MSN and I-JEPA, with the tensor names of old and new versions."""

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from vitral.errors import UserError
from vitral.vit_config import ViTConfig
from vitral.weights.lineages.lineage import (
    HALF,
    IMAGENET,
    NO_EPSILON,
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
from vitral.weights.mapping import TensorMapping

__all__ = ["TRANSFORMERS", "num_heads", "renamed"]

RENAMES = {
    r"\bencoder\.layer\.(\d+)\.attention\.attention\.(query|key|value)\.": r"layers.\1.attention.\2.",
    r"\bencoder\.layer\.(\d+)\.attention\.output\.dense\.": r"layers.\1.attention.o_proj.",
    r"\bencoder\.layer\.(\d+)\.intermediate\.dense\.": r"layers.\1.mlp.fc1.",
    r"\bencoder\.layer\.(\d+)\.output\.dense\.": r"layers.\1.mlp.fc2.",
    r"\bencoder\.layer\.": "layers.",
    r"\.query\.": ".q_proj.",
    r"\.key\.": ".k_proj.",
    r"\.value\.": ".v_proj.",
}
"""Names of older versions, and of DINOv2, as newer versions of ViT have them."""

POSITIONS, CLASS_TOKEN = "embeddings.position_embeddings", "embeddings.cls_token"
DISTILLATION_TOKEN, REGISTERS = "embeddings.distillation_token", "embeddings.register_tokens"
BLOCK = {"norm1": "layernorm_before", "norm2": "layernorm_after", "mlp.fc1": "mlp.fc1", "mlp.fc2": "mlp.fc2"}
MODEL_TYPES = ("vit", "deit", "vit_mae", "vit_msn", "ijepa")


def renamed(tensors: Tensors, *, prefixes: str) -> dict[str, Tensor]:
    """Strips prefixes and applies `RENAMES`."""
    new_tensors = {}
    for name, tensor in tensors.items():
        new_name = re.sub(prefixes, "", name)
        for old, new in RENAMES.items():
            new_name = re.sub(old, new, new_name)
        new_tensors[new_name] = tensor
    return new_tensors


def num_heads(tensors: Tensors, upstream_config: Mapping[str, Any]) -> int | None:
    """Attention heads that the configuration states."""
    return stated_heads(upstream_config)


def _canonicalise(tensors: Tensors) -> dict[str, Tensor]:
    """Renames the tensors; a distillation token that no classifier reads becomes a register, with its position added.

    The single classifier of `DeiTForImageClassification` reads the class token only.
    """
    canonical = renamed(tensors, prefixes=r"^(vit|deit|ijepa)\.|^cls_(?=classifier)")
    if "classifier.weight" in tensors and DISTILLATION_TOKEN in canonical and POSITIONS in canonical:
        positions = canonical[POSITIONS]
        canonical[REGISTERS] = canonical.pop(DISTILLATION_TOKEN) + positions[:, 1:2]
        canonical[POSITIONS] = torch.cat([positions[:, :1], positions[:, 2:]], dim=1)
    return canonical


def _infer_config(tensors: Tensors, upstream_config: Mapping[str, Any]) -> ViTConfig:
    """Sizes come from the shapes and `config.json`."""
    check_model_type(upstream_config, MODEL_TYPES)
    width, channels, p, q = tensors["embeddings.patch_embeddings.projection.weight"].shape
    distilled, pool = DISTILLATION_TOKEN in tensors, "cls" if CLASS_TOKEN in tensors else "gap"
    depth = count_indices(tensors, "layers.", ".attention.q_proj.weight")
    hidden = tensors["layers.0.mlp.fc1.weight"].shape[0]
    shapes: dict[str, Any] = dict(width=width, depth=depth, hidden=hidden, channels=channels, patch=(p, q))
    sizes = common_sizes(**shapes)
    check_sizes(upstream_config, **sizes)
    qkv_bias = _has_qkv_bias(tensors, upstream_config)
    heads = num_heads(tensors, upstream_config) or default_num_heads(width)
    check_sizes(upstream_config, head_dim=width // heads)
    head, registers = tensors.get("classifier.weight"), tensors.get(REGISTERS)
    if head is not None and "pooler.dense.weight" in tensors:
        check_classifier(upstream_config, "class token", "its pooler", "ViTForImageClassification")
    if head is not None and head.shape[1] != width:
        raise UserError(f"its classifier reads {head.shape[1]} features, but its tokens have {width}")
    patches = tensors[POSITIONS].shape[1] - (pool == "cls") - distilled
    eps = 1e-6 if upstream_config.get("model_type") == "vit_msn" else 1e-12
    return ViTConfig(
        image_size=image_size(upstream_config, patches=patches, patch=(p, q), name=POSITIONS),
        **shape_fields(**shapes, heads=heads),
        num_classes=1000 if head is None else head.shape[0],
        pool=pool,
        distillation=distilled,
        num_registers=0 if registers is None else registers.shape[1],
        position_resample="huggingface",
        qkv_bias=qkv_bias,
        gelu=gelu_form(upstream_config, "erf"),
        norm_eps=upstream_config.get("layer_norm_eps", eps),
    )


def _has_qkv_bias(tensors: Tensors, upstream_config: Mapping[str, Any]) -> bool:
    """Whether queries, keys and values have a bias.

    Raises:
        UserError: the file has one, but the configuration states that there is none.
    """
    biased = "layers.0.attention.q_proj.bias" in tensors
    if biased and upstream_config.get("qkv_bias") is False:
        raise UserError(
            "its configuration states qkv_bias false, but its tensors have such biases: correct config.json"
        )
    return biased


def _mapping(c: ViTConfig) -> list[TensorMapping]:
    names: dict[str, tuple[str, ...]] = {
        "patch_embed.proj": ("embeddings.patch_embeddings.projection",),
        "norm": ("layernorm",),
        "head": ("classifier",),
    }
    mapping = [TensorMapping("pos_embed", (POSITIONS,))]
    if c.pool == "cls":
        mapping.append(TensorMapping("cls_token", (CLASS_TOKEN,)))
    if c.num_registers:
        mapping.append(TensorMapping("reg_token", (REGISTERS,)))
    if c.distillation:
        mapping.append(TensorMapping("dist_token", (DISTILLATION_TOKEN,)))
        names["head.dist"] = ("distillation_classifier",)
    for index in range(c.depth):
        block, layer = f"blocks.{index}.", f"layers.{index}."
        names |= {block + part: (layer + upstream,) for part, upstream in BLOCK.items()}
        names[f"{block}attn.qkv"] = tuple(f"{layer}attention.{part}_proj" for part in "qkv")
        names[f"{block}attn.proj"] = (f"{layer}attention.o_proj",)
    for name, upstream in names.items():
        for kind in ("weight", "bias") if c.qkv_bias or not name.endswith(".qkv") else ("weight",):
            mapping.append(TensorMapping(f"{name}.{kind}", tuple(f"{part}.{kind}" for part in upstream)))
    return mapping


def _finalise(tensors: dict[str, Tensor], config: ViTConfig) -> dict[str, Tensor]:
    """Names of the class that classifies as the model does.

    Without a classifier, they are those of the encoder. With one, the class is `ViTForImageClassification`,
    `IJepaForImageClassification` for the mean of the patches, DeiT with two classifiers for a distilled model, and DeiT
    with one for a register: its distillation token is one.

    Raises:
        UserError: a register beside the patches alone, or beside a distillation token.
    """
    if config.num_registers:
        if config.pool != "cls" or config.distillation:
            raise UserError("the format transformers stores a register only beside a class token, without distillation")
        tensors[DISTILLATION_TOKEN] = tensors.pop(REGISTERS)
        cls_row, patches = tensors[POSITIONS].tensor_split([1], dim=1)
        tensors[POSITIONS] = torch.cat([cls_row, torch.zeros_like(cls_row), patches], dim=1)
    deit = config.distillation or config.num_registers
    if "classifier.weight" not in tensors:
        return tensors
    prefix = "deit" if deit else "vit" if config.pool == "cls" else "ijepa"
    classifier = "cls_classifier." if config.distillation else "classifier."
    named = {}
    for name, tensor in tensors.items():
        is_head = name.startswith(("classifier.", "distillation_classifier."))
        named[re.sub(r"^classifier\.", classifier, name) if is_head else f"{prefix}.{name}"] = tensor
    return named


def _images(config: ViTConfig, upstream_config: Mapping[str, Any]) -> Images:
    """As the released models of this type."""
    if config.distillation or upstream_config.get("model_type") == "deit":
        return Images(**IMAGENET, crop_ratio=0.875, interpolation="bicubic", like="DeiT's own evaluation")
    if config.pool == "gap" or upstream_config.get("model_type") in ("vit_mae", "vit_msn"):
        return Images(**IMAGENET, like="MAE, MSN and I-JEPA, which normalise by ImageNet's mean")
    return Images(**HALF, like="google/vit-base-patch16-224")


def _may_be_msn(tensors: Tensors, upstream_config: Mapping[str, Any]) -> bool:
    """Whether MSN, whose epsilon alone differs, has the same tensors; it has no pooler, decoder or second token."""
    stated = {"model_type", "layer_norm_eps"} & upstream_config.keys()
    other = any(name.startswith(("pooler.", "decoder.")) for name in tensors)
    return not (stated or other or {DISTILLATION_TOKEN, REGISTERS} & tensors.keys()) and CLASS_TOKEN in tensors


def _assumptions(config: ViTConfig, tensors: Tensors, upstream_config: Mapping[str, Any]) -> list[str]:
    """A note on the epsilon of a classifier: those that are published are ViT's."""
    if "classifier.weight" not in tensors or not _may_be_msn(tensors, upstream_config):
        return []
    return [
        f"{NO_EPSILON}: 1e-12 is used, as in ViT; MSN has 1e-6: for a classifier trained from it, name a folder with "
        f'this file and a config.json of {{"model_type": "vit_msn", "num_attention_heads": {config.num_heads}}}'
    ]


def _undecided(tensors: Tensors, upstream_config: Mapping[str, Any]) -> dict[str, str]:
    """The epsilon of an encoder, which is published as ViT and as MSN."""
    if "classifier.weight" in tensors or not _may_be_msn(tensors, upstream_config):
        return {}
    width = tensors["embeddings.patch_embeddings.projection.weight"].shape[0]
    heads = num_heads(tensors, upstream_config) or default_num_heads(width)
    return {
        "norm_eps": (
            "its epsilon, which is 1e-12 in ViT and DINO (in Python norm_eps=1e-12) and 1e-6 in MSN: name a folder "
            f'with this file and a config.json of {{"model_type": "vit", "num_attention_heads": {heads}}}, or of the '
            "model_type vit_msn"
        )
    }


TRANSFORMERS = Lineage(
    name="transformers",
    head="classifier",
    matches=lambda tensors: POSITIONS in tensors and "layers.0.layernorm_before.weight" in tensors,
    infer_config=_infer_config,
    mapping=_mapping,
    images=_images,
    num_heads=num_heads,
    assumptions=_assumptions,
    undecided=_undecided,
    config_keys=COMMON_KEYS,
    canonicalise=_canonicalise,
    stores={
        "pool": ("cls", "gap"),
        "num_registers": (0, 1),
        **dict.fromkeys(("qk_norm", "pre_norm", "pooled_norm"), (False,)),
        **dict.fromkeys(("layer_scale", "stem_stages", "representation_size"), (None,)),
        "mlp": ("gelu",),
    },
    ignore=r"^pooler\.|^decoder\.|mask_token$",
    finalise=_finalise,
)
"""`ViTModel`, `DeiTModel`, `ViTMAEModel`, `ViTMSNModel`, `IJepaModel`, and their classes for classification and
pre-training, without decoders.
"""
