"""PyTorch's own files (.pt2): a graph of `torch.export`, or its machine code."""

from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from zipfile import is_zipfile

import torch
from torch import Tensor
from torch.export import ExportedProgram

from vitral.errors import UserError
from vitral.export.aot_file import compile_graph, holds_machine_code, read_aot, write_aot
from vitral.export.metadata import ExportMetadata
from vitral.export.quiet import quiet
from vitral.export.trust import check_trusted, remember

__all__ = ["convert_torch", "read_torch", "write_torch"]


def convert_torch(program: ExportedProgram, metadata: ExportMetadata, *_: object) -> ExportedProgram | bytes:
    """What `write_torch` writes: the graph, or its machine code if the metadata name a machine.

    Raises:
        UserError: the compiler fails.
    """
    return program if metadata.compiled_for is None else compile_graph(program)


def write_torch(artefact: ExportedProgram | bytes, metadata: ExportMetadata) -> bytes:
    """The content of a .pt2 file."""
    if isinstance(artefact, bytes):
        content = write_aot(artefact, metadata)
    else:
        stream = BytesIO()
        torch.export.save(artefact, stream, extra_files=metadata.to_strings())
        content = stream.getvalue()
    remember(content)
    return content


def read_torch(path: Path) -> tuple[Callable[[Tensor], Tensor], ExportMetadata]:
    """The function that a .pt2 file computes, on the CPU, and its metadata.

    Raises:
        UserError: the file is damaged or not Vitral's, it was exported elsewhere and is not trusted, or it was compiled
            for another machine.
    """
    content = path.read_bytes()
    if not is_zipfile(BytesIO(content)):
        raise UserError(f"{path} cannot be read by torch.export: it is no archive, or a part is missing")
    check_trusted(content, path)
    if holds_machine_code(content):
        return read_aot(content, path)
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
