"""PyTorch's own files (.pt2): written and read by `torch.export`."""

from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from zipfile import is_zipfile

import torch
from torch import Tensor
from torch.export import ExportedProgram

from vitral.errors import UserError
from vitral.export.metadata import ExportMetadata
from vitral.export.quiet import quiet
from vitral.export.trust import check_trusted, remember

__all__ = ["read_torch", "write_torch"]


def write_torch(program: ExportedProgram, metadata: ExportMetadata) -> bytes:
    """The content of a .pt2 file."""
    stream = BytesIO()
    torch.export.save(program, stream, extra_files=metadata.to_strings())
    content = stream.getvalue()
    remember(content)
    return content


def read_torch(path: Path) -> tuple[Callable[[Tensor], Tensor], ExportMetadata]:
    """The function that a .pt2 file computes, on the CPU, and its metadata.

    Raises:
        UserError: the file is damaged or not Vitral's, or it was exported elsewhere and is not trusted.
    """
    content = path.read_bytes()
    if not is_zipfile(BytesIO(content)):
        raise UserError(f"{path} cannot be read by torch.export: it is no archive, or a part is missing")
    check_trusted(content, path)
    names = dict.fromkeys(ExportMetadata.names(), "")
    try:
        with quiet():
            # the guards of a hybrid's graph hold for the example's batch of two, and its graph for every batch
            module = torch.export.load(BytesIO(content), extra_files=names).module(check_guards=False)
    except Exception as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        raise UserError(f"{path} cannot be read by torch.export: {reason}") from error
    found = {name: text for name, text in names.items() if text}
    metadata = ExportMetadata.from_strings(found, origin=str(path))

    def compute(images: Tensor) -> Tensor:
        return module(images)

    return compute, metadata
