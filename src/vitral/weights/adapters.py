"""Adapters of PEFT: low-rank updates (LoRA) that are added to the weights of the model that they were trained on."""

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vitral.errors import UserError
from vitral.weights.tensor_file import read_json, read_tensors

__all__ = ["ADAPTER_CONFIG", "ADAPTER_FILES", "Adapter", "read_adapter"]

ADAPTER_CONFIG = "adapter_config.json"
ADAPTER_FILES = ("adapter_model.safetensors", "adapter_model.bin")
MODEL_PREFIX = "base_model.model."
"""PEFT's prefix of the names in the adapted model."""
LORA = re.compile(r"(.+)\.lora_([AB])(?:\.default)?\.weight")
READ = {"base_model_name_or_path", "revision", "peft_type", "r", "lora_alpha", "rank_pattern", "alpha_pattern"}
READ |= {"use_rslora", "init_lora_weights"}
TRAINING = {
    *("auto_mapping", "task_type", "inference_mode", "target_modules", "exclude_modules", "layers_to_transform"),
    *("layers_pattern", "lora_dropout", "megatron_config", "megatron_core", "peft_version", "loftq_config"),
    *("eva_config", "corda_config", "runtime_config", "ensure_weight_tying", "qalora_group_size", "bias"),
    *("modules_to_save", "fan_in_fan_out"),
}
"""Settings that do not change how the tensors of an adapter are added. PEFT itself ignores `fan_in_fan_out` for linear
layers, and a Vision Transformer has no others.
"""


@dataclass(frozen=True, kw_only=True)
class Adapter:
    """An adapter, and the model that it adapts."""

    folder: Path
    base: str
    """Path, or OWNER/NAME on the Hub."""
    revision: str | None
    """Revision on the Hub; None is the newest."""
    updates: dict[str, Tensor]
    """What is added to weights, by upstream name."""
    replaced: dict[str, Tensor]
    """Tensors that replace the model's, by upstream name: a new classifier, and biases."""

    @property
    def notes(self) -> tuple[str, ...]:
        """What merging changes, in one sentence."""
        return (
            f"the adapter changed {len(self.updates)} weights and replaced {len(self.replaced)} tensors of {self.base}",
        )

    def merged(
        self, tensors: Mapping[str, Tensor], canonicalise: Callable[[Mapping[str, Tensor]], dict[str, Tensor]]
    ) -> dict[str, Tensor]:
        """Canonical tensors of the model with the updates added, and the replaced tensors exchanged.

        Raises:
            UserError: a tensor that the adapter changes is not in the model, or has another shape.
        """
        merged = dict(tensors)
        try:
            updates, replaced = canonicalise(self.updates), canonicalise(self.replaced)
        except (KeyError, IndexError, RuntimeError):
            raise UserError(
                f"the adapter {self.folder} changes only a part of a fused layer: merge it with PEFT"
            ) from None
        for name, update in updates.items():
            if name not in merged or merged[name].shape != update.shape:
                raise UserError(
                    f"the adapter {self.folder} changes {name}, which the model lacks or has in another shape"
                )
            merged[name] = merged[name].float() + update
        for name, tensor in replaced.items():
            head = "classifier" in name or "head" in name
            if not head and (name not in merged or merged[name].shape != tensor.shape):
                raise UserError(
                    f"the adapter {self.folder} replaces {name}, which the model lacks or has in another shape"
                )
            merged[name] = tensor
        return merged


