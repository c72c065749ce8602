"""The encoder in another project's file: its format, its tensors and its configuration."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from vitral.errors import UserError
from vitral.weights.config_types import check_types
from vitral.weights.lineages.lineage import Lineage, stated_heads
from vitral.weights.lineages.open_clip import OPEN_CLIP
from vitral.weights.lineages.registry import detect_lineage, matching_lineage
from vitral.weights.lineages.timm import TIMM
from vitral.weights.lineages.torchvision import TORCHVISION
from vitral.weights.linear_head import with_linear_head
from vitral.weights.outer_head import WIDTHS, with_outer_head
from vitral.weights.prefixes import (
    Encoder,
    encoder_config,
    encoder_prefixes,
    find_encoder,
    suggested_prefix,
    without_wrapper_parts,
    without_wrappers,
)
from vitral.weights.settings import Settings
from vitral.weights.sharded import read_weights
from vitral.weights.tensor_file import TensorFile
from vitral.weights.unsupported import unsupported_model, unsupported_tensors

__all__ = ["Source", "open_source"]

DESCRIPTIONS = {"model_type", "architecture", "model_args", "model_cfg", "hidden_act", "act_layer"}
"""Keys of a configuration that describes the model, which counts more than the settings in a checkpoint."""
TIMM_POOLS = ("token", "avg", "map", "avgmax", "max")


@dataclass(frozen=True, kw_only=True)
class Source:
    """The encoder in a file: its format, its tensors under the names of the format's mapping, and its configuration."""

    lineage: Lineage
    tensors: dict[str, Tensor]
    upstream_config: dict[str, Any]
    settings: Settings
    """What a training checkpoint states beside its tensors, unless a configuration describes the model."""
    prefix: str
    others: tuple[str, ...]
    notes: tuple[str, ...]


def open_source(
    path: Path, upstream_config: Mapping[str, Any], checkpoint_key: str | None, prefix: str | None
) -> Source:
    """Reads a file and finds the encoder in it.

    Raises:
        UserError: the file cannot be read, or has no encoder of a supported format, or several.
        OSError: the file cannot be read.
    """
    file = read_weights(path, checkpoint_key=checkpoint_key)
    if (reason := unsupported_tensors(file.tensors, upstream_config)) is not None:
        raise UserError(f"{path} cannot be read: {reason}")
    if (family := unsupported_model(file.tensors, encoder_config(upstream_config, prefix or ""))) is not None:
        raise UserError(f"{path} is a model of the kind {family}")
    if prefix:
        prefix = without_wrapper_parts(prefix if prefix.endswith((".", "/")) else f"{prefix}.") or None
    try:
        content, notes = with_linear_head(without_wrappers(file.tensors))
        encoder = _find(content, path, prefix)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    stated = upstream_config.get("model_type") or upstream_config.get("architecture")
    lineage, tensors = detect_lineage(content if encoder is None else encoder.tensors, path, stated=stated)
    assert encoder is not None
    if len(several := encoder_prefixes(encoder.tensors)) > 1:
        raise UserError(
            f"{path} has several encoders, {' and '.join(several)}: read one with --prefix {encoder.prefix}{several[0]}"
        )
    if not prefix:
        encoder, tensors = with_outer_head(encoder, lineage, tensors, content)
    if file.torchscript and lineage is not OPEN_CLIP:
        raise UserError(
            f"{path} is a TorchScript file, and Vitral reads only those of CLIP, because the code in another may "
            "compute anything: save model.state_dict() instead"
        )
    stated = encoder_config(upstream_config, encoder.prefix)
    own, stated_notes = _own_configuration(file, lineage, stated)
    config = {**own, **stated}
    check_types(config, lineage, path)
    heads, heads_notes = _heads(file.settings, encoder, lineage, tensors, config)
    described = DESCRIPTIONS & upstream_config.keys()
    return Source(
        lineage=lineage,
        tensors=tensors,
        upstream_config=config | stated_heads(heads),
        settings=Settings() if described else file.settings,
        prefix=encoder.prefix,
        others=encoder.others,
        notes=(
            *(*file.notes, *encoder.notes, *notes, *stated_notes, *heads_notes),
            *_foreign_config(upstream_config, lineage),
        ),
    )


def _find(content: dict[str, Tensor], path: Path, prefix: str | None) -> Encoder | None:
    """The encoder among the tensors of a file; None if there is none.

    Raises:
        UserError: no name has the prefix, or the encoder is among other tensors.
    """

    def matches(tensors: dict[str, Tensor]) -> bool:
        return matching_lineage(tensors) is not None

    encoder = find_encoder(content, matches, prefix=prefix)
    if encoder is None and prefix is not None:
        raise UserError(f"it has no model of a supported format under {prefix}: name another prefix, or none")
    if encoder is None and (suggestion := suggested_prefix(content, matches)):
        if not all(name.startswith(suggestion) for name in content):
            raise UserError(f"it has an encoder among other tensors: read it alone with --prefix {suggestion}")
        encoder = find_encoder(content, matches, prefix=suggestion)
    return encoder


def _own_configuration(
    file: TensorFile, lineage: Lineage, stated: Mapping[str, Any]
) -> tuple[dict[str, Any], list[str]]:
    """What a file itself states of timm's configuration, unless the one beside it describes the model; and a note."""
    settings = file.settings
    if lineage is not TIMM or DESCRIPTIONS & stated.keys():
        return dict(file.upstream_config), []
    if settings.timm:
        return dict(settings.timm), [settings.timm_note] if settings.timm_note else []
    if settings.pool in TIMM_POOLS:
        note = f"global_pool is {settings.pool}, as its settings state"
        return {"model_args": {"global_pool": settings.pool}}, [note]
    return dict(file.upstream_config), []


def _heads(
    settings: Settings, encoder: Encoder, lineage: Lineage, tensors: dict[str, Tensor], config: Mapping[str, Any]
) -> tuple[int | None, list[str]]:
    """Number of attention heads where the configuration and the format leave it open, and a note on it."""
    width = _width(encoder.tensors)
    try:
        stated = lineage.num_heads(tensors, config)
    except (LookupError, ValueError, TypeError, RuntimeError):
        return None, []  # a damaged shape, which is refused when the architecture is inferred
    if width is None or stated is not None:
        return None, []
    return (12, []) if "base_encoder." in encoder.prefix and width == 384 else settings.num_heads(width)


def _foreign_config(upstream_config: Mapping[str, Any], lineage: Lineage) -> list[str]:
    """A note on a configuration of transformers beside tensors of timm or torchvision."""
    kind = upstream_config.get("model_type")
    if lineage not in (TIMM, TORCHVISION) or not kind or "architecture" in upstream_config:
        return []
    names = f"the tensors have {lineage.name}'s names"
    return [f"ignored its config.json, which is of a transformers model ({kind}), because {names}"]


def _width(tensors: Mapping[str, Tensor]) -> int | None:
    """Width of the encoder, from its class token or positions."""
    return next((tensor.shape[-1] for name, tensor in tensors.items() if name.endswith(WIDTHS) and tensor.ndim), None)
