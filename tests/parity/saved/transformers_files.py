"""Files of transformers' ViT, DeiT, MAE, MSN, I-JEPA, DINOv2 and DINOv3, as they are saved."""

import json
import re
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors.torch import save_file
from torch import Tensor, nn

from parity.saved.case import Save, Saved, safetensors, transformers_folder

__all__ = ["CASES", "SIZES", "built", "cls_token", "edited", "mean_of_patches"]

SIZES: dict[str, Any] = dict(
    image_size=32, patch_size=8, hidden_size=64, num_hidden_layers=2, num_attention_heads=4, intermediate_size=96
)
DINO: dict[str, Any] = {key: value for key, value in SIZES.items() if key != "intermediate_size"} | {"mlp_ratio": 2}


def built(model: str, config: str, /, **values: Any) -> Callable[[], nn.Module]:
    """Builds transformers' class with the configuration class and its values; the values of `SIZES` are defaults."""
    sizes = DINO if config.startswith("Dinov2") else SIZES
    return lambda: getattr(transformers, model)(getattr(transformers, config)(**{**sizes, **values}))


def edited(changes: Mapping[str, Any], *, section: str | None = None) -> Save:
    """`save_pretrained`, then other values in `config.json` or one section of it; None removes a key."""

    def save(model: nn.Module, folder: Path) -> Path:
        saved = transformers_folder(model, folder)
        content = json.loads((saved / "config.json").read_text())
        part = content if section is None else content[section]
        part.update(changes)
        for key in [key for key, value in changes.items() if value is None]:
            del part[key]
        (saved / "config.json").write_text(json.dumps(content))
        return saved

    return save


def renamed(renames: Mapping[str, str]) -> Save:
    """`save_pretrained`, with the tensor names of an older version: every pattern is replaced."""

    def save(model: nn.Module, folder: Path) -> Path:
        saved = transformers_folder(model, folder)
        older = {}
        for name, tensor in model.state_dict().items():
            for pattern, new in renames.items():
                name = re.sub(pattern, new, name)
            older[name] = tensor.contiguous()
        save_file(older, saved / "model.safetensors")
        return saved

    return save


def cls_token(model: nn.Module, images: Tensor) -> Tensor:
    """The final class token of an encoder."""
    return model(images).last_hidden_state[:, 0]


def mean_of_patches(model: nn.Module, images: Tensor) -> Tensor:
    """The mean of the final tokens of an encoder without a class token."""
    return model(images).last_hidden_state.mean(dim=1)


def mae_cls_token(model: Any, images: Tensor) -> Tensor:
    """The final class token of MAE's encoder, without masking."""
    model.config.mask_ratio = 0.0
    return getattr(model, "vit", model)(images).last_hidden_state[:, 0]


def both_tokens(model: Any, images: Tensor) -> Tensor:
    """The final class and distillation tokens."""
    return model(images).last_hidden_state[:, :2]


OLDER_VIT = {
    r"\blayers\.": "encoder.layer.",
    r"\.attention\.([qkv])_proj\.": lambda match: (
        f".attention.attention.{dict(q='query', k='key', v='value')[match[1]]}."
    ),
    r"\.attention\.o_proj\.": ".attention.output.dense.",
    r"\.mlp\.fc1\.": ".intermediate.dense.",
    r"\.mlp\.fc2\.": ".output.dense.",
}
OLDER_DINO = {pattern: new for pattern, new in OLDER_VIT.items() if "attention" in pattern}


def older_giant(model: nn.Module, folder: Path) -> Path:
    """DINOv2's gated MLPs as older versions saved them: gate and value in `weights_in`."""
    saved = renamed(OLDER_DINO)(model, folder)
    tensors = dict(model.state_dict())
    older = {}
    for name, tensor in tensors.items():
        for pattern, new in OLDER_DINO.items():
            name = re.sub(pattern, new, name)
        older[name.replace("down_proj", "weights_out")] = tensor.contiguous()
    for gate in [name for name in older if ".gate_proj." in name]:
        value = older.pop(gate.replace("gate_proj", "up_proj"))
        older[gate.replace("gate_proj", "weights_in")] = torch.cat([older.pop(gate), value])
    save_file(older, saved / "model.safetensors")
    return saved


def older_dino3(model: nn.Module, folder: Path) -> Path:
    """DINOv3 as its first version in transformers saved it: `layer.0.*` at the top."""
    return renamed({r"^model\.layer\.": "layer."})(model, folder)


