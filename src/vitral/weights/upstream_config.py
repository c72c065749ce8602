"""The JSON files that timm and transformers load beside the weights."""

from collections.abc import Callable
from typing import Any

from vitral.card import ModelCard
from vitral.data.images.preprocess import Preprocessing
from vitral.errors import UserError
from vitral.vit_config import ViTConfig

__all__ = ["CONFIG_FILES", "ENCODERS", "timm_model_args", "timm_model_name", "transformers_config"]

TIMM_HYBRIDS = {
    (): "vit_tiny_r_s16_p8_224",
    (2, 2, 2, 2): "vit_small_r26_s32_224",
    (3, 4, 9): "vit_base_r50_s16_224",
    (3, 4, 6, 3): "vit_large_r50_s32_224",
}
"""timm's models with these stages; everything else is an argument."""
ENCODERS = {"vit": "ViTModel", "deit": "DeiTModel", "ijepa": "IJepaModel"}
"""Classes of transformers for encoders, by `model_type`; DINOv2's and the towers' are chosen by the architecture."""
FILTERS = {"bilinear": 2, "bicubic": 3, "lanczos": 1}
"""Pillow's filter numbers, which transformers writes."""


def timm_model_name(config: ViTConfig) -> str:
    """Name of a timm model that becomes this one with `timm_model_args`.

    Raises:
        UserError: timm has no model with this stem, these outputs, or rotary positions and these arguments.
    """
    impossible = {
        "with one output per patch": config.pool == "none",
        "with both a norm before the blocks and a bias of patches, or neither": config.pre_norm == config.patch_bias,
        "with a gated MLP after attention pooling": config.pool == "map" and config.mlp == "swiglu",
    }
    if part := next((part for part, applies in impossible.items() if applies), None):
        raise UserError(f"timm has no model {part}: convert to another format")
    if config.position == "rope":
        raise UserError(
            "Vitral cannot write timm's arguments for rotary positions: convert to a .safetensors file instead"
        )
    if config.stem_stages is None:
        special = {
            "vit_giant_patch14_dinov2": config.mlp == "swiglu",
            "deit_base_distilled_patch16_224": config.distillation,
            "vit_base_patch16_clip_224": config.pre_norm,
        }
        return next((name for name, applies in special.items() if applies), "vit_base_patch16_224")
    if config.stem_stages not in TIMM_HYBRIDS or config.stem_width != 64:
        raise UserError(f"timm has no hybrid with stages {config.stem_stages} of width {config.stem_width}")
    return TIMM_HYBRIDS[config.stem_stages]


