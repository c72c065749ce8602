"""Architecture of timm's models, from their tensors and the `config.json` beside them."""

import re
from collections.abc import Mapping
from typing import Any, Literal

from torch import Tensor

from vitral.config import pair
from vitral.errors import UserError
from vitral.vit_config import ViTConfig
from vitral.weights.lineages.lineage import (
    DINOV3_HEADS,
    SIGLIP_HEADS,
    Tensors,
    count_indices,
    default_num_heads,
)
from vitral.weights.lineages.stated import check_sizes
from vitral.weights.lineages.timm_models import TimmModel, timm_models

__all__ = [
    "BACKBONE",
    "CONFIG_KEYS",
    "DINOV3_ROTATION",
    "FIXED",
    "GAMMA",
    "assumptions",
    "infer_config",
    "model_args",
    "num_heads",
    "undecided",
]

BACKBONE = "patch_embed.backbone."
GAMMA = "blocks.0.gamma_1"
GATE = "blocks.0.mlp.fc1_g.weight"
EVA_GIANT = (1408, 40)
"""Width and depth of the only model with separate biases and learned positions that is not rotary."""
TEST_WIDTH = 64
"""Width of `test_vit` and `test_vit2`, which have 2 heads, and MLPs of three times the width."""

STORED = frozenset(
    (
        *(
            "patch_size",
            "in_chans",
            "num_classes",
            "embed_dim",
            "depth",
            "mlp_ratio",
            "qkv_bias",
            "qk_norm",
            "proj_bias",
        ),
        *("scale_attn_norm", "scale_mlp_norm", "init_values", "class_token", "pos_embed", "reg_tokens", "pre_norm"),
        *("fc_norm", "final_norm", "num_reg_tokens", "qkv_fused", "swiglu_mlp", "swiglu_align_to", "scale_mlp"),
        *("scale_attn_inner", "attn_only_layer_scale", "use_abs_pos_emb", "use_pre_transformer_norm"),
        *("use_post_transformer_norm", "use_fc_norm", "attn_pool_mlp_ratio"),
    )
)
"""Arguments that decide which tensors there are, and of what shape."""
IRRELEVANT = frozenset(
    (
        *("dynamic_img_size", "dynamic_img_pad", "strict_img_size", "weight_init", "fix_init", "head_init_scale"),
        *("drop_rate", "pos_drop_rate", "patch_drop_rate", "proj_drop_rate", "attn_drop_rate", "drop_path_rate"),
        *("rope_shift_coords", "rope_jitter_coords", "rope_rescale_coords", "attn_type", "ref_feat_shape"),
    )
)
"""Arguments for training, for other image sizes, or of positions that are refused."""
FIXED: dict[str, tuple[Any, ...]] = {
    "block_fn": (None,),
    "embed_layer": (None,),
    "embed_norm_layer": (None,),
    "mlp_layer": (None,),
    "attn_layer": (None, "", "attn"),
    "use_post_norm": (False,),
    "num_kv_heads": (None,),
    "attn_pool_num_heads": (None,),
}
"""Arguments that would change the computation, with the values that Vitral computes."""
DINOV3_ROTATION: dict[str, tuple[Any, ...]] = {
    "use_rot_pos_emb": (True,),
    "rope_type": ("dinov3",),
    "rope_temperature": (100,),
    "rope_grid_offset": (0,),
    "rope_grid_indexing": ("ij",),
    "rope_rotate_half": (True,),
    "rope_mrope_section": (None,),
}
"""The same for models with DINOv3's rotary positions."""
HONOURED = frozenset(
    ("num_heads", "img_size", "act_layer", "norm_layer", "global_pool", "pool_include_prefix", "no_embed_class")
)
CONFIG_KEYS = STORED | IRRELEVANT | HONOURED | frozenset((*FIXED, *DINOV3_ROTATION))
"""Arguments of timm's models that Vitral knows."""

