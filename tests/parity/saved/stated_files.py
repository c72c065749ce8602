"""Files whose settings or further tensors change what the owner computes: activations, averages, probes, wrappers."""

import argparse
from collections.abc import Callable
from functools import partial
from typing import Any

import timm
import torch
import transformers
from torch import Tensor, nn

from parity.saved.case import Save, Saved, safetensors, torch_file, with_json
from parity.saved.transformers_files import built, cls_token
from parity.saved.wrapped_files import others, prefixed, timm_encoder, timm_vit, transformers_vit, under

__all__ = ["CASES"]

HF: dict[str, Any] = dict(image_size=32, patch_size=8, hidden_size=64, num_hidden_layers=2, intermediate_size=96)
TIMM: dict[str, Any] = dict(img_size=32, patch_size=8, embed_dim=64, depth=2, num_classes=7)


def timm_model(name: str = "vit_base_patch16_224", **args: Any) -> Callable[[], nn.Module]:
    return partial(timm.create_model, name, **{**TIMM, "num_heads": 1, **args})


def hf_vit(**values: Any) -> Callable[[], nn.Module]:
    return built("ViTForImageClassification", "ViTConfig", **{"num_attention_heads": 1, "num_labels": 7, **values})


def beside(**settings: Any) -> Save:
    """A state dict beside the settings of a script."""
    return torch_file(lambda model: {"state_dict": model.state_dict(), "epoch": 1, **settings})


read = partial(Saved, lineage="timm")
refused = Saved
QUICK = timm_model(act_layer="quick_gelu")

SETTINGS: dict[str, Saved] = {
    "settings, quick GELU in a dictionary of arguments": read(
        build=QUICK, save=beside(args={"act_layer": "quick_gelu"}), notes=("gelu is quick", "args.act_layer quick_gelu")
    ),
    "settings, quick GELU in hyper_parameters": read(
        build=QUICK, save=beside(hyper_parameters={"model": {"act_layer": "quick_gelu"}}), notes=("gelu is quick",)
    ),
    "settings, quick GELU in a nested configuration": read(
        build=QUICK, save=beside(config={"model_cfg": {"vision_cfg": {"quick_gelu": True}}}), notes=("gelu is quick",)
    ),
    "settings, quick GELU as a class": read(
        build=QUICK, save=beside(args=argparse.Namespace(act="timm.layers.QuickGELU")), notes=("gelu is quick",)
    ),
    "settings, tanh GELU of transformers": Saved(
        build=hf_vit(hidden_act="gelu_new"),
        save=beside(config={"hidden_act": "gelu_new"}),
        lineage="transformers",
        notes=("gelu is tanh",),
    ),
    "settings, epsilon": Saved(
        build=hf_vit(layer_norm_eps=1e-2),
        save=beside(config={"layer_norm_eps": 1e-2}),
        lineage="transformers",
        notes=("norm_eps is 0.01",),
    ),
    "settings, heads": read(
        build=timm_model(num_heads=4), save=beside(args={"num_heads": 4}), notes=("num_heads is 4, as its settings",)
    ),
    "settings, pooling": read(
        build=timm_model(global_pool="avg", fc_norm=False),
        save=beside(hyper_parameters={"model_kwargs": {"global_pool": "avg", "fc_norm": False}}),
        notes=("global_pool is avg",),
    ),
    "settings, the name of an architecture": read(
        build=timm_model("test_vit", embed_dim=64, num_heads=2),
        save=beside(hyper_parameters={"model_name": "test_vit"}),
        notes=("read as timm's test_vit, as hyper_parameters.model_name states",),
    ),
    "settings, ReLU": refused(
        build=timm_vit, save=beside(args={"act_layer": "relu"}), refusal="args.act_layer relu, which Vitral does not"
    ),
    "settings, two activations": refused(
        build=timm_vit,
        save=beside(config={"encoder": {"activation": "gelu"}, "model": {"activation": "relu"}}),
        refusal="contradict each other: --gelu",
    ),
    "settings, two activations, one given": read(
        build=timm_vit,
        save=beside(config={"encoder": {"activation": "gelu"}, "model": {"activation": "relu"}}),
        options={"gelu": "erf"},
    ),
    "settings, words of other meanings": read(
        build=timm_vit,
        save=beside(args={"act": "train", "activation": "softmax", "num_heads": True, "model": "mine", "mean": "x"}),
    ),
    "settings, heads that do not fit": read(
        build=timm_vit, save=beside(args={"num_heads": 7}), notes=("1 assumed, as usual for width 64",)
    ),
}


# Averaged weights


