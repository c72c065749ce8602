"""transformers' DINOv2, with and without registers, and DINOv3."""

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from vitral.config import pair
from vitral.errors import UserError
from vitral.vit_config import ViTConfig
from vitral.weights.lineages.lineage import (
    DINOV3_HEADS,
    IMAGENET,
    Images,
    Lineage,
    Tensors,
    count_indices,
    default_num_heads,
    shape_fields,
)
from vitral.weights.lineages.stated import (
    COMMON_KEYS,
    check_model_type,
    check_sizes,
    common_sizes,
    gelu_form,
    image_size,
)
from vitral.weights.lineages.transformers import num_heads, renamed
from vitral.weights.mapping import TensorMapping

__all__ = ["DINOV2", "DINOV3"]

PROJECTION, POSITIONS = "embeddings.patch_embeddings.projection", "embeddings.position_embeddings"
REGISTERS = "embeddings.register_tokens"
BLOCK = {"norm1": "norm1", "norm2": "norm2", "mlp.fc1": "mlp.fc1", "mlp.fc2": "mlp.fc2"}
GATED_BLOCK = {"norm1": "norm1", "norm2": "norm2", "mlp.fc2": "mlp.down_proj"}
BIASES = {
    "qkv_bias": r"\.[qkv]_proj\.bias$",
    "query_bias": r"\.q_proj\.bias$",
    "key_bias": r"\.k_proj\.bias$",
    "value_bias": r"\.v_proj\.bias$",
    "proj_bias": r"\.o_proj\.bias$",
    "mlp_bias": r"\.mlp\..*\.bias$",
}
"""Keys that state whether there is a bias, and the names of those biases."""
STORES = {
    **dict.fromkeys(("qk_norm", "pre_norm", "pooled_norm", "distillation"), (False,)),
    **dict.fromkeys(("stem_stages", "representation_size"), (None,)),
}
KEYS = COMMON_KEYS | frozenset((*BIASES, "apply_layernorm", "num_register_tokens"))


def _infer_config(tensors: Tensors, upstream_config: Mapping[str, Any], *, norm_eps: float) -> ViTConfig:
    """Sizes come from the shapes and `config.json`."""
    width, channels, p, q = tensors[f"{PROJECTION}.weight"].shape
    gated, positions = "layers.0.mlp.gate_proj.weight" in tensors, tensors.get(POSITIONS)
    hidden = tensors[f"layers.0.mlp.{'gate_proj' if gated else 'fc1'}.weight"].shape[0]
    head, registers = tensors.get("classifier.weight"), tensors.get(REGISTERS)
    depth = count_indices(tensors, "layers.", ".norm1.weight")
    num_registers = 0 if registers is None else registers.shape[1]
    shapes: dict[str, Any] = dict(width=width, depth=depth, hidden=hidden, channels=channels, patch=(p, q))
    sizes = common_sizes(**shapes)
    if positions is not None:
        del sizes["intermediate_size"]  # DINOv2 has mlp_ratio instead
    check_sizes(upstream_config, **sizes, num_register_tokens=num_registers, use_swiglu_ffn=gated, use_gated_mlp=gated)
    _check_biases(tensors, upstream_config)
    if upstream_config.get("apply_layernorm") is False and "Backbone" in str(upstream_config.get("architectures")):
        raise UserError("its feature maps have no final norm (apply_layernorm false), and Vitral always applies it")
    if head is not None and head.shape[1] not in (width, 2 * width):
        raise UserError(f"its classifier reads {head.shape[1]} features, but its tokens have {width}")
    if positions is None:
        size = upstream_config.get("image_size") or (224 if "model_type" in upstream_config else 14 * p)
        h, w = pair(size if isinstance(size, int) else tuple(size))
        size = h if h == w else (h, w)
    else:
        size = image_size(upstream_config, patches=positions.shape[1] - 1, patch=(p, q), name=POSITIONS)
    heads = num_heads(tensors, upstream_config) or default_num_heads(width, DINOV3_HEADS if positions is None else None)
    return ViTConfig(
        image_size=size,
        **shape_fields(**shapes, heads=heads),
        num_classes=1000 if head is None else head.shape[0],
        pool="cls_gap" if head is not None and head.shape[1] == 2 * width else "cls",
        num_registers=num_registers,
        position="rope" if positions is None else "learned_1d",
        # the class with registers interpolates with antialiasing, as timm does
        position_resample="timm" if num_registers else "huggingface",
        qkv_bias="layers.0.attention.q_proj.bias" in tensors,
        mlp="swiglu" if gated else "gelu",
        gelu="erf" if gated else gelu_form(upstream_config, "erf"),
        norm_eps=upstream_config.get("layer_norm_eps", norm_eps),
        layer_scale=1.0,
    )


