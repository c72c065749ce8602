"""OpenCLIP's format: the image tower of its `CLIP`. The projection becomes the head, the text tower is left out."""

from collections.abc import Mapping
from typing import Any, Literal

from torch import Tensor

from vitral.errors import UserError
from vitral.vit_config import ViTConfig
from vitral.weights.lineages.lineage import (
    CLIP_IMAGES,
    Images,
    Lineage,
    Tensors,
    count_indices,
    shape_fields,
)
from vitral.weights.lineages.stated import check_sizes, image_size
from vitral.weights.mapping import TRANSPOSE, UNBATCHED, VECTOR, TensorMapping

__all__ = ["OPEN_CLIP"]
UNKNOWN_GELU = (
    'its GELU: OpenAI\'s weights need --gelu quick (in Python gelu="quick"), most others --gelu erf; or name a folder '
    "with this file and its open_clip_config.json"
)
PREFIX = "visual."
BLOCK_MODULES = {
    "ln_1": "norm1",
    "attn.out_proj": "attn.proj",
    "ln_2": "norm2",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
}
OTHER_TOWERS = {
    "text_decoder.": "a CoCa model",
    "visual.trunk.": "a CLIP model with an image tower of timm",
    "visual.layer1.": "a CLIP model with a ResNet",
    "visual.attn_pool.": "a CLIP model with attentional pooling",
}
"""Starts of the names of tensors in OpenCLIP's other models."""
REFUSED = {
    "attentional_pool": "attentional pooling",
    "block_type": "another kind of block",
    "global_average_pool": "the mean of all tokens, its class token too",
    "input_patchnorm": "a norm of the patches' pixels",
    "qk_norm": "norms of queries and keys",
    "scale_attn": "a norm in its attention",
    "scale_attn_inner": "a norm in its attention",
    "scale_fc": "a norm in its MLP",
    "scale_heads": "scaled heads",
    "scaled_cosine_attn": "cosine attention",
    "timm_model_name": "an image tower of timm",
}
"""Keys of `vision_cfg` with which the tower computes what Vitral does not, unless they are off."""
HONOURED = (
    *("act_kwargs", "embed_dim", "final_ln_after_pool", "head_width", "image_size", "layers", "ls_init_value"),
    *("mlp_ratio", "no_ln_pre", "norm_kwargs", "patch_size", "pool_type", "quick_gelu", "width"),
)
HARMLESS = (
    *("attn_pooler_heads", "attn_pooler_queries", "custom_text", "init_logit_bias", "init_logit_scale"),
    *("output_dict", "output_tokens", "patch_dropout", "pos_embed_type", "text_cfg", "timm_drop", "timm_drop_path"),
    *("timm_model_pretrained", "timm_pool", "timm_proj", "timm_proj_bias"),
)


def _section(upstream_config: Mapping[str, Any]) -> dict[str, Any]:
    """`model_cfg` without its text tower, and `vision_cfg` in it; empty without them."""
    model_cfg = upstream_config.get("model_cfg")
    model_cfg = model_cfg if isinstance(model_cfg, dict) else {}
    vision_cfg = model_cfg.get("vision_cfg")
    section = {key: value for key, value in model_cfg.items() if key not in ("vision_cfg", "text_cfg")}
    return section | (vision_cfg if isinstance(vision_cfg, dict) else {})


def _num_heads(tensors: Tensors, upstream_config: Mapping[str, Any]) -> int | None:
    """Width over `head_width`, whose default is 64 in a configuration."""
    if (heads := upstream_config.get("num_heads")) is not None or not (section := _section(upstream_config)):
        return heads
    return tensors["conv1.weight"].shape[0] // section.get("head_width", 64)


def _canonicalise(tensors: Tensors) -> dict[str, Tensor]:
    """Tensors of the image tower only, without its prefix; the names that show another model are kept."""
    if not any(name.startswith(PREFIX) for name in tensors):
        return dict(tensors)
    tower = {name.removeprefix(PREFIX): tensor for name, tensor in tensors.items() if name.startswith(PREFIX)}
    return tower | {name: tensor for name, tensor in tensors.items() if name.startswith(tuple(OTHER_TOWERS))}


def _matches(tensors: Tensors) -> bool:
    tower = "conv1.weight" in tensors and "transformer.resblocks.0.ln_1.weight" in tensors
    return tower or any(name.startswith(("visual.trunk.", "visual.layer1.")) for name in tensors)


def _check(tensors: Tensors, section: Mapping[str, Any]) -> None:
    """Raises UserError for another model than a CLIP with a plain Vision Transformer."""
    for start, model in OTHER_TOWERS.items():
        if any(name.startswith(start) for name in tensors):
            raise UserError(f"it is {model}, which Vitral does not support: it has a tensor {start}*")
    if "multimodal_cfg" in section:
        raise UserError("it is a CoCa model, which Vitral does not support: its configuration has a multimodal_cfg")
    for key, part in REFUSED.items():
        if section.get(key) not in (None, False, "", "default"):
            raise UserError(f"its image tower has {part} ({key} {section[key]}), which Vitral does not support")
    for key, known in (("act_kwargs", "approximate"), ("norm_kwargs", "eps")):
        if unknown := sorted((section.get(key) or {}).keys() - {known}):
            raise UserError(f"its configuration states {key} {', '.join(unknown)}, and Vitral supports only {known}")
    for key, name in (("no_ln_pre", "ln_pre.weight"), ("ls_init_value", "transformer.resblocks.0.ls_1.gamma")):
        if section.get(key) and (name in tensors) == (key == "no_ln_pre"):
            has = "has" if name in tensors else "lacks"
            raise UserError(f"its configuration states {key} {section[key]}, but it {has} {name}: correct the file")
    if (pool := section.get("pool_type", "tok")) not in ("tok", "avg"):
        raise UserError(f"its image tower has the pool_type {pool}, and Vitral supports tok and avg")