FOLDER = "name a folder with this file and a config.json such as {}"
POOLING = '{"model_args": {"global_pool": "avg"}} (DINOv3) or "token" (LingBot)'
NO_NORM = "has no final norm"
ROTARY = "has rotary positions of another form than DINOv3's"
TENSORS = {
    r"\.(attn|mlp)\.norm\.": "normalises inside attention and MLP",
    r"\.attn\.lambda_": "has differential attention",
    r"\.attn\.gate\.": "has gated attention",
    r"\.attn\.proj_[lw]\.": "has talking-heads attention",
    r"relative_position_bias_table$|(^|[._])rel_pos": "adds relative position biases",
    r"\.lora_[AB]\.|\.weight_(orig|mask|[gv])$": "stores weights in parts (LoRA, pruning or weight norm)",
    r"^rope\.": ROTARY,
    r"^patch_embed\.norm\.": "normalises its patches, as AIMv2 does",
    rf"^{BACKBONE}(?!stem\.|stages\.)": "has a ResNet of another kind",
}
"""Names of tensors, and what a model with them computes that Vitral does not."""
GELUS: dict[str, Literal["erf", "tanh", "quick"]] = {"gelu": "erf", "gelu_tanh": "tanh", "quick_gelu": "quick"}
POOLS: dict[str, Literal["cls", "gap", "map"]] = {"token": "cls", "avg": "gap", "map": "map"}


def model_args(upstream_config: Mapping[str, Any]) -> Mapping[str, Any]:
    """Arguments of the model in `config.json`."""
    args = upstream_config.get("model_args")
    return args if isinstance(args, dict) else {}