def callback(state: Callable[[nn.Module], Any], key: str = "ema_state_dict") -> Save:
    """A checkpoint of Lightning, whose callback keeps the averaged weights."""
    return torch_file(
        lambda model: {
            "state_dict": others(model, "model."),
            "pytorch-lightning_version": "2.4.0",
            "callbacks": {"ModelCheckpoint{'monitor': 'x'}": {"best": 1.0}, "EMACallback": {key: state(model)}},
            "optimizer_states": [],
        },
        name="last.ckpt",
    )


AVERAGES: dict[str, Saved] = {
    "Lightning, averages of a callback": read(
        build=timm_vit,
        save=callback(partial(prefixed, "model.")),
        notes=("ema_state_dict was read; the file also has state_dict",),
    ),
    "Lightning, averages of a callback, the others": read(
        build=timm_vit,
        save=torch_file(
            lambda model: {
                "state_dict": prefixed("model.", model),
                "callbacks": {"EMA": {"ema_state_dict": others(model, "model.")}},
            }
        ),
        options={"checkpoint_key": "state_dict"},
    ),
    "Lightning, averages of a callback in a list": read(
        build=timm_vit,
        save=callback(lambda model: list(model.state_dict().values()), key="ema_weights"),
        notes=("the averaged weights in ema_weights were read",),
    ),
    "averages beside a model": read(
        build=timm_vit,
        save=torch_file(lambda model: {"model": others(model), "ema": model.state_dict()}),
        notes=("ema was read; the file also has model",),
    ),
    "averages beside a model, in a module": read(
        build=timm_vit,
        save=torch_file(lambda model: {"model": others(model), "ema": {"module": model.state_dict(), "updates": 3}}),
        notes=("ema was read",),
    ),
    "averages beside a model, as shadows": read(
        build=timm_vit,
        save=torch_file(lambda model: {"model": others(model), "ema": {"decay": 0.9, "shadow": model.state_dict()}}),
        notes=("ema was read",),
    ),
    "averages beside a model, the others": read(
        build=timm_vit,
        save=torch_file(lambda model: {"model": model.state_dict(), "ema": others(model)}),
        options={"checkpoint_key": "model"},
    ),
}


# A batch norm before the head


class Probe(nn.Module):
    """MAE's linear probe: its script replaces the head by a batch norm and that head."""

    def __init__(self, build: Callable[[], nn.Module], *, affine: bool = False) -> None:
        super().__init__()
        self.model = build()
        self.model.head = nn.Sequential(nn.BatchNorm1d(64, affine=affine, eps=1e-6), self.model.get_submodule("head"))
        norm = self.model.get_submodule("head.0")
        norm.running_mean, norm.running_var = torch.randn(64), torch.rand(64) + 0.1

    def forward(self, images: Tensor) -> Tensor:
        return self.model(images)


def probed(build: Callable[[], nn.Module] = timm_vit, **options: Any) -> Callable[[], nn.Module]:
    return lambda: Probe(build, **options)


def unwrapped(*keys: str, prefix: str = "") -> Save:
    """The inner model's state dict under keys."""
    save = under(*keys, prefix=prefix)
    return lambda probe, folder: save(probe.get_submodule("model"), folder)


PROBES: dict[str, Saved] = {
    "MAE, linear probe": read(build=probed(), save=unwrapped("model"), notes=("head.0 was folded into the head",)),
    "MAE, linear probe, distributed": read(build=probed(), save=unwrapped("model", prefix="module.")),
    "MAE, linear probe, mean of patches": read(
        build=probed(timm_model(global_pool="avg")), save=unwrapped("model"), notes=("folded",)
    ),
    "a linear probe with scale and shift": refused(
        build=probed(affine=True), save=unwrapped("model"), refusal="head.0 is a batch norm with scale and shift"
    ),
}


# Names that wrappers change, several encoders, and classifiers that may read something else


def compiled_blocks(model: nn.Module, *, part: str = "_orig_mod.") -> dict[str, Tensor]:
    """Names after `torch.compile` of each block."""
    return {
        name.replace(".norm1.", f".{part}norm1.").replace(".attn.", f".{part}attn."): tensor
        for name, tensor in model.state_dict().items()
    }


def two_encoders(model: nn.Module) -> dict[str, Tensor]:
    """A ViT and a DeiT in one module of a user."""
    vit = {name.removeprefix("vit."): tensor for name, tensor in model.state_dict().items() if name.startswith("vit.")}
    return {f"vit.{name}": tensor for name, tensor in vit.items()} | {
        f"deit.{name}": tensor + 1 for name, tensor in vit.items()
    }


