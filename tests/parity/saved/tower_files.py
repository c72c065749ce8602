"""Files of image-text models: CLIP and SigLIP in transformers, CLIP in OpenCLIP."""

import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
import transformers
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers.models.paddleocr_vl.configuration_paddleocr_vl import PaddleOCRVisionConfig
from transformers.models.paddleocr_vl.modeling_paddleocr_vl import PaddleOCRVisionModel
from transformers.models.phi4_multimodal.modeling_phi4_multimodal import Phi4MultimodalVisionModel

from parity.saved.case import Save, Saved, safetensors, torch_file, transformers_folder, with_json
from parity.saved.transformers_files import SIZES, built, edited, mean_of_patches

__all__ = ["CASES"]

TEXT: dict[str, Any] = dict(
    hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32, vocab_size=99, eos_token_id=2
)
ONE_HEAD = {**SIZES, "num_attention_heads": 1}


def both_towers(family: Literal["CLIP", "Siglip"], model: str, *, vision: Mapping[str, Any], **values: Any) -> Any:
    """Builds a class whose configuration has a part for each tower."""
    config = getattr(transformers, f"{family}Config")
    text = {**TEXT, "bos_token_id": 1, "pad_token_id": 0}
    return lambda: getattr(transformers, f"{family}{model}")(
        config(vision_config={**SIZES, **vision}, text_config=text, **values)
    )


def image_features(model: Any, images: Tensor) -> Tensor:
    """The embedding of the images in an image-text model."""
    features = model.get_image_features(images)
    return features if isinstance(features, Tensor) else features.pooler_output


def paddle() -> nn.Module:
    """PaddleOCR-VL's tower: SigLIP's tensors, and rotary positions without tensors."""
    return PaddleOCRVisionModel(PaddleOCRVisionConfig(**ONE_HEAD))


def phi() -> nn.Module:
    """Phi-4's tower, which computes what SigLIP does.

    It is eager because `sdpa` takes the attention for causal where no patch is masked, and not where one is.
    """
    model = Phi4MultimodalVisionModel(transformers.Phi4MultimodalVisionConfig(**ONE_HEAD))
    model.set_attn_implementation("eager")
    return model


class LayerScale(nn.Module):
    """OpenCLIP's `ls_init_value`."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.full((width,), 0.5))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gamma


class QuickGELU(nn.Module):
    """The activation of OpenAI's CLIP."""

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(1.702 * x)