def _args(upstream_config: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments of the model; the number of heads and the pooling that a user gives stand beside them."""
    beside = {name: upstream_config[name] for name in ("num_heads", "img_size", "act_layer") if name in upstream_config}
    given = next(({"global_pool": name} for name, pool in POOLS.items() if pool == upstream_config.get("pool")), {})
    return {**beside, **model_args(upstream_config), **given}


def _architecture(upstream_config: Mapping[str, Any]) -> str:
    """Name of the architecture, without the tag of its weights; empty if there is none."""
    return str(upstream_config.get("architecture") or "").partition(".")[0]


def infer_config(tensors: Tensors, upstream_config: Mapping[str, Any]) -> ViTConfig:
    """Sizes come from the shapes, the rest from the architecture's name and arguments, or is timm's default.

    Raises:
        UserError: the model computes something that Vitral does not, or could.
    """
    args, model = _args(upstream_config), timm_models().get(_architecture(upstream_config))
    _check(tensors, args, model, _architecture(upstream_config))
    width, inputs, p, q = tensors["patch_embed.proj.weight"].shape
    stem = tensors.get(f"{BACKBONE}stem.conv.weight")
    stages = tuple(
        count_indices(tensors, f"{BACKBONE}stages.{stage}.blocks.", ".conv1.weight")
        for stage in range(count_indices(tensors, f"{BACKBONE}stages.", ".blocks.0.conv1.weight"))
    )
    stride = 1 if stem is None else 4 * 2 ** max(len(stages) - 1, 0)
    pool, rotary = _pool(tensors, args, model), _is_rotary(tensors, model)
    registers = (pool != "cls" and "cls_token" in tensors) + _count(tensors, "reg_token")
    if args.get("pool_include_prefix") and pool != "cls" and registers:
        raise UserError("it pools class token and registers too, which Vitral does not compute")
    hidden = tensors["blocks.0.mlp.fc2.weight"].shape[1]
    gated = GATE in tensors or len(tensors["blocks.0.mlp.fc1.weight"]) == 2 * hidden
    h, w = _image_size(tensors, args, upstream_config, patch=(p * stride, q * stride))
    return ViTConfig(
        image_size=h if h == w else (h, w),
        patch_size=p * stride if p == q else (p * stride, q * stride),
        channels=inputs if stem is None else stem.shape[1],
        stem_stages=None if stem is None else stages,
        stem_width=64 if stem is None else stem.shape[0],
        stem_numerics="google" if stem is None else "timm",
        width=width,
        depth=count_indices(tensors, "blocks.", ".attn.qkv.weight"),
        num_heads=num_heads(tensors, upstream_config) or _usual_heads(tensors, width),
        mlp_dim=hidden,
        num_classes=len(tensors["head.weight"]) if "head.weight" in tensors else 1000,
        pool=pool,
        distillation="dist_token" in tensors,
        num_registers=registers,
        position="learned_1d" if "pos_embed" in tensors else "rope" if rotary else "none",
        position_resample="timm",
        qk_norm="blocks.0.attn.q_norm.weight" in tensors,
        qkv_bias="blocks.0.attn.qkv.bias" in tensors or "blocks.0.attn.q_bias" in tensors,
        patch_bias="patch_embed.proj.bias" in tensors,
        pre_norm="norm_pre.weight" in tensors,
        pooled_norm="fc_norm.weight" in tensors,
        final_norm=bool({"norm.weight", "fc_norm.weight"} & tensors.keys()),
        mlp="swiglu" if gated else "gelu",
        gelu=_gelu(args, model, gated=gated),
        norm_eps=_norm_eps(tensors, args, model),
        layer_scale=1.0 if "blocks.0.ls1.gamma" in tensors or GAMMA in tensors else None,
        representation_size=len(tensors["pre_logits.fc.weight"]) if "pre_logits.fc.weight" in tensors else None,
    )


def num_heads(tensors: Tensors, upstream_config: Mapping[str, Any]) -> int | None:
    """From the arguments, the width of the query norm, or the name of the architecture."""
    normed, model = tensors.get("blocks.0.attn.q_norm.weight"), timm_models().get(_architecture(upstream_config))
    if stated := _args(upstream_config).get("num_heads"):
        return stated
    if normed is not None and normed.numel():
        return len(tensors["patch_embed.proj.weight"]) // len(normed)
    return None if model is None else model.num_heads


def _usual_heads(tensors: Tensors, width: int) -> int:
    """Usual number of heads at this width, for DINOv3's, SigLIP's and its small test models that of timm's."""
    if width == TEST_WIDTH and tensors["blocks.0.mlp.fc2.weight"].shape[1] == 3 * width:
        return 2
    published = DINOV3_HEADS if _is_rotary(tensors, None) else None if "cls_token" in tensors else SIGLIP_HEADS
    return default_num_heads(width, published)


def assumptions(config: ViTConfig, tensors: Tensors, upstream_config: Mapping[str, Any]) -> list[str]:
    """Sentences on a file without `config.json`, whose model is probably as assumed."""
    args, notes = _args(upstream_config), []
    if _architecture(upstream_config) in timm_models():
        return notes
    if args.get("global_pool") is None and config.pool == "gap" and not _is_rotary(tensors, None):
        notes.append(
            "the file does not store what it pools: the mean of the patches is assumed; a config.json that states the "
            'architecture, or model_args such as {"global_pool": "token"}, decides'
        )
    return notes


def undecided(tensors: Tensors, upstream_config: Mapping[str, Any]) -> dict[str, str]:
    """What a file without `config.json` leaves open, where timm has models with the same tensors and other outputs."""
    args, fields = _args(upstream_config), {}
    if _architecture(upstream_config) in timm_models():
        return fields
    clip = "norm_pre.weight" in tensors
    siglip = not {"cls_token", "reg_token", "fc_norm.weight"} & tensors.keys()
    if args.get("act_layer") is None and GATE not in tensors and (clip or siglip):
        form, models, name = (
            ("quick", "OpenAI's CLIP models", "clip") if clip else ("tanh", "some SigLIP models", "siglip")
        )
        fix = FOLDER.format(f'{{"architecture": "vit_base_patch16_{name}_224"}}')
        options = f'{models} need --gelu {form} (in Python gelu="{form}"), most others --gelu erf'
        fields["gelu"] = f"its GELU: {options}; or {fix}"
    base = len(tensors["patch_embed.proj.weight"]) == 768
    if siglip and base and "attn_pool.latent" not in tensors and num_heads(tensors, upstream_config) is None:
        fields["num_heads"] = (
            "its number of attention heads: timm's SigLIP models need --num-heads 12 (in Python num_heads=12), its "
            "vit_base_patch16_gap_224 --num-heads 16"
        )
    if args.get("global_pool") is None and _is_rotary(tensors, None):
        fields["pool"] = f"what it pools: {FOLDER.format(POOLING)}"
    if {"attn_pool.latent", "reg_token"} <= tensors.keys() and args.get("pool_include_prefix") is None:
        fix = FOLDER.format('{"architecture": "vit_so150m_patch16_reg4_map_256"}')
        fields["pool"] = f"whether attention pooling reads registers: {fix}"
    return fields


def _is_rotary(tensors: Tensors, model: TimmModel | None) -> bool:
    """Whether it has DINOv3's rotary positions: by its name, or by separate biases and scales without positions."""
    if model is not None:
        return model.rotary
    has_tensors = {GAMMA, "cls_token", "norm.weight"} <= tensors.keys()
    return has_tensors and not {"pos_embed", "blocks.0.attn.qkv.bias"} & tensors.keys()


def _check(tensors: Tensors, args: Mapping[str, Any], model: TimmModel | None, architecture: str) -> None:
    """Refuses what Vitral does not compute, and what could be either."""
    if model is not None and model.difference not in ("", NO_NORM):
        raise UserError(f"timm's {architecture} {model.difference}, which Vitral does not compute")
    differences = {text for pattern, text in TENSORS.items() if any(re.search(pattern, name) for name in tensors)}
    norms = {"norm.weight", "fc_norm.weight"} & tensors.keys()
    stated = args.get("final_norm") is False or (model is not None and model.difference == NO_NORM)
    if len(norms) == 2:
        differences.add("has a norm before pooling and one after")
    if not norms and not stated:  # a file that lost its norm would look the same
        raise UserError(f"it {NO_NORM}: name an architecture without one, or state final_norm false, in a config.json")
    if not any(name.endswith(".norm1.bias") for name in tensors):
        differences.add("normalises with RMSNorm")
    if model is not None and model.rotary and "pos_embed" in tensors:
        differences.add("has both rotary and learned positions")
    if differences:
        raise UserError(f"it {min(differences)}, which Vitral does not compute")
    fixed = FIXED
    if model is not None:
        fixed = FIXED | (DINOV3_ROTATION if model.rotary else {"use_rot_pos_emb": (False,)})
    for name, allowed in fixed.items():
        if name in args and args[name] not in allowed:
            raise UserError(f"its {name} is {args[name]}, which Vitral does not compute")
    width, _, p, q = tensors["patch_embed.proj.weight"].shape
    depth = count_indices(tensors, "blocks.", ".attn.qkv.weight")
    check_sizes(args, embed_dim=width, depth=depth, patch_size=(p, q))  # timm resamples patches of another size
    if model is None:
        _check_unnamed(tensors)


def _check_unnamed(tensors: Tensors) -> None:
    """Refuses a file whose architecture nobody names, if timm or others have models with the same tensors."""
    sizes = len(tensors["patch_embed.proj.weight"]), count_indices(tensors, "blocks.", ".attn.qkv.weight")
    scaled, positions, separate = GAMMA in tensors, "pos_embed" in tensors, "blocks.0.attn.q_bias" in tensors
    rotary = _is_rotary(tensors, None)
    if (scaled and not positions and not rotary) or {"norm_pre.weight", "attn_pool.latent"} <= tensors.keys():
        raise UserError(f"it {ROTARY}, which Vitral does not compute")
    fix = 'put it into a folder with a config.json that names it, such as {{"architecture": "{}"}}'
    if scaled and positions:
        fix = fix.format("deit3_base_patch16_224")
        raise UserError(f"it is a DeiT III, or has rotary positions too (timm's vit_*_rope_ape): {fix}")
    if separate and not rotary and sizes != EVA_GIANT:
        fix = fix.format("eva_giant_patch14_224")
        raise UserError(f"its tensors do not show whether it has rotary positions, or where it normalises: {fix}")
    plain = {"cls_token", "reg_token", "blocks.0.attn.qkv.bias", "blocks.0.ls1.gamma", "norm.weight"}
    if not plain & tensors.keys() and not scaled:
        fix = fix.format("vit_base_patch16_gap_224")
        raise UserError(f"its tensors do not show whether it normalises before attention and MLP or after: {fix}")


def _pool(tensors: Tensors, args: Mapping[str, Any], model: TimmModel | None) -> Literal["cls", "gap", "map"]:
    stated = args.get("global_pool", None if model is None else model.pool)
    if not stated:
        if stated is not None and "head.weight" in tensors:
            raise UserError("its head reads every token, which Vitral does not compute")
        mean = "fc_norm.weight" in tensors or (_is_rotary(tensors, model) and "head.weight" in tensors)
        token = "cls_token" in tensors and not mean
        return "map" if "attn_pool.latent" in tensors else "cls" if token else "gap"
    if stated not in POOLS:
        raise UserError(f"its global_pool is {stated}, which Vitral does not compute")
    needed = {"token": "cls_token", "map": "attn_pool.latent"}.get(stated)
    if needed is not None and needed not in tensors:
        raise UserError(f"its global_pool is {stated}, but it has no {needed}: check its config.json")
    return POOLS[stated]


def _gelu(args: Mapping[str, Any], model: TimmModel | None, *, gated: bool) -> Literal["erf", "tanh", "quick"]:
    """Form of GELU; a gated MLP has none, but must have timm's SiLU."""
    usual = "silu" if gated else "gelu"
    name = str(args.get("act_layer") or (usual if model is None else model.activation))
    if name not in ({"silu"} if gated else GELUS):
        raise UserError(f"the activation of its {'gated ' * gated}MLP is {name}, which Vitral does not compute")
    return GELUS.get(name, "erf")


def _norm_eps(tensors: Tensors, args: Mapping[str, Any], model: TimmModel | None) -> float:
    if (name := args.get("norm_layer")) is not None:
        if str(name).replace("_", "").lower() not in ("layernorm", "layernormfp32"):
            raise UserError(f"its norm_layer is {name}, which Vitral does not compute")
        return 1e-6
    usual = 1e-5 if "norm_pre.weight" in tensors or _is_rotary(tensors, None) else 1e-6
    return usual if model is None else model.norm_eps


def _count(tensors: Mapping[str, Tensor], name: str) -> int:
    return tensors[name].shape[1] if name in tensors else 0


def _image_size(
    tensors: Tensors, args: Mapping[str, Any], upstream_config: Mapping[str, Any], *, patch: tuple[int, int]
) -> tuple[int, int]:
    """From the arguments, or from the number of positions; class token and registers may have positions too."""
    rows, prefix = (
        _count(tensors, "pos_embed"),
        sum(_count(tensors, f"{kind}_token") for kind in ("cls", "dist", "reg")),
    )
    prefixes = {True: [0], False: [prefix], None: [0, prefix]}[args.get("no_embed_class")]
    pretrained = upstream_config.get("pretrained_cfg")
    size = pretrained.get("input_size") if isinstance(pretrained, dict) else None
    if args.get("img_size") is not None:
        stated = pair(args["img_size"] if isinstance(args["img_size"], int) else tuple(args["img_size"]))
        patches = (stated[0] // patch[0]) * (stated[1] // patch[1])
        divisible = stated[0] % patch[0] == 0 and stated[1] % patch[1] == 0
        if rows and divisible and rows - patches not in prefixes:
            raise UserError(f"pos_embed has {rows} rows, which do not fit its img_size {stated[0]}x{stated[1]}")
        return stated
    if size is not None:
        stated = size[1], size[2]
        if not rows or rows - (stated[0] // patch[0]) * (stated[1] // patch[1]) in prefixes:
            return stated
    if not rows:
        side = 16 if _is_rotary(tensors, timm_models().get(_architecture(upstream_config))) else 14  # DINOv3 has 256
        return side * patch[0], side * patch[1]
    side = next((side for extra in prefixes if (side := round(max(rows - extra, 0) ** 0.5)) ** 2 == rows - extra), None)
    if side is None:
        raise UserError(f"pos_embed has {rows - prefixes[-1]} patch positions, which is not a square grid")
    return side * patch[0], side * patch[1]
