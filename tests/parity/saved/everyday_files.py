"""Files as people's own scripts leave them: averaged weights, classifiers beside a backbone, wrong configurations."""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import timm
import torch
import transformers
from torch import Tensor, nn

from parity.saved.case import Save, Saved, safetensors, torch_file, transformers_folder
from parity.saved.wrapped_files import (
    others,
    settings,
    sharded,
    timm_encoder,
    timm_vit,
    torchvision_vit,
    transformers_vit,
    with_config,
)

__all__ = ["CASES"]


# Averaged weights without names


def torch_ema(model: nn.Module, *, averaged: bool = True, keep: int | None = None) -> dict[str, Any]:
    """A script that keeps torch_ema's `ExponentialMovingAverage` beside the model.

    Args:
        model: the model that Vitral must read.
        averaged: whether `model` has the averaged weights, or those before averaging.
        keep: number of averaged tensors; None: one for each parameter.
    """
    own, raw = model.state_dict(), others(model)
    average = list((own if averaged else raw).values())[:keep]
    state = {"decay": 0.99, "num_updates": 10, "shadow_params": average, "collected_params": None}
    return {**settings(), "model": raw if averaged else own, "ema": state}


CASES: dict[str, Saved] = {
    "torch_ema": Saved(
        build=timm_vit,
        save=torch_file(torch_ema),
        lineage="timm",
        notes=("the averaged weights in ema were read; --checkpoint-key model reads the others",),
    ),
    "torch_ema, by its key": Saved(
        build=timm_vit, save=torch_file(torch_ema), lineage="timm", options={"checkpoint_key": "ema"}
    ),
    "torch_ema, the weights before averaging": Saved(
        build=timm_vit,
        save=torch_file(lambda model: torch_ema(model, averaged=False)),
        lineage="timm",
        options={"checkpoint_key": "model"},
    ),
    "torch_ema of some parameters": Saved(
        build=timm_vit,
        save=torch_file(lambda model: torch_ema(model, averaged=False, keep=-1)),
        lineage="timm",
        notes=("averaged weights in ema have no names", "the weights before averaging were read"),
    ),
    "torch_ema of some parameters, by its key": Saved(
        build=timm_vit,
        save=torch_file(lambda model: torch_ema(model, keep=-1)),
        options={"checkpoint_key": "ema"},
        refusal="do not match the model's tensors in order",
    ),
}


# Configurations that people edited


def edited(file: str = "config.json", **changes: Any) -> Save:
    """A folder of transformers with other values in one of its JSON files."""

    def save(model: nn.Module, folder: Path) -> Path:
        saved = transformers_folder(model, folder)
        path = saved / file
        values = json.loads(path.read_text()) if path.exists() else {}
        path.write_text(json.dumps({**values, **changes}))
        return saved

    return save


transformers_edited = partial(Saved, build=transformers_vit)
WRONG_TYPES: dict[str, Any] = {
    "num_attention_heads": "4",
    "hidden_act": None,
    "layer_norm_eps": None,
    "hidden_size": "64",
    "image_size": "32",
    "patch_size": [8],
    "qkv_bias": "false",
}
CASES |= {
    **{
        f"transformers, {key} {value!r}": transformers_edited(
            save=edited(**{key: value}), refusal=f"config.json: {key} is {json.dumps(value)}, but must be "
        )
        for key, value in WRONG_TYPES.items()
    },
    **{
        f"transformers, image_mean {value!r}": transformers_edited(
            save=edited("preprocessor_config.json", image_mean=value), refusal=refusal
        )
        for value, refusal in (
            ([0.5, 0.5], "it has 2 numbers as mean, but the images have 3 channels"),
            (["0.5"] * 3, "preprocessor_config.json: image_mean is"),
            ("0.5", "must be a list of one number per channel"),
            (None, "image_mean is null"),
        )
    },
    "transformers, too few labels": transformers_edited(
        save=edited(id2label={"0": "cat", "1": "dog"}),
        lineage="transformers",
        notes=("ignored its id2label, which names 2 classes, and the head has 7",),
    ),
    "transformers, labels by name": transformers_edited(
        save=edited(id2label={f"label {index}": "cat" for index in range(7)}),
        lineage="transformers",
        notes=("ignored its id2label, which does not have the keys 0 to 6",),
    ),
    "timm, heads as text": Saved(
        build=timm_vit,
        save=lambda model, folder: with_config(model, folder, {"model_args": {"num_heads": "1"}}),
        refusal='config.json: num_heads is "1", but must be an integer',
    ),
    "timm, arguments as text": Saved(
        build=timm_vit,
        save=lambda model, folder: with_config(model, folder, {"model_args": "num_heads=1"}),
        refusal="model_args is",
    ),
}


