"""PyTorch files, read without running anything in them: tensors, and the plain values beside them."""

import argparse
import datetime
import pathlib
import pickle
import re
import types
import warnings
import zipfile
from collections import Counter, OrderedDict
from collections.abc import Iterator, Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy._core import multiarray

from vitral.errors import UserError, shortened
from vitral.weights.pickles import BoundedUnpickler, check_pickle

__all__ = ["load_torch"]

LEGACY_PICKLES = 5
"""Before version 1.6: numbers of the format and the system, the content, and the order of the tensors' numbers."""
MAX_DEPTH = 4
"""Largest number of keys above a module that is named."""
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
        pickle.UnpicklingError: it is damaged, or would take time or memory out of proportion.
    """
    _check_pickles(path)
    try:
        with path.open("rb") as file, torch.serialization.safe_globals(SAFE_GLOBALS), warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # on pickle protocols, which an error explains better
            # given a path, PyTorch would choose the reader by its suffix
            return torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise (_refusal(path, str(error)) or error) from None


def _check_pickles(path: Path) -> None:
    """Checks what PyTorch's reader will unpickle: it finds the member of an archive whatever the case of its name."""
    with path.open("rb") as file:
        if file.read(2) != b"PK":
            file.seek(0)
            for _ in range(LEGACY_PICKLES):
                check_pickle(file)
            return
    with zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            if member.filename.lower().endswith("data.pkl"):
                check_pickle(BytesIO(archive.read(member)))


def _refusal(path: Path, message: str) -> UserError | None:
    """The sentence on an object that is not read; None if the file is damaged."""
    pickled = _pickled(path)
    if pickled[:1] == b"\x80" and pickled[1:2] > b"\x02":
        return UserError(f"{path} has another pickle protocol than PyTorch's: save it with torch.save's defaults")
    if not (named := NAMED.search(message)):
        return None
    name = named[1] or named[2]
    content = _outline(pickled)
    modules = dict(_modules("", content)) if content is not None else {}
    if not modules and b"torch.nn.modules" not in pickled:
        return UserError(f"{path} holds objects of {name}, which Vitral does not read: save the state dict alone")
    code = "whose code Vitral does not run"
    key, module = next(iter(modules.items()), ("", None))
    name = module.origin if module is not None else name
    key = shortened(key)
    keys = content if isinstance(content, dict) else {}
    beside = [shortened(str(each)) for each, value in keys.items() if _has_tensors(value)]
    if key and beside:
        return UserError(
            f"{path} holds a module ({name}) under the key {key} beside {', '.join(beside[:3])}, {code}: "
            "save the file again without it"
        )
    where = f" under the key {key}" if key else ""
    return UserError(
        f"{path} holds a whole module ({name}){where}, {code}: load it with its own library, and save "
        "model.state_dict()"
    )


class _Inert(dict[Any, Any]):
    """Stands for an object of any class, whose code is not run: only its attributes are kept."""

    origin = ""

    def __new__(cls, *args: Any, **kwargs: Any) -> "_Inert":
        return super().__new__(cls)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__()

    def __setstate__(self, state: Any) -> None:
        self.state = state

    @property
    def is_module(self) -> bool:
        state = getattr(self, "state", None)
        return isinstance(state, Mapping) and "_modules" in state and "_parameters" in state

    def append(self, value: Any) -> None:
        """Ignores an item."""

    def extend(self, values: Any) -> None:
        """Ignores items."""


class _OutlineUnpickler(BoundedUnpickler):
    """Builds dictionaries and lists, and inert objects in place of all others; it imports and calls nothing."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        return type(name, (_Inert,), {"origin": f"{module}.{name}"})

    def persistent_load(self, pid: Any) -> Any:
        """Leaves out the numbers of tensors; a class of modules, beside its source code, is inert already."""
        return pid[1] if isinstance(pid, tuple) and pid[0] == "module" else None


def _outline(pickled: bytes) -> Any:
    """What a PyTorch file consists of, with inert objects; None if that cannot be read."""
    stream = BytesIO(pickled)
    try:
        content = _OutlineUnpickler(stream).load()
        if isinstance(content, int):  # before version 1.6, numbers of the format and the system come first
            for _ in range(3):
                content = _OutlineUnpickler(stream).load()
    except Exception:
        return None
    return content


def _modules(key: str, value: Any, depth: int = 0) -> Iterator[tuple[str, _Inert]]:
    """The modules in a file, by their keys from the outermost one."""
    if isinstance(value, _Inert):
        if value.is_module:
            yield key, value
    elif isinstance(value, dict) and depth < MAX_DEPTH:
        for name, each in value.items():
            yield from _modules(f"{key}.{name}".removeprefix("."), each, depth + 1)


def _has_tensors(value: Any) -> bool:
    """Whether a value is a state dict."""
    if isinstance(value, _Inert) or not isinstance(value, dict):
        return False
    return any(isinstance(each, _Inert) and each.origin.startswith("torch._utils._rebuild") for each in value.values())


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