def read_adapter(folder: Path) -> Adapter | None:
    """Reads the adapter in a folder; None if there is none.

    Raises:
        UserError: it is of a kind that Vitral does not support, or damaged.
        OSError: a file cannot be read.
    """
    if not (folder / ADAPTER_CONFIG).is_file():
        return None
    config = read_json(folder / ADAPTER_CONFIG)
    _check_config(config, folder / ADAPTER_CONFIG)
    file = next((folder / name for name in ADAPTER_FILES if (folder / name).is_file()), None)
    if file is None:
        raise UserError(f"{folder} has no adapter: there is no {' or '.join(ADAPTER_FILES)} in it")
    halves: dict[str, dict[str, Tensor]] = {}
    replaced = {}
    for name, tensor in read_tensors(file).items():
        name = name.removeprefix(MODEL_PREFIX)
        if half := LORA.fullmatch(name):
            halves.setdefault(half[1], {})[half[2]] = tensor.float()
        elif ".original_module." in name:
            continue  # the base's own, which a replaced module keeps beside itself
        elif ".lora_" in name:
            raise UserError(f"{file}: {name} is no linear or convolutional update, and Vitral supports only those")
        else:
            replaced[re.sub(r"\.(base_layer|modules_to_save(\.default)?)(?=\.)", "", name)] = tensor
    updates = {}
    for module, pair in halves.items():
        if set(pair) != {"A", "B"}:
            raise UserError(f"{file} is damaged: {module} has only one half of its update")
        scale = _scale(config, module, len(pair["A"]), file)
        updates[f"{module}.weight"] = _update(pair["A"], pair["B"], scale, module)
    return Adapter(
        folder=folder,
        base=str(config["base_model_name_or_path"]),
        revision=config.get("revision"),
        updates=updates,
        replaced=replaced,
    )


def _check_config(config: Mapping[str, Any], path: Path) -> None:
    """Refuses adapters that are more than linear updates of the base model."""
    if config.get("peft_type") != "LORA":
        raise UserError(f"{path} is of the type {config.get('peft_type')}, and Vitral supports only LORA")
    if not isinstance(config.get("base_model_name_or_path"), str) or not config["base_model_name_or_path"]:
        raise UserError(f"{path} does not name the model that it adapts: add base_model_name_or_path")
    if config.get("init_lora_weights", True) not in (True, False, None, "gaussian", "orthogonal", "eva"):
        raise UserError(
            f"{path} has init_lora_weights {config['init_lora_weights']}, which changes the model too: merge it with "
            "PEFT's merge_and_unload, and save the model"
        )
    for key, value in config.items():
        if value and key not in READ | TRAINING:
            raise UserError(
                f"{path} has {key}, which Vitral does not support: merge it with PEFT's merge_and_unload, and save the "
                "model"
            )


def _scale(config: Mapping[str, Any], module: str, rank: int, file: Path) -> float:
    """Factor of an update: alpha / r, or alpha / sqrt(r) with rsLoRA; patterns name other values for some modules."""
    stated = _by_pattern(config.get("rank_pattern"), module, config.get("r", 8))
    alpha = _by_pattern(config.get("alpha_pattern"), module, config.get("lora_alpha", 8))
    if not isinstance(alpha, int | float) or not math.isfinite(alpha):
        raise UserError(f"{file}: the update of {module} has the lora_alpha {alpha!r}, which is no number")
    if stated != rank:
        raise UserError(f"{file}: the update of {module} has rank {rank}, but {ADAPTER_CONFIG} says {stated}")
    return alpha / (math.sqrt(rank) if config.get("use_rslora") else rank)


def _by_pattern(patterns: Any, module: str, default: Any) -> Any:
    """Value of the first pattern that means this module."""
    for pattern, value in patterns.items() if isinstance(patterns, dict) else ():
        try:
            if re.fullmatch(rf"(.*\.)?({pattern})", module):
                return value
        except re.error as error:
            raise UserError(f"{ADAPTER_CONFIG} has {pattern!r}, which is no regular expression: {error}") from None
    return default


def _update(a: Tensor, b: Tensor, scale: float, module: str) -> Tensor:
    """B A times a factor, for a linear layer or a convolution whose second half has one pixel."""
    if a.ndim not in (2, 4) or a.ndim != b.ndim or b.shape[1] != a.shape[0] or math.prod(b.shape[2:]) != 1:
        raise UserError(f"the update of {module} has shapes {tuple(a.shape)} and {tuple(b.shape)}, which do not fit")
    return (torch.flatten(b, 1) @ torch.flatten(a, 1)).view(len(b), *a.shape[1:]) * scale
