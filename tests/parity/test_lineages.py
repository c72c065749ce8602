"""Other projects' weights give our model their logits, and ours written in their format load into theirs."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import timm
import torch
import torchvision
import transformers
from safetensors.torch import save_file
from timm.layers import SwiGLUPacked
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from vitral.weights.foreign import LINEAGES, read_foreign, written_as

TIMM = dict(img_size=32, patch_size=8, embed_dim=64, depth=2, num_heads=1, mlp_ratio=2, num_classes=7)
HF = dict(image_size=32, patch_size=8, hidden_size=64, num_hidden_layers=2, num_attention_heads=1)
DINO3 = dict(depth=2, img_size=32, patch_size=8, embed_dim=64, num_heads=1, num_classes=7)
SIMPLE: dict[str, Callable[[], nn.Module]] = {
    "timm": partial(VisionTransformer, **TIMM),
    "timm, mean of patches": partial(VisionTransformer, **TIMM, global_pool="avg", class_token=False, fc_norm=False),
    "timm, attention pooling": partial(VisionTransformer, **TIMM, global_pool="map", class_token=False),
    "timm, registers": partial(VisionTransformer, **TIMM, reg_tokens=3, no_embed_class=True, init_values=0.1),
    "timm, normed queries": partial(VisionTransformer, **{**TIMM, "num_heads": 4}, qk_norm=True),
    "timm, gated": partial(VisionTransformer, **TIMM, mlp_layer=SwiGLUPacked, act_layer=nn.SiLU),
    "timm, no bias of queries": partial(VisionTransformer, **TIMM, qkv_bias=False),
    "timm, normed after pooling": partial(VisionTransformer, **TIMM, global_pool="avg", class_token=False),
    "timm, CLIP": partial(VisionTransformer, **TIMM, pre_norm=True, norm_layer=partial(nn.LayerNorm, eps=1e-5)),
    "timm, distilled": partial(timm.models.deit.VisionTransformerDistilled, **TIMM),
    "timm, rotary": partial(timm.create_model, "vit_small_patch16_dinov3", **DINO3),
    "timm, rotary, gated": partial(timm.create_model, "vit_small_plus_patch16_dinov3", **DINO3),
    "timm, rotary, biased": partial(timm.create_model, "vit_small_patch16_dinov3_qkvb", **DINO3),
    "torchvision": lambda: torchvision.models.VisionTransformer(
        image_size=32, patch_size=8, num_layers=2, num_heads=1, hidden_dim=64, mlp_dim=128, num_classes=7
    ),
    "transformers": lambda: transformers.ViTForImageClassification(
        transformers.ViTConfig(**HF, intermediate_size=128, num_labels=7)
    ),
    "dinov2": lambda: transformers.Dinov2Model(transformers.Dinov2Config(**HF, mlp_ratio=2)),
    "dinov2, registers": lambda: transformers.Dinov2WithRegistersModel(
        transformers.Dinov2WithRegistersConfig(**HF, mlp_ratio=2, num_register_tokens=3)
    ),
    "dinov2, gated": lambda: transformers.Dinov2Model(
        transformers.Dinov2Config(**HF, mlp_ratio=2, use_swiglu_ffn=True)
    ),
}
SIMPLE |= {
    "transformers, DeiT": lambda: transformers.DeiTForImageClassificationWithTeacher(
        transformers.DeiTConfig(**HF, intermediate_size=128, num_labels=7)
    ),
    "dinov3": lambda: transformers.DINOv3ViTModel(
        transformers.DINOv3ViTConfig(**HF, intermediate_size=128, num_register_tokens=2, layer_norm_eps=1e-5)
    ),
    "dinov3, gated": lambda: transformers.DINOv3ViTModel(
        transformers.DINOv3ViTConfig(
            **HF, intermediate_size=128, num_register_tokens=4, use_gated_mlp=True, hidden_act="silu"
        )
    ),
    "clip": lambda: transformers.CLIPVisionModelWithProjection(
        transformers.CLIPVisionConfig(**HF, intermediate_size=128, projection_dim=7)
    ),
    "clip, exact": lambda: transformers.CLIPVisionModelWithProjection(
        transformers.CLIPVisionConfig(**HF, intermediate_size=128, projection_dim=7, hidden_act="gelu")
    ),
    "siglip": lambda: transformers.SiglipVisionModel(transformers.SiglipVisionConfig(**HF, intermediate_size=128)),
}
NAMED = {
    # every size and form that released weights of these projects have; the shapes are real, the depth is two
    **{
        f"timm {name}": partial(timm.create_model, name, depth=2)
        for name in (
            "vit_tiny_patch16_224",
            "vit_small_patch16_224",
            "vit_small_patch32_384",
            "vit_base_patch16_224",
            "vit_base_patch32_224",
            "vit_base_patch16_384",
            "vit_large_patch16_224",
            "vit_large_patch32_384",
            "vit_base_patch16_224_miil",
            "vit_medium_patch16_gap_240",
            "vit_base_patch14_dinov2",
            "vit_small_patch14_reg4_dinov2",
            "vit_base_patch16_siglip_224",
            "deit3_small_patch16_224",
            "vit_tiny_r_s16_p8_224",
            "vit_small_r26_s32_224",
            "vit_base_r50_s16_224",
            "vit_base_patch16_clip_224",
            "vit_base_patch16_clip_quickgelu_224",
            "vit_so150m_patch16_reg4_gap_256",
            "deit_tiny_distilled_patch16_224",
            "deit_base_distilled_patch16_384",
            "deit3_base_patch16_224",
            "vit_small_patch16_dinov3",
            "vit_small_plus_patch16_dinov3",
            "vit_base_patch16_dinov3_qkvb",
            "vit_base_patch16_siglip_gap_224",
        )
    },
    "torchvision vit_b_16": partial(torchvision.models.vit_b_16),
    "torchvision vit_b_32": partial(torchvision.models.vit_b_32),
}


def randomised(build: Callable[[], nn.Module]) -> nn.Module:
    """A peer's model whose every weight is random."""
    torch.manual_seed(0)
    peer = build().eval()
    with torch.no_grad():
        for parameter in peer.parameters():
            parameter += torch.randn_like(parameter) * 0.05
    return peer


