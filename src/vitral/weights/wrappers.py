"""PyTorch files: the state dict in a training checkpoint, read without running anything in it."""

import argparse
import datetime
import pathlib
import pickle
import re
import types
import warnings
import zipfile
from collections import Counter, OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy._core import multiarray
from torch import Tensor

from vitral.errors import UserError

__all__ = ["find_state_dict", "load_torch", "stated_by_timm"]

KEYS = (
    *("state_dict_ema", "model_ema", "ema_state_dict", "teacher", "target_encoder"),
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
NAMED = re.compile(r"GLOBAL ([A-Za-z_][\w.]*)|(?:class |function |of type )<?(?:class )?'?([A-Za-z_][\w.]*\.\w+)")
"""What PyTorch's reader calls an object that it refuses."""
DICTIONARIES = (
    *("lightning.fabric.utilities.data.AttributeDict", "lightning_fabric.utilities.data.AttributeDict"),
    *("lightning.pytorch.utilities.parsing.AttributeDict", "pytorch_lightning.utilities.parsing.AttributeDict"),
    "easydict.EasyDict",
)
"""Dictionaries of settings, which are read as plain ones."""


def _ordered_dict(*factory: Any) -> OrderedDict[Any, Any]:
    """A dictionary in place of one with defaults, which PyTorch's reader cannot fill."""
    return OrderedDict()


SAFE_GLOBALS: list[Any] = [
    *(argparse.Namespace, types.SimpleNamespace, Counter, OrderedDict, (_ordered_dict, "collections.defaultdict")),
    *((OrderedDict, name) for name in DICTIONARIES),
    *(list, dict, set, frozenset, tuple, int, float, complex, bool, str, bytes, slice),
    *(datetime.datetime, datetime.date, datetime.timedelta, datetime.timezone),
    *(torch.Size, torch.dtype, torch.device),
    *(np.ndarray, np.dtype, multiarray._reconstruct, multiarray.scalar),
    *(getattr(np.dtypes, name) for name in np.dtypes.__all__),
    (multiarray._reconstruct, "numpy.core.multiarray._reconstruct"),
    (multiarray.scalar, "numpy.core.multiarray.scalar"),
    *(
        (kind, f"{module}.{name}")
        for module in ("pathlib", "pathlib._local")
        for names, kind in (
            (("Path", "PosixPath", "PurePosixPath", "PurePath"), pathlib.PurePosixPath),
            (("WindowsPath", "PureWindowsPath"), pathlib.PureWindowsPath),
        )
        for name in names
    ),
]
"""Classes and functions that the settings beside a state dict may name: they only hold values."""


def load_torch(path: Path) -> Any:
    """Content of a PyTorch file on the CPU: tensors, and the plain values beside them.

    Raises:
        UserError: the file holds objects of other classes.
    """
    try:
        with path.open("rb") as file, torch.serialization.safe_globals(SAFE_GLOBALS), warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # on pickle protocols, which an error explains better
            # given a path, PyTorch would choose the reader by its suffix
            return torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise (_refusal(path, str(error)) or error) from None


def _refusal(path: Path, message: str) -> UserError | None:
    """The sentence on an object that is not read; None if the file is damaged."""
    pickled = _pickled(path)
    if pickled[:1] == b"\x80" and pickled[1:2] > b"\x02":
        return UserError(f"{path} has another pickle protocol than PyTorch's: save it with torch.save's defaults")
    if not (named := NAMED.search(message)):
        return None
    name = named[1] or named[2]
    if b"torch.nn.modules" in pickled:
        return UserError(
            f"{path} holds a whole module ({name}), whose code Vitral does not run: load it with its own library, "
            "and save model.state_dict()"
        )
    return UserError(f"{path} holds objects of {name}, which Vitral does not read: save the state dict alone")


def _pickled(path: Path) -> bytes:
    """The pickle of a PyTorch file, or its start."""
    if not zipfile.is_zipfile(path):
        return path.read_bytes()[: 2**22]
    with zipfile.ZipFile(path) as archive:
        name = next((name for name in archive.namelist() if name.endswith("data.pkl")), None)
        if name is None:
            return b""
        with archive.open(name) as file:
            return file.read(2**22)


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


def stated_by_timm(content: Any) -> dict[str, Any]:
    """Architecture and arguments that timm's training script stores beside the weights, as in timm's `config.json`."""
    args = vars(content["args"]) if isinstance(content, dict) and hasattr(content.get("args"), "__dict__") else {}
    name = (content.get("arch") if isinstance(content, dict) else None) or args.get("model")
    if not isinstance(name, str):
        return {}
    kwargs = args.get("model_kwargs")
    pool = {"global_pool": args["gp"]} if args.get("gp") else {}
    return {"architecture": name, "model_args": pool | (kwargs if isinstance(kwargs, dict) else {})}


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


def _num_tensors(value: Any, depth: int = 0) -> int:
    """Number of tensors in a state dict, or in the largest that it wraps."""
    if not isinstance(value, dict) or depth == MAX_DEPTH:
        return 0
    wrapped = [_num_tensors(value[key], depth + 1) for key in KEYS if key in value]
    return max([sum(isinstance(each, Tensor) for each in value.values()), *wrapped])
