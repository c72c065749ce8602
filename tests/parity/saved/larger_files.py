"""Encoders that look like Vitral's, in other models of transformers: each is read by its prefix, or refused by name."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import transformers
from torch import Tensor, nn

from parity.saved.case import Saved, transformers_folder

__all__ = ["CASES"]

SIZES: dict[str, Any] = dict(
    hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=1, image_size=32, patch_size=8
)
TEXT: dict[str, Any] = dict(
    hidden_size=32, intermediate_size=64, num_hidden_layers=1, num_attention_heads=2, vocab_size=99, head_dim=16
)
PAIRED: dict[str, Any] = {**TEXT, "bos_token_id": 0, "eos_token_id": 1, "max_position_embeddings": 20}
NO_MLP = {name: size for name, size in SIZES.items() if name != "intermediate_size"}


def built(model: str, config: str, **values: Any) -> Callable[[], nn.Module]:
    return lambda: getattr(transformers, model)(getattr(transformers, config)(**values))


def paired(family: str, **text: Any) -> Callable[[], nn.Module]:
    return built(f"{family}Model", f"{family}Config", vision_config=SIZES, text_config={**PAIRED, **text})


def alone(model: nn.Module, folder: Path) -> Path:
    """The weights of a folder without its `config.json`."""
    saved = transformers_folder(model, folder)
    (saved / "config.json").unlink()
    return saved / "model.safetensors"


def image_features(model: Any, images: Tensor) -> Tensor:
    output = model.get_image_features(images)
    return output if isinstance(output, Tensor) else output.pooler_output


def pooled(name: str, model: Any, images: Tensor) -> Tensor:
    """The pooled output of a part of a model; the mean of the tokens if it does not pool."""
    output = model.get_submodule(name)(images)
    return output.last_hidden_state.mean(dim=1) if output.get("pooler_output") is None else output.pooler_output


def llava() -> nn.Module:
    vision, text = transformers.CLIPVisionConfig(**SIZES), transformers.LlamaConfig(**TEXT)
    return transformers.LlavaForConditionalGeneration(transformers.LlavaConfig(vision_config=vision, text_config=text))


def paligemma() -> nn.Module:
    vision = transformers.SiglipVisionConfig(**SIZES, vision_use_head=False, projection_dim=32)
    text = transformers.GemmaConfig(**TEXT, num_key_value_heads=1)
    config = transformers.PaliGemmaConfig(vision_config=vision, text_config=text)
    return transformers.PaliGemmaForConditionalGeneration(config)


def vision_text(vision: Any) -> nn.Module:
    config = transformers.VisionTextDualEncoderConfig.from_vision_text_configs(
        vision(**SIZES), transformers.BertConfig(**PAIRED)
    )
    return transformers.VisionTextDualEncoderModel(config)


def timm_wrapper(architecture: str) -> Callable[[], nn.Module]:
    args = dict(img_size=32, patch_size=8, embed_dim=64, depth=2, num_heads=2)
    labels = {label: f"label {label}" for label in range(7)}
    return built(
        "TimmWrapperForImageClassification",
        "TimmWrapperConfig",
        architecture=architecture,
        model_args=args,
        id2label=labels,
    )


def pose() -> nn.Module:
    sizes = dict(hidden_size=64, num_hidden_layers=2, num_attention_heads=1, mlp_ratio=2)
    backbone = transformers.VitPoseBackboneConfig(image_size=[32, 32], patch_size=[8, 8], out_indices=[2], **sizes)
    return transformers.VitPoseForPoseEstimation(transformers.VitPoseConfig(backbone_config=backbone))


REFUSED: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "AltCLIP": (paired("AltCLIP", project_dim=32), "altclip"),
    "CLIPSeg": (paired("CLIPSeg"), "clipseg"),
    "MLCD": (built("MLCDVisionModel", "MLCDVisionConfig", **SIZES), "mlcd"),
    "GIT": (built("GitVisionModel", "GitVisionConfig", **SIZES), "git_vision_model"),
    "Janus": (built("JanusVisionModel", "JanusVisionConfig", **NO_MLP, mlp_ratio=2.0), "janus"),
    "BLIP": (built("BlipVisionModel", "BlipVisionConfig", **SIZES), "blip_vision_model"),
    "OWL-ViT": (built("OwlViTVisionModel", "OwlViTVisionConfig", **SIZES), "OWL-ViT"),
    "Phi-4": (built("Phi4MultimodalVisionModel", "Phi4MultimodalVisionConfig", **SIZES), "phi4_multimodal"),
    "FLAVA": (built("FlavaImageModel", "FlavaImageConfig", **SIZES), "flava"),
    "DPT": (built("DPTModel", "DPTConfig", **SIZES, is_hybrid=False), "model_type dpt"),
    "Pixtral": (built("PixtralVisionModel", "PixtralVisionConfig", **SIZES), "pixtral"),
    "ViTPose": (pose, "vitpose"),
}
CASES: dict[str, Saved] = {
    **{
        f"{name}, folder": Saved(build=build, save=transformers_folder, refusal=refusal)
        for name, (build, refusal) in REFUSED.items()
    },
    "OWL-ViT, alone": Saved(build=REFUSED["OWL-ViT"][0], save=alone, refusal="OWL-ViT, whose merged"),
    "ViTPose, alone": Saved(build=pose, save=alone, refusal="not a square grid"),
    "CLIPSeg, alone": Saved(build=REFUSED["CLIPSeg"][0], save=alone, refusal="does not store its GELU"),
    **{
        f"{name}, both towers": Saved(
            build=paired(name), save=transformers_folder, output=image_features, lineage="clip", notes=("text_model",)
        )
        for name in ("ChineseCLIP", "MetaClip2")
    },
    "LLaVA without a prefix": Saved(build=llava, save=transformers_folder, refusal="--prefix vision_tower."),
    **{
        f"{name} by its prefix": Saved(
            build=build,
            save=transformers_folder,
            output=partial(pooled, part),
            compare="pooled",
            lineage=lineage,
            options={"prefix": prefix},
        )
        for name, build, part, prefix, lineage in (
            ("LLaVA's tower", llava, "model.vision_tower", "vision_tower.", "clip"),
            ("PaliGemma's tower", paligemma, "model.vision_tower", "vision_tower.", "siglip"),
            (
                "a dual encoder's CLIP",
                partial(vision_text, transformers.CLIPVisionConfig),
                "vision_model",
                "vision_model.",
                "clip",
            ),
        )
    },
    **{
        f"TimmWrapper, {name}": Saved(build=timm_wrapper(name), save=transformers_folder, lineage="timm")
        for name in ("vit_tiny_patch16_224", "vit_base_patch16_clip_quickgelu_224")
    },
}
