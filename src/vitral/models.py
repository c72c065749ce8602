"""Models by name: the paper's, later ones, and their names in other code bases."""

import re
from typing import Annotated, Any

import torch
from pydantic import Discriminator, Tag
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from vitral.errors import UserError, did_you_mean
from vitral.resnet import DEPTHS, ResNet, ResNetConfig
from vitral.vit import ViT
from vitral.vit_config import ViTConfig

__all__ = [
    "NAMES",
    "SIZES",
    "Architecture",
    "Model",
    "architecture",
    "blank_model",
    "build",
    "check_parts",
    "create",
    "fresh",
    "give_buffers",
    "repeated",
]

Model = ViT | ResNet
"""A model of either family."""


def _family(values: Any) -> str:
    """The family that a configuration or its plain values belong to: only a ResNet has `stages`."""
    is_resnet = "stages" in values if isinstance(values, dict) else isinstance(values, ResNetConfig)
    return "(resnet)" if is_resnet else "(vit)"


Architecture = Annotated[
    Annotated[ViTConfig, Tag("(vit)")] | Annotated[ResNetConfig, Tag("(resnet)")], Discriminator(_family)
]
"""The configuration of a model of either family."""

SIZES: dict[str, dict[str, int]] = {
    # ViT paper, Table 1 (B, L, H) and Figure 4 (b, whose heads it does not state); "Scaling Vision Transformers",
    # Table 2 (s, g, G); big_vision (the others)
    "mu": dict(width=32, depth=1, mlp_dim=128, num_heads=2),
    "s": dict(width=256, depth=6, mlp_dim=1024, num_heads=8),
    "Ti": dict(width=192, depth=12, mlp_dim=768, num_heads=3),
    "S": dict(width=384, depth=12, mlp_dim=1536, num_heads=6),
    "b": dict(width=384, depth=12, mlp_dim=1536, num_heads=6),
    "M": dict(width=512, depth=12, mlp_dim=2048, num_heads=8),
    "B": dict(width=768, depth=12, mlp_dim=3072, num_heads=12),
    "L": dict(width=1024, depth=24, mlp_dim=4096, num_heads=16),
    "So400m": dict(width=1152, depth=27, mlp_dim=4304, num_heads=16),
    "H": dict(width=1280, depth=32, mlp_dim=5120, num_heads=16),
    "g": dict(width=1408, depth=40, mlp_dim=6144, num_heads=16),
    "g-opt": dict(width=1536, depth=40, mlp_dim=6144, num_heads=16),
    "G": dict(width=1664, depth=48, mlp_dim=8192, num_heads=16),
    "G-opt": dict(width=1536, depth=48, mlp_dim=8192, num_heads=16),
    "e": dict(width=1792, depth=56, mlp_dim=15360, num_heads=16),
}
"""Sizes of the Transformer."""

STEMS: dict[tuple[str, int], dict[str, Any]] = {
    # ViT paper, section 4.1: a ResNet-50 whole, or its fourth stage's units moved to the third; AugReg (R26, R)
    ("R50", 16): dict(stem_stages=(3, 4, 9), patch_size=16),
    ("R50", 32): dict(stem_stages=(3, 4, 6, 3), patch_size=32),
    ("R26", 32): dict(stem_stages=(2, 2, 2, 2), patch_size=32),
    # named 16, but the released code has a max-pool too, and 8x8 patches on its map: 49 tokens of 32x32 pixels
    ("R", 16): dict(stem_stages=(), patch_size=32),
}
"""ResNets of the hybrids, by the name before the plus and the number after the slash."""

PLAIN = (
    *("mu/16", "s/28", "s/16", "Ti/16", "S/32", "S/16", "M/16", "B/32", "B/28", "B/16", "B/8", "L/32", "L/16", "L/14"),
    *("So400m/14", "H/14", "g/14", "g-opt/16", "G/14", "G-opt/16", "e/14"),
)
HYBRID = ("R+ViT-Ti/16", "R26+ViT-S/32", "R26+ViT-B/32", "R50+ViT-B/32", "R50+ViT-B/16", "R50+ViT-L/32", "R50+ViT-L/16")
AXIAL = ("Axial-ViT-B/32", "Axial-ViT-B/16")
RESNET = ("BiT-R50x1", "BiT-R50x2", "BiT-R101x1", "BiT-R152x1", "BiT-R152x2", "BiT-R200x3")
NAMES = (*(f"ViT-{name}" for name in PLAIN), *HYBRID, *AXIAL, *RESNET)
"""The usual models. Other combinations of size, patch and stem are valid names too."""

INITIALISERS = frozenset({nn.init.kaiming_uniform_, nn.init.uniform_, nn.init.normal_, Tensor.fill_, Tensor.zero_})
"""What PyTorch's layers call when they are built: with a tensor first, or by the name `tensor`."""

TIMM_SIZES = dict(
    tiny="Ti", small="S", medium="M", base="B", large="L", so400m="So400m", huge="H", giant="g", gigantic="G"
)