class ResidualAttentionBlock(nn.Module):
    """A block of OpenCLIP, with its names."""

    def __init__(self, cfg: Mapping[str, Any]) -> None:
        super().__init__()
        width = cfg["width"]
        norm = partial(nn.LayerNorm, width, **cfg.get("norm_kwargs", {}))
        act = QuickGELU() if cfg.get("quick_gelu") else nn.GELU(**cfg.get("act_kwargs", {}))
        self.ln_1, self.ln_2 = norm(), norm()
        self.attn = nn.MultiheadAttention(width, width // cfg["head_width"], batch_first=True)
        self.mlp = nn.Sequential()
        hidden = int(width * cfg["mlp_ratio"])
        for name, part in (("c_fc", nn.Linear(width, hidden)), ("gelu", act), ("c_proj", nn.Linear(hidden, width))):
            self.mlp.add_module(name, part)
        scaled = "ls_init_value" in cfg
        self.ls_1, self.ls_2 = (LayerScale(width) if scaled else nn.Identity() for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        normed = self.ln_1(x)
        x = x + self.ls_1(self.attn(normed, normed, normed, need_weights=False)[0])
        return x + self.ls_2(self.mlp(self.ln_2(x)))


class Transformer(nn.Module):
    """Blocks of OpenCLIP."""

    def __init__(self, cfg: Mapping[str, Any]) -> None:
        super().__init__()
        self.resblocks = nn.ModuleList(ResidualAttentionBlock(cfg) for _ in range(cfg["layers"]))


class VisionTransformer(nn.Module):
    """OpenCLIP's image tower, as its `vision_cfg` describes it."""

    def __init__(self, cfg: Mapping[str, Any]) -> None:
        super().__init__()
        self.cfg = dict(cfg)
        width, patch = cfg["width"], cfg["patch_size"]
        norm = partial(nn.LayerNorm, width, **cfg.get("norm_kwargs", {}))
        self.conv1 = nn.Conv2d(3, width, patch, patch, bias=False)
        self.class_embedding = nn.Parameter(torch.randn(width))
        self.positional_embedding = nn.Parameter(torch.randn((cfg["image_size"] // patch) ** 2 + 1, width))
        self.ln_pre = nn.Identity() if cfg.get("no_ln_pre") else norm()
        self.transformer = Transformer(cfg)
        self.ln_post = norm()
        self.proj = nn.Parameter(torch.randn(width, cfg["embed_dim"]))

    def forward(self, images: Tensor) -> Tensor:
        patches = self.conv1(images).flatten(2).mT
        x = torch.cat([self.class_embedding.expand(len(images), 1, -1), patches], dim=1) + self.positional_embedding
        x = self.ln_pre(x)
        for block in self.transformer.resblocks:
            x = block(x)
        after = self.cfg.get("final_ln_after_pool")
        x = x if after else self.ln_post(x)
        pooled = x[:, 1:].mean(dim=1) if self.cfg.get("pool_type") == "avg" else x[:, 0]
        return (self.ln_post(pooled) if after else pooled) @ self.proj


class OpenCLIP(nn.Module):
    """OpenCLIP's model: the image tower, and tensors with the names of its text tower."""

    def __init__(self, **vision: Any) -> None:
        super().__init__()
        sizes = dict(layers=2, width=64, head_width=16, mlp_ratio=2.0, patch_size=8, image_size=32)
        self.cfg = {**sizes, **vision}
        self.embed_dim = 24
        self.visual = VisionTransformer({**self.cfg, "embed_dim": self.embed_dim})
        self.transformer = Transformer(dict(layers=1, width=32, head_width=16, mlp_ratio=2.0))
        self.token_embedding = nn.Embedding(99, 32)
        self.positional_embedding = nn.Parameter(torch.randn(8, 32))
        self.ln_final = nn.LayerNorm(32)
        self.text_projection = nn.Parameter(torch.randn(32, self.embed_dim))
        self.logit_scale = nn.Parameter(torch.ones([]))

    def forward(self, images: Tensor) -> Tensor:
        return self.visual(images)


def open_clip_folder(*, preprocess: Mapping[str, Any] | None = None, **changes: Any) -> Save:
    """The weights and the content of `open_clip_config.json`, with other values in `vision_cfg`."""

    def save(model: Any, folder: Path) -> Path:
        tower = {key: value for key, value in model.cfg.items() if key != "quick_gelu"}
        model_cfg = dict(
            embed_dim=model.embed_dim,
            quick_gelu=bool(model.cfg.get("quick_gelu")),
            vision_cfg={**tower, **changes},
            text_cfg=dict(context_length=8, vocab_size=99, width=32, heads=2, layers=1),
        )
        content = dict(model_cfg=model_cfg, preprocess_cfg=preprocess or dict(size=[32, 32], mode="RGB"))
        (folder / "config.json").write_text(json.dumps(content))
        safetensors(model, folder)
        return folder

    return save


def with_tensor(name: str) -> Save:
    """A state dict with one more tensor, such as another kind of model has."""

    def save(model: nn.Module, folder: Path) -> Path:
        tensors = {key: tensor.contiguous() for key, tensor in model.state_dict().items()}
        save_file({**tensors, name: torch.ones(2, 2)}, folder / "model.safetensors")
        return folder / "model.safetensors"

    return save


clip = partial(Saved, save=transformers_folder, lineage="clip")
siglip = partial(Saved, save=transformers_folder, lineage="siglip")
open_clip = partial(Saved, save=open_clip_folder(), lineage="open_clip")
refused = partial(Saved, save=transformers_folder)
CLIP = partial(built, "CLIPVisionModelWithProjection", "CLIPVisionConfig", projection_dim=7)
SIGLIP = partial(built, "SiglipVisionModel", "SiglipVisionConfig")
no_pooling = partial(
    siglip,
    build=SIGLIP(vision_use_head=False, num_attention_heads=1),
    output=mean_of_patches,
    compare="pooled",
    notes=("mean of the patches",),
)

CASES: dict[str, Saved] = {
    "CLIP, projection": clip(build=CLIP()),
    "CLIP, exact GELU, epsilon": clip(build=CLIP(hidden_act="gelu", layer_norm_eps=1e-2)),
    "CLIP, ReLU": refused(build=CLIP(hidden_act="relu"), refusal="(hidden_act) is relu"),
    "CLIP, bare file": refused(
        build=CLIP(num_attention_heads=1), save=safetensors, refusal="does not store its GELU: OpenAI's"
    ),
    "CLIP, bare file of OpenAI's": clip(
        build=CLIP(num_attention_heads=1), save=safetensors, options=dict(gelu="quick")
    ),
    "CLIP, bare file of LAION's": clip(
        build=CLIP(num_attention_heads=1, hidden_act="gelu"), save=safetensors, options=dict(gelu="erf")
    ),
    "CLIP, encoder": clip(build=built("CLIPVisionModel", "CLIPVisionConfig"), compare="pooled"),
    "CLIP, both towers": clip(
        build=both_towers("CLIP", "Model", vision={"hidden_act": "gelu"}, projection_dim=9),
        output=image_features,
        notes=("text_model",),
    ),
    "CLIP, default heads and GELU": clip(
        build=both_towers("CLIP", "Model", vision={"hidden_size": 48, "num_attention_heads": 12}, projection_dim=9),
        save=edited({"num_attention_heads": None, "hidden_act": None, "model_type": None}, section="vision_config"),
        output=image_features,
    ),
    "CLIP, two configurations of the tower": clip(
        build=both_towers("CLIP", "Model", vision={"hidden_act": "gelu"}, projection_dim=9),
        save=edited({"vision_config_dict": {**SIZES, "hidden_act": "gelu"}, "vision_config": {**SIZES}}),
        output=image_features,
    ),
    "CLIP, classifier": clip(
        build=both_towers("CLIP", "ForImageClassification", vision={}, num_labels=7), notes=("post_layernorm",)
    ),
    "CLIP, another depth": refused(
        build=CLIP(), save=edited({"num_hidden_layers": 3}), refusal="states num_hidden_layers 3"
    ),
    "SigLIP": siglip(build=SIGLIP(), compare="pooled"),
    "SigLIP, exact GELU, epsilon": siglip(build=SIGLIP(hidden_act="gelu", layer_norm_eps=1e-2), compare="pooled"),
    "SigLIP, both towers": siglip(
        build=both_towers("Siglip", "Model", vision={}), output=image_features, compare="pooled", notes=("text_model",)
    ),
    "SigLIP, classifier": siglip(
        build=both_towers("Siglip", "ForImageClassification", vision={}, num_labels=7), notes=("head",)
    ),
    "SigLIP, classifier without pooling": siglip(
        build=both_towers("Siglip", "ForImageClassification", vision={"vision_use_head": False}, num_labels=7)
    ),
    "SigLIP, no pooling": siglip(
        build=SIGLIP(vision_use_head=False), output=mean_of_patches, compare="pooled", notes=("mean of the patches",)
    ),
    "SigLIP, no pooling, with the configuration that the refusal names": no_pooling(
        save=with_json({"vision_use_head": False})
    ),
    "SigLIP, no pooling, bare file with the option that the refusal names": no_pooling(
        save=safetensors, options={"pool": "gap"}
    ),
    "SigLIP, no pooling, bare file": refused(
        build=SIGLIP(vision_use_head=False), save=safetensors, refusal='a config.json of {"vision_use_head": false}'
    ),
    "PaddleOCR-VL's tower": refused(build=paddle, refusal="model_type paddleocr_vl_vision"),
    "PaddleOCR-VL's tower, bare file": refused(build=paddle, save=safetensors, refusal="which has rotary positions"),
    "Phi-4's tower": refused(build=phi, refusal="model_type phi4_multimodal_vision"),
    "Phi-4's tower, bare file": siglip(build=phi, save=safetensors, compare="pooled"),
    "SigLIP 2, NaFlex": refused(
        build=lambda: transformers.Siglip2VisionModel(
            transformers.Siglip2VisionConfig(
                **{key: value for key, value in SIZES.items() if key != "image_size"}, num_patches=16
            )
        ),
        refusal="NaFlex",
    ),
    "OpenCLIP": open_clip(build=OpenCLIP),
    "OpenCLIP, bare file": refused(
        build=partial(OpenCLIP, head_width=64),
        save=torch_file(lambda model: model.state_dict()),
        refusal="does not store its GELU: OpenAI's",
    ),
    "OpenCLIP, bare file of LAION's": open_clip(
        build=partial(OpenCLIP, head_width=64),
        save=torch_file(lambda model: model.state_dict()),
        options=dict(gelu="erf"),
        notes=("number of attention heads",),
    ),
    "OpenCLIP, quick GELU": open_clip(build=partial(OpenCLIP, quick_gelu=True)),
    "OpenCLIP, tanh GELU, epsilon": open_clip(
        build=partial(OpenCLIP, act_kwargs={"approximate": "tanh"}, norm_kwargs={"eps": 1e-2})
    ),
    "OpenCLIP, LayerScale": open_clip(build=partial(OpenCLIP, ls_init_value=0.5)),
    "OpenCLIP, no norm before the blocks": open_clip(build=partial(OpenCLIP, no_ln_pre=True)),
    "OpenCLIP, mean of patches": open_clip(build=partial(OpenCLIP, pool_type="avg")),
    "OpenCLIP, mean of patches before the norm": open_clip(
        build=partial(OpenCLIP, pool_type="avg", final_ln_after_pool=True, no_ln_pre=True)
    ),
    "OpenCLIP, norm after the class token": open_clip(build=partial(OpenCLIP, final_ln_after_pool=True)),
    "OpenCLIP, padding": open_clip(
        build=OpenCLIP, save=open_clip_folder(preprocess=dict(resize_mode="longest")), notes=("resize_mode longest",)
    ),
    **{
        f"OpenCLIP, {key}": refused(build=OpenCLIP, save=open_clip_folder(**{key: value}), refusal=refusal)
        for key, value, refusal in (
            ("attentional_pool", True, "attentional pooling (attentional_pool True)"),
            ("global_average_pool", True, "global_average_pool"),
            ("timm_model_name", "vit_base_patch16_siglip_224", "image tower of timm"),
            ("pool_type", "none", "pool_type none"),
            ("layers", 3, "states layers 3"),
            ("ls_init_value", 0.1, "lacks transformer.resblocks.0.ls_1.gamma"),
            ("no_ln_pre", True, "has ln_pre.weight"),
            ("image_size", 64, "states image_size 64"),
        )
    },
    **{
        f"OpenCLIP, {model}": refused(build=OpenCLIP, save=with_tensor(name), refusal=model)
        for model, name in (
            ("a CoCa model", "text_decoder.ln_final.weight"),
            ("attentional pooling", "visual.attn_pool.query"),
            ("an image tower of timm", "visual.trunk.pos_embed"),
            ("a CLIP model with a ResNet", "visual.layer1.0.conv1.weight"),
        )
    },
}