def answer(peer: nn.Module, images: Tensor) -> Tensor:
    """Logits, or what an encoder without a head pools."""
    with torch.no_grad():
        output = peer(images)
    if isinstance(output, Tensor):
        return output
    return next(getattr(output, name) for name in ("logits", "image_embeds", "pooler_output") if hasattr(output, name))


def told(peer: nn.Module, name: str) -> dict:
    """What stands beside a file in its owner's folder: transformers' configuration, the name of timm's model."""
    config = getattr(peer, "config", None)
    return config.to_dict() if config is not None else {"architecture": name.partition(" ")[2]}


def read(peer: nn.Module, folder: Path, name: str):
    save_file({name: tensor.contiguous() for name, tensor in peer.state_dict().items()}, folder / "peer.safetensors")
    return read_foreign(folder / "peer.safetensors", settings=told(peer, name))


@pytest.mark.parametrize("name", SIMPLE)
def test_weights_come_and_go(name: str, tmp_path: Path) -> None:
    peer = randomised(SIMPLE[name])
    model, report = read(peer, tmp_path, name)
    assert report.lineage == name.split(",")[0]
    images = torch.rand(2, 3, *model.config.image_hw) * 2 - 1
    with torch.no_grad():
        found = model.features(images).pooled if "has no head" in " ".join(report.notes) else model(images)
    torch.testing.assert_close(found, answer(peer, images), rtol=1e-4, atol=1e-4)
    written, caveats = written_as(LINEAGES[report.lineage], model, settings=told(peer, name))
    assert caveats == []
    theirs = {key: tensor for key, tensor in peer.state_dict().items() if not key.endswith("mask_token")}
    assert set(written) == set(theirs)
    for key, tensor in theirs.items():
        assert torch.equal(written[key], tensor), key


def test_an_earlier_generation_of_names_is_read(tmp_path: Path) -> None:
    peer = randomised(SIMPLE["transformers"])
    older = {}
    for key, tensor in peer.state_dict().items():
        name = key.replace("vit.layers.", "vit.encoder.layer.")
        for part in ("query", "key", "value"):
            name = name.replace(f".attention.{part[0]}_proj.", f".attention.attention.{part}.")
        name = name.replace(".attention.o_proj.", ".attention.output.dense.")
        name = name.replace(".mlp.fc1.", ".intermediate.dense.").replace(".mlp.fc2.", ".output.dense.")
        older[name] = tensor.contiguous()
    assert "vit.encoder.layer.1.intermediate.dense.weight" in older
    save_file(older, tmp_path / "older.safetensors")
    model, report = read_foreign(tmp_path / "older.safetensors", settings=peer.config.to_dict())
    assert report.lineage == "transformers"
    images = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(model(images), answer(peer, images), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", NAMED)
def test_named_models_give_their_logits(name: str, tmp_path: Path) -> None:
    peer = randomised(NAMED[name])
    for module in peer.modules():  # timm's epsilons of a hybrid are not the released ones
        if isinstance(module, nn.GroupNorm):
            module.eps = 1e-6
    model, report = read(peer, tmp_path, name)
    assert report.lineage == name.split(" ")[0]
    images = torch.rand(1, 3, *model.config.image_hw) * 2 - 1
    with torch.no_grad():
        features = model.features(images)
        found = features.pooled if "has no head" in " ".join(report.notes) else model(images)
        if "dinov3" in name:  # timm's default is the mean of the patches, the class token is DINOv3's own
            found = features.patches.mean(1)
    expected = answer(peer, images)
    torch.testing.assert_close(found / expected.std(), expected / expected.std(), rtol=1e-3, atol=1e-3)
