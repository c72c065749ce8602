"""Reads named tensors from NumPy archives, safetensors and PyTorch files; the content decides which it is."""

import math
import re
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

from vitral import config
from vitral.errors import UserError, one_line, shortened, translate_parser_errors
from vitral.weights.settings import Settings, read_settings
from vitral.weights.torch_file import load_torch
from vitral.weights.torchscript import is_torchscript, read_torchscript
from vitral.weights.unsupported import unsupported_file
from vitral.weights.wrappers import find_state_dict

__all__ = ["TensorFile", "read_json", "read_tensor_file", "read_tensors"]

LEGACY = b"\x80\x02\x8a\n"
"""First bytes of PyTorch files before version 1.6, which are not ZIP archives."""
MAX_RATIO, MIN_LIMIT = 50, 2**30
"""An archive may unpack to this many times its size, or to this many bytes if that is more."""
MAX_HEADER = 100_000_000
"""Largest header of a safetensors file, in bytes."""
CUT = r"unexpected EOF|not fully covered|invalid header length|Ran out of input|was truncated|requires a buffer"
"""What the readers say of files that end too early."""


@dataclass(frozen=True, kw_only=True)
class TensorFile:
    """Content of a weights file."""

    tensors: dict[str, Tensor]
    """Tensors by name, on the CPU and in the file's precision."""
    notes: tuple[str, ...] = ()
    """What was chosen or left out in a training checkpoint, one sentence each."""
    upstream_config: dict[str, Any] = field(default_factory=dict)
    """What the code of a TorchScript file states of the configuration."""
    settings: Settings = field(default_factory=Settings)
    """What a training checkpoint states beside its tensors."""
    torchscript: bool = False
    """Whether the file computes with code of its own, which is not read."""


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Reads every tensor of a file by name; raises the same errors as `read_tensor_file`."""
    return read_tensor_file(path).tensors


def read_tensor_file(path: Path, *, checkpoint_key: str | None = None) -> TensorFile:
    """Reads a NumPy archive, a safetensors file, a PyTorch file or TorchScript. Nothing in it is executed.

    Args:
        path: the file.
        checkpoint_key: key of the state dict in a PyTorch file that holds several.

    Raises:
        UserError: the file is of an unknown kind, is damaged, unpacks to too many bytes, or contains other objects.
        OSError: the file cannot be read.
    """
    with path.open("rb") as file:
        start = file.read(512)
    with translate_parser_errors(lambda error: _damaged(path, start, error)):
        archive = _read_zip(path, checkpoint_key) if start.startswith(b"PK") else None
    if archive is not None:
        return archive
    if start.startswith((LEGACY, b"PK")):
        with translate_parser_errors(lambda error: _damaged(path, start, error)):
            content = load_torch(path)
        tensors, notes = find_state_dict(content, path, key=checkpoint_key)
        return TensorFile(tensors=tensors, notes=tuple(notes), settings=read_settings(content))
    if checkpoint_key is not None:
        raise UserError(f"{path} is no PyTorch file with keys: leave out --checkpoint-key")
    if start[8:9] == b"{" and int.from_bytes(start[:8], "little") <= MAX_HEADER:
        with translate_parser_errors(lambda error: _damaged(path, start, error)):
            return TensorFile(tensors=load_file(path))
    if not start:
        raise UserError(f"{path} is empty: download or copy it again")
    if (kind := unsupported_file(start)) is not None:
        raise UserError(f"{path} is not a checkpoint: it is {kind}")
    raise UserError(f"{path} is not a checkpoint: supported are .npz, .safetensors and PyTorch files")


def _damaged(path: Path, start: bytes, error: Exception) -> str:
    """The sentence on a file that a reader fails on."""
    if _is_cut(path, start, error):
        return f"{path} is damaged: its end is missing, so download or copy it again"
    said = str(error).rpartition("WeightsUnpickler error: ")[2]  # before it PyTorch advises unsafe loading
    return f"{path} is damaged, or not a checkpoint: {one_line(said) or type(error).__name__}"


def _is_cut(path: Path, start: bytes, error: BaseException) -> bool:
    """Whether a file ends too early, as after an interrupted download: a ZIP archive has its index at the end."""
    if start.startswith(b"PK"):
        return not zipfile.is_zipfile(path)
    return isinstance(error, EOFError) or re.search(CUT, str(error)) is not None


def _read_zip(path: Path, checkpoint_key: str | None) -> TensorFile | None:
    """Reads a NumPy archive or TorchScript; None for a PyTorch file, which is a ZIP archive too."""
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        unpacked = sum(member.file_size for member in members)
        if unpacked > max(MAX_RATIO * path.stat().st_size, MIN_LIMIT):
            raise UserError(f"{path} would unpack to {unpacked:,} bytes, far more than a checkpoint of its size")
        torch_file = any(member.filename.endswith("/data.pkl") for member in members)
        if torch_file and not is_torchscript(archive):
            return None
        if checkpoint_key is not None:
            raise UserError(f"{path} has no keys of state dicts: leave out --checkpoint-key")
        if torch_file:
            tensors, quick_gelu = read_torchscript(archive, path)
            stated = {"model_cfg": {"quick_gelu": True}} if quick_gelu else {}
            return TensorFile(tensors=tensors, upstream_config=stated, torchscript=True)
        if members and not any(member.filename.endswith(".npy") for member in members):
            raise UserError(f"{path} is not a checkpoint: it is a ZIP archive without arrays; unpack it")
        return TensorFile(
            tensors={
                member.filename.removesuffix(".npy"): _read_numpy(archive, member.filename, path) for member in members
            }
        )


def _read_numpy(archive: zipfile.ZipFile, name: str, path: Path) -> Tensor:
    with (
        translate_parser_errors(
            lambda error: f"{path}: {shortened(name)} is not an array, or damaged: {one_line(error)}"
        ),
        archive.open(name) as file,
    ):
        with translate_parser_errors(lambda _: f"{path}: {shortened(name)} is not an array, or its header is damaged"):
            shape, dtype = _read_header(file)
        size = archive.getinfo(name).file_size
        if not dtype.hasobject and math.prod(shape) * dtype.itemsize > size:
            raise ValueError(f"its header declares the shape {shape}, but it has only {size} bytes")
        file.seek(0)
        array = np.lib.format.read_array(file, allow_pickle=False)
    if array.dtype == np.dtype("V2"):  # NumPy has no bfloat16 and stores its raw bytes
        return torch.from_numpy(array.view(np.uint16).copy()).view(torch.bfloat16)
    if array.dtype.kind not in "fiu":
        raise UserError(f"{path}: {shortened(name)} contains {array.dtype}, not numbers")
    native = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("="))
    return torch.from_numpy(native.reshape(array.shape))


def _read_header(file: Any) -> tuple[tuple[int, ...], np.dtype]:
    readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    shape, _, dtype = readers[np.lib.format.read_magic(file)](file)
    return shape, dtype


def read_json(path: Path) -> dict[str, Any]:
    """Reads a JSON object; an empty one if the file does not exist."""
    if not path.is_file():
        return {}
    content = config.read_json(path)
    if not isinstance(content, dict):
        raise UserError(f"{path} is not a JSON object")
    return content
