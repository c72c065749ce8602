"""Files that wrap a model: training checkpoints, prefixes, shards, adapters, TorchScript; and files that are none."""

import argparse
import datetime
import json
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
import torchvision
import transformers
from safetensors.torch import save_file
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from parity.saved.case import Save, Saved, safetensors, torch_file
from parity.saved.openai_clip import Clip, traced

__all__ = ["CASES"]

HF: dict[str, Any] = dict(image_size=32, patch_size=8, hidden_size=64, num_hidden_layers=2, intermediate_size=96)
TIMM: dict[str, Any] = dict(img_size=32, patch_size=8, embed_dim=64, depth=2, num_heads=1, mlp_ratio=2)
MOCO: dict[str, Any] = dict(img_size=32, patch_size=16, embed_dim=384, depth=1, num_heads=12, mlp_ratio=1)

timm_vit = partial(VisionTransformer, **TIMM, num_classes=7)
timm_encoder = partial(VisionTransformer, **TIMM, num_classes=0)
moco_small = partial(VisionTransformer, **MOCO, num_classes=0)


def torchvision_vit() -> nn.Module:
    return torchvision.models.VisionTransformer(
        image_size=32, patch_size=8, num_layers=2, num_heads=1, hidden_dim=64, mlp_dim=96, num_classes=7
    )


def transformers_vit() -> nn.Module:
    return transformers.ViTForImageClassification(
        transformers.ViTConfig(**HF, **dict[str, Any](num_attention_heads=2, num_labels=7))
    )


def dinov2() -> nn.Module:
    return transformers.Dinov2Model(transformers.Dinov2Config(**{**HF, "mlp_ratio": 2}, num_attention_heads=2))


# Contents of training checkpoints


def prefixed(prefix: str, model: nn.Module) -> dict[str, Tensor]:
    return {prefix + name: tensor for name, tensor in model.state_dict().items()}


def others(model: nn.Module, prefix: str = "") -> dict[str, Tensor]:
    """Other weights of the same model, as before averaging."""
    return {prefix + name: tensor + 1 for name, tensor in model.state_dict().items()}


def settings() -> dict[str, Any]:
    """Everything that projects save beside the weights."""
    return {
        "epoch": 3,
        "arch": "vit",
        "args": argparse.Namespace(lr=1e-3, output=Path("runs"), betas=(0.9, 0.95), dtype=torch.float32),
        "metric": np.float64(0.5),
        "history": np.arange(3),
        "best": np.array([0.1, 0.2], np.float32),
        "started": datetime.datetime(2024, 1, 1),
        "took": datetime.timedelta(hours=1),
        "counts": defaultdict(int, {"a": 1}),
        "lists": defaultdict(list, {"a": [1]}),
        "size": torch.Size([3, 4]),
        "device": torch.device("cpu"),
        "names": {"a", "b"},
        "optimizer": {"state": {0: {"exp_avg": torch.zeros(3), "step": torch.tensor(1.0)}}, "param_groups": [{}]},
        "lr_scheduler": None,
        "scaler": {"scale": 65536.0},
        "rng": torch.get_rng_state(),
    }


def under(*keys: str, prefix: str = "", **beside: Any) -> Save:
    """A state dict below nested keys, beside everything else that training saves."""

    def content(model: nn.Module) -> dict[str, Any]:
        inner: dict[str, Any] = OrderedDict(prefixed(prefix, model))
        for key in reversed(keys):
            inner = {key: inner}
        return {**settings(), **beside, **inner}

    return torch_file(content)


def timm_training(model: nn.Module) -> dict[str, Any]:
    """timm's `CheckpointSaver`."""
    ema = prefixed("", model)
    return {**settings(), "state_dict": others(model), "state_dict_ema": ema, "version": 2, "amp_scaler": {}}


def torchvision_training(model: nn.Module) -> dict[str, Any]:
    """torchvision's reference training, with averaged weights."""
    average = {"n_averaged": torch.tensor(5), **prefixed("module.", model)}
    return {**settings(), "model": others(model), "model_ema": average}


