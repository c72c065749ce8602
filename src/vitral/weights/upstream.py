"""The models of the projects that own the formats, where they are installed: judges of what Vitral writes."""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

from jaxtyping import Float
from safetensors.torch import load_file
from torch import Tensor, nn

from vitral.errors import UserError
from vitral.vit_config import ViTConfig
from vitral.weights.settings import timm_arguments, timm_name, transformers_config

__all__ = ["BUILDERS", "Owner", "owner_of"]

SPARE = {"mask_token", "embeddings.mask_token"}
"""Parameters of theirs that a model computes nothing with once it is trained."""


@dataclass(frozen=True, kw_only=True)
class Owner:
    """A model of the project's own, with a written file's weights in it."""

    title: str
    """Such as `timm 1.0.20's VisionTransformer`."""
    gives: Literal["logits", "features"]
    """What is compared: features where the format holds no head."""
    compute: Callable[[Tensor], Tensor]
    """Of images."""


def owner_of(form: str, file: Path, config: ViTConfig) -> Owner | str:
    """The owner's model with the weights of a file of its format; else a sentence on why there is none.

    Args:
        form: the format, one of `BUILDERS`.
        file: weights in it, as safetensors.
        config: the architecture that the file was understood to be.
    """
    package, build = BUILDERS[form]
    try:
        model, gives, compute = build(import_module(package), config)
        left = model.load_state_dict(load_file(file), strict=False)
    except ImportError:
        return f"{package} is not installed, and was not asked"
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        return f"{package} {version(package)} does not take it: {' '.join(str(error).split())[:200]}"
    odd = [*left.unexpected_keys, *(set(left.missing_keys) - SPARE)]
    if odd:
        return f"{package} {version(package)} does not take it: {', '.join(sorted(odd)[:3])}"
    model.eval()
    return Owner(title=f"{package} {version(package)}'s {type(model).__name__}", gives=gives, compute=compute)


Built = tuple[nn.Module, Literal["logits", "features"], Callable[[Tensor], Tensor]]


def _timm(timm: Any, config: ViTConfig) -> Built:
    model = timm.create_model(timm_name(config), num_classes=config.num_classes, **timm_arguments(config))
    return model, "logits", model


def _transformers(transformers: Any, config: ViTConfig) -> Built:
    told = transformers_config(config)
    kind = getattr(transformers, told.pop("architectures")[0])
    settings = transformers.AutoConfig.for_model(told.pop("model_type"), **told, num_labels=config.num_classes)
    model = kind(settings)

    def logits(images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b classes"]:
        return model(images).logits

    def features(images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d"]:
        return model(images).pooler_output

    def projected(images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b classes"]:
        return model(images).image_embeds

    if "Projection" in kind.__name__:
        return model, "logits", projected
    return (model, "logits", logits) if "ForImage" in kind.__name__ else (model, "features", features)


def _torchvision(torchvision: Any, config: ViTConfig) -> Built:
    (height, width), (patch, other) = config.image_hw, config.patch_hw
    if height != width or patch != other or config.channels != 3:
        raise UserError("its models take square colour images")
    model = torchvision.models.VisionTransformer(
        image_size=height,
        patch_size=patch,
        num_layers=config.depth,
        num_heads=config.num_heads,
        hidden_dim=config.width,
        mlp_dim=config.mlp_dim,
        num_classes=config.num_classes,
    )
    return model, "logits", model


BUILDERS: dict[str, tuple[str, Callable[[Any, ViTConfig], Built]]] = {
    "timm": ("timm", _timm),
    **dict.fromkeys(
        ("transformers", "dinov2", "dinov3", "siglip", "clip"),
        ("transformers", _transformers),
    ),
    "torchvision": ("torchvision", _torchvision),
}
"""For each format its package, and what builds a model there."""
