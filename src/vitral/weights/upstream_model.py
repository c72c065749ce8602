"""Upstream models, where their packages are installed: they verify the checkpoints that Vitral writes."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import version
from inspect import signature
from pathlib import Path
from typing import Any, Literal

from jaxtyping import Float
from safetensors.torch import load_file
from torch import Tensor, nn

from vitral.errors import UserError
from vitral.vit_config import ViTConfig
from vitral.weights.lineages.lineage import HEAD_NAMES
from vitral.weights.upstream_config import ENCODERS, timm_model_args, timm_model_name, transformers_config

__all__ = ["BUILDERS", "UpstreamModel", "load_upstream_model"]

UNUSED = ("mask_token",)
"""Last parts of the names of upstream parameters that only pre-training uses."""


HEADS = ("head", "heads", "classifier", "cls_classifier", "visual_projection")
"""Names of the head in the models of each package; of two heads, that of the class token."""


@dataclass(frozen=True, kw_only=True)
class UpstreamModel:
    """A model of another project's package, with the weights of a checkpoint."""

    title: str
    """Such as `timm 1.0.20's VisionTransformer`."""
    module: nn.Module
    """Holds the weights."""
    output: Literal["logits", "features"]
    """Output of `forward`: features if the format has no head."""
    forward: Callable[[Tensor], Tensor]
    """From images to the output."""
    features: Callable[[Tensor], Tensor]
    """From images to the input of the head; the output if there is no head."""
    any_size: bool
    """Whether it interpolates positions to images of other sizes."""


def load_upstream_model(format: str, file: Path, config: ViTConfig) -> UpstreamModel | str:
    """Loads a checkpoint with the package that owns its format; returns the reason as a sentence if that fails.

    Args:
        format: one of `BUILDERS`.
        file: the checkpoint, as safetensors.
        config: architecture that Vitral reads from the checkpoint.
    """
    package, build = BUILDERS[format]
    try:
        state = load_file(file)
        headless = not any(re.search(HEAD_NAMES, name) for name in state)
        model, output, forward = build(import_module(package), config, headless)
        result = model.load_state_dict(state, strict=False)
    except ImportError:
        return f"{package} is not installed, so its own model did not verify the result"
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        return f"{package} {version(package)} cannot load it: {' '.join(str(error).split())[:200]}"
    missing = [name for name in result.missing_keys if not name.endswith(UNUSED)]
    mismatch = [*result.unexpected_keys, *missing]
    if mismatch:
        return f"{package} {version(package)} cannot load it: {', '.join(sorted(mismatch)[:3])}"
    model.eval()
    return UpstreamModel(
        title=f"{package} {version(package)}'s {type(model).__name__}",
        module=model,
        output=output,
        forward=forward,
        features=_head_input(model, forward) if output == "logits" else forward,
        any_size=format in ("timm", "dinov2", "dinov3") or _interpolates(model),
    )


def _interpolates(model: nn.Module) -> bool:
    """Whether a model of transformers takes images of other sizes if it is asked to."""
    return "interpolate_pos_encoding" in signature(model.forward).parameters


def _head_input(model: nn.Module, forward: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """From images to what the head of a model receives."""
    head = next(module for name, module in model.named_children() if name in HEADS)

    def features(images: Float[Tensor, "b c h w"]) -> Tensor:
        inputs: list[Tensor] = []
        hook = head.register_forward_pre_hook(lambda module, given: inputs.append(given[0]))
        try:
            forward(images)
        finally:
            hook.remove()
        return inputs[0]

    return features


Built = tuple[nn.Module, Literal["logits", "features"], Callable[[Tensor], Tensor]]


def _timm(timm: Any, config: ViTConfig, headless: bool) -> Built:
    args = {**timm_model_args(config), "dynamic_img_size": True}
    model = timm.create_model(timm_model_name(config), num_classes=config.num_classes, **args)
    return model, "logits", model


def _transformers(transformers: Any, config: ViTConfig, headless: bool) -> Built:
    values = transformers_config(config, headless=headless)
    model_class = getattr(transformers, values.pop("architectures")[0])
    config_object = transformers.AutoConfig.for_model(values.pop("model_type"), **values, num_labels=config.num_classes)
    encoder = model_class.__name__ in ENCODERS.values()
    model = model_class(config_object, add_pooling_layer=False) if encoder else model_class(config_object)
    takes = _interpolates(model)

    def outputs(images: Float[Tensor, "b c h w"]) -> Any:
        other_size = takes and images.shape[2:] != config.image_hw
        return model(images, interpolate_pos_encoding=True) if other_size else model(images)

    def logits(images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b classes"]:
        return outputs(images).logits

    def features(images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d"]:
        if not encoder:
            return outputs(images).pooler_output
        tokens = outputs(images).last_hidden_state
        return tokens.mean(dim=1) if config.pool == "gap" else tokens[:, 0]

    def projected(images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b classes"]:
        return outputs(images).image_embeds

    if "Projection" in model_class.__name__:
        return model, "logits", projected
    return (model, "logits", logits) if "ForImage" in model_class.__name__ else (model, "features", features)


def _torchvision(torchvision: Any, config: ViTConfig, headless: bool) -> Built:
    (height, width), (patch, other) = config.image_hw, config.patch_hw
    if height != width or patch != other or config.channels != 3:
        raise UserError("its models need square colour images")
    model = torchvision.models.VisionTransformer(
        image_size=height,
        patch_size=patch,
        num_layers=config.depth,
        num_heads=config.num_heads,
        hidden_dim=config.width,
        mlp_dim=config.mlp_dim,
        num_classes=config.num_classes,
        representation_size=config.representation_size,
    )
    return model, "logits", model


BUILDERS: dict[str, tuple[str, Callable[[Any, ViTConfig, bool], Built]]] = {
    "timm": ("timm", _timm),
    **dict.fromkeys(
        ("transformers", "dinov2", "dinov3", "siglip", "clip"),
        ("transformers", _transformers),
    ),
    "torchvision": ("torchvision", _torchvision),
}
"""For each format: the package, and the function that builds its model, without a head if the file has none."""