class Pooled(nn.Module):
    """A user's module: transformers' encoder with its pooler, and a classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.vit = transformers.ViTModel(transformers.ViTConfig(**HF, num_attention_heads=1))
        self.classifier = nn.Linear(64, 7)

    def forward(self, images: Tensor) -> Tensor:
        return self.classifier(self.vit(images).last_hidden_state[:, 0])


def classifying(family: str) -> Callable[[], nn.Module]:
    """CLIP or SigLIP with a classifier, with one head."""

    def build() -> nn.Module:
        tower = {**HF, "num_attention_heads": 1}
        config = getattr(transformers, f"{family}Config")(vision_config=tower, text_config=tower, num_labels=7)
        return getattr(transformers, f"{family}ForImageClassification")(config)

    return build


class Loss(nn.Module):
    """Something that a script saves with its code."""


OWNER = {"architectures": ["ViTForImageClassification"], "model_type": "vit", "num_attention_heads": 1}
NAMES: dict[str, Saved] = {
    **{
        f"{part} in every block": read(build=timm_vit, save=torch_file(partial(compiled_blocks, part=part)))
        for part in ("_orig_mod.", "_fsdp_wrapped_module.", "_checkpoint_wrapped_module.")
    },
    "_orig_mod. in every block, under model.": read(
        build=timm_vit,
        save=torch_file(lambda model: {"model": {f"model.{k}": v for k, v in compiled_blocks(model).items()}}),
        options={"prefix": "model._orig_mod"},
    ),
    "a compiled block beside the block": refused(
        build=timm_vit,
        save=torch_file(lambda model: model.state_dict() | compiled_blocks(model)),
        refusal="twice, once in a compiled module",
    ),
    "two encoders": refused(
        build=transformers_vit,
        save=torch_file(two_encoders),
        refusal="several encoders, vit. and deit.: read one with --prefix vit.",
    ),
    "two encoders, one by its prefix": Saved(
        build=built("ViTModel", "ViTConfig", num_attention_heads=1),
        save=torch_file(
            lambda model: {
                f"{start}.{name}": tensor + offset
                for start, offset in (("vit", 0), ("deit", 1))
                for name, tensor in model.state_dict().items()
            }
        ),
        lineage="transformers",
        compare="pooled",
        output=cls_token,
        options={"prefix": "vit"},
        notes=("left out: deit",),
    ),
    "a pooler and a classifier": refused(
        build=Pooled, save=safetensors, refusal="whether its classifier reads the class token or its pooler"
    ),
    "a pooler and a classifier, of transformers": Saved(
        build=Pooled, save=with_json(OWNER), lineage="transformers", notes=("pooler",)
    ),
    **{
        f"{family}, classifier, bare file": refused(
            build=classifying(family), save=safetensors, refusal=f"{family}ForImageClassification"
        )
        for family in ("CLIP", "Siglip")
    },
    "MSN, bare file": Saved(
        build=built("ViTMSNForImageClassification", "ViTMSNConfig", num_attention_heads=1, num_labels=7),
        save=safetensors,
        lineage="transformers",
        options={"norm_eps": 1e-6},
    ),
    "MSN, bare encoder": refused(
        build=built("ViTMSNModel", "ViTMSNConfig", num_attention_heads=1),
        save=safetensors,
        refusal="does not store its epsilon, which is 1e-12 in ViT and DINO",
    ),
    **{
        f"{family}, encoder, with the configuration that the error names": Saved(
            build=built(f"{name}Model", f"{name}Config", num_attention_heads=1),
            save=with_json({"model_type": model_type, "num_attention_heads": 1}),
            lineage="transformers",
            compare="pooled",
            output=cls_token,
        )
        for family, name, model_type in (("ViT", "ViT", "vit"), ("MSN", "ViTMSN", "vit_msn"))
    },
    "ViT, bare encoder with its pooler": Saved(
        build=built("ViTModel", "ViTConfig", num_attention_heads=1),
        save=safetensors,
        lineage="transformers",
        compare="pooled",
        output=cls_token,
    ),
    "ViT, bare file": Saved(
        build=hf_vit(),
        save=safetensors,
        lineage="transformers",
        notes=(
            "does not store its epsilon: 1e-12",
            '{"model_type": "vit_msn", "num_attention_heads": 1}',
            "does not store its preprocessing",
        ),
    ),
    "MSN, with the configuration that the note names": Saved(
        build=built("ViTMSNForImageClassification", "ViTMSNConfig", num_attention_heads=1, num_labels=7),
        save=with_json({"model_type": "vit_msn", "num_attention_heads": 1}),
        lineage="transformers",
    ),
    "a module beside a state dict": refused(
        build=timm_encoder,
        save=torch_file(lambda model: {"state_dict": model.state_dict(), "criterion": nn.CrossEntropyLoss()}),
        refusal="a module (torch.nn.modules.loss.CrossEntropyLoss) under the key criterion beside state_dict",
    ),
    "a module of one's own beside a state dict": refused(
        build=timm_encoder,
        save=torch_file(lambda model: {"state_dict": model.state_dict(), "extra": {"loss": Loss()}}),
        refusal="stated_files.Loss) under the key extra.loss",
    ),
}
CASES: dict[str, Saved] = {**SETTINGS, **AVERAGES, **PROBES, **NAMES}
