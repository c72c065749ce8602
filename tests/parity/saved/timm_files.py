"""Files of timm, as they are saved: folders of `save_for_hf`, and state dicts alone."""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Literal

import timm
from timm.models import save_for_hf
from torch import nn

from parity.saved.case import Save, Saved, safetensors, torch_file

__all__ = ["CASES"]

TINY: dict[str, Any] = dict(img_size=32, patch_size=8, embed_dim=64, depth=2, num_heads=2, num_classes=7)
BARE: dict[str, Any] = {**TINY, "num_heads": 1}
"""One head is the usual number for width 64."""
PLAIN = "vit_base_patch16_224"
ROTARY = "has rotary positions of another form than DINOv3's"


def build(name: str, **args: Any) -> Callable[[], nn.Module]:
    return partial(timm.create_model, name, **args)


def folder(model: nn.Module, place: Path) -> Path:
    """`save_for_hf`, which `push_to_hf_hub` uploads: `config.json` and `model.safetensors`."""
    save_for_hf(model, place / "saved", safe_serialization=True)
    return place / "saved"


def beside(config: dict[str, Any], save: Save = safetensors) -> Save:
    """A state dict with a `config.json` that a user wrote."""

    def save_both(model: nn.Module, place: Path) -> Path:
        save(model, place)
        (place / "config.json").write_text(json.dumps(config))
        return place

    return save_both


def named_only(architecture: str, save: Save = safetensors) -> Save:
    """A state dict beside a `config.json` that has only the name of the architecture."""
    return beside({"architecture": architecture}, save)


def with_args(**args: Any) -> Save:
    """A folder with arguments that timm did not write."""

    def save(model: nn.Module, place: Path) -> Path:
        path = folder(model, place) / "config.json"
        config = json.loads(path.read_text())
        config["model_args"] |= args
        path.write_text(json.dumps(config))
        return path.parent

    return save


def official_scales(model: nn.Module) -> dict[str, Any]:
    """DeiT III's official names: the scales belong to the block."""
    return {
        name.replace("ls1.gamma", "gamma_1").replace("ls2.gamma", "gamma_2"): tensor
        for name, tensor in model.state_dict().items()
    }


def read(
    name: str,
    *,
    save: Save = folder,
    notes: tuple[str, ...] = (),
    compare: Literal["logits", "pooled"] = "logits",
    **args: Any,
) -> Saved:
    return Saved(build=build(name, **args), save=save, lineage="timm", notes=notes, compare=compare)


def refused(name: str, refusal: str, *, save: Save = folder, **args: Any) -> Saved:
    return Saved(build=build(name, **args), save=save, refusal=refusal)