def dino_head(prefix: str = "") -> dict[str, Tensor]:
    """The projection head of DINO."""
    layers = {f"head.mlp.{layer}.{kind}": torch.rand(8) for layer in (0, 2, 4) for kind in ("weight", "bias")}
    last = {f"head.last_layer.weight_{kind}": torch.rand(8, 8) for kind in "gv"}
    return {prefix + name: tensor for name, tensor in (layers | last).items()}


def dino(model: nn.Module, *, owner: str = "teacher") -> dict[str, Any]:
    """DINO's `checkpoint.pth`: the student is wrapped in DistributedDataParallel; `owner` has the model's weights."""
    weights = {"teacher": others(model), "student": others(model), owner: model.state_dict()}
    starts = {"teacher": "", "student": "module."}
    networks = {
        name: {
            **{f"{start}backbone.{key}": tensor for key, tensor in weights[name].items()},
            **dino_head(start),
        }
        for name, start in starts.items()
    }
    return {**networks, **settings(), "dino_loss": {"center": torch.zeros(1, 8)}}


def dinov2_training(model: nn.Module) -> dict[str, Any]:
    heads = {f"{head}.mlp.0.weight": torch.rand(8, 8) for head in ("dino_head", "ibot_head")}
    return {"teacher": {**prefixed("backbone.", model), **heads}}


def moco(model: nn.Module) -> dict[str, Any]:
    """MoCo v3: an encoder whose head is a projection, its average, and a predictor."""
    head = {"head.0.weight": torch.rand(8, 8), "head.1.weight": torch.rand(8), "head.1.bias": torch.rand(8)}
    head |= {"head.1.running_mean": torch.rand(8), "head.1.num_batches_tracked": torch.tensor(1)}
    base = {**model.state_dict(), **head}
    state = {f"module.base_encoder.{name}": tensor for name, tensor in base.items()}
    state |= {f"module.momentum_encoder.{name}": tensor + 1 for name, tensor in base.items()}
    state |= {"module.predictor.0.weight": torch.rand(8, 8)}
    return {**settings(), "state_dict": state}


def with_decoder(model: nn.Module) -> dict[str, Any]:
    decoder = {"decoder.embed.weight": torch.rand(8, 8), "decoder_pos_embed": torch.rand(1, 17, 8)}
    decoder |= {"decoder_blocks.0.norm1.weight": torch.rand(8), "decoder_pred.bias": torch.rand(8)}
    return {"model": {**model.state_dict(), **decoder}, **settings()}


def lightning(prefix: str, model: nn.Module) -> dict[str, Any]:
    """A checkpoint of Lightning's `Trainer`."""
    return {
        "epoch": 1,
        "global_step": 10,
        "pytorch-lightning_version": "2.4.0",
        "state_dict": OrderedDict({**prefixed(prefix, model), "criterion.weight": torch.ones(7)}),
        "loops": {"fit_loop": {"state_dict": {}}},
        "callbacks": {"ModelCheckpoint": {"best": torch.tensor(0.5)}},
        "optimizer_states": [{"state": {}, "param_groups": []}],
        "lr_schedulers": [],
        "hyper_parameters": {"lr": 1e-3, "out": Path("runs")},
    }


def with_classifier(model: nn.Module) -> dict[str, Any]:
    """A user's module: an encoder, and a classifier of two layers beside it."""
    sizes = {"fc.0": (64, 64), "fc.2": (7, 64)}
    weights = {f"{name}.weight": torch.rand(size) for name, size in sizes.items()}
    return {
        **prefixed("backbone.", model),
        **weights,
        **{f"{name}.bias": torch.rand(n) for name, (n, _) in sizes.items()},
    }


# Encoders of larger models


def folder_of(build: Callable[[Any], nn.Module]) -> Save:
    """`save_pretrained` of a larger model, which the owner's model is the encoder of."""

    def save(model: nn.Module, folder: Path) -> Path:
        build(model).save_pretrained(folder / "larger")  # pyright: ignore[reportCallIssue]
        return folder / "larger"

    return save