def timm_model_args(config: ViTConfig) -> dict[str, Any]:
    """Arguments of `timm.create_model`."""
    stages, gated = config.stem_stages, config.mlp == "swiglu"
    stride = 1 if stages is None else 4 * 2 ** max(len(stages) - 1, 0)
    arguments = dict(
        img_size=list(config.image_hw),
        patch_size=[size // stride for size in config.patch_hw],
        in_chans=config.channels,
        embed_dim=config.width,
        depth=config.depth,
        num_heads=config.num_heads,
        mlp_ratio=config.mlp_dim / config.width * (2 if gated else 1),
        global_pool={"cls": "token", "gap": "avg", "map": "map"}[config.pool],
        class_token=config.pool == "cls",
        pos_embed="none" if config.position == "none" else "learn",
        reg_tokens=config.num_registers,
        no_embed_class=config.num_registers > 0,
        qk_norm=config.qk_norm,
        init_values=config.layer_scale,
        fc_norm=config.pooled_norm,
        final_norm=config.final_norm,
        pre_norm=config.pre_norm,
        qkv_bias=config.qkv_bias,
    )
    if config.pre_norm and config.norm_eps == 1e-6:  # timm's models with this norm have another epsilon
        arguments["norm_layer"] = "layernorm"
    acts = {"erf": "gelu", "tanh": "gelu_tanh", "quick": "quick_gelu"}
    return arguments if gated else {**arguments, "act_layer": acts[config.gelu]}


def _timm(config: ViTConfig, card: ModelCard, headless: bool) -> dict[str, dict[str, Any]]:
    preprocessing = _of_pictures(card)
    root = {None: "proj", (): "backbone.conv"}.get(config.stem_stages, "backbone.stem.conv")
    whole, mode = preprocessing.resize == "squash", "center" if preprocessing.resize == "crop" else "squash"
    pretrained = dict(
        custom_load=False,
        input_size=[config.channels, *config.image_hw],
        fixed_input_size=True,
        interpolation=preprocessing.interpolation,
        crop_pct=1.0 if whole else preprocessing.crop_ratio,
        crop_mode=mode,
        mean=_per_channel(preprocessing.mean, config.channels),
        std=_per_channel(preprocessing.std, config.channels),
        num_classes=config.num_classes,
        pool_size=None,
        first_conv=f"patch_embed.{root}",
        classifier="head",
    )
    if config.representation_size is not None:
        raise UserError("timm has no model with a tanh layer before the head: convert to a .safetensors file instead")
    values = dict(
        architecture=timm_model_name(config),
        num_classes=config.num_classes,
        num_features=config.width,
        **({"label_names": list(card.classes)} if card.classes else {}),
        model_args=timm_model_args(config),
        pretrained_cfg=pretrained,
    )
    return {"config.json": values}


def transformers_config(config: ViTConfig, *, headless: bool = False) -> dict[str, Any]:
    """Content of transformers' `config.json`, without class names.

    Args:
        config: architecture of the model.
        headless: whether the model has no trained head: ViT, DeiT and I-JEPA are then written as encoders.

    Raises:
        UserError: transformers has no such model: its MLP differs.
    """
    model_type, architecture = _model_type(config)
    if headless and model_type in ENCODERS:
        architecture = ENCODERS[model_type]
    values: dict[str, Any] = dict(
        architectures=[architecture],
        model_type=model_type,
        image_size=_square(config.image_hw),
        patch_size=_square(config.patch_hw),
        num_channels=config.channels,
        hidden_size=config.width,
        num_hidden_layers=config.depth,
        num_attention_heads=config.num_heads,
        hidden_act={"erf": "gelu", "tanh": "gelu_pytorch_tanh", "quick": "quick_gelu"}[config.gelu],
        layer_norm_eps=config.norm_eps,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        qkv_bias=config.qkv_bias,
    )
    if model_type == "dinov3_vit":
        gated = config.mlp == "swiglu"
        values |= dict(
            num_register_tokens=config.num_registers, use_gated_mlp=gated, layerscale_value=config.layer_scale
        )
        values |= dict(query_bias=values["qkv_bias"], value_bias=values.pop("qkv_bias"))
        values |= dict(intermediate_size=config.mlp_dim, hidden_act="silu" if gated else values["hidden_act"])
        return values
    if model_type == "clip_vision_model":
        values["projection_dim"] = config.num_classes
    if not model_type.startswith("dinov2"):
        return {**values, "intermediate_size": config.mlp_dim}
    gated = config.mlp == "swiglu"
    ratio = round(config.mlp_dim * (1.5 if gated else 1) / config.width)
    hidden = (int(config.width * ratio * 2 / 3) + 7) // 8 * 8 if gated else config.width * ratio
    if hidden != config.mlp_dim:
        raise UserError(f"transformers has no DINOv2 with an MLP of {config.mlp_dim} at width {config.width}")
    values |= dict(
        mlp_ratio=ratio,
        use_swiglu_ffn=gated,
        layerscale_value=config.layer_scale,
        **({"num_register_tokens": config.num_registers} if config.num_registers else {}),
    )
    return values


def _model_type(config: ViTConfig) -> tuple[str, str]:
    """transformers' `model_type` and the name of its model class."""
    dino, dino_class = config.layer_scale is not None, "ForImageClassification" if config.pool == "cls_gap" else "Model"
    types = {
        ("dinov3_vit", "DINOv3ViTModel"): config.position == "rope",
        ("clip_vision_model", "CLIPVisionModelWithProjection"): config.pre_norm,
        ("siglip_vision_model", "SiglipVisionModel"): config.pool == "map",
        ("deit", "DeiTForImageClassificationWithTeacher"): config.distillation,
        ("dinov2_with_registers", f"Dinov2WithRegisters{dino_class}"): dino and config.num_registers > 0,
        ("dinov2", f"Dinov2{dino_class}"): dino,
        ("deit", "DeiTForImageClassification"): config.num_registers == 1,
        ("ijepa", "IJepaForImageClassification"): config.pool == "gap",
    }
    return next((names for names, applies in types.items() if applies), ("vit", "ViTForImageClassification"))


def _transformers(config: ViTConfig, card: ModelCard, headless: bool) -> dict[str, dict[str, Any]]:
    preprocessing, channels = _of_pictures(card), config.channels
    values = transformers_config(config, headless=headless)
    if "ForImageClassification" in values["architectures"][0]:
        # without a trained head there are no names, but transformers counts the outputs by them
        names = card.classes or tuple(f"LABEL_{label}" for label in range(config.num_classes))
        values["id2label"] = {str(label): name for label, name in enumerate(names)}
        values["label2id"] = {name: label for label, name in enumerate(names)}
        if card.target != "class":
            values["problem_type"] = {"multi-label": "multi_label_classification"}.get(card.target, card.target)
    processor = dict(
        do_resize=True,
        do_rescale=True,
        rescale_factor=1 / 255,
        do_normalize=True,
        image_mean=_per_channel(preprocessing.mean, channels),
        image_std=_per_channel(preprocessing.std, channels),
        resample=FILTERS[preprocessing.interpolation],
        **_geometry(preprocessing),
    )
    return {"config.json": values, "preprocessor_config.json": processor}


def _geometry(preprocessing: Preprocessing) -> dict[str, Any]:
    """Resizing: the processor that squashes, the one that crops the centre, or the one that does both."""
    height, width = preprocessing.image_size
    size = {"height": height, "width": width}
    if preprocessing.resize == "squash":
        return {"image_processor_type": "ViTImageProcessor", "size": size}
    if preprocessing.resize == "squash_crop":
        whole = dict(zip(("height", "width"), preprocessing.resized_hw, strict=True))
        return {"image_processor_type": "DeiTImageProcessor", "size": whole, "do_center_crop": True, "crop_size": size}
    shortest = {"shortest_edge": min(preprocessing.resized_hw)}
    return {"image_processor_type": "BitImageProcessor", "size": shortest, "do_center_crop": True, "crop_size": size}


def _of_pictures(card: ModelCard) -> Preprocessing:
    """The card's preprocessing.

    Raises:
        UserError: it is of images that are no pictures, which other projects' files do not describe.
    """
    if card.preprocessing.bands:
        raise UserError(
            f"other projects' folders describe pictures, not images of {card.preprocessing.channels} channels: "
            "write the weights alone, to a file that ends in .safetensors"
        )
    card.preprocessing.check_one_size("another project's folder")
    return card.preprocessing


def _per_channel(values: tuple[float, ...], channels: int) -> list[float]:
    return list(values) if len(values) == channels else [values[0]] * channels


def _square(size: tuple[int, int]) -> int | list[int]:
    return size[0] if size[0] == size[1] else list(size)


CONFIG_FILES: dict[str, Callable[[ViTConfig, ModelCard, bool], dict[str, dict[str, Any]]]] = {
    "timm": _timm,
    **dict.fromkeys(("transformers", "dinov2", "dinov3", "siglip", "clip"), _transformers),
}
"""For each format that is written as a folder: a function that gives its JSON files by name, from architecture, card,
and whether the model is written without a head.
"""