def _check_biases(tensors: Tensors, upstream_config: Mapping[str, Any]) -> None:
    """Raises UserError if the configuration states that there is no such bias, but the file has one that is not zero.

    transformers would leave it out.
    """
    defaults = {"key_bias": False} if upstream_config.get("model_type") == "dinov3_vit" else {}
    for key, pattern in BIASES.items():
        absent = upstream_config.get(key, defaults.get(key, True)) is False
        if absent and any(re.search(pattern, name) and tensor.any() for name, tensor in tensors.items()):
            raise UserError(
                f"its configuration states {key} false, but its tensors have such biases: correct config.json"
            )


def _mapping(c: ViTConfig) -> list[TensorMapping]:
    gated = c.mlp == "swiglu"
    names: dict[str, tuple[str, ...]] = {
        "patch_embed.proj": (PROJECTION,),
        "norm": ("layernorm",),
        "head": ("classifier",),
    }
    mapping = [TensorMapping("cls_token", ("embeddings.cls_token",))]
    if c.position != "rope":
        mapping.append(TensorMapping("pos_embed", (POSITIONS,)))
    if c.num_registers:
        mapping.append(TensorMapping("reg_token", (REGISTERS,)))
    for index in range(c.depth):
        block, layer = f"blocks.{index}.", f"layers.{index}."
        names |= {block + part: (layer + upstream,) for part, upstream in (GATED_BLOCK if gated else BLOCK).items()}
        names[f"{block}attn.qkv"] = tuple(f"{layer}attention.{part}_proj" for part in "qkv")
        names[f"{block}attn.proj"] = (f"{layer}attention.o_proj",)
        if gated:
            names[f"{block}mlp.fc1"] = (f"{layer}mlp.gate_proj", f"{layer}mlp.up_proj")
        mapping += [TensorMapping(f"{block}ls{k}.gamma", (f"{layer}layer_scale{k}.lambda1",)) for k in (1, 2)]
    for name, upstream in names.items():
        for kind in ("weight", "bias") if c.qkv_bias or not name.endswith(".qkv") else ("weight",):
            mapping.append(TensorMapping(f"{name}.{kind}", tuple(f"{part}.{kind}" for part in upstream)))
    return mapping


def _canonicalise(tensors: Tensors) -> dict[str, Tensor]:
    """Renames DINOv2's tensors, and splits gate and value of older gated MLPs."""
    canonical = renamed(tensors, prefixes=r"^dinov2(_with_registers)?\.")
    for name in [name for name in canonical if ".mlp.weights_" in name]:
        tensor = canonical.pop(name)
        if ".weights_out." in name:
            canonical[name.replace("weights_out", "down_proj")] = tensor
        else:
            gate, value = tensor.chunk(2)
            canonical[name.replace("weights_in", "gate_proj")] = gate
            canonical[name.replace("weights_in", "up_proj")] = value
    return _without_empty_registers(canonical)


def _without_empty_registers(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in tensors.items() if name != REGISTERS or tensor.numel()}


def _finalise(tensors: dict[str, Tensor], config: ViTConfig) -> dict[str, Tensor]:
    """Tensors of `Dinov2ForImageClassification` or its variant with registers if the head reads what theirs reads.

    Otherwise those of the encoder, without the head.
    """
    encoder = {re.sub(r"^layers\.", "encoder.layer.", name): tensor for name, tensor in tensors.items()}
    if config.pool != "cls_gap":
        return {name: tensor for name, tensor in encoder.items() if not name.startswith("classifier.")}
    prefix = "dinov2_with_registers" if config.num_registers else "dinov2"
    return {name if name.startswith("classifier.") else f"{prefix}.{name}": tensor for name, tensor in encoder.items()}


def _dino2_config(tensors: Tensors, upstream_config: Mapping[str, Any]) -> ViTConfig:
    check_model_type(upstream_config, ("dinov2", "dinov2_with_registers"))
    config = _infer_config(tensors, upstream_config, norm_eps=1e-6)
    ratio = upstream_config.get("mlp_ratio")
    if ratio is not None and config.mlp == "gelu" and int(config.width * ratio) != config.mlp_dim:
        raise UserError(f"its configuration states mlp_ratio {ratio}, but its MLPs have {config.mlp_dim}")
    return config


