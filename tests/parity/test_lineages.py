"""Upstream checkpoints give Vitral's model the same logits, and are written back unchanged."""

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

import vitral
from vitral.weights.lineages.registry import LINEAGES, detect_lineage
from vitral.weights.mapping import from_upstream, to_upstream
from vitral.weights.read import load_upstream
from vitral.weights.write import upstream_state_dict

TIMM = dict(img_size=32, patch_size=8, embed_dim=64, depth=2, num_heads=1, mlp_ratio=2, num_classes=7)
HF = dict(image_size=32, patch_size=8, hidden_size=64, num_hidden_layers=2, num_attention_heads=1)
DINO3 = dict(depth=2, img_size=32, patch_size=8, embed_dim=64, num_heads=1, num_classes=7)
SMALL: dict[str, Callable[[], nn.Module]] = {
    "timm": partial(VisionTransformer, **TIMM),
    "timm, mean of patches": partial(VisionTransformer, **TIMM, global_pool="avg", class_token=False, fc_norm=False),
    "timm, attention pooling": partial(VisionTransformer, **TIMM, global_pool="map", class_token=False),
    "timm, registers": partial(VisionTransformer, **TIMM, reg_tokens=3, no_embed_class=True, init_values=0.1),
    "timm, QK-norm": partial(VisionTransformer, **{**TIMM, "num_heads": 4}, qk_norm=True),
    "timm, gated": partial(VisionTransformer, **TIMM, mlp_layer=SwiGLUPacked, act_layer=nn.SiLU),
    "timm, no qkv bias": partial(VisionTransformer, **TIMM, qkv_bias=False),
    "timm, norm after pooling": partial(VisionTransformer, **TIMM, global_pool="avg", class_token=False),
    "timm, CLIP": partial(VisionTransformer, **TIMM, pre_norm=True, norm_layer=partial(nn.LayerNorm, eps=1e-5)),
    "timm, distilled": partial(timm.models.deit.VisionTransformerDistilled, **TIMM),
    "timm, rotary": partial(timm.create_model, "vit_small_patch16_dinov3", **DINO3),
    "timm, rotary, gated": partial(timm.create_model, "vit_small_plus_patch16_dinov3", **DINO3),
    "timm, rotary, qkv bias": partial(timm.create_model, "vit_small_patch16_dinov3_qkvb", **DINO3),
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
SMALL |= {
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
    "clip, exact GELU": lambda: transformers.CLIPVisionModelWithProjection(
        transformers.CLIPVisionConfig(**HF, intermediate_size=128, projection_dim=7, hidden_act="gelu")
    ),
    "transformers, I-JEPA": lambda: transformers.IJepaForImageClassification(
        transformers.IJepaConfig(**HF, intermediate_size=128, num_labels=7)
    ),
    "transformers, no qkv bias": lambda: transformers.ViTForImageClassification(
        transformers.ViTConfig(**HF, intermediate_size=128, num_labels=7, qkv_bias=False)
    ),
    "dinov2, classifier": lambda: transformers.Dinov2ForImageClassification(
        transformers.Dinov2Config(**HF, mlp_ratio=2, num_labels=7)
    ),
    "dinov2, registers, classifier": lambda: transformers.Dinov2WithRegistersForImageClassification(
        transformers.Dinov2WithRegistersConfig(**HF, mlp_ratio=2, num_register_tokens=3, num_labels=7)
    ),
    "dinov3, no registers": lambda: transformers.DINOv3ViTModel(
        transformers.DINOv3ViTConfig(**HF, intermediate_size=128)
    ),
    "siglip": lambda: transformers.SiglipVisionModel(transformers.SiglipVisionConfig(**HF, intermediate_size=128)),
}
NAMED = {
    # the sizes and variants of released weights, with a depth of two
    **{
        f"timm {name}": partial(timm.create_model, name, depth=2, **({"img_size": 224} if "14" in name else {}))
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
    **{
        f"torchvision {name}": partial(
            torchvision.models.VisionTransformer,
            image_size=size,
            patch_size=patch,
            num_layers=2,
            num_heads=width // 64,
            hidden_dim=width,
            mlp_dim=4 * width,
        )
        for name, size, patch, width in (
            ("vit_b_16", 224, 16, 768),
            ("vit_b_32", 224, 32, 768),
            ("vit_l_16", 224, 16, 1024),
        )
    },
}


def randomised(build: Callable[[], nn.Module]) -> nn.Module:
    """A peer's model with random weights everywhere."""
    torch.manual_seed(0)
    peer = build().eval()
    with torch.no_grad():
        for parameter in peer.parameters():
            parameter += torch.randn_like(parameter) * 0.05
    return peer


def peer_output(peer: Callable, images: Tensor) -> Tensor:
    """Logits, or the pooled output of an encoder without a head."""
    with torch.no_grad():
        output = peer(images)
    if isinstance(output, Tensor):
        return output
    return next(getattr(output, name) for name in ("logits", "image_embeds", "pooler_output") if hasattr(output, name))


def upstream_config(peer: nn.Module, name: str) -> dict:
    """Content of the upstream `config.json`: transformers' configuration, or timm's name and open arguments."""
    config = getattr(peer, "config", None)
    if config is not None:
        return config.to_dict()
    args = {"global_pool": pool} if (pool := getattr(peer, "global_pool", None)) else {}
    args |= {"act_layer": "gelu"} if name.startswith("timm, ") and "gated" not in name else {}
    return {"architecture": name.partition(" ")[2], "model_args": args}


def read(peer: nn.Module, folder: Path, name: str):
    save_file({name: tensor.contiguous() for name, tensor in peer.state_dict().items()}, folder / "peer.safetensors")
    return load_upstream(folder / "peer.safetensors", upstream_config=upstream_config(peer, name))


@pytest.mark.parametrize("name", SMALL)
def test_weights_are_read_and_written_back(name: str, tmp_path: Path) -> None:
    peer = randomised(SMALL[name])
    model, report = read(peer, tmp_path, name)
    assert report.lineage == name.split(",")[0]
    images = torch.rand(2, 3, *model.config.image_hw) * 2 - 1
    with torch.no_grad():
        output = model.features(images).pooled if "has no head" in " ".join(report.notes) else model(images)
    torch.testing.assert_close(output, peer_output(peer, images), rtol=1e-4, atol=1e-4)
    written, caveats = upstream_state_dict(LINEAGES[report.lineage], model, upstream_config=upstream_config(peer, name))
    assert caveats == []
    expected = {key: tensor for key, tensor in peer.state_dict().items() if not key.endswith("mask_token")}
    assert set(written) == set(expected)
    for key, tensor in expected.items():
        assert torch.equal(written[key], tensor), key


RESIZED: dict[str, dict] = {
    "transformers": {"interpolate_pos_encoding": True},
    "transformers, I-JEPA": {"interpolate_pos_encoding": True},
    "dinov2": {},
    "dinov2, registers": {},
    "dinov3": {},
    "clip": {"interpolate_pos_encoding": True},
    "siglip": {"interpolate_pos_encoding": True},
}


@pytest.mark.parametrize("name", RESIZED)
def test_positions_are_resampled_as_by_the_owner(name: str, tmp_path: Path) -> None:
    peer = randomised(SMALL[name])
    model, report = read(peer, tmp_path, name)
    images = torch.rand(2, 3, 48, 64) * 2 - 1
    with torch.no_grad():
        output = model.features(images).pooled if "has no head" in " ".join(report.notes) else model(images)
        expected = peer_output(partial(peer, **RESIZED[name]), images)
    assert (output - expected).norm() < 1e-5 * expected.norm()


def test_names_of_older_transformers_are_read(tmp_path: Path) -> None:
    peer = randomised(SMALL["transformers"])
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
    model, report = load_upstream(tmp_path / "older.safetensors", upstream_config=peer.config.to_dict())
    assert report.lineage == "transformers"
    images = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(model(images), peer_output(peer, images), rtol=1e-4, atol=1e-4)


def test_the_classifier_of_clip_keeps_its_classes(tmp_path: Path) -> None:
    """CLIP's projection has none, but this head was trained."""
    text = dict(hidden_size=32, intermediate_size=32, num_hidden_layers=1, num_attention_heads=1, vocab_size=50)
    tokens = dict(bos_token_id=0, eos_token_id=1, pad_token_id=1)
    config = transformers.CLIPConfig(
        vision_config={**HF, "intermediate_size": 96}, text_config={**text, **tokens}, num_labels=3
    )
    randomised(lambda: transformers.CLIPForImageClassification(config)).save_pretrained(tmp_path / "saved")
    assert vitral.load(tmp_path / "saved").card.classes == ("LABEL_0", "LABEL_1", "LABEL_2")


def test_a_hybrid_takes_sizes_that_whole_patches_do_not_fill(tmp_path: Path) -> None:
    name = "timm vit_small_r26_s32_224"
    sizes = dict(img_size=300, embed_dim=96, num_heads=6, depth=1, num_classes=7)
    peer = randomised(partial(timm.create_model, name.partition(" ")[2], **sizes))
    for module in peer.modules():  # timm's epsilons differ from the released code
        if isinstance(module, nn.GroupNorm):
            module.eps = 1e-6
    model, _ = read(peer, tmp_path, name)
    images = torch.rand(1, 3, 300, 300, dtype=torch.float64) * 2 - 1
    expected = peer_output(peer.double(), images)
    assert model.config.grid == (10, 10)
    with torch.no_grad():
        torch.testing.assert_close(model.double()(images), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", NAMED)
def test_named_models_have_the_same_logits_and_gradients(name: str, tmp_path: Path) -> None:
    peer = randomised(NAMED[name])
    model, report = read(peer, tmp_path, name)
    assert report.lineage == name.split(" ")[0]
    peer, model = peer.double(), model.double()
    images = torch.rand(1, 3, *model.config.image_hw, dtype=torch.float64) * 2 - 1
    expected = peer(images)
    features = model.features(images)
    output = features.pooled if "has no head" in " ".join(report.notes) else model.classify(features.pooled)
    # timm's rotary table is float32; rounding of the 150M model, in float64, is a little larger than that of others
    tol = 1e-4 if "dinov3" in name else 1e-8 if "so150m" in name else 1e-9
    torch.testing.assert_close(output / expected.std(), expected / expected.std(), rtol=tol, atol=tol)
    weights = torch.rand(expected.shape, dtype=torch.float64) / expected.std().detach()
    (output * weights).sum().backward()
    (expected * weights).sum().backward()
    gradients = {key: value.grad for key, value in model.named_parameters() if value.grad is not None}
    lineage = LINEAGES[report.lineage]
    peer_gradients = {key: value.grad for key, value in peer.named_parameters() if value.grad is not None}
    mapping = [entry for entry in lineage.mapping(model.config) if entry.name in gradients]
    compared, _, _ = to_upstream(mapping, gradients)
    if "dinov3" in name:  # registers without the class token, and layers in parts; timm's keys have no bias
        for key in [key for key in compared if key.endswith("qkv.bias")]:
            compared[key].unflatten(0, (3, -1))[1] = 0
        compared = lineage.finalise(compared, model.config)
    compared = {key: grad for key, grad in compared.items() if key in peer_gradients}
    uncompared = sorted(set(peer_gradients) - set(compared))
    assert len(uncompared) <= 4, uncompared
    for key, gradient in compared.items():
        expected = peer_gradients[key]
        if key == "pos_embed":  # one of the two may add these rows to the tokens
            rows = min(gradient.shape[1], expected.shape[1])
            gradient, expected = gradient[:, -rows:], expected[:, -rows:]
        scale = expected.abs().max().clamp(min=1e-6)
        difference = ((gradient - expected).abs().max() / scale).item()
        assert difference < 10 * tol, f"{key}: {difference}"


def open_clip_names(arrays: dict[str, Tensor]) -> dict[str, Tensor]:
    """Tensors of transformers' CLIP under OpenCLIP's names."""
    parts = {"layer_norm1": "ln_1", "layer_norm2": "ln_2", "self_attn.out_proj": "attn.out_proj"}
    parts |= {"mlp.fc1": "mlp.c_fc", "mlp.fc2": "mlp.c_proj"}
    modules = {"embeddings.class_embedding": "class_embedding", "embeddings.patch_embedding": "conv1"}
    modules |= {"embeddings.position_embedding.weight": "positional_embedding"}
    modules |= {"pre_layrnorm": "ln_pre", "post_layernorm": "ln_post", "encoder.layers": "transformer.resblocks"}
    renamed = {"visual.proj": arrays["visual_projection.weight"].T.contiguous()}
    for key, array in arrays.items():
        name = key.removeprefix("vision_model.")
        for old, new in (modules | parts).items():
            name = name.replace(old, new)
        if "_proj" not in name or "out_proj" in name or "c_proj" in name:
            renamed[f"visual.{name}"] = array
    for layer in range(2):
        for kind in ("weight", "bias"):
            start = f"vision_model.encoder.layers.{layer}.self_attn."
            fused = torch.cat([arrays[f"{start}{part}_proj.{kind}"] for part in "qkv"])
            renamed[f"visual.transformer.resblocks.{layer}.attn.in_proj_{kind}"] = fused
    return renamed


def test_the_image_tower_of_open_clip_is_read(tmp_path: Path) -> None:
    peer = randomised(SMALL["clip"])
    arrays = open_clip_names(peer.state_dict())
    others = {"logit_scale": torch.zeros(()), "transformer.resblocks.0.ln_1.weight": torch.zeros(9)}
    save_file({key: array.contiguous() for key, array in (arrays | others).items()}, tmp_path / "open.safetensors")
    model, report = load_upstream(tmp_path / "open.safetensors", upstream_config={"model_cfg": {"quick_gelu": True}})
    assert report.lineage == "open_clip"
    images = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(model(images), peer_output(peer, images), rtol=1e-4, atol=1e-4)
    written, _ = upstream_state_dict(LINEAGES["open_clip"], model)
    assert set(written) == set(arrays)
    assert all(torch.equal(written[key], array) for key, array in arrays.items())


@pytest.mark.parametrize("kind", ["clip", "siglip"])
def test_the_image_tower_of_image_text_models_is_read(kind: str, tmp_path: Path) -> None:
    sizes = dict(hidden_size=64, num_hidden_layers=1, num_attention_heads=1, intermediate_size=96)
    vision, text = dict(**sizes, image_size=32, patch_size=8), dict(**sizes, vocab_size=99)
    if kind == "clip":
        config = transformers.CLIPConfig(vision_config=vision, text_config=text, projection_dim=5)
        peer = randomised(lambda: transformers.CLIPModel(config))
    else:
        config = transformers.SiglipConfig(vision_config=vision, text_config=text)
        peer = randomised(lambda: transformers.SiglipModel(config))
    model, report = read(peer, tmp_path, kind)
    assert report.lineage == kind
    assert "the model does not use" in " ".join(report.notes)
    images = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        expected = peer.get_image_features(images)
        expected = expected if isinstance(expected, Tensor) else expected.pooler_output
        output = model(images) if kind == "clip" else model.features(images).pooled
        torch.testing.assert_close(output, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["ViT-B/16", pytest.param("ViT-L/32", marks=pytest.mark.slow), "R50+ViT-B/16"])
def test_real_sizes_are_written_and_read_unchanged(name: str) -> None:
    """Every format that can store the model returns the same bits."""
    model = vitral.create(name)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.uniform_(-1, 1)
    state, stored = model.state_dict(), []
    for format, lineage in LINEAGES.items():
        try:
            tensors, _ = upstream_state_dict(lineage, model)
        except ValueError:
            continue
        detected, canonical = detect_lineage(tensors, Path("written"))
        assert detected is lineage
        loaded, missing, unexpected = from_upstream(lineage.mapping(model.config), canonical)
        assert (missing, unexpected) == ([], [])
        folded = {"cls_token", "pos_embed"} if format == "big_vision" else set()  # the format adds the two
        assert all(torch.equal(loaded[key], tensor) for key, tensor in state.items() if key not in folded), format
        stored.append(format)
    hybrid = name.startswith("R50")
    plain = ["google", "google-linen", "big_vision", "timm", "torchvision", "transformers"]
    assert stored == (
        [format for format in plain if format not in ("torchvision", "transformers")] if hybrid else plain
    )


def test_a_zero_bias_may_be_left_out(tmp_path: Path) -> None:
    """timm's CLIP has a projection bias, transformers' has none."""
    peer = randomised(SMALL["timm, CLIP"])
    peer.get_parameter("head.bias").data.zero_()
    model, _ = read(peer, tmp_path, "timm, CLIP")
    config = {"hidden_act": "gelu"}
    written, notes = upstream_state_dict(LINEAGES["clip"], model, upstream_config=config)
    [note] = notes
    assert "clip interpolates positions in its own way (huggingface, this model: timm)" in note
    assert "visual_projection.weight" in written
    save_file(written, tmp_path / "written.safetensors")
    loaded, report = load_upstream(tmp_path / "written.safetensors", upstream_config=config)
    assert report.lineage == "clip"
    images = torch.rand(2, 3, 32, 32)
    torch.testing.assert_close(loaded(images), model(images), rtol=0, atol=1e-5)
    model.head.bias.data.fill_(0.1)
    with pytest.raises(ValueError, match="clip cannot store this model: it has no place for a bias of the head"):
        upstream_state_dict(LINEAGES["clip"], model, upstream_config=config)


def test_required_biases_are_added_as_zero(tmp_path: Path) -> None:
    """timm's models may have no qkv bias; torchvision's always do."""
    model, _ = read(randomised(SMALL["timm, no qkv bias"]), tmp_path, "timm")
    written, notes = upstream_state_dict(LINEAGES["torchvision"], model)
    assert len(notes) == 2
    assert "2 zero biases" in notes[0]
    assert "torchvision interpolates positions" in notes[1]
    save_file(written, tmp_path / "written.safetensors")
    loaded, _ = load_upstream(tmp_path / "written.safetensors")
    images = torch.rand(2, 3, 32, 32)
    torch.testing.assert_close(loaded(images), model(images), rtol=0, atol=1e-5)
