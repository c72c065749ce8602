"""Named arrays from other projects' files: NumPy archives, safetensors, PyTorch files, told apart by content."""

import json
import math
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from vitral.errors import UserError

__all__ = ["read_arrays", "read_json"]

LEGACY = b"\x80\x02\x8a\n"
"""How PyTorch's files began before they were archives."""
LARGEST_RATIO, ALWAYS = 50, 2**30
"""An archive may unpack to this many times its size, or to this many bytes."""


def read_arrays(path: Path) -> dict[str, Tensor]:
    """Every array of a file by name, on the CPU and of the file's own precision. Nothing is unpickled.

    Raises:
        UserError: the file is of no known kind, damaged, unpacks to too much, or holds other things than arrays.
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        start = file.read(16)
    try:
        if start.startswith(b"PK"):
            return _zipped(path)
        if start.startswith(LEGACY):
            return _torch_arrays(path)
        if start[8:9] == b"{":
            return load_file(path)
    except (SafetensorError, zipfile.BadZipFile, pickle.UnpicklingError, EOFError, KeyError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"{path} is damaged, or no file of weights: {reason}") from None
    raise UserError(f"{path} is no file of weights: there are .npz, .safetensors and PyTorch's own")


def _zipped(path: Path) -> dict[str, Tensor]:
    """A NumPy archive, or a PyTorch file, which is a ZIP archive too."""
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        unpacked = sum(member.file_size for member in members)
        if unpacked > max(LARGEST_RATIO * path.stat().st_size, ALWAYS):
            raise UserError(f"{path} would unpack to {unpacked:,} bytes, which no file of weights does")
        if any(member.filename.endswith("/data.pkl") for member in members):
            return _torch_arrays(path)
        return {
            member.filename.removesuffix(".npy"): _numpy_array(archive, member.filename, path) for member in members
        }


def _numpy_array(archive: zipfile.ZipFile, name: str, path: Path) -> Tensor:
    with archive.open(name) as file:
        try:
            _check_size(file, archive.getinfo(name).file_size)
            array = np.lib.format.read_array(file, allow_pickle=False)
        except ValueError as error:
            raise UserError(f"{path}: {name} is no array: {' '.join(str(error).split())}") from None
    if array.dtype == np.dtype("V2"):  # how NumPy keeps the bfloat16 it does not know
        return torch.from_numpy(array.view(np.uint16).copy()).view(torch.bfloat16)
    if array.dtype.kind not in "fiu":
        raise UserError(f"{path}: {name} holds {array.dtype}, not numbers")
    return torch.from_numpy(np.ascontiguousarray(array).reshape(array.shape))


def _check_size(file: Any, size: int) -> None:
    """Refuses an array whose header promises more than follows; leaves the file at its start."""
    readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    version = np.lib.format.read_magic(file)
    if version not in readers:
        raise UserError(f"its form {version} is not known")
    shape, _, dtype = readers[version](file)
    if not dtype.hasobject and math.prod(shape) * dtype.itemsize > size:
        raise UserError(f"it promises {shape} numbers, and has {size} bytes")
    file.seek(0)


def _torch_arrays(path: Path) -> dict[str, Tensor]:
    """A PyTorch file: a dictionary of tensors, or one that has such a dictionary within."""
    with path.open("rb") as file:  # by a name, PyTorch would go by the name
        found: Any = torch.load(file, map_location="cpu", weights_only=True)
    for key in ("state_dict", "model", "teacher", "model_ema"):
        if isinstance(found, dict) and isinstance(found.get(key), dict):
            found = found[key]
    if not isinstance(found, dict) or not all(isinstance(value, Tensor) for value in found.values()):
        raise UserError(f"{path} holds other things than named tensors")
    return {str(name).removeprefix("module."): tensor for name, tensor in found.items()}


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object beside the weights, or an empty one where there is no such file."""
    if not path.is_file():
        return {}
    try:
        found = json.loads(path.read_text())
    except ValueError as error:
        raise UserError(f"{path} is not JSON: {error}") from None
    if not isinstance(found, dict):
        raise UserError(f"{path} is no JSON object")
    return found