def _dino3_canonicalise(tensors: Tensors) -> dict[str, Tensor]:
    """Renames DINOv3's tensors as DINOv2's, and adds zeros for biases that the model does not have.

    Queries, keys and values get the biases that some of them lack; the other layers, those that no block has.
    """
    canonical = {}
    for name, tensor in tensors.items():
        new_name = re.sub(r"^(dinov3_vit\.)?(model\.)?layer\.", "layers.", name)
        new_name = re.sub(r"^norm\.", "layernorm.", new_name)
        canonical[new_name.replace("patch_embeddings.", "patch_embeddings.projection.")] = tensor
    if not any(".gate_proj." in name for name in canonical):
        mlp_names = {".up_proj.": ".fc1.", ".down_proj.": ".fc2."}
        canonical = {
            re.sub(r"\.(up|down)_proj\.", lambda m: mlp_names[m[0]], name): tensor for name, tensor in canonical.items()
        }
    if any(re.search(BIASES["qkv_bias"], name) for name in canonical):
        _add_zero_biases(canonical, r"\.[qkv]_proj\.weight$")
    for key, pattern in (("proj_bias", r"\.o_proj\.weight$"), ("mlp_bias", r"\.mlp\..*\.weight$")):
        if not any(re.search(BIASES[key], name) for name in canonical):
            _add_zero_biases(canonical, pattern)
    return _without_empty_registers(canonical)


def _add_zero_biases(tensors: dict[str, Tensor], pattern: str) -> None:
    for name in [name for name in tensors if re.search(pattern, name)]:
        bias = f"{name.removesuffix('weight')}bias"
        tensors.setdefault(bias, tensors[name].new_zeros(len(tensors[name])))


def _dino3_finalise(tensors: dict[str, Tensor], config: ViTConfig) -> dict[str, Tensor]:
    """Tensors of the encoder.

    Raises:
        UserError: the model's keys have a bias, which Vitral does not write.
    """
    if any(tensor.any() for name, tensor in tensors.items() if name.endswith(".k_proj.bias")):
        raise UserError("the format dinov3 cannot store a key bias, and this model has one: convert to timm instead")
    renames = {
        r"^layers\.": "model.layer.",
        r"^layernorm\.": "norm.",
        r"patch_embeddings\.projection\.": "patch_embeddings.",
        r"\.mlp\.fc1\.": ".mlp.up_proj.",
        r"\.mlp\.fc2\.": ".mlp.down_proj.",
    }
    encoder = {REGISTERS: torch.zeros(1, 0, config.width)} if not config.num_registers else {}
    for name, tensor in tensors.items():
        for pattern, new in renames.items():
            name = re.sub(pattern, new, name)
        if not name.endswith(".k_proj.bias") and not name.startswith("classifier."):
            encoder[name] = tensor
    return encoder


def _dino3_config(tensors: Tensors, upstream_config: Mapping[str, Any]) -> ViTConfig:
    check_model_type(upstream_config, ("dinov3_vit",))
    default = "gelu" if "model_type" in upstream_config else "silu"
    act = upstream_config.get("hidden_act", default)
    if "layers.0.mlp.gate_proj.weight" in tensors and act not in ("silu", "swish"):
        raise UserError(f"the gate of its MLP (hidden_act) is {act}, and Vitral supports only silu")
    rope = upstream_config.get("rope_parameters") or {}
    if (theta := upstream_config.get("rope_theta", rope.get("rope_theta", 100))) != 100:
        raise UserError(f"its rotary positions have the base (rope_theta) {theta}, and Vitral supports only 100")
    return _infer_config(tensors, upstream_config, norm_eps=1e-5)


DINOV2 = Lineage(
    name="dinov2",
    head="classifier",
    head_inputs=(1, 2),
    matches=lambda tensors: POSITIONS in tensors and "layers.0.norm1.weight" in tensors,
    infer_config=_dino2_config,
    mapping=_mapping,
    images=lambda config, stated: Images(
        **IMAGENET, crop_ratio=0.875, interpolation="bicubic", like="facebook/dinov2-base"
    ),
    num_heads=num_heads,
    config_keys=KEYS - {"intermediate_size"} | {"mlp_ratio", "use_swiglu_ffn"},
    canonicalise=_canonicalise,
    stores=STORES | {"pool": ("cls", "cls_gap")},
    ignore=r"mask_token$",
    finalise=_finalise,
)
"""`Dinov2Model`, `Dinov2WithRegistersModel`, and their classes for classification."""
DINOV3 = Lineage(
    name="dinov3",
    head="classifier",
    matches=lambda tensors: (
        f"{PROJECTION}.weight" in tensors and POSITIONS not in tensors and "layers.0.norm1.weight" in tensors
    ),
    infer_config=_dino3_config,
    mapping=_mapping,
    images=lambda config, stated: Images(**IMAGENET, like="DINOv3 of web images (LVD-1689M)"),
    num_heads=num_heads,
    config_keys=KEYS | {"rope_parameters", "rope_theta", "use_gated_mlp"},
    canonicalise=_dino3_canonicalise,
    positions=("rope",),
    stores=STORES | {"pool": ("cls",)},
    ignore=r"mask_token$",
    finalise=_dino3_finalise,
)
"""`DINOv3ViTModel`."""