ARGUMENTS = {
    # arguments of the plain class that change the computation
    "timm, tanh GELU": read(PLAIN, **TINY, act_layer="gelu_tanh"),
    "timm, quick GELU": read(PLAIN, **TINY, act_layer="quick_gelu"),
    "timm, ReLU": refused(PLAIN, "activation of its MLP is relu", **TINY, act_layer="relu"),
    "timm, epsilon of norm_layer": read("vit_base_patch16_clip_224", **TINY, norm_layer="layernorm"),
    "timm, RMSNorm": refused(PLAIN, "RMSNorm", **TINY, norm_layer="rmsnorm"),
    "timm, mean beside a class token": read(PLAIN, **TINY, global_pool="avg"),
    "timm, mean beside a class token, norm before": read(PLAIN, **TINY, global_pool="avg", fc_norm=False),
    "timm, attention pooling beside a class token": read(PLAIN, **TINY, global_pool="map"),
    "timm, mean and maximum": refused(PLAIN, "global_pool is avgmax", **TINY, global_pool="avgmax"),
    "timm, no pooling": refused(PLAIN, "reads every token", **TINY, global_pool=""),
    "timm, mean of all tokens": refused(
        PLAIN, "pools class token and registers", **TINY, global_pool="avg", pool_include_prefix=True
    ),
    "timm, registers with positions": read(PLAIN, **TINY, reg_tokens=4),
    "timm, registers without positions": read(PLAIN, **TINY, reg_tokens=4, no_embed_class=True),
    "timm, registers with positions, mean": read(PLAIN, **TINY, reg_tokens=3, global_pool="avg"),
    "timm, wide image": read(PLAIN, **{**TINY, "img_size": [24, 64]}),
    "timm, wide image, positions of patches only": read(PLAIN, **{**TINY, "img_size": [24, 64]}, no_embed_class=True),
    "timm, no positions": read(PLAIN, **TINY, pos_embed="none"),
    "timm, no biases of dense layers": read(PLAIN, **TINY, proj_bias=False),
    "timm, no qkv bias": read(PLAIN, **TINY, qkv_bias=False),
    "timm, QK-norm and LayerScale": read(PLAIN, **TINY, qk_norm=True, init_values=0.1),
    "timm, norm after a pooled class token": read(PLAIN, **TINY, fc_norm=True),
    "timm, norms inside attention": refused(PLAIN, "inside attention", **TINY, scale_attn_norm=True),
    "timm, no final norm": read(PLAIN, **TINY, final_norm=False),
    "timm, no final norm, alone": refused(PLAIN, "final_norm false", save=safetensors, **TINY, final_norm=False),
    "timm, differential attention": refused(PLAIN, "differential attention", **TINY, attn_layer="diff"),
    "timm, any image size": read(PLAIN, **TINY, dynamic_img_size=True),
    "timm, no head": read(PLAIN, **{**TINY, "num_classes": 0}, compare="pooled", notes=("has no head",)),
    "timm, block function": refused(PLAIN, "block_fn is Other", save=with_args(block_fn="Other"), **TINY),
    "timm, unknown argument": read(PLAIN, save=with_args(novel=1), **TINY, notes=("configuration: novel",)),
    "timm, image size that does not fit": refused(
        PLAIN, "do not fit its img_size 64x64", save=with_args(img_size=[64, 64]), **TINY
    ),
}
ARCHITECTURES = {
    # what only the name of the architecture tells
    "timm, 2 heads of width 32": read("test_vit", num_classes=7),
    "timm, 2 heads of width 32, mean": read("test_vit2", num_classes=7),
    "timm, attention pooling of all tokens": refused("test_vit3", "pools class token and registers", num_classes=7),
    "timm, RMSNorm by name": refused("test_vit4", "RMSNorm", num_classes=7),
    "timm, 20 heads": read("vit_huge_plus_patch16_dinov3", img_size=32, embed_dim=80, depth=2, num_classes=7),
    "timm, 32 heads, no head": read(
        "vit_7b_patch16_dinov3", img_size=32, embed_dim=128, depth=2, compare="pooled", notes=("has no head",)
    ),
    "timm, 16 heads, tanh GELU": read(
        "vit_giantopt_patch16_siglip_256", img_size=32, embed_dim=64, depth=2, num_classes=7
    ),
    "timm, 16 heads, tanh GELU, mean": read(
        "vit_giantopt_patch16_siglip_gap_256", img_size=32, embed_dim=64, depth=2, num_classes=7
    ),
    "timm, class token of a rotary model": read("vit_small_patch16_lingbot", **TINY),
    "timm, quick GELU by name": read("vit_base_patch16_clip_quickgelu_224", **TINY),
    "timm, only the name, quick GELU": read(
        "vit_base_patch32_clip_quickgelu_224",
        save=named_only("vit_base_patch32_clip_quickgelu_224.openai"),
        img_size=32,
        patch_size=8,
        embed_dim=96,
        depth=2,
        num_classes=7,
    ),
    "timm, EVA": read("eva_giant_patch14_224", **TINY),
    "timm, EVA's CLIP": read("eva_giant_patch14_clip_224", **TINY),
    "timm, DeiT III": read("deit3_small_patch16_224", **TINY),
    "timm, DeiT, distilled": read("deit_tiny_distilled_patch16_224", **TINY),
    "timm, FlexiViT": read("flexivit_small", **TINY),
    "timm, SO150M": read("vit_so150m2_patch16_reg1_gap_256", **TINY),
    "timm, BEiT": refused("beit_base_patch16_224", "relative position biases", **TINY),
    "timm, BEiT 3": refused("beit3_base_patch16_224", "inside attention and MLP", **TINY),
    "timm, RADIO": read("vit_base_patch16_radio_v3", **TINY),
    "timm, InternViT": read("vit_intern300m_patch14_448", **TINY),
    "timm, AIMv2": refused("aimv2_large_patch14_224", "AIMv2, whose RMSNorm", **TINY),
    "timm, AIMv2, bare file": refused("aimv2_large_patch14_224", "as AIMv2 does", save=safetensors, **TINY),
    "timm, norms after attention and MLP": refused("vit_base_patch16_rpn_224", "normalises after", **TINY),
    "timm, parallel blocks": refused("vit_small_patch16_18x2_224", "unknown format", **TINY),
    "timm, MobileCLIP's stem": refused("vit_base_mci_224", "unknown format", img_size=64, depth=1),
    "timm, CaiT": refused("cait_xxs24_224", "talking-heads", img_size=32, embed_dim=64, num_heads=2, depth=1),
    "timm, relative positions": refused("vit_relpos_base_patch16_224", "relative position biases", **TINY),
    "timm, hybrid": read("vit_small_r26_s32_224", img_size=64, embed_dim=64, depth=2, num_heads=2, num_classes=7),
    "timm, hybrid of another ResNet": refused(
        "vit_small_resnet26d_224", "ResNet of another kind", img_size=64, embed_dim=64, depth=1
    ),
}
ROTARY_MODELS = {
    f"timm, {name}, {kind}": refused(name, refusal, save=save, **(BARE | sizes))
    for name, sizes in {
        "vit_small_patch16_rope_224": {},
        "vit_small_patch16_rope_mixed_224": {},
        "vit_small_patch16_rope_ape_224": {},
        "vit_medium_patch16_rope_reg1_gap_256": {},
        "vit_mediumd_patch16_rope_reg1_gap_256": {},
        "vit_pe_core_tiny_patch16_384": {"attn_pool_num_heads": 1},
        "vit_pe_spatial_tiny_patch16_512": {},
        "vit_pe_lang_large_patch14_448": {},
        "eva02_tiny_patch14_224": {},
    }.items()
    for kind, save, refusal in (
        ("folder", folder, ROTARY),
        (
            "alone",
            safetensors,
            {
                "vit_small_patch16_rope_ape_224": "deit3_base_patch16_224",
                "vit_pe_spatial_tiny_patch16_512": "no final norm",
                "vit_pe_lang_large_patch14_448": "no final norm",
                "eva02_tiny_patch14_224": "do not show whether it has rotary positions",
            }.get(name, ROTARY),
        ),
    )
}
WITHOUT_CONFIG = {
    # state dicts without `config.json`
    "timm, alone": read(PLAIN, save=safetensors, **BARE, notes=("1 assumed, as usual for width 64",)),
    "timm, alone, 2 heads of width 32": read("test_vit", save=safetensors, num_classes=7, notes=("2 assumed",)),
    "timm, alone, 2 heads of width 32, mean": read("test_vit2", save=safetensors, num_classes=7, notes=("2 assumed",)),
    "timm, alone, mean": read(PLAIN, save=safetensors, **BARE, global_pool="avg"),
    **{
        f"timm, alone, {name}": refused(name, refusal, save=safetensors, **BARE)
        for name, refusal in {
            "vit_base_patch16_clip_224": '{"architecture": "vit_base_patch16_clip_224"}',
            "vit_base_patch16_clip_quickgelu_224": "OpenAI's CLIP models need --gelu quick (in Python gelu=",
            "vit_base_patch16_siglip_224": "some SigLIP models need --gelu tanh (in Python gelu=",
            "vit_base_patch32_siglip_gap_256": "does not store its GELU",
            "vit_small_patch16_dinov3": "does not store what it pools",
            "vit_small_patch16_lingbot": '{"model_args": {"global_pool": "avg"}}',
            "test_vit3": "does not store whether attention pooling reads registers",
        }.items()
    },
    **{
        f"timm, alone, {name}, {gelu} GELU given": Saved(
            build=build(name, **TINY), save=safetensors, lineage="timm", options={"gelu": gelu, "num_heads": 2}
        )
        for name, gelu in {
            "vit_base_patch16_clip_224": "erf",
            "vit_base_patch16_clip_quickgelu_224": "quick",
            "vit_base_patch16_siglip_224": "erf",
            "vit_base_patch32_siglip_gap_256": "tanh",
        }.items()
    },
    **{
        f"timm, alone, {name}, {pool} given": Saved(
            build=build(name, **TINY), save=safetensors, lineage="timm", options={"pool": pool, "num_heads": 2}
        )
        for name, pool in {"vit_small_patch16_dinov3": "gap", "vit_small_patch16_lingbot": "cls"}.items()
    },
    "timm, beside its pooling": read(
        "vit_small_patch16_lingbot", save=beside({"model_args": {"global_pool": "token"}}), **BARE
    ),
    "timm, alone, EVA": refused(
        "eva_giant_patch14_224", '{"architecture": "eva_giant_patch14_224"}', save=safetensors, **BARE
    ),
    "timm, alone, norms before or after": refused(
        "vit_base_patch16_rpn_224", "normalises before attention and MLP or after", save=safetensors, **BARE
    ),
    "timm, DINOv3 of another temperature": refused(
        "vit_small_patch16_dinov3", "rope_temperature is 50", **TINY, rope_temperature=50.0
    ),
    "DeiT III, official": refused(
        "deit3_small_patch16_224",
        "deit3_base_patch16_224",
        save=torch_file(lambda m: {"model": official_scales(m)}),
        **BARE,
    ),
    "DeiT III, official, named": read(
        "deit3_small_patch16_224",
        save=named_only(
            "deit3_small_patch16_224", torch_file(lambda m: {"model": official_scales(m)}, name="pytorch_model.bin")
        ),
        img_size=32,
        patch_size=8,
        embed_dim=96,
        depth=2,
        num_classes=7,
    ),
    "DeiT, official, distilled": read(
        "deit_tiny_distilled_patch16_224", save=torch_file(lambda m: {"model": m.state_dict()}), **BARE
    ),
}
CASES: dict[str, Saved] = {**ARGUMENTS, **ARCHITECTURES, **ROTARY_MODELS, **WITHOUT_CONFIG}
