"""Checkpoints of other projects: detected by their content and loaded into Vitral's model."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vitral.errors import UserError
from vitral.models import blank_model, check_parts, give_buffers
from vitral.vit import ViT
from vitral.vit_config import ViTConfig
from vitral.weights.adapters import Adapter
from vitral.weights.config_keys import unknown_keys
from vitral.weights.lineages.lineage import HEAD_NAMES, NO_EPSILON, Lineage, is_shape_error, stated_heads
from vitral.weights.lineages.open_clip import OPEN_CLIP
from vitral.weights.lineages.towers import CLIP
from vitral.weights.mapping import from_upstream
from vitral.weights.prefixes import without_training
from vitral.weights.source import Source, open_source
from vitral.weights.upstream_card import upstream_card

__all__ = ["LoadReport", "UndecidedError", "load_upstream"]


class UndecidedError(UserError):
    """A file leaves open what its model computes, and published models differ in it."""

    def __init__(self, path: Path, fields: Mapping[str, str]) -> None:
        super().__init__(f"{path} does not store {' and does not store '.join(fields.values())}")
        self.fields = tuple(fields)
        """Fields of the architecture that decide it."""


@dataclass(frozen=True, kw_only=True)
class LoadReport:
    """Result of loading an upstream checkpoint."""

    lineage: str
    """Format of the checkpoint."""
    matched: int
    """Number of the model's tensors that were loaded."""
    missing: tuple[str, ...] = ()
    """Upstream names that the checkpoint lacks; those tensors are freshly initialised."""
    unexpected: tuple[str, ...] = ()
    """Names in the checkpoint that the model does not have."""
    notes: tuple[str, ...] = field(default=())
    """Everything else that was not simply copied, one sentence each."""


def load_upstream(
    path: Path,
    *,
    upstream_config: Mapping[str, Any] | None = None,
    allow_missing: bool = False,
    checkpoint_key: str | None = None,
    prefix: str | None = None,
    adapter: Adapter | None = None,
    **overrides: Any,
) -> tuple[ViT, LoadReport]:
    """Loads another project's checkpoint as a model in float32 and evaluation mode, with its card.

    A checkpoint without a head gives a model with a zero head; the report notes it.

    Args:
        path: a NumPy archive, a safetensors file, a PyTorch or TorchScript file, or the index of a sharded one.
        upstream_config: the upstream `config.json` and similar files, if there are any.
        allow_missing: whether to accept missing and unexpected tensors.
        checkpoint_key: key of the state dict in a PyTorch file that holds several, such as `student`.
        prefix: prefix of the encoder's tensors in a larger model, such as `backbone.`; the others are left out.
        adapter: low-rank updates to add to the weights.
        overrides: fields of the architecture that the file does not store, or that should differ.

    Raises:
        UserError: the format is unknown, or tensors are missing, unexpected, of wrong shape, or not finite.
        UndecidedError: the file leaves open what its model computes.
        OSError: the file cannot be read.
    """
    source = open_source(path, upstream_config or {}, checkpoint_key, prefix)
    if adapter is not None:
        source = replace(source, tensors=adapter.merged(source.tensors, source.lineage.canonicalise))
    lineage = source.lineage
    upstream_config = {**source.upstream_config, **_given(overrides)}
    config, (state, missing, unexpected), stated = _convert(source, upstream_config, overrides, path)
    notes = [*source.notes, *stated, *_assumptions(source, config, upstream_config, overrides)]
    model = blank_model(config)
    assert isinstance(model, ViT)
    shapes = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    ignored = [name for name in unexpected if re.search(lineage.ignore, name)]
    unexpected, training = without_training([name for name in unexpected if name not in ignored])
    unexpected = [*source.others, *unexpected]
    notes += [*_conversions(state), *lineage.caveats(config), *training, *(adapter.notes if adapter else ())]
    notes += [f"ignored, because the model does not use them: {_modules(ignored)}"] if ignored else []
    if not any(name.startswith("head.") for name in state):
        missing = [name for name in missing if not re.match(HEAD_NAMES, name)]
        notes.append(f"the file has no head: the model gets a zero head for {config.num_classes} classes")
        state |= {name: torch.zeros(shapes[name]) for name in shapes if name.startswith("head.")}
    if (missing or unexpected) and not allow_missing:
        raise UserError(f"{path}: {_mismatch(missing, unexpected)}; {_remedy(source, missing, unexpected)}")
    _check_state(path, state, shapes)
    _fill(model, state, complete=not missing)
    unnamed = _without_classes(model, lineage)
    model.card, card_notes = upstream_card(config, lineage, upstream_config, origin=path.name, named=not unnamed)
    return model.eval(), LoadReport(
        lineage=lineage.name,
        matched=len(state),
        missing=tuple(missing),
        unexpected=tuple(unexpected),
        notes=(*notes, *card_notes, *unnamed),
    )


def _given(overrides: Mapping[str, Any]) -> dict[str, Any]:
    """What a user gives that decides how tensors are read, beside the configuration."""
    pool = {"pool": overrides["pool"]} if "pool" in overrides else {}
    return stated_heads(overrides.get("num_heads")) | pool


def _without_classes(model: ViT, lineage: Lineage) -> list[str]:
    """Why the head names no classes, as a note; empty if it does."""
    if not model.head.weight.any():
        return ["the head is zero, so it was never trained and names no classes"]
    if lineage in (CLIP, OPEN_CLIP) and model.head.bias is None:
        return ["the head projects to the space that images share with texts, and names no classes"]
    return []