def _infer_config(tensors: Tensors, upstream_config: Mapping[str, Any]) -> ViTConfig:
    """Sizes come from the shapes, parts from `model_cfg`; the exact GELU, as in OpenCLIP, is the default."""
    section = _section(upstream_config)
    _check(tensors, section)
    width, channels, p, q = tensors["conv1.weight"].shape
    depth = count_indices(tensors, "transformer.resblocks.", ".ln_1.weight")
    classes = tensors["proj"].shape[1] if "proj" in tensors else 1000
    hidden = len(tensors["transformer.resblocks.0.mlp.c_fc.weight"])
    shapes: dict[str, Any] = dict(width=width, depth=depth, hidden=hidden, channels=channels, patch=(p, q))
    check_sizes(section, width=width, layers=depth, patch_size=(p, q), embed_dim=classes)
    ratio = section.get("mlp_ratio")
    if ratio is not None and int(width * ratio) != hidden:
        raise UserError(f"its configuration states mlp_ratio {ratio}, but its MLPs have {hidden}")
    mean = section.get("pool_type") == "avg"
    patches = len(tensors["positional_embedding"]) - 1
    return ViTConfig(
        image_size=image_size(section, patches=patches, patch=(p, q), name="positional_embedding"),
        **shape_fields(**shapes, heads=_num_heads(tensors, upstream_config)),
        num_classes=classes,
        pool="gap" if mean else "cls",
        num_registers=int(mean),
        position_resample="timm",
        patch_bias=False,
        pre_norm="ln_pre.weight" in tensors,
        pooled_norm=mean and bool(section.get("final_ln_after_pool")),
        gelu=_gelu(section),
        norm_eps=(section.get("norm_kwargs") or {}).get("eps", 1e-5),
        layer_scale=1.0 if "transformer.resblocks.0.ls_1.gamma" in tensors else None,
        head_bias=None,
    )


def _gelu(section: Mapping[str, Any]) -> Literal["tanh", "erf", "quick"]:
    kwargs = section.get("act_kwargs") or {}
    if section.get("quick_gelu"):
        return "quick"
    return "tanh" if kwargs.get("approximate") == "tanh" else "erf"


def _undecided(tensors: Tensors, upstream_config: Mapping[str, Any]) -> dict[str, str]:
    return {} if _section(upstream_config) else {"gelu": UNKNOWN_GELU}


def _prepare(tensors: dict[str, Tensor], config: ViTConfig) -> dict[str, Tensor]:
    """Makes a class token that is not pooled a register, with its position added."""
    if config.pool == "cls":
        return tensors
    positions = tensors["positional_embedding"]
    folded = {"class_embedding": tensors["class_embedding"] + positions[0], "positional_embedding": positions[1:]}
    return tensors | folded


def _mapping(c: ViTConfig) -> list[TensorMapping]:
    norm = "fc_norm" if c.pooled_norm else "norm"
    names = {"ln_post": norm} | ({"ln_pre": "norm_pre"} if c.pre_norm else {})
    mapping = [
        TensorMapping("patch_embed.proj.weight", ("conv1.weight",)),
        TensorMapping("head.weight", ("proj",), TRANSPOSE),
    ]
    token = "cls_token" if c.pool == "cls" else "reg_token"
    mapping.append(TensorMapping(token, ("class_embedding",), VECTOR))
    mapping.append(TensorMapping("pos_embed", ("positional_embedding",), UNBATCHED))
    for index in range(c.depth):
        layer, block = f"transformer.resblocks.{index}.", f"blocks.{index}."
        names |= {layer + upstream: block + name for upstream, name in BLOCK_MODULES.items()}
        for kind in ("weight", "bias"):
            mapping.append(TensorMapping(f"{block}attn.qkv.{kind}", (f"{layer}attn.in_proj_{kind}",)))
        if c.layer_scale is not None:
            mapping += [TensorMapping(f"{block}ls{k}.gamma", (f"{layer}ls_{k}.gamma",)) for k in (1, 2)]
    for upstream, name in names.items():
        mapping += [TensorMapping(f"{name}.{kind}", (f"{upstream}.{kind}",)) for kind in ("weight", "bias")]
    return mapping


OPEN_CLIP = Lineage(
    name="open_clip",
    matches=_matches,
    infer_config=_infer_config,
    mapping=_mapping,
    images=lambda config, stated: Images(**CLIP_IMAGES),
    num_heads=_num_heads,
    config_keys=frozenset((*HONOURED, *REFUSED, *HARMLESS)),
    config_section=_section,
    canonicalise=_canonicalise,
    prepare=_prepare,
    stores={
        **dict.fromkeys(("qk_norm", "pooled_norm", "distillation"), (False,)),
        **dict.fromkeys(("stem_stages", "representation_size"), (None,)),
        "pool": ("cls",),
        "num_registers": (0,),
        "mlp": ("gelu",),
    },
    undecided=_undecided,
    finalise=lambda tensors, config: {f"{PREFIX}{name}": tensor for name, tensor in tensors.items()},
)
"""Image tower of OpenCLIP's `CLIP`."""
