"""Reads named tensors from NumPy archives, safetensors and PyTorch files; the content decides which it is."""

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

__all__ = ["read_json", "read_tensors"]

LEGACY = b"\x80\x02\x8a\n"
"""First bytes of PyTorch files before version 1.6, which are not ZIP archives."""
MAX_RATIO, MIN_LIMIT = 50, 2**30
"""An archive may unpack to this many times its size, or to this many bytes if that is more."""


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Reads every tensor of a file by name, on the CPU and in the file's precision. Nothing is unpickled.

    Raises:
        UserError: the file is of an unknown kind, is damaged, unpacks to too many bytes, or contains other objects.
        OSError: the file cannot be read.
    """
    with path.open("rb") as file:
        start = file.read(16)
    try:
        if start.startswith(b"PK"):
            return _read_zip(path)
        if start.startswith(LEGACY):
            return _read_torch(path)
        if start[8:9] == b"{":
            return load_file(path)
    except (SafetensorError, zipfile.BadZipFile, pickle.UnpicklingError, EOFError, KeyError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"{path} is damaged, or not a checkpoint: {reason}") from None
    raise UserError(f"{path} is not a checkpoint: supported are .npz, .safetensors and PyTorch files")


def _read_zip(path: Path) -> dict[str, Tensor]:
    """Reads a NumPy archive, or a PyTorch file, which is a ZIP archive too."""
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        unpacked = sum(member.file_size for member in members)
        if unpacked > max(MAX_RATIO * path.stat().st_size, MIN_LIMIT):
            raise UserError(f"{path} would unpack to {unpacked:,} bytes, far more than a checkpoint of its size")
        if any(member.filename.endswith("/data.pkl") for member in members):
            return _read_torch(path)
        return {member.filename.removesuffix(".npy"): _read_numpy(archive, member.filename, path) for member in members}


def _read_numpy(archive: zipfile.ZipFile, name: str, path: Path) -> Tensor:
    with archive.open(name) as file:
        try:
            _check_size(file, archive.getinfo(name).file_size)
            array = np.lib.format.read_array(file, allow_pickle=False)
        except ValueError as error:
            raise UserError(f"{path}: {name} is not an array: {' '.join(str(error).split())}") from None
    if array.dtype == np.dtype("V2"):  # NumPy has no bfloat16 and stores its raw bytes
        return torch.from_numpy(array.view(np.uint16).copy()).view(torch.bfloat16)
    if array.dtype.kind not in "fiu":
        raise UserError(f"{path}: {name} contains {array.dtype}, not numbers")
    return torch.from_numpy(np.ascontiguousarray(array).reshape(array.shape))


def _check_size(file: Any, size: int) -> None:
    """Refuses an array whose header declares more data than the file has; rewinds the file."""
    readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    version = np.lib.format.read_magic(file)
    if version not in readers:
        raise UserError(f"its format version {version} is not supported")
    shape, _, dtype = readers[version](file)
    if not dtype.hasobject and math.prod(shape) * dtype.itemsize > size:
        raise UserError(f"its header declares the shape {shape}, but it has only {size} bytes")
    file.seek(0)


def _read_torch(path: Path) -> dict[str, Tensor]:
    """Reads a PyTorch file: a dictionary of tensors, or a training checkpoint that contains one."""
    with path.open("rb") as file:  # given a path, PyTorch would choose the reader by its suffix
        content: Any = torch.load(file, map_location="cpu", weights_only=True)
    for key in ("state_dict", "model", "teacher", "model_ema"):
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    if not isinstance(content, dict) or not all(isinstance(value, Tensor) for value in content.values()):
        raise UserError(f"{path} contains objects other than named tensors")
    return {str(name).removeprefix("module."): tensor for name, tensor in content.items()}


def read_json(path: Path) -> dict[str, Any]:
    """Reads a JSON object; an empty one if the file does not exist."""
    if not path.is_file():
        return {}
    try:
        content = json.loads(path.read_text())
    except ValueError as error:
        raise UserError(f"{path} is not JSON: {error}") from None
    if not isinstance(content, dict):
        raise UserError(f"{path} is not a JSON object")
    return content
