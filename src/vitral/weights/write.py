"""Vitral's models as checkpoints of other projects."""

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from vitral.errors import UserError
from vitral.vit import ViT
from vitral.vit_config import ViTConfig
from vitral.weights.lineages.lineage import HEAD_NAMES, Lineage, stated_heads
from vitral.weights.lineages.registry import LINEAGES
from vitral.weights.lineages.transformers import TRANSFORMERS
from vitral.weights.mapping import to_upstream
from vitral.weights.storable import POOLING, fold_layer_scale, refusal

__all__ = ["check_storable", "storable", "upstream_state_dict"]

STRUCTURE = (
    *("image_hw", "patch_hw", "channels", "stem_stages", "width", "depth", "num_heads", "mlp_dim", "num_classes"),
    *("pool", "num_registers", "position", "position_injection", "attention", "qk_norm", "mlp", "representation_size"),
    *("distillation", "qkv_bias", "patch_bias", "pre_norm", "pooled_norm", "final_norm"),
)
"""Fields of the architecture that must be the same when a written checkpoint is read back."""
COMPUTED = ("rope", "sincos_2d", "sincos_2d_mae")
"""Positions that are computed from the grid."""


def upstream_state_dict(
    lineage: Lineage, model: ViT, *, upstream_config: Mapping[str, Any] | None = None
) -> tuple[dict[str, Tensor], list[str]]:
    """State dict of a model in another project's format.

    Args:
        lineage: the format.
        model: the model to convert.
        upstream_config: the `config.json` that will be written beside it, if any.

    Returns:
        The tensors, and one sentence for each number that the other project computes differently.

    Raises:
        UserError: the format cannot store the model.
    """
    model, notes = storable(lineage, model)
    check_storable(lineage, model.config)
    state = {name: tensor.detach().cpu() for name, tensor in lineage.state_dict(model).items()}
    mapping = lineage.mapping(model.config)
    notes += _add_zero_biases(state, [entry.name for entry in mapping])
    tensors, missing, unexpected = to_upstream(mapping, state)
    # leaving out a zero bias changes nothing
    unexpected = [name for name in unexpected if not name.endswith(".bias") or state[name].any()]
    if unexpected or missing:
        raise UserError(refusal(lineage.name, model.config, unexpected=unexpected, missing=missing))
    tensors = lineage.finalise(tensors, model.config)
    canonical = lineage.canonicalise(tensors)
    if not lineage.matches(canonical):
        other = next((each.name for each in LINEAGES.values() if each.matches(canonical)), None)
        advice = f": these are tensors of the format {other}, so convert with --to {other}" if other else ""
        raise UserError(
            f"the format {lineage.name} cannot store this model, as it would be detected as another format{advice}"
        )
    try:
        config = lineage.infer_config(canonical, {**stated_heads(model.config.num_heads), **(upstream_config or {})})
    except (KeyError, ValueError) as error:
        raise UserError(
            f"the format {lineage.name} cannot store this model: it could not be read back: {error}"
        ) from None
    for name in STRUCTURE:
        if name in ("qkv_bias", "patch_bias") or (name == "image_hw" and model.config.position in COMPUTED):
            continue  # zero biases may be added or left out; computed positions fit any size, which is not stored
        before, after = getattr(model.config, name), getattr(config, name)
        if before != after and not (name == "num_classes" and not any(re.match(HEAD_NAMES, key) for key in tensors)):
            if model.config.mlp != config.mlp:
                raise UserError(f"the format {lineage.name} cannot store this model: it has no gated MLP (SwiGLU)")
            raise UserError(f"the format {lineage.name} cannot store {name} {before}: it would be read back as {after}")
    for name in ("gelu", "norm_eps"):
        before, after = getattr(model.config, name), getattr(config, name)
        if before != after:
            notes.append(f"{lineage.name} uses {name} {after}, this model uses {name} {before}")
    if config.position_resample != model.config.position_resample and model.config.position == "learned_1d":
        height, width = model.config.image_hw
        notes.append(
            f"{lineage.name} resamples positions to other image sizes in its own way ({config.position_resample}, not "
            f"{model.config.position_resample}): at {height}x{width} the outputs are equal"
        )
    return tensors, [*notes, *lineage.caveats(model.config)]


def check_storable(lineage: Lineage, config: ViTConfig) -> None:
    """Raises UserError for the first part of the architecture that the format cannot store."""
    stores: dict[str, tuple[Any, ...]] = {
        "attention": ("global",),
        "position": lineage.positions,
        "position_injection": ("stem",),
        "pool": ("cls", "gap", "map"),
        "final_norm": (True,),
        **lineage.stores,
    }
    for name, values in stores.items():
        if (value := getattr(config, name)) not in values:
            others = " or ".join(map(str, values))
            reason = f", and {POOLING[value]}" if name == "pool" and value in POOLING else ""
            refused = f"the format {lineage.name} cannot store this model: it does not support {name} {value}"
            raise UserError(f"{refused}, only {others}{reason}")


def storable(lineage: Lineage, model: ViT) -> tuple[ViT, list[str]]:
    """The model in a form that the format can store: without LayerScale, if the format has none.

    Returns:
        The model itself or an equal one, and a note for each change.
    """
    names = {entry.name for entry in lineage.mapping(model.config)}
    # the names of DINOv2's LayerScale are known to the format of transformers' ViT, whose classes have none
    if model.config.layer_scale is None or ("blocks.0.ls1.gamma" in names and lineage is not TRANSFORMERS):
        return model, []
    note = f"LayerScale is folded into attn.proj and mlp.fc2, as {lineage.name} has none: the outputs stay the same"
    return fold_layer_scale(model), [note]


def _add_zero_biases(state: dict[str, Tensor], required: list[str]) -> list[str]:
    """Adds zero biases to `state` where the format requires a bias that the model lacks; returns a note on it."""
    absent = [
        name for name in required if name not in state and name.endswith(".bias") and f"{name[:-4]}weight" in state
    ]
    for name in absent:
        weight = state[f"{name[:-4]}weight"]
        state[name] = weight.new_zeros(len(weight))
    return [f"added {len(absent)} zero biases that the format requires"] if absent else []