def trocr_encoder() -> nn.Module:
    return transformers.ViTModel(
        transformers.ViTConfig(**HF, num_attention_heads=4, qkv_bias=True, layer_norm_eps=1e-3), add_pooling_layer=False
    )


def trocr(encoder: Any) -> nn.Module:
    sizes: dict[str, Any] = dict(
        d_model=64, decoder_layers=1, decoder_attention_heads=2, decoder_ffn_dim=32, vocab_size=50
    )
    decoder = transformers.TrOCRForCausalLM(transformers.TrOCRConfig(**sizes, max_position_embeddings=16))
    return transformers.VisionEncoderDecoderModel(encoder=encoder, decoder=decoder)


def dinov2_backbone() -> nn.Module:
    stages: dict[str, Any] = dict(out_features=["stage1", "stage2"], reshape_hidden_states=False)
    config = transformers.Dinov2Config(**{**HF, "mlp_ratio": 2}, num_attention_heads=4, **stages)
    return transformers.Dinov2Backbone(config)


def class_token(backbone: Any, images: Tensor) -> Tensor:
    """Normed class token, which is the pooled output of the same weights in `Dinov2Model`."""
    model = transformers.Dinov2Model(backbone.config)
    model.load_state_dict(backbone.state_dict(), strict=False)
    return model.eval()(images).pooler_output


def depth_anything(backbone: Any) -> nn.Module:
    sizes: dict[str, Any] = dict(
        reassemble_hidden_size=64, neck_hidden_sizes=[8, 8], reassemble_factors=[2, 1], fusion_hidden_size=8
    )
    config = transformers.DepthAnythingConfig(
        backbone_config=backbone.config, patch_size=8, head_in_index=-1, head_hidden_size=4, **sizes
    )
    model = transformers.DepthAnythingForDepthEstimation(config)
    model.backbone.load_state_dict(backbone.state_dict())
    return model


# Shards, folders, adapters


def sharded(model: nn.Module, folder: Path) -> Path:
    model.save_pretrained(folder / "sharded", max_shard_size="100KB")  # pyright: ignore[reportCallIssue]
    assert (folder / "sharded" / "model.safetensors.index.json").exists()
    return folder / "sharded"


def without_shard(model: nn.Module, folder: Path) -> Path:
    path = sharded(model, folder)
    sorted(path.glob("*.safetensors"))[-1].unlink()
    return path


def damaged_shard(model: nn.Module, folder: Path) -> Path:
    path = sharded(model, folder)
    shard = sorted(path.glob("*.safetensors"))[-1]
    shard.write_bytes(shard.read_bytes()[:-10])
    return path


def torch_shards(model: Any, folder: Path) -> Path:
    """The older form: PyTorch files with an index."""
    state = model.state_dict()
    placed = {name: f"pytorch_model-0000{1 + index % 2}-of-00002.bin" for index, name in enumerate(state)}
    for file in set(placed.values()):
        torch.save({name: tensor for name, tensor in state.items() if placed[name] == file}, folder / file)
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps({"metadata": {}, "weight_map": placed}))
    (folder / "config.json").write_text(json.dumps(model.config.to_dict()))
    return folder


def single_file(name: str) -> Save:
    """A folder without configuration, with one weights file and other files."""

    def save(model: nn.Module, folder: Path) -> Path:
        (folder / "README.md").write_text("a model")
        (folder / "log.txt").write_text("loss 1")
        if name.endswith(".safetensors"):
            save_file(model.state_dict(), folder / name)
        else:
            torch.save(model.state_dict(), folder / name)
        return folder

    return save


def two_files(model: nn.Module, folder: Path) -> Path:
    for name in ("a.pth", "b.pth"):
        torch.save(model.state_dict(), folder / name)
    return folder


