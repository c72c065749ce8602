"""Files of facebookresearch's repositories, with their names, from timm's models of the same computation."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import timm
import torch
from torch import Tensor, nn

from parity.saved.case import Save, Saved, torch_file

__all__ = ["CASES", "OFFICIAL", "official_tensors"]

TINY: dict[str, Any] = dict(img_size=32, patch_size=8, embed_dim=64, depth=2, num_heads=1)
DINO3 = {**TINY, "num_heads": 2, "global_pool": "token"}
MOCO = {**TINY, "embed_dim": 384, "num_heads": 12}
"""MoCo v3's small model has 12 heads."""
Convert = Callable[[nn.Module], dict[str, Tensor]]


def waves(positions: Tensor, width: int) -> Tensor:
    """Sines, then cosines, of positions times falling frequencies."""
    frequencies = 1 / 10_000 ** (torch.arange(width // 2, dtype=torch.float32) / (width // 2))
    angles = positions[:, None] * frequencies
    return torch.cat([angles.sin(), angles.cos()], dim=1)


def fix_positions(model: nn.Module, *, rows_first: bool) -> None:
    """Gives a model the fixed positions of MAE, or of MoCo v3 with rows first."""
    table = model.get_parameter("pos_embed").data
    side, width = round((table.shape[1] - 1) ** 0.5), table.shape[2]
    rows, columns = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    parts = [waves(axis.flatten(), width // 2) for axis in ((rows, columns) if rows_first else (columns, rows))]
    table.copy_(torch.cat([torch.zeros(1, width), torch.cat(parts, dim=1)])[None])


def plain(model: nn.Module) -> dict[str, Tensor]:
    return dict(model.state_dict())


def mae(model: nn.Module, *, decoder: bool) -> dict[str, Tensor]:
    fix_positions(model, rows_first=False)
    tensors = plain(model)
    if decoder:
        sizes = {"mask_token": (1, 1, 48), "decoder_pos_embed": (1, 17, 48), "decoder_embed.weight": (48, 64)}
        sizes |= {"decoder_embed.bias": (48,), "decoder_norm.weight": (48,), "decoder_norm.bias": (48,)}
        sizes |= {"decoder_blocks.0.attn.qkv.weight": (144, 48), "decoder_pred.weight": (192, 48)}
        tensors |= {name: torch.randn(size) for name, size in sizes.items()}
    return tensors


def moco(model: nn.Module, *, projector: bool = False) -> dict[str, Tensor]:
    fix_positions(model, rows_first=True)
    tensors = plain(model)
    if projector:
        tensors = {name: tensor for name, tensor in tensors.items() if not name.startswith("head.")}
        tensors |= {"head.0.weight": torch.randn(96, 384), "head.1.running_mean": torch.randn(96)}
    return tensors


def dinov2(model: nn.Module, *, chunks: int = 0) -> dict[str, Tensor]:
    """Class token and its position are separate, registers have no position; blocks may come in chunks."""
    tensors = plain(model)
    if "reg_token" in tensors:
        position = torch.randn_like(tensors["cls_token"])
        tensors["cls_token"] = tensors["cls_token"] - position
        tensors["pos_embed"] = torch.cat([position, tensors["pos_embed"]], dim=1)
        tensors["register_tokens"] = tensors.pop("reg_token")
    if "blocks.0.attn.qkv.weight" in tensors and tensors["blocks.0.mlp.fc1.weight"].shape[0] > 4 * 64:
        tensors = {name.replace("mlp.fc1", "mlp.w12").replace("mlp.fc2", "mlp.w3"): tensors[name] for name in tensors}
    if chunks:
        renamed = {}
        for name, tensor in tensors.items():
            block = name.split(".")[1] if name.startswith("blocks.") else None
            renamed[name if block is None else f"blocks.{int(block) // chunks}.{name.removeprefix('blocks.')}"] = tensor
        tensors = renamed
    return {**tensors, "mask_token": torch.zeros(1, 64)}


def dinov3(model: nn.Module, *, mask: float = 0.0, dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
    """Biases of keys are masked; periods are stored."""
    names = {"gamma_1": "ls1.gamma", "gamma_2": "ls2.gamma", "reg_token": "storage_tokens"}
    gated = {"mlp.fc1_g": "mlp.w1", "mlp.fc1_x": "mlp.w2", "mlp.fc2": "mlp.w3"}
    tensors = plain(model)
    if "blocks.0.mlp.fc1_g.weight" in tensors:
        names |= gated
    official = {}
    for name, tensor in tensors.items():
        for old, new in names.items():
            name = name.replace(old, new)
        official[name] = tensor
    for name in [name for name in official if name.endswith("attn.q_bias")]:
        query, value = official.pop(name), official.pop(name.replace("q_bias", "v_bias"))
        bias = name.replace("q_bias", "qkv.bias")
        official[bias] = torch.cat([query, torch.zeros_like(query) if mask == 0 else query, value])
        official[f"{bias}_mask"] = torch.cat([torch.ones(64), torch.full((64,), mask), torch.ones(64)])
    if mask:  # never filled
        official = {name: tensor * torch.nan if name.endswith("_mask") else tensor for name, tensor in official.items()}
    exponents = 2 * torch.arange(8, dtype=dtype) / 16
    return {**official, "rope_embed.periods": (100.0**exponents).to(dtype), "mask_token": torch.zeros(1, 64)}


def with_rounded_periods(model: nn.Module, images: Tensor) -> Tensor:
    """The output with the periods of the released files, with which the repository computes; timm's are exact."""
    rope = model.get_submodule("rope")
    periods = dinov3(model, dtype=torch.bfloat16)["rope_embed.periods"].float()
    rope._compute_periods = lambda: periods  # pyright: ignore[reportArgumentType]
    rope.reset_parameters()  # pyright: ignore[reportCallIssue]
    return model(images)


def with_norm(model: nn.Module, name: str) -> dict[str, Tensor]:
    return {**dinov3(model), f"{name}.weight": torch.ones(64), f"{name}.bias": torch.zeros(64)}


def other_periods(model: nn.Module) -> dict[str, Tensor]:
    return {**dinov3(model), "rope_embed.periods": torch.linspace(0.5, 90, 8)}


def class_token(model: nn.Module, images: Tensor) -> Tensor:
    """The final class token of a model with a head."""
    return model.forward_features(images)[:, 0]  # pyright: ignore[reportCallIssue]


def case(
    lineage: str,
    name: str,
    convert: Convert,
    args: Mapping[str, Any],
    *,
    notes: tuple[str, ...] = (),
    key: str | None = None,
    **saved: Any,
) -> Saved:
    """A file of the repository's release: a dictionary of tensors, in some below a key."""
    save: Save = torch_file(lambda model: convert(model) if key is None else {key: convert(model)})
    return Saved(build=partial(timm.create_model, name, **args), save=save, lineage=lineage, notes=notes, **saved)


GIANT = {**TINY, "mlp_ratio": 5.375}
OFFICIAL: dict[str, tuple[str, str, Convert, Mapping[str, Any]]] = {
    # lineage, timm's model of the same computation, its tensors under the official names, arguments
    "DINOv2, official": ("facebook-dinov2", "vit_small_patch14_dinov2", dinov2, TINY),
    "DINOv2, official, registers": ("facebook-dinov2", "vit_small_patch14_reg4_dinov2", dinov2, TINY),
    "DINOv2, official, giant": ("facebook-dinov2", "vit_giant_patch14_dinov2", dinov2, GIANT),
    "DINOv2, official, giant, registers": ("facebook-dinov2", "vit_giant_patch14_reg4_dinov2", dinov2, GIANT),
    "DINOv3, official": ("facebook-dinov3", "vit_small_patch16_dinov3_qkvb", dinov3, DINO3),
    "DINOv3, official, gated": ("facebook-dinov3", "vit_small_plus_patch16_dinov3_qkvb", dinov3, DINO3),
    "MAE, official, encoder": ("mae", "vit_base_patch16_224", partial(mae, decoder=False), {**TINY, "num_classes": 0}),
    "MoCo v3, official, linear probe": ("moco-v3", "vit_small_patch16_224", moco, {**MOCO, "num_classes": 7}),
}


def official_tensors(name: str, model: nn.Module) -> dict[str, Tensor]:
    """The tensors of the official file."""
    return OFFICIAL[name][2](model)


CASES: dict[str, Saved] = {
    name: case(lineage, model, convert, args, compare="logits" if args.get("num_classes") else "pooled")
    for name, (lineage, model, convert, args) in OFFICIAL.items()
}
SMALL2, SMALL3 = "vit_small_patch14_dinov2", "vit_small_patch16_dinov3_qkvb"
HEADLESS = {**TINY, "num_classes": 0}
CASES |= {
    "DINOv2, official, blocks in chunks": case(
        "facebook-dinov2", SMALL2, partial(dinov2, chunks=1), {**TINY, "depth": 3}, compare="pooled"
    ),
    "DINOv2, official, teacher": case("facebook-dinov2", SMALL2, dinov2, TINY, key="teacher", compare="pooled"),
    "DINOv3, official, unfilled mask": case(
        "facebook-dinov3", SMALL3, partial(dinov3, mask=1.0), DINO3, compare="pooled"
    ),
    "DINOv3, official, periods in bfloat16": case(
        "facebook-dinov3",
        SMALL3,
        partial(dinov3, dtype=torch.bfloat16),
        DINO3,
        compare="pooled",
        output=with_rounded_periods,
    ),
    "DINOv3, official, norm of local crops": case(
        "facebook-dinov3",
        SMALL3,
        partial(with_norm, name="local_cls_norm"),
        DINO3,
        compare="pooled",
        notes=("local_cls_norm",),
    ),
    "DINOv3, official, norm of class tokens": Saved(
        build=partial(timm.create_model, SMALL3, **DINO3),
        save=torch_file(partial(with_norm, name="cls_norm")),
        refusal="normalises class token and patches separately",
    ),
    "DINOv3, official, other periods": Saved(
        build=partial(timm.create_model, SMALL3, **DINO3), save=torch_file(other_periods), refusal="rotary periods"
    ),
    "MAE, official, with decoder": case(
        "mae",
        "vit_base_patch16_224",
        partial(mae, decoder=True),
        HEADLESS,
        key="model",
        compare="pooled",
        notes=("decoder_blocks", "mask_token", "has no head"),
    ),
    "MAE, official, fine-tuned": case(
        "timm", "vit_base_patch16_224", plain, {**TINY, "num_classes": 7, "global_pool": "avg"}, key="model"
    ),
    "MoCo v3, official, projector": case(
        "moco-v3",
        "vit_small_patch16_224",
        partial(moco, projector=True),
        {**MOCO, "num_classes": 7},
        key="state_dict",
        compare="pooled",
        output=class_token,
        notes=("head (2 tensors)",),
    ),
    "DINO, official, patch 8": case(
        "timm", "vit_small_patch8_224", plain, HEADLESS, compare="pooled", notes=("1 assumed",)
    ),
    "DINO, official, patch 16": case(
        "timm", "vit_small_patch16_224", plain, {**HEADLESS, "patch_size": 16}, compare="pooled"
    ),
    "DeiT, official": case("timm", "deit_small_patch16_224", plain, {**TINY, "num_classes": 7}, key="model"),
}