def _convert(
    source: Source, upstream_config: Mapping[str, Any], overrides: Mapping[str, Any], path: Path
) -> tuple[ViTConfig, tuple[dict[str, Tensor], list[str], list[str]], list[str]]:
    """Architecture of a source, what `from_upstream` gives, and notes on what its settings state.

    Raises:
        UserError: shapes or fields do not fit each other.
        UndecidedError: the file leaves open what its model computes.
    """
    lineage, tensors = source.lineage, source.tensors
    try:
        config = lineage.infer_config(tensors, upstream_config)
        stated, notes = source.settings.overrides(given=overrides, gated=config.mlp == "swiglu")
        config = replace(config, **{**stated, **overrides})
        check_parts(config, num_tensors=len(tensors), origin="it does not fit its configuration")
        converted = from_upstream(lineage.mapping(config), lineage.prepare(tensors, config))
        _check_decided(source, upstream_config, overrides, path)
        return config, converted, notes
    except UndecidedError:
        raise
    except UserError as error:
        reason = str(error)
    except KeyError as error:
        if not re.search(r"[./_]|cls|proj", str(error)):
            raise  # no tensor has such a name
        reason = f"{error} is missing"
    except (IndexError, ValueError, RuntimeError, TypeError) as error:
        if not is_shape_error(error):
            raise
        reason = f"a tensor has an unexpected shape ({' '.join(str(error).split())})"
    raise UserError(f"{path} looks like {lineage.name}, but cannot be read: {reason}")


def _check_state(path: Path, state: Mapping[str, Tensor], shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Checks shapes and values.

    Raises:
        UserError: a tensor has another shape than the model expects, or is not finite.
    """
    for name, tensor in state.items():
        if shapes[name] != tuple(tensor.shape):
            raise UserError(f"{path}: {name} has shape {tuple(tensor.shape)}, but the model expects {shapes[name]}")
        if not torch.isfinite(tensor.sum(dtype=torch.float32)):
            raise UserError(f"{path}: {name} contains NaN or infinity")


def _fill(model: ViT, state: Mapping[str, Tensor], *, complete: bool) -> None:
    """Gives a blank model its tensors, in float32; those that `state` lacks are initialised."""
    if complete:
        give_buffers(model, torch.device("cpu"))
    else:
        model.to_empty(device="cpu").init_weights()
    floats = {name: tensor.float().contiguous() for name, tensor in state.items()}
    model.load_state_dict(floats, strict=False, assign=complete)


def _remedy(source: Source, missing: Iterable[str], unexpected: Iterable[str]) -> str:
    """What a user can do about missing and unexpected tensors."""
    if not list(missing) and list(unexpected) == list(source.others):
        return f"read the encoder alone with --prefix {source.prefix}, or all with vitral convert --allow-missing"
    return "vitral convert --allow-missing reads it anyway"


def _check_decided(
    source: Source, upstream_config: Mapping[str, Any], overrides: Mapping[str, Any], path: Path
) -> None:
    """Raises UndecidedError for what the file, its configuration and settings, and the overrides leave open."""
    given = {*overrides, *source.settings.numerics}
    fields = source.lineage.undecided(source.tensors, upstream_config)
    if left := {name: text for name, text in fields.items() if name not in given}:
        raise UndecidedError(path, left)


def _assumptions(
    source: Source, config: ViTConfig, upstream_config: Mapping[str, Any], overrides: Mapping[str, Any]
) -> list[str]:
    """Notes on what the file, its configuration and the overrides leave open."""
    lineage, tensors = source.lineage, source.tensors
    notes = []
    if lineage.num_heads(tensors, upstream_config) is None:
        notes.append(
            f"the file does not store the number of attention heads: {config.num_heads} assumed, as usual for width "
            f"{config.width}; --num-heads sets another"
        )
    assumed = lineage.assumptions(config, tensors, upstream_config)
    given = "norm_eps" in {*overrides, *source.settings.numerics}
    notes += [sentence for sentence in assumed if not (given and sentence.startswith(NO_EPSILON))]
    if unknown := unknown_keys(lineage, upstream_config):
        notes.append(f"ignored, because Vitral does not know these keys of its configuration: {', '.join(unknown)}")
    return notes


def _conversions(state: Mapping[str, Tensor]) -> list[str]:
    dtypes = sorted({str(tensor.dtype).removeprefix("torch.") for tensor in state.values()} - {"float32"})
    return [f"converted {', '.join(dtypes)} to float32"] if dtypes else []


def _modules(names: Iterable[str]) -> str:
    """The outermost modules with these tensors and their number; a single tensor by its full name."""
    counts = Counter(name.partition(".")[0] for name in names)
    single = {name.partition(".")[0]: name for name in names}
    return ", ".join(single[name] if count == 1 else f"{name} ({count} tensors)" for name, count in counts.items())


def _mismatch(missing: Iterable[str], unexpected: Iterable[str]) -> str:
    parts = []
    for label, names in (("missing", list(missing)), ("unexpected", list(unexpected))):
        if names:
            more = f" and {len(names) - 3} more" if len(names) > 3 else ""
            parts.append(f"{label}: {', '.join(names[:3])}{more}")
    return "; ".join(parts)