def open_clip_folder(name: str) -> Save:
    """A folder as OpenCLIP pushes it to the Hub."""

    def save(model: nn.Module, folder: Path) -> Path:
        vision = dict(image_size=32, layers=2, width=64, patch_size=8)
        config = {
            "model_cfg": {"embed_dim": 7, "quick_gelu": True, "vision_cfg": vision, "text_cfg": {"width": 64}},
            "preprocess_cfg": {"mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25]},
        }
        (folder / "open_clip_config.json").write_text(json.dumps(config))
        if name.endswith(".bin"):
            torch.save(model.state_dict(), folder / name)
        else:
            save_file(model.state_dict(), folder / name)
        return folder

    return save


def adapter(
    *, scale: float = 2.0, base: str | None = None, classifier: bool = False, rank: int = 4, **changes: Any
) -> Save:
    """A LoRA adapter as PEFT writes it, and its base; the owner's model has the update merged into its weights."""

    def save(model: nn.Module, folder: Path) -> Path:
        generator = torch.Generator().manual_seed(3)
        state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        written = {}
        for name in [name for name in state if "q_proj.weight" in name or "mlp.fc1.weight" in name]:
            a = torch.randn(rank, state[name].shape[1], generator=generator) * 0.1
            b = torch.randn(state[name].shape[0], rank, generator=generator) * 0.1
            state[name] -= scale * b @ a
            module = "base_model.model." + name.removesuffix(".weight")
            written |= {f"{module}.lora_A.weight": a, f"{module}.lora_B.weight": b}
        if classifier:
            for kind in ("weight", "bias"):
                written[f"base_model.model.classifier.{kind}"] = state[f"classifier.{kind}"].clone()
                state[f"classifier.{kind}"] = torch.zeros(2, *state[f"classifier.{kind}"].shape[1:])
        model.save_pretrained(folder / "base", state_dict=state)  # pyright: ignore[reportCallIssue]
        config = {
            "peft_type": "LORA",
            "base_model_name_or_path": base or str(folder / "base"),
            "r": rank,
            "lora_alpha": 2 * rank,
            "target_modules": ["q_proj", "fc1"],
            "bias": "none",
            "fan_in_fan_out": False,
            "init_lora_weights": True,
            "modules_to_save": ["classifier"] if classifier else None,
            "task_type": None,
            "use_dora": False,
            "use_rslora": False,
            "lora_dropout": 0.1,
            "rank_pattern": {},
            "alpha_pattern": {},
            "inference_mode": True,
            **changes,
        }
        (folder / "adapter").mkdir()
        (folder / "adapter" / "adapter_config.json").write_text(json.dumps(config))
        save_file(written, folder / "adapter" / "adapter_model.safetensors")
        return folder / "adapter"

    return save


# Files that are refused


def raw(name: str, content: bytes) -> Save:
    def save(model: nn.Module, folder: Path) -> Path:
        (folder / name).write_bytes(content)
        return folder / name

    return save


def quantised(names: Mapping[str, torch.dtype]) -> Save:
    """A file with tensors of other kinds beside the model's."""

    def save(model: nn.Module, folder: Path) -> Path:
        beside = {name: torch.zeros(2, 2).to(dtype) for name, dtype in names.items()}
        save_file({**model.state_dict(), **beside}, folder / "quantised.safetensors")
        return folder / "quantised.safetensors"

    return save


def quantised_config(model: nn.Module, folder: Path) -> Path:
    safetensors(model, folder)
    settings = {"model_type": "vit", "quantization_config": {"quant_method": "bitsandbytes", "load_in_8bit": True}}
    (folder / "config.json").write_text(json.dumps(settings))
    return folder


def beit() -> nn.Module:
    return timm.create_model("beit_base_patch16_224", img_size=32, embed_dim=64, depth=1, num_heads=1, num_classes=7)


def cait() -> nn.Module:
    return timm.create_model("cait_xxs24_224", img_size=32, embed_dim=64, depth=1, num_heads=1, num_classes=7)


def swin() -> nn.Module:
    sizes: dict[str, Any] = dict(
        img_size=64, window_size=2, embed_dim=16, depths=(1, 1), num_heads=(1, 1), num_classes=7
    )
    return timm.create_model("swin_tiny_patch4_window7_224", **sizes)


def sam() -> nn.Module:
    return timm.create_model("samvit_base_patch16", img_size=32, embed_dim=64, depth=1, num_heads=1)


def aimv2() -> nn.Module:
    return transformers.Aimv2VisionModel(transformers.Aimv2VisionConfig(**HF, num_attention_heads=1))


def data2vec() -> nn.Module:
    config = transformers.Data2VecVisionConfig(**HF, num_attention_heads=1)
    return transformers.Data2VecVisionForImageClassification(config)


def save_pretrained(model: nn.Module, folder: Path) -> Path:
    model.save_pretrained(folder / "saved")  # pyright: ignore[reportCallIssue]
    return folder / "saved"


read = partial(Saved, build=timm_vit, lineage="timm")
encoder = partial(Saved, build=timm_encoder, lineage="timm", compare="pooled", notes=("has no head",))
refused = partial(Saved, build=timm_vit)

CASES: dict[str, Saved] = {
    **{
        f"timm under {key}": read(save=under(key))
        for key in ("state_dict", "model", "net", "model_state", "model_state_dict", "weights", "teacher", "student")
    },
    "torchvision under nested keys": Saved(
        build=torchvision_vit, save=under("model", "state_dict"), lineage="torchvision"
    ),
    "transformers under nested keys": Saved(
        build=transformers_vit,
        save=under("state_dict", "model", "net"),
        lineage="transformers",
        options={"num_heads": 2},
    ),
    "a key of one's own": read(save=under("my_network")),
    "timm, training": read(save=torch_file(timm_training), notes=("state_dict_ema was read", "also has state_dict")),
    "timm, training without averages": read(
        save=torch_file(timm_training), options={"checkpoint_key": "state_dict_ema"}
    ),
    "torchvision, training with averages": Saved(
        build=torchvision_vit,
        save=torch_file(torchvision_training),
        lineage="torchvision",
        notes=("model_ema was read", "also has model:", "n_averaged"),
    ),
    "DINO, teacher": encoder(
        save=torch_file(dino), notes=("teacher was read", "also has student", "head (8 tensors)", "has no head")
    ),
    "DINO, student": encoder(
        save=torch_file(partial(dino, owner="student")),
        options={"checkpoint_key": "student"},
        notes=("only backbone.",),
    ),
    "DINOv2, teacher": encoder(
        save=torch_file(dinov2_training), notes=("dino_head (1 tensor)", "ibot_head (1 tensor)")
    ),
    "MoCo v3, small": Saved(
        build=moco_small,
        save=torch_file(moco),
        lineage="timm",
        compare="pooled",
        notes=("momentum_encoder (", "predictor (1 tensor)", "head (5 tensors)"),
    ),
    "an encoder with a decoder": encoder(
        save=torch_file(with_decoder), notes=("decoder (1 tensor)", "decoder_blocks (1 tensor)", "has no head")
    ),
    **{
        f"{prefix} on timm's names": read(save=under("state_dict", prefix=prefix))
        for prefix in (
            "module.",
            "_orig_mod.",
            "model.",
            "backbone.",
            "encoder.",
            "module.backbone.",
            "module._orig_mod.",
        )
    },
    "_orig_mod.module. on torchvision's names": Saved(
        build=torchvision_vit, save=under("model", prefix="_orig_mod.module."), lineage="torchvision"
    ),
    "model.encoder. on DINOv2's names": Saved(
        build=dinov2,
        save=under("state_dict", prefix="model.encoder."),
        lineage="dinov2",
        compare="pooled",
        options={"num_heads": 2},
    ),
    **{
        f"Lightning, {prefix}": read(
            save=torch_file(partial(lightning, prefix), name="last.ckpt"), notes=("criterion",)
        )
        for prefix in ("model.", "net.", "model._orig_mod.", "model.backbone.")
    },
    "a classifier beside the encoder": Saved(
        build=timm_encoder, save=torch_file(with_classifier), refusal="fc.0.weight, fc.2.weight"
    ),
    "a classifier beside the encoder, with a prefix": encoder(
        save=torch_file(with_classifier), options={"prefix": "backbone."}, notes=("fc (4 tensors)",)
    ),
    "a classifier beside the encoder, allowed": encoder(
        save=torch_file(with_classifier), options={"allow_missing": True}
    ),
    "a prefix that no name has": refused(
        save=safetensors, options={"prefix": "encoder"}, refusal="no tensor's name starts with encoder."
    ),
    "a key that the file lacks": refused(
        save=under("model"), options={"checkpoint_key": "student"}, refusal="choose one of model"
    ),
    "a key for safetensors": refused(
        save=safetensors, options={"checkpoint_key": "x"}, refusal="leave out --checkpoint-key"
    ),
    "TrOCR's encoder": Saved(
        build=trocr_encoder,
        save=folder_of(trocr),
        lineage="transformers",
        compare="pooled",
        output=lambda owner, images: owner(images).last_hidden_state[:, 0],
        options={"prefix": "encoder."},
        notes=("decoder (",),
    ),
    "Depth Anything's encoder": Saved(
        build=dinov2_backbone,
        save=folder_of(depth_anything),
        lineage="dinov2",
        compare="pooled",
        output=class_token,
        options={"prefix": "backbone."},
        notes=("neck (", "head ("),
    ),
    "Depth Anything without a prefix": Saved(
        build=dinov2_backbone, save=folder_of(depth_anything), refusal="--prefix backbone."
    ),
    "transformers in shards": Saved(build=transformers_vit, save=sharded, lineage="transformers"),
    "transformers in PyTorch's shards": Saved(build=transformers_vit, save=torch_shards, lineage="transformers"),
    "a missing shard": Saved(build=transformers_vit, save=without_shard, refusal="is missing"),
    "a damaged shard": Saved(build=transformers_vit, save=damaged_shard, refusal="of-00"),
    **{
        f"a folder with {name} alone": read(save=single_file(name))
        for name in ("model.safetensors", "best.pth", "x.bin")
    },
    "a folder with two files": refused(save=two_files, refusal="name one of a.pth, b.pth"),
    **{
        f"OpenCLIP's folder with {name}": Saved(build=Clip, save=open_clip_folder(name), lineage="open_clip")
        for name in ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")
    },
    "CLIP as TorchScript": Saved(build=Clip, save=traced, lineage="open_clip"),
    "another model as TorchScript": refused(save=traced, refusal="reads only those of CLIP"),
    "LoRA": Saved(build=transformers_vit, save=adapter(), lineage="transformers", notes=("changed 4 weights",)),
    "LoRA with a classifier": Saved(build=transformers_vit, save=adapter(classifier=True), lineage="transformers"),
    "LoRA with rsLoRA": Saved(build=transformers_vit, save=adapter(use_rslora=True, scale=4.0), lineage="transformers"),
    "LoRA with patterns": Saved(
        build=transformers_vit,
        save=adapter(r=16, rank_pattern={"q_proj|fc1": 4}, alpha_pattern={"q_proj": 12, r"mlp\.fc1": 12}, scale=3.0),
        lineage="transformers",
    ),
    "LoRA with another rank": Saved(build=transformers_vit, save=adapter(r=16), refusal="has rank 4"),
    "LoRA without base": Saved(build=transformers_vit, save=adapter(base="/nowhere"), refusal="adapts /nowhere"),
    "DoRA": Saved(build=transformers_vit, save=adapter(use_dora=True), refusal="has use_dora"),
    "IA3": Saved(build=transformers_vit, save=adapter(peft_type="IA3"), refusal="of the type IA3"),
    "PiSSA": Saved(build=transformers_vit, save=adapter(init_lora_weights="pissa"), refusal="init_lora_weights pissa"),
    "BEiT": Saved(build=beit, save=safetensors, refusal="BEiT"),
    "CaiT": Saved(build=cait, save=under("model"), refusal="CaiT"),
    "Swin": Saved(build=swin, save=safetensors, refusal="Swin"),
    "SAM": Saved(build=sam, save=under("model", prefix="image_encoder."), refusal="SAM"),
    "AIMv2": Saved(build=aimv2, save=save_pretrained, refusal="AIMv2"),
    "data2vec": Saved(build=data2vec, save=save_pretrained, refusal="data2vec"),
    "a whole module": refused(
        save=torch_file(lambda model: model), refusal="whole module (timm.models.vision_transformer."
    ),
    "a whole module under a key": refused(save=torch_file(lambda model: {"model": model}), refusal="whole module"),
    "bitsandbytes": refused(
        save=quantised({"blocks.0.attn.qkv.weight.absmax": torch.float32, "blocks.0.x": torch.uint8}),
        refusal="quantised with bitsandbytes",
    ),
    "GPTQ": refused(save=quantised({"blocks.0.attn.qkv.qweight": torch.int32}), refusal="quantised with GPTQ"),
    "8-bit weights": refused(save=quantised({"blocks.0.attn.qkv.weight": torch.int8}), refusal="has int8"),
    "a quantised model's configuration": refused(save=quantised_config, refusal="quantised with bitsandbytes"),
    "ONNX": refused(save=raw("x.onnx", b"\x08\x08\x12\x07pytorch\x1a\x052.5.1" + bytes(99)), refusal="an ONNX file"),
    "HDF5": refused(save=raw("x.h5", b"\x89HDF\r\n\x1a\n" + bytes(99)), refusal="an HDF5 file"),
    "a Git LFS pointer": refused(
        save=raw("x.pth", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"),
        refusal="a Git LFS pointer",
    ),
    "a web page": refused(save=raw("x.pth", b"\n<!DOCTYPE html><html>404</html>"), refusal="a web page"),
    "a text": refused(save=raw("x.pth", b"no weights here, only words"), refusal="a text file"),
    "an empty file": refused(save=raw("x.pth", b""), refusal="is empty"),
}


def timm_training(**args: Any) -> Save:
    """What timm's training script saves."""
    return torch_file(
        lambda model: {
            "epoch": 3,
            "arch": "test_vit",
            "state_dict": model.state_dict(),
            "version": 2,
            "args": argparse.Namespace(model="test_vit", **args),
        }
    )


small_timm = partial(timm.create_model, "test_vit", img_size=32, num_classes=7)
CASES |= {
    "timm's training, heads by its architecture": Saved(build=small_timm, save=timm_training(), lineage="timm"),
    "timm's training, heads in its arguments": Saved(
        build=partial(small_timm, num_heads=4), save=timm_training(model_kwargs={"num_heads": 4}), lineage="timm"
    ),
    "timm's training, another pooling": Saved(
        build=partial(small_timm, global_pool="avgmax"),
        save=timm_training(gp="avgmax"),
        refusal="its global_pool is avgmax",
    ),
    "timm, under one unusual prefix": Saved(
        build=timm_vit, save=torch_file(partial(prefixed, "my_model.vit.")), lineage="timm"
    ),
    "timm, a prefix without a model": Saved(
        build=timm_vit,
        save=torch_file(partial(prefixed, "")),
        refusal="has no model of a supported format under blocks.",
        options={"prefix": "blocks."},
    ),
    "timm, averaged weights under another prefix": Saved(
        build=timm_vit,
        save=torch_file(lambda model: {"state_dict": prefixed("model.", model) | others(model, "ema_model.")}),
        lineage="timm",
        notes=("--prefix ema_model. reads them",),
    ),
    "timm, beside a configuration of transformers": Saved(
        build=timm_vit,
        save=lambda model, folder: with_config(model, folder, {"model_type": "vit", "hidden_size": 32}),
        lineage="timm",
        notes=("ignored its config.json, which is of a transformers model (vit)",),
    ),
}


def with_config(model: nn.Module, folder: Path, config: dict[str, Any]) -> Path:
    """A folder of weights with this `config.json`."""
    safetensors(model, folder)
    (folder / "config.json").write_text(json.dumps(config))
    return folder