# Models that have some names in common with those that Vitral reads

SIZES: dict[str, Any] = dict(image_size=32, patch_size=8, hidden_size=64, num_hidden_layers=2, num_attention_heads=1)


def foreign(model_class: str, config_class: str, **sizes: Any) -> Callable[[], nn.Module]:
    """A model of transformers."""

    def build() -> nn.Module:
        return getattr(transformers, model_class)(getattr(transformers, config_class)(**sizes))

    return build


FOREIGN = {
    "InternVL": foreign("InternVLVisionModel", "InternVLVisionConfig", **SIZES, intermediate_size=64),
    "ViTDet": foreign("VitDetModel", "VitDetConfig", **SIZES, use_relative_position_embeddings=True),
    "Hiera": foreign("HieraModel", "HieraConfig", embed_dim=8, image_size=[64, 64], depths=[1] * 4, num_heads=[1] * 4),
    "YOLOS": foreign("YolosModel", "YolosConfig", **{**SIZES, "image_size": [32, 32]}),
    "ViViT": foreign("VivitModel", "VivitConfig", **SIZES, num_frames=2),
}
CASES |= {
    **{
        f"{name}, {kind}": Saved(build=build, save=save, refusal=f"is a model of the kind {name}")
        for name, build in FOREIGN.items()
        for kind, save in (("folder", transformers_folder), ("alone", safetensors))
    },
    **{
        f"timm's {architecture}": Saved(
            build=partial(timm.create_model, architecture), save=safetensors, refusal=f"is a model of the kind {kind}"
        )
        for architecture, kind in (("hiera_tiny_224", "Hiera"), ("mvitv2_tiny", "MViTv2"))
    },
    "another model of transformers": Saved(
        build=foreign("BlipVisionModel", "BlipVisionConfig", **SIZES),
        save=transformers_folder,
        refusal="its config.json states blip_vision_model, which Vitral does not read",
    ),
}


# One file of several


def one_shard(model: nn.Module, folder: Path) -> Path:
    return sorted(sharded(model, folder).glob("*.safetensors"))[0]


def shards_without_index(model: nn.Module, folder: Path) -> Path:
    place = sharded(model, folder)
    (place / "model.safetensors.index.json").unlink()
    return place


def one_shard_without_index(model: nn.Module, folder: Path) -> Path:
    return sorted(shards_without_index(model, folder).glob("*.safetensors"))[0]


def only_shard(model: nn.Module, folder: Path) -> Path:
    path = transformers_folder(model, folder) / "model.safetensors"
    return path.rename(path.with_name("model-00001-of-00001.safetensors"))


CASES |= {
    "one shard": transformers_edited(save=one_shard, refusal="model.safetensors.index.json instead"),
    "one shard without its index": transformers_edited(
        save=one_shard_without_index, refusal="which lists them, beside it"
    ),
    "shards without their index": transformers_edited(
        save=shards_without_index, refusal="but not their index: download"
    ),
    "the only shard": transformers_edited(save=only_shard, lineage="transformers", options={"num_heads": 2}),
}


# A classifier beside the encoder


class Classified(nn.Module):
    """A user's module: an encoder, and a linear layer that reads what it pools."""

    def __init__(
        self, encoder: nn.Module, layer: str, *, bias: bool = True, features: Callable[..., Tensor] | None = None
    ) -> None:
        super().__init__()
        self.backbone, self.layer, self.features = encoder, layer, features
        width = 64 if features is None else 128
        setattr(self, layer, nn.Linear(width, 7, bias=bias))

    def forward(self, images: Tensor) -> Tensor:
        pooled = self.backbone(images) if self.features is None else self.features(self.backbone, images)
        return getattr(self, self.layer)(pooled)


def torchvision_encoder() -> nn.Module:
    model = torchvision_vit()
    model.heads = nn.Identity()
    return model


class Transformers(nn.Module):
    """transformers' ViT without pooling, whose class token is read."""

    def __init__(self) -> None:
        super().__init__()
        config = transformers.ViTConfig(**SIZES, intermediate_size=64)
        self.model = transformers.ViTModel(config, add_pooling_layer=False)

    def forward(self, images: Tensor) -> Tensor:
        return self.model(images).last_hidden_state[:, 0]