def architecture(name: str, **overrides: Any) -> ViTConfig | ResNetConfig:
    """The configuration of a model's name.

    Args:
        name: such as `ViT-B/16`, `Axial-ViT-B/16`, `R50+ViT-B/16` or `BiT-R50x1`; also Google's spelling, `ViT-B_16`,
            and timm's, `vit_base_patch16_224` (the shape only: numerics are Vitral's).
        overrides: fields of the configuration to change.

    Raises:
        UserError: there is no such model, no such field, or its value does not fit.
    """
    canonical, implied = _canonical_name(name)
    if bit := re.fullmatch(r"BiT-R(\d+)x([1-9]\d*)", canonical):
        return _create_config(ResNetConfig, name, {**_bit(name, int(bit[1]), int(bit[2])), **implied, **overrides})
    match = re.fullmatch(r"(?:(Axial)-|(R\d*)\+)?ViT-([\w-]+)/([1-9]\d*)", canonical)
    if match is None or match[3] not in SIZES:
        raise UserError(
            f"unknown model {name!r}{did_you_mean(name, NAMES)}: write ViT-SIZE/PATCH such as ViT-B/16 with a size of "
            f"{', '.join(SIZES)}, or names such as Axial-ViT-B/16, R50+ViT-B/16, BiT-R50x1; "
            "vitral models lists them"
        )
    axial, stem, size, patch = match[1], match[2], match[3], int(match[4])
    parts: dict[str, Any] = {"patch_size": patch, **SIZES[size]}
    if stem is not None:
        parts |= _stem(name, stem, patch)
    if axial:
        parts |= dict(attention="axial", pool="gap")
    return _create_config(ViTConfig, name, {**parts, **implied, **overrides})


def build(config: ViTConfig | ResNetConfig) -> Model:
    """A new model of a configuration, with initial weights."""
    return ResNet(config) if isinstance(config, ResNetConfig) else ViT(config)


def fresh(model: Model, *, seed: int = 0) -> Model:
    """A model of the same architecture and card with initial weights, as a baseline."""
    torch.manual_seed(seed)
    other = build(model.config)
    other.card = model.card
    return other


class _SkipInit(TorchFunctionMode):
    """Skips initialisation, for which PyTorch would import its compiler on the meta device, and most time would go."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None) -> Any:
        kwargs = kwargs or {}
        if func in INITIALISERS:
            return args[0] if args else kwargs["tensor"]
        return func(*args, **kwargs)


def blank_model(architecture: Architecture) -> Model:
    """A model on the meta device, which has names and shapes of tensors, but no memory for them."""
    with torch.device("meta"), _SkipInit():
        return build(architecture)


def check_parts(architecture: Architecture, *, num_tensors: int, origin: str) -> None:
    """Refuses a configuration with more blocks than a file has tensors, which would take long to build.

    Args:
        architecture: as a configuration states it.
        num_tensors: in the file.
        origin: the start of the error's sentence.

    Raises:
        UserError: it has more.
    """
    stages = architecture.stages if isinstance(architecture, ResNetConfig) else architecture.stem_stages or ()
    parts = sum(stages) + (0 if isinstance(architecture, ResNetConfig) else architecture.depth)
    if parts > num_tensors:
        raise UserError(f"{origin}: {parts} blocks need more than its {num_tensors} tensors")


def give_buffers(model: Model, device: torch.device) -> None:
    """Allocates and fills the buffers of a blank model, whose parameters will be assigned from a checkpoint.

    `Module.to_empty` would allocate the parameters too, and import PyTorch's compiler.
    """
    for module in model.modules():
        for name, buffer in list(module.named_buffers(recurse=False)):
            setattr(module, name, torch.zeros(buffer.shape, dtype=buffer.dtype, device=device))
    if isinstance(model, ViT) and not model.positions.learned:
        model.positions.fill(model.pos_embed)


def repeated(model: Model) -> list[nn.Module]:
    """The repeated parts of a model: the blocks of a Transformer or the units of a ResNet."""
    holders = [model] if isinstance(model, ViT) else model.stages
    return [block for holder in holders for block in holder.get_submodule("blocks").children()]


def create(name: str, **overrides: Any) -> Model:
    """A new model with initial weights, such as `create("ViT-B/16", num_classes=10)`; see `architecture`."""
    return build(architecture(name, **overrides))


def _create_config(kind: type, name: str, values: dict[str, Any]) -> Any:
    unknown = sorted(values.keys() - kind.__dataclass_fields__.keys())
    if unknown:
        raise UserError(f"{name} has no {unknown[0]}: its fields are {', '.join(kind.__dataclass_fields__)}")
    return kind(**values)


def _stem(name: str, stem: str, patch: int) -> dict[str, Any]:
    if (stem, patch) not in STEMS:
        hybrids = ", ".join(f"{stem}+ViT-.../{patch}" for stem, patch in STEMS)
        raise UserError(f"unknown hybrid {name!r}: there are {hybrids}; for others set stem_stages and stem_width")
    return STEMS[stem, patch]


def _bit(name: str, depth: int, factor: int) -> dict[str, Any]:
    if depth not in DEPTHS:
        raise UserError(f"unknown model {name!r}: a BiT ResNet has {', '.join(map(str, DEPTHS))} layers")
    return dict(stages=DEPTHS[depth], width_factor=factor)


def _canonical_name(name: str) -> tuple[str, dict[str, Any]]:
    """Translates Google's and timm's names to ours; returns it with the fields that the name implies."""
    if name.startswith(("ViT-", "R")) and (google := re.fullmatch(r"(.+)_(\d+)", name)):
        return f"{google[1]}/{google[2]}", {}
    plain = name.split(".")[0]
    if bit := re.fullmatch(r"resnetv2_(\d+)x(\d+)_bit", plain):
        return f"BiT-R{bit[1]}x{bit[2]}", {}
    if timm := re.fullmatch(r"vit_([a-z0-9]+)_(?:patch|r_s|r(\d+)_s)(\d+)(?:_p8)?(_gap)?_(\d+)", plain):
        size, layers, patch, gap, pixels = timm.groups()
        stem = "" if "_patch" in plain else f"R{layers or ''}+"
        implied = dict(image_size=int(pixels), **({"pool": "gap"} if gap else {}))
        return f"{stem}ViT-{TIMM_SIZES.get(size, size)}/{patch}", implied
    return name, {}
