"""Types of the values in upstream configurations: a wrong one is refused with its file, its key and the right type."""

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from vitral.config import read_json
from vitral.errors import UserError
from vitral.weights.lineages.lineage import Lineage
from vitral.weights.upstream_card import CARD_KEYS

__all__ = ["check_types"]

FILES = ("preprocessor_config.json", "processor_config.json", "config.json", "open_clip_config.json")
"""Names of the JSON files that a configuration is read from; a value of the first one counts."""
SECTIONS = ("vision_config", "vision_config_dict", "model_args", "model_cfg", "vision_cfg")
SECTIONS += ("pretrained_cfg", "preprocess_cfg")


def _is_integer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return _is_integer(value) or (isinstance(value, float) and math.isfinite(value))


def _is_size(value: Any) -> bool:
    return _is_integer(value) or (isinstance(value, list | tuple) and len(value) == 2 and all(map(_is_integer, value)))


def _is_per_channel(value: Any) -> bool:
    return _is_number(value) or (isinstance(value, list | tuple) and len(value) > 0 and all(map(_is_number, value)))


def _is_input_size(value: Any) -> bool:
    return isinstance(value, list | tuple) and len(value) == 3 and all(map(_is_integer, value))


Kind = tuple[str, Callable[[Any], bool]]
INTEGER: Kind = ("an integer", _is_integer)
NUMBER: Kind = ("a number", _is_number)
TEXT: Kind = ("a text", lambda value: isinstance(value, str))
BOOLEAN: Kind = ("true or false", lambda value: isinstance(value, bool))
OBJECT: Kind = ("an object", lambda value: isinstance(value, dict))
SIZE: Kind = ("an integer, or a list of height and width", _is_size)
PER_CHANNEL: Kind = ("a list of one number per channel", _is_per_channel)

KINDS: dict[str, Kind] = {
    **dict.fromkeys(("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads"), INTEGER),
    **dict.fromkeys(("num_channels", "head_dim", "num_register_tokens", "projection_dim"), INTEGER),
    **dict.fromkeys(
        ("num_heads", "embed_dim", "depth", "in_chans", "num_classes", "reg_tokens", "head_width"), INTEGER
    ),
    **dict.fromkeys(("layer_norm_eps", "mlp_ratio", "rope_theta", "crop_pct", "rescale_factor"), NUMBER),
    **dict.fromkeys(("hidden_act", "act_layer", "norm_layer", "global_pool", "pos_embed", "pool_type"), TEXT),
    **dict.fromkeys(("crop_mode", "interpolation", "resize_mode", "image_processor_type"), TEXT),
    **dict.fromkeys(("qkv_bias", "query_bias", "key_bias", "value_bias", "proj_bias", "mlp_bias"), BOOLEAN),
    **dict.fromkeys(("use_swiglu_ffn", "use_gated_mlp", "apply_layernorm", "vision_use_head", "quick_gelu"), BOOLEAN),
    **dict.fromkeys(("class_token", "final_norm", "pre_norm", "no_embed_class", "pool_include_prefix"), BOOLEAN),
    **dict.fromkeys(("do_normalize", "do_rescale", "do_resize", "do_center_crop"), BOOLEAN),
    **dict.fromkeys(("image_size", "patch_size", "img_size"), SIZE),
    **dict.fromkeys(("image_mean", "image_std", "mean", "std"), PER_CHANNEL),
    **dict.fromkeys(("rope_parameters", "id2label", "act_kwargs", "norm_kwargs", *SECTIONS), OBJECT),
    "input_size": ("a list of channels, height and width", _is_input_size),
    "label_names": ("a list", lambda value: isinstance(value, list)),
}
"""The type of each key, in words and as a test."""
NEVER_NULL = ("hidden_act", "layer_norm_eps", "num_attention_heads", "num_heads", "image_mean", "image_std")
"""Keys whose null no upstream project accepts; elsewhere null stands for the default."""


def check_types(upstream_config: Mapping[str, Any], lineage: Lineage, weights: Path) -> None:
    """Checks the values that are read from a configuration.

    Args:
        upstream_config: the encoder's configuration.
        lineage: format of its tensors, which decides what is read.
        weights: the weights file that the configuration lies beside, or that states it.

    Raises:
        UserError: a value has another type than upstream writes.
    """
    cards = (upstream_config.get(name) for name in ("pretrained_cfg", "preprocess_cfg"))
    card_keys = (*CARD_KEYS, "mean", "std", "crop_pct", "crop_mode", "interpolation", "input_size", "resize_mode")
    read: list[tuple[Any, Any]] = [(upstream_config, (*CARD_KEYS, *SECTIONS)), *((card, card_keys) for card in cards)]
    read.append((lineage.config_section(upstream_config), (*lineage.config_keys, "num_heads", "num_attention_heads")))
    for section, keys in read:
        for key in sorted(KINDS.keys() & set(keys)) if isinstance(section, Mapping) else ():
            kind, is_valid = KINDS[key]
            wrong = key in section and not is_valid(section[key])
            if wrong and (section[key] is not None or key in NEVER_NULL):
                file = _file_with(key, section[key], weights)
                raise UserError(f"{file}: {key} is {json.dumps(section[key], default=str)}, but must be {kind}")


def _file_with(key: str, value: Any, weights: Path) -> Path:
    """The JSON file that states a value, at any depth; the weights file itself if none does."""
    pair = json.dumps({key: value}, default=str)[1:-1]
    for name in FILES:
        file = weights.parent / name
        if file.is_file() and pair in json.dumps(read_json(file)):
            return file
    return weights