def class_and_mean(encoder: Any, images: Tensor) -> Tensor:
    """What DINOv2's linear classifiers read."""
    tokens = encoder(images).last_hidden_state
    return torch.cat([tokens[:, 0], tokens[:, 1:].mean(dim=1)], dim=1)


def one_head_dinov2() -> nn.Module:
    return transformers.Dinov2Model(transformers.Dinov2Config(**SIZES, mlp_ratio=2))


def state(model: nn.Module, prefix: str = "") -> dict[str, Any]:
    return {"state_dict": {prefix + name: tensor for name, tensor in model.state_dict().items()}}


CASES |= {
    **{
        f"{layer} beside timm's encoder": Saved(
            build=lambda layer=layer: Classified(timm_encoder(), layer),
            save=torch_file(state),
            lineage="timm",
            notes=(f"{layer}, beside backbone., was read as the classifier",),
        )
        for layer in ("head", "fc", "classifier", "linear_head")
    },
    "fc beside torchvision's encoder, in Lightning": Saved(
        build=lambda: Classified(torchvision_encoder(), "fc"),
        save=torch_file(lambda model: state(model, "model.")),
        lineage="torchvision",
        notes=("model.fc, beside model.backbone., was read",),
    ),
    "fc without bias beside transformers' encoder": Saved(
        build=lambda: Classified(Transformers(), "fc", bias=False), save=torch_file(state), lineage="transformers"
    ),
    "linear_head beside DINOv2": Saved(
        build=lambda: Classified(one_head_dinov2(), "linear_head", features=class_and_mean),
        save=torch_file(state),
        lineage="dinov2",
    ),
    "fc beside an encoder that pools by a layer": Saved(
        build=lambda: Classified(transformers.ViTModel(transformers.ViTConfig(**SIZES, intermediate_size=64)), "fc"),
        save=torch_file(state),
        refusal="fc.weight, fc.bias; read the encoder alone with --prefix backbone.",
    ),
    "fc of another width": Saved(
        build=lambda: Classified(timm_encoder(), "fc", features=class_and_mean),
        save=torch_file(state),
        refusal="fc.weight, fc.bias",
    ),
}


# Files of timm whose tensors leave the pooling or the heads open

BARE: dict[str, Any] = dict(img_size=32, patch_size=8, embed_dim=64, depth=2, num_heads=1, num_classes=7)
WIDE: dict[str, Any] = {**BARE, "embed_dim": 768, "depth": 1, "mlp_ratio": 0.25}


def vit(**args: Any) -> Callable[[], nn.Module]:
    return partial(timm.create_model, "vit_base_patch16_224", **args)


def stated(**args: Any) -> Save:
    return lambda model, folder: with_config(model, folder, {"model_args": args})


POOLED = "does not store what it pools: the mean of the patches is assumed"
CASES |= {
    "timm, alone, norm after the mean": Saved(
        build=vit(**BARE, global_pool="avg"), save=safetensors, lineage="timm", notes=(POOLED,)
    ),
    "timm, alone, no class token": Saved(
        build=vit(**BARE, global_pool="avg", class_token=False), save=safetensors, lineage="timm", notes=(POOLED,)
    ),
    "timm, norm after the class token, stated": Saved(
        build=vit(**BARE, fc_norm=True), save=stated(global_pool="token"), lineage="timm"
    ),
    "timm, mean and maximum, stated": Saved(
        build=vit(**BARE, global_pool="avgmax"), save=stated(global_pool="avgmax"), refusal="global_pool is avgmax"
    ),
    "timm, maximum, stated": Saved(
        build=vit(**BARE, global_pool="max"), save=stated(global_pool="max"), refusal="global_pool is max"
    ),
    "timm, alone, 16 heads at width 768": Saved(
        build=vit(**{**WIDE, "num_heads": 16}, global_pool="avg", class_token=False, fc_norm=False),
        save=safetensors,
        lineage="timm",
        options={"num_heads": 16, "gelu": "erf"},
    ),
    "timm, alone, 12 heads at width 768": Saved(
        build=vit(**{**WIDE, "num_heads": 12}, global_pool="avg", class_token=False, fc_norm=False),
        save=safetensors,
        lineage="timm",
        options={"num_heads": 12, "gelu": "erf"},
    ),
    "timm, alone, 12 or 16 heads at width 768": Saved(
        build=vit(**{**WIDE, "num_heads": 16}, global_pool="avg", class_token=False, fc_norm=False),
        save=safetensors,
        options={"gelu": "erf"},
        refusal="vit_base_patch16_gap_224 --num-heads 16",
    ),
}
