"""Machine code in a .pt2 file: AOTInductor compiles the graph for this machine's kind of CPU."""

import platform
import re
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory, gettempdir
from zipfile import BadZipFile, ZipFile

import torch
from torch import Tensor
from torch.export import ExportedProgram

from vitral.errors import UserError
from vitral.export.metadata import ExportMetadata, Target
from vitral.export.quiet import quiet

__all__ = ["check_compiler", "compile_graph", "holds_machine_code", "read_aot", "this_machine", "write_aot"]

CODE, EXTRA = "data/aotinductor/", "extra/"
"""Folders of the archive: machine code, and the metadata."""

INSTRUCTIONS = re.compile(r"\b(?:sse|ssse|avx|fma|f16c|bmi|amx|sha|sve|bf16|i8mm|asimd)\w*")
"""Names of instruction sets that a compiler chooses from, among all that Linux says of a CPU."""


def this_machine() -> Target:
    """What machine code compiled here needs."""
    file = Path("/proc/cpuinfo")
    found = re.search(r"^(?:flags|Features)\s*:(.*)$", file.read_text(), re.MULTILINE) if file.is_file() else None
    instructions = tuple(sorted(set(INSTRUCTIONS.findall(found[1])))) if found else ()
    return Target(torch=torch.__version__.partition("+")[0], machine=platform.machine(), instructions=instructions)


def check_compiler() -> None:
    """Checks that there is a C++ compiler.

    Raises:
        UserError: there is none.
    """
    from torch._inductor.cpp_builder import get_cpp_compiler

    try:
        get_cpp_compiler()
    except RuntimeError as error:
        raise UserError(
            "--aot needs a C++ compiler, and there is none: install g++, name one in the environment variable CXX, or "
            "leave out --aot"
        ) from error


def compile_graph(program: ExportedProgram) -> bytes:
    """The archive with a graph's machine code.

    Raises:
        UserError: the compiler fails, or the folder of temporary files is full.
    """
    from torch._inductor import aoti_compile_and_package
    from torch._inductor.utils import fresh_cache

    with TemporaryDirectory() as folder, quiet(), fresh_cache(dir=folder), torch.no_grad():
        path = str(Path(folder) / "model.pt2")
        try:
            # by default the code has as many threads as this machine
            aoti_compile_and_package(program, package_path=path, inductor_configs={"cpp.dynamic_threads": True})
        except RuntimeError as error:
            if "[Errno" in _reason(error):
                raise UserError(
                    f"AOTInductor cannot write into {gettempdir()} ({_reason(error)}): free some space there, or set "
                    "TMPDIR to another folder"
                ) from error
            raise UserError(f"AOTInductor cannot compile this model: {_reason(error)}; leave out --aot") from error
        return Path(path).read_bytes()


def write_aot(archive: bytes, metadata: ExportMetadata) -> bytes:
    """The content of a .pt2 file: the archive with its metadata, where `torch.export` keeps it too."""
    stream = BytesIO(archive)
    with ZipFile(stream, "a") as file:
        root = file.namelist()[0].partition("/")[0]
        for name, text in metadata.to_strings().items():
            file.writestr(f"{root}/{EXTRA}{name}", text)
    return stream.getvalue()


def holds_machine_code(content: bytes) -> bool:
    """Whether a .pt2 file was compiled."""
    try:
        with ZipFile(BytesIO(content)) as file:
            return any(f"/{CODE}" in name for name in file.namelist())
    except BadZipFile:
        return False


def read_aot(content: bytes, path: Path) -> tuple[Callable[[Tensor], Tensor], ExportMetadata]:
    """The function that a compiled .pt2 file computes, and its metadata.

    Args:
        content: of the file.
        path: its name in errors.

    Raises:
        UserError: the file is damaged, not Vitral's, or compiled for another machine.
    """
    from torch._inductor import aoti_load_package

    metadata = ExportMetadata.from_strings(_strings(content, path), origin=str(path))
    _check_target(metadata.compiled_for, path)
    with TemporaryDirectory() as folder, quiet():
        copy = Path(folder) / "model.pt2"  # the bytes that were checked, whatever happens to the file
        copy.write_bytes(content)
        try:
            compiled = aoti_load_package(copy)
        except RuntimeError as error:
            raise UserError(f"{path} cannot be read by AOTInductor: {_reason(error)}") from error

    def compute(images: Tensor) -> Tensor:
        return compiled(images)

    return compute, metadata


def _strings(content: bytes, path: Path) -> dict[str, str]:
    try:
        with ZipFile(BytesIO(content)) as file:
            names = {name.partition(f"/{EXTRA}")[2]: name for name in file.namelist() if f"/{EXTRA}" in name}
            return {short: file.read(name).decode() for short, name in names.items()}
    except (BadZipFile, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read by AOTInductor: its metadata are damaged") from error


def _check_target(target: Target | None, path: Path) -> None:
    """Code for another CPU would end the process without an error."""
    if target is None:
        raise UserError(f"{path} was not written by vitral export: it does not say which machine it was compiled for")
    here = this_machine()
    if target.torch != here.torch:
        difference = f"PyTorch {target.torch}, and this is {here.torch}"
    elif target.machine != here.machine:
        difference = f"{target.machine}, and this machine is {here.machine}"
    elif missing := [name for name in target.instructions if name not in here.instructions]:
        difference = f"a CPU with {', '.join(missing)}, which this one lacks"
    else:
        return
    raise UserError(f"{path} was compiled for {difference}: export it here with --aot, or without")


def _reason(error: RuntimeError) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
