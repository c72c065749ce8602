"""The state dict in a training checkpoint of PyTorch."""

import re
from pathlib import Path
from typing import Any

from torch import Tensor

from vitral.errors import UserError

__all__ = ["find_state_dict"]

KEYS = (
    *("state_dict_ema", "model_ema", "ema_state_dict", "ema", "ema_model", "ema_weights", "shadow"),
    *("swa_model", "swa_state_dict"),
    *("teacher", "target_encoder"),
    *("state_dict", "model_state_dict", "model_state", "model", "net", "weights", "module"),
    *("student", "encoder", "backbone"),
)
"""Keys of state dicts in training checkpoints. Where a file has several, the first is read: averaged weights, as timm
does, and the teacher of self-distillation.
"""
TEACHERS = ("teacher", "target_encoder")
"""Keys of averaged weights only if they are of the trained model: distillation's teacher is a larger one."""
MAX_DEPTH = 4
"""Largest number of keys above a state dict."""
UNNAMED = "shadow_params"
"""Key under which torch_ema and diffusers store averaged weights: a list in the order of the parameters."""
NOT_MODELS = re.compile(r"optim|sched|scaler|loss|criterion|callback|loops", re.IGNORECASE)
AVERAGE = re.compile(r"ema(_.+)?|.*averag.*|shadow.*", re.IGNORECASE)
"""Keys under which Lightning's callbacks store averaged weights."""


def find_state_dict(content: Any, path: Path, *, key: str | None = None) -> tuple[dict[str, Tensor], list[str]]:
    """The state dict in the content of a PyTorch file, without the prefix of DistributedDataParallel.

    Args:
        content: what the file holds.
        path: the file.
        key: the key of the state dict; None takes the first of the usual ones.

    Returns:
        The tensors by name, and notes on what was read and what was left out.

    Raises:
        UserError: there is no state dict, or none under the key.
    """
    notes: list[str] = []
    content = _with_callbacks(content)
    averages, named = _averages(content), next(iter(_state_dicts(content)), "")
    if key is not None:
        states = _state_dicts(content)
        if key not in (*states, *averages):
            choices = f"choose one of {', '.join((*states, *averages))}" if states else "leave out --checkpoint-key"
            raise UserError(f"{path} has no state dict under the key {key!r}: {choices}")
        averages = {name: average for name, average in averages.items() if name == key}
        content = content if averages else content[key]
    for _ in range(MAX_DEPTH):
        if (name := _wrapper(content, path, notes)) is None:
            break
        content = content[name]
    if not isinstance(content, dict) or not any(isinstance(value, Tensor) for value in content.values()):
        raise UserError(f"{path} has no named tensors: save model.state_dict()")
    tensors = {str(name): value.detach() for name, value in content.items() if isinstance(value, Tensor)}
    if others := [str(name) for name, value in content.items() if not isinstance(value, Tensor)]:
        notes.append(f"left out, because they are not tensors: {', '.join(others[:5])}{' ...' * (len(others) > 5)}")
    if averages:
        tensors, note = _averaged(tensors, averages, path, others=named, required=key is not None)
        notes.append(note)
    if all(name.startswith("module.") for name in tensors):
        tensors = {name.removeprefix("module."): tensor for name, tensor in tensors.items()}
    return tensors, notes


def _with_callbacks(content: Any) -> Any:
    """A checkpoint of Lightning with the averaged weights of its callbacks beside the state dict, by their own keys."""
    callbacks = content.get("callbacks") if isinstance(content, dict) else None
    states = callbacks.values() if isinstance(callbacks, dict) else ()
    averages = {
        key: {UNNAMED: value} if isinstance(value, list | tuple) else value
        for state in states
        if isinstance(state, dict)
        for key, value in state.items()
        if isinstance(key, str) and AVERAGE.fullmatch(key)
    }
    known = {key: value for key, value in averages.items() if _num_tensors(value) or _averages({key: value})}
    return {**known, **content} if known else content