def with_preprocessor(**values: Any) -> Save:
    """`save_pretrained`, and a `preprocessor_config.json`."""

    def save(model: nn.Module, folder: Path) -> Path:
        saved = transformers_folder(model, folder)
        (saved / "preprocessor_config.json").write_text(json.dumps(values))
        return saved

    return save


VIT, DEIT, IJEPA = partial(built, "ViTForImageClassification", "ViTConfig"), "DeiTConfig", "IJepaConfig"
DINO2, DINO3 = partial(built, "Dinov2Model", "Dinov2Config"), partial(built, "DINOv3ViTModel", "DINOv3ViTConfig")
vit = partial(Saved, save=transformers_folder, lineage="transformers")
dino2 = partial(Saved, save=transformers_folder, lineage="dinov2")
dino3 = partial(Saved, save=transformers_folder, lineage="dinov3", compare="pooled")
refused = partial(Saved, save=transformers_folder)

VITS = {
    "transformers, ViT": vit(build=VIT(num_labels=7)),
    "transformers, ViT, older names": vit(build=VIT(num_labels=7), save=renamed(OLDER_VIT)),
    "transformers, ViT, bare file": vit(
        build=VIT(num_labels=7, num_attention_heads=1), save=safetensors, notes=("does not store the number of",)
    ),
    "transformers, ViT, wide": vit(build=VIT(image_size=[32, 48])),
    **{
        f"transformers, ViT, {act}": vit(build=VIT(hidden_act=act))
        for act in ("gelu_new", "gelu_fast", "gelu_python", "gelu_accurate", "gelu_pytorch_tanh", "quick_gelu")
    },
    **{
        f"transformers, ViT, {act}": refused(build=VIT(hidden_act=act), refusal=f"(hidden_act) is {act}")
        for act in ("relu", "silu", "gelu_10")
    },
    "transformers, ViT, epsilon": vit(build=VIT(layer_norm_eps=1e-2)),
    "transformers, ViT, no qkv bias": vit(build=VIT(qkv_bias=False)),
    "transformers, ViT, qkv bias that it leaves out": refused(
        build=VIT(), save=edited({"qkv_bias": False}), refusal="states qkv_bias false"
    ),
    "transformers, ViT, default heads": vit(
        build=VIT(hidden_size=48, num_attention_heads=12), save=edited({"num_attention_heads": None})
    ),
    **{
        f"transformers, ViT, another {key}": refused(
            build=VIT(), save=edited({key: value}), refusal=f"states {key} {value}"
        )
        for key, value in (
            ("image_size", 48),
            ("patch_size", 16),
            ("hidden_size", 32),
            ("intermediate_size", 128),
            ("num_hidden_layers", 1),
            ("num_channels", 1),
            ("head_dim", 32),
        )
    },
    "transformers, another model type": refused(
        build=VIT(), save=edited({"model_type": "yolos"}), refusal="model_type yolos"
    ),
    "transformers, pruned heads": refused(
        build=VIT(), save=edited({"pruned_heads": {"0": [1]}}), refusal="pruned_heads"
    ),
    "transformers, unknown key": vit(
        build=VIT(), save=edited({"attention_temperature": 2}), notes=("keys of its configuration: attention_temp",)
    ),
    "transformers, ViT with a pooler": vit(
        build=built("ViTModel", "ViTConfig"), compare="pooled", output=cls_token, notes=("pooler",)
    ),
    "transformers, ViT for masked images": vit(
        build=built("ViTForMaskedImageModeling", "ViTConfig", encoder_stride=8),
        compare="pooled",
        output=lambda model, images: cls_token(model.get_submodule("vit"), images),
        notes=("decoder",),
    ),
    "transformers, MAE": vit(
        build=built("ViTMAEModel", "ViTMAEConfig"), compare="pooled", output=mae_cls_token, notes=("has no head",)
    ),
    "transformers, MAE with its decoder": vit(
        build=built(
            *("ViTMAEForPreTraining", "ViTMAEConfig"),
            **dict(decoder_hidden_size=32, decoder_num_hidden_layers=1, decoder_num_attention_heads=2),
            decoder_intermediate_size=32,
        ),
        compare="pooled",
        output=mae_cls_token,
        notes=("decoder",),
    ),
    "transformers, MSN": vit(build=built("ViTMSNForImageClassification", "ViTMSNConfig", num_labels=7)),
    "transformers, DeiT, class token only": vit(build=built("DeiTForImageClassification", DEIT, num_labels=7)),
    "transformers, DeiT, two classifiers": vit(
        build=built("DeiTForImageClassificationWithTeacher", DEIT, num_labels=7)
    ),
    "transformers, DeiT, encoder": vit(build=built("DeiTModel", DEIT), compare="pooled", output=both_tokens),
    "transformers, I-JEPA": vit(build=built("IJepaForImageClassification", IJEPA, num_labels=7)),
    "transformers, I-JEPA, older names": vit(
        build=built("IJepaForImageClassification", IJEPA), save=renamed(OLDER_VIT)
    ),
    "transformers, I-JEPA, encoder": vit(build=built("IJepaModel", IJEPA), compare="pooled", output=mean_of_patches),
    "transformers, image processor": vit(
        build=VIT(),
        save=with_preprocessor(do_normalize=False, resample=0, size={"height": 64, "width": 64}),
        notes=("filter nearest", "images of 64x64 pixels"),
    ),
}
DINOS = {
    "DINOv2": dino2(build=DINO2(), compare="pooled"),
    "DINOv2, older names": dino2(build=DINO2(), save=renamed(OLDER_DINO), compare="pooled"),
    "DINOv2, classifier": dino2(build=built("Dinov2ForImageClassification", "Dinov2Config", num_labels=7)),
    "DINOv2, registers": dino2(
        build=built("Dinov2WithRegistersModel", "Dinov2WithRegistersConfig", num_register_tokens=3), compare="pooled"
    ),
    "DINOv2, registers, classifier": dino2(
        build=built(
            "Dinov2WithRegistersForImageClassification",
            "Dinov2WithRegistersConfig",
            num_register_tokens=3,
            num_labels=7,
        )
    ),
    "DINOv2, gated": dino2(build=DINO2(use_swiglu_ffn=True, hidden_act="relu"), compare="pooled"),
    "DINOv2, gated, older names": dino2(build=DINO2(use_swiglu_ffn=True), save=older_giant, compare="pooled"),
    "DINOv2, no qkv bias": dino2(build=DINO2(qkv_bias=False), compare="pooled"),
    "DINOv2, tanh GELU, epsilon": dino2(build=DINO2(hidden_act="gelu_new", layer_norm_eps=1e-2), compare="pooled"),
    "DINOv2, no mask token": dino2(build=DINO2(use_mask_token=False), compare="pooled"),
    "DINOv2, ReLU": refused(build=DINO2(hidden_act="relu"), refusal="(hidden_act) is relu"),
    "DINOv2, backbone without a norm": refused(
        build=built("Dinov2Backbone", "Dinov2Config", apply_layernorm=False), refusal="apply_layernorm"
    ),
    "DINOv2, another ratio": refused(build=DINO2(), save=edited({"mlp_ratio": 4}), refusal="mlp_ratio 4"),
    "DINOv3": dino3(build=DINO3(num_register_tokens=2)),
    "DINOv3, first names": dino3(build=DINO3(num_register_tokens=2), save=older_dino3),
    "DINOv3, no registers": dino3(build=DINO3()),
    "DINOv3, gated": dino3(build=DINO3(use_gated_mlp=True, hidden_act="silu")),
    "DINOv3, key bias": dino3(build=DINO3(key_bias=True)),
    "DINOv3, no biases": dino3(build=DINO3(query_bias=False, value_bias=False, proj_bias=False, mlp_bias=False)),
    "DINOv3, no query bias": dino3(build=DINO3(query_bias=False)),
    "DINOv3, key bias that it leaves out": refused(
        build=DINO3(key_bias=True), save=edited({"key_bias": False}), refusal="states key_bias false"
    ),
    "DINOv3, rotary base": refused(build=DINO3(rope_theta=10_000.0), refusal="(rope_theta) 10000"),
    "DINOv3, gate of GELU": refused(
        build=DINO3(use_gated_mlp=True), refusal="the gate of its MLP (hidden_act) is gelu"
    ),
    "DINOv3, another number of registers": refused(
        build=DINO3(), save=edited({"num_register_tokens": 4}), refusal="num_register_tokens 4"
    ),
}
CASES: dict[str, Saved] = VITS | DINOS
