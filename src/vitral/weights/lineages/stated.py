"""What transformers' `config.json` states about a model: checked against the tensors, or refused."""

from collections.abc import Collection, Mapping
from typing import Any, Literal

from vitral.config import pair
from vitral.errors import UserError
from vitral.weights.lineages.lineage import grid_side

__all__ = [
    "COMMON_KEYS",
    "check_classifier",
    "check_model_type",
    "check_sizes",
    "common_sizes",
    "gelu_form",
    "image_size",
    "stated_heads",
]

COMMON_KEYS = frozenset(
    (
        *("head_dim", "hidden_act", "hidden_size", "image_size", "intermediate_size", "layer_norm_eps", "model_type"),
        *("num_channels", "num_hidden_layers", "patch_size", "pruned_heads", "qkv_bias"),
    )
)
"""Keys of all its Vision Transformers that Vitral honours or refuses."""

GELUS: dict[str, Literal["tanh", "erf", "quick"]] = {
    "gelu": "erf",
    "gelu_python": "erf",
    "gelu_accurate": "tanh",
    "gelu_fast": "tanh",
    "gelu_new": "tanh",
    "gelu_python_tanh": "tanh",
    "gelu_pytorch_tanh": "tanh",
    "quick_gelu": "quick",
}
"""transformers' names of the activations that compute one of Vitral's forms of GELU."""
DEFAULT_HEADS = {"dinov3_vit": 6}
"""Attention heads of a configuration that does not state them, where its class has another default than 12."""


def check_model_type(stated: Mapping[str, Any], known: Collection[str]) -> None:
    """Raises UserError for a model type that may compute something else from tensors of the same names."""
    if (model_type := stated.get("model_type")) is not None and model_type not in known:
        raise UserError(
            f"its configuration states the model_type {model_type}, which Vitral does not read; of those with these "
            f"tensors, it reads {', '.join(sorted(known))}"
        )
    if stated.get("pruned_heads"):
        raise UserError("its configuration states pruned_heads, and Vitral needs the same heads in every block")


def check_classifier(stated: Mapping[str, Any], read: str, other: str, owner: str) -> None:
    """Raises UserError unless the configuration names a class of transformers for classification.

    A module of a user's own may have the same names and classify something else.

    Args:
        stated: the configuration.
        read: what the classifier of transformers reads.
        other: what that of a user may read instead.
        owner: name of transformers' class.
    """
    if "ForImageClassification" not in str(stated.get("architectures")):
        raise UserError(
            f"it does not state whether its classifier reads the {read} or {other}: for transformers' {owner}, name a "
            f'folder with this file and a config.json that has {{"architectures": ["{owner}"]}}; --prefix reads the '
            "encoder alone"
        )


def check_sizes(stated: Mapping[str, Any], **actual: Any) -> None:
    """Raises UserError for the first value of the configuration that contradicts the tensors.

    Args:
        stated: the configuration; a key that it lacks, or that is None, cannot contradict anything.
        actual: values in the tensors, by key.
    """
    for key, value in actual.items():
        given = stated.get(key)
        if given is not None and _plain(given) != _plain(value):
            raise UserError(
                f"its configuration states {key} {given}, but its tensors have {value}: correct config.json"
            )


def common_sizes(*, width: int, depth: int, hidden: int, channels: int, patch: tuple[int, int]) -> dict[str, Any]:
    """Values in the tensors under transformers' keys, for `check_sizes`."""
    return dict(
        hidden_size=width, num_hidden_layers=depth, intermediate_size=hidden, num_channels=channels, patch_size=patch
    )


def gelu_form(stated: Mapping[str, Any], default: Literal["tanh", "erf", "quick"]) -> Literal["tanh", "erf", "quick"]:
    """Form of GELU that `hidden_act` names.

    Raises:
        UserError: it names another activation.
    """
    name = stated.get("hidden_act")
    if name is None:
        return default
    if name not in GELUS:
        raise UserError(f"its activation (hidden_act) is {name}, and Vitral computes {', '.join(sorted(GELUS))}")
    return GELUS[name]


def stated_heads(stated: Mapping[str, Any], override: int | None = None) -> int | None:
    """Number of attention heads: stated, else the user's, else the default of the configuration's class, else None."""
    heads = stated.get("num_attention_heads") or override
    if heads is None and (model_type := stated.get("model_type")) is not None:
        return DEFAULT_HEADS.get(model_type, 12)
    return heads


def image_size(stated: Mapping[str, Any], *, patches: int, patch: tuple[int, int], name: str) -> int | tuple[int, int]:
    """Image size in pixels, from the configuration or for a square grid.

    Args:
        stated: the configuration.
        patches: number of patch positions.
        patch: height and width of a patch in pixels.
        name: name of the tensor of the positions.

    Raises:
        UserError: the stated size has another number of patches.
    """
    size = stated.get("image_size")
    if size is None:
        side = grid_side(patches, name=name)
        h, w = side * patch[0], side * patch[1]
    else:
        h, w = _plain(size)
        if (h // patch[0]) * (w // patch[1]) != patches:
            raise UserError(
                f"its configuration states image_size {size}, but {name} has {patches} patch positions: "
                "correct config.json"
            )
    return h if h == w else (h, w)


def _plain(value: Any) -> Any:
    """Lists as tuples, and one integer for both sides as a pair."""
    if isinstance(value, bool) or not isinstance(value, int | list | tuple):
        return value
    return pair(value if isinstance(value, int) else tuple(value))