def _averages(content: Any) -> dict[str, list[Tensor]]:
    """Averaged weights of torch_ema and diffusers in a training checkpoint, by key: lists without names."""
    if not isinstance(content, dict):
        return {}
    values = {str(key): value.get(UNNAMED) for key, value in content.items() if isinstance(value, dict)}
    return {
        key: list(average)
        for key, average in {**values, UNNAMED: content.get(UNNAMED)}.items()
        if isinstance(average, list | tuple) and average and all(isinstance(each, Tensor) for each in average)
    }


def _averaged(
    tensors: dict[str, Tensor], averages: dict[str, list[Tensor]], path: Path, *, others: str, required: bool
) -> tuple[dict[str, Tensor], str]:
    """Averaged weights under the names of `tensors`, and a note; `tensors` themselves if the shapes differ.

    A state dict has its parameters in the order of `model.parameters()`, which is that of the averages.

    Raises:
        UserError: the shapes differ, and the averages are `required`.
    """
    key, average = next(iter(averages.items()))
    if [tensor.shape for tensor in average] == [tensor.shape for tensor in tensors.values()]:
        named = dict(zip(tensors, (tensor.detach() for tensor in average), strict=True))
        return named, f"the averaged weights in {key} were read; --checkpoint-key {others} reads the others"
    reason = f"the averaged weights in {key} have no names, and do not match the model's tensors in order"
    if required:
        raise UserError(f"{path}: {reason}; leave out --checkpoint-key, or save the averaged model's state dict")
    return tensors, f"{reason}: they were left out, and the weights before averaging were read"


def _wrapper(content: Any, path: Path, notes: list[str]) -> str | None:
    """Key of the state dict in a training checkpoint; None if the content is itself one."""
    states = _state_dicts(content)
    if not states:
        return None
    known = _by_preference(states)
    loose = sum(isinstance(value, Tensor) for value in content.values())
    if 2 * loose > max(states.values()):
        return None  # the content is itself a state dict, with others beside it
    if not known and len(states) > 1:
        raise UserError(f"{path} has several state dicts: choose one with --checkpoint-key {', '.join(states)}")
    chosen = known[0] if known else next(iter(states))
    if others := [key for key in states if key != chosen]:
        notes.append(f"{chosen} was read; the file also has {', '.join(others)}: --checkpoint-key reads another")
    return chosen


def _by_preference(states: dict[str, int]) -> list[str]:
    """The known keys of state dicts as in `KEYS`; small ones and the teacher of a smaller model come last."""
    known = [key for key in KEYS if key in states]
    largest = max((states[key] for key in known if key not in TEACHERS), default=max(states.values()))

    def is_other(key: str) -> bool:
        return 2 * states[key] < largest or (key in TEACHERS and 2 * states[key] > 3 * largest)

    return sorted(known, key=is_other)


def _state_dicts(content: Any) -> dict[str, int]:
    """Keys whose values hold state dicts, with the number of tensors; small ones without a known key are left out."""
    if not isinstance(content, dict):
        return {}
    counts = {
        key: count
        for key, value in content.items()
        if isinstance(key, str) and not NOT_MODELS.search(key) and (count := _num_tensors(value))
    }
    return {key: count for key, count in counts.items() if key in KEYS or 2 * count >= max(counts.values())}


def _num_tensors(value: Any) -> int:
    """Number of tensors in a state dict, or in the largest that it wraps."""
    found, level = 0, [value] if isinstance(value, dict) else []
    for _ in range(MAX_DEPTH):
        found = max([found, *(sum(isinstance(each, Tensor) for each in wrapper.values()) for wrapper in level)])
        wrapped = [wrapper[key] for wrapper in level for key in KEYS if key in wrapper]
        # each once, as one may be under every key
        level = list({id(each): each for each in wrapped if isinstance(each, dict)}.values())
    return found
