"""TorchScript files: the tensors of their module tree, read without running the code in them."""

import math
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from io import BytesIO
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from vitral.errors import UserError
from vitral.weights.pickles import BoundedUnpickler

__all__ = ["is_torchscript", "read_torchscript"]

DTYPES = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}
MAX_DEPTH = 64
QUICK_GELU = 1.702
"""The factor in OpenAI's approximation of GELU, which is in the code of the files, or among its constants."""


class _Module:
    """A module of a TorchScript file, without its code: only its attributes."""

    attributes: Mapping[Any, Any] = MappingProxyType({})

    def __setstate__(self, state: Any) -> None:
        if isinstance(state, dict):
            self.attributes = state


class _Unpickler(BoundedUnpickler):
    """Builds modules without code, and tensors; refuses every other class and function."""

    def __init__(self, archive: zipfile.ZipFile, name: str) -> None:
        super().__init__(BytesIO(archive.read(name)))
        self.archive = archive
        self.folder = name.removesuffix(".pkl")
        self.storages: dict[str, Tensor] = {}

    def find_class(self, module: str, name: str) -> Any:
        if module.startswith("__torch__"):
            return _Module
        if module in ("torch", "torch.storage") and name in DTYPES:
            return DTYPES[name]
        if (module, name) not in FUNCTIONS:
            raise pickle.UnpicklingError(f"it names {module}.{name}")
        return FUNCTIONS[module, name]

    def persistent_load(self, pid: Any) -> Tensor:
        """The numbers that a tensor is a view of."""
        kind, dtype, key, _, count = pid
        if kind != "storage" or not isinstance(dtype, torch.dtype) or not isinstance(key, str):
            raise pickle.UnpicklingError(f"it refers to {kind!s:.20}")
        if key not in self.storages:
            content = self.archive.read(f"{self.folder}/{key}")
            if len(content) != count * dtype.itemsize:
                raise pickle.UnpicklingError(f"the numbers of {key} are not complete")
            self.storages[key] = torch.frombuffer(bytearray(content), dtype=dtype) if content else torch.empty(0)
        return self.storages[key]


def _tensor(storage: Tensor, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *unused: Any) -> Tensor:
    last = offset + sum((length - 1) * step for length, step in zip(size, stride, strict=True))
    if min((offset, *size, *stride)) < 0 or math.prod(size) > len(storage) or (0 not in size and last >= len(storage)):
        raise pickle.UnpicklingError(f"a tensor of shape {size} has more numbers than the file")
    return torch.as_strided(storage, size, stride, offset)


def _first(value: Any, *unused: Any) -> Any:
    return value


FUNCTIONS: dict[tuple[str, str], Any] = {
    ("torch._utils", "_rebuild_tensor_v2"): _tensor,
    ("torch._utils", "_rebuild_parameter"): _first,
    ("torch", "device"): _first,
    ("collections", "OrderedDict"): OrderedDict,
    **{
        ("torch.jit._pickle", name): _first
        for name in ("build_intlist", "build_tensorlist", "build_doublelist", "build_boollist", "restore_type_tag")
    },
}
"""The functions that TorchScript's pickles call, or inert ones in their place."""


def is_torchscript(archive: zipfile.ZipFile) -> bool:
    """Whether a PyTorch file has code beside its tensors."""
    return any(name.endswith("/constants.pkl") or "/code/" in name for name in archive.namelist())


def read_torchscript(archive: zipfile.ZipFile, path: Path) -> tuple[dict[str, Tensor], bool]:
    """Reads the parameters and buffers of a TorchScript file by name, and whether its code has OpenAI's quick GELU.

    Raises:
        UserError: the pickle in it is damaged, or names classes that are no modules.
    """
    name = min((name for name in archive.namelist() if name.endswith("/data.pkl")), key=len)
    constants = name.replace("data.pkl", "constants.pkl")
    try:
        module = _Unpickler(archive, name).load()
        numbers = _Unpickler(archive, constants).load() if constants in archive.namelist() else ()
        quick_gelu = any(_is_quick_gelu(number) for number in numbers)
    except (pickle.UnpicklingError, EOFError, ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as e:
        raise UserError(f"{path} is a damaged TorchScript file: {' '.join(str(e).split())[:200]}") from None
    if not isinstance(module, _Module):
        raise UserError(f"{path} is a TorchScript file without a module: save model.state_dict()")
    code = (archive.read(member) for member in archive.namelist() if "/code/" in member and member.endswith(".py"))
    return dict(_tensors(module, "", set())), quick_gelu or any(str(QUICK_GELU).encode() in text for text in code)


def _is_quick_gelu(constant: Any) -> bool:
    return isinstance(constant, Tensor) and constant.numel() == 1 and abs(constant.item() - QUICK_GELU) < 1e-3


def _tensors(module: _Module, prefix: str, seen: set[int]) -> Iterator[tuple[str, Tensor]]:
    """Tensors of a module and those below it by name; a module that is in the tree twice counts once."""
    if id(module) in seen or prefix.count(".") > MAX_DEPTH:
        return
    seen.add(id(module))
    for name, value in module.attributes.items():
        if isinstance(value, Tensor):
            yield f"{prefix}{name}", value
        elif isinstance(value, _Module):
            yield from _tensors(value, f"{prefix}{name}.", seen)
