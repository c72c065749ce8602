"""ONNX Runtime for browsers, which a page contains: from a folder, from the user's cache folder, or from npm."""

import os
import shutil
import subprocess
import tarfile
from dataclasses import dataclass
from hashlib import sha512
from pathlib import Path
from tempfile import TemporaryDirectory

from vitral.errors import UserError
from vitral.files import cache_folder, write_atomically

__all__ = ["VARIABLE", "Runtime", "load_runtime", "runtime_name"]

PACKAGE, VERSION = "onnxruntime-web", "1.30.0"

MODULE, WASM = "ort.wasm.bundle.min.mjs", "ort-wasm-simd-threaded.wasm"

SHA512 = {
    MODULE: "d4a705f0258065eaad4dcbcb80a3ed38c5c86e459e87ef8b0c24290e14390115"
    "711c02f554d2f9aebd0e23e3314db98d200365744fc0feaf8ee2048a81232359",
    WASM: "1adeded62203219fcf5c484cfce5657aa5875689b490423f86cf1ca1dd1cad77"
    "15f630c6337f41db71ee42794e3a00ce0b7c78939a71220b5d83368bf6ea7730",
}
"""Of the two files of the package that a page contains, in hexadecimal."""

VARIABLE = "VITRAL_ONNXRUNTIME_WEB"
"""Environment variable with a folder that holds the package."""

HOW = f"run npm pack {PACKAGE}@{VERSION} on a machine that can, unpack it here, and name the folder with --runtime"

SECONDS = 600
"""Time that npm may take: the package has 33 MB."""


@dataclass(frozen=True, kw_only=True)
class Runtime:
    """The two files of ONNX Runtime that a page contains, as they were published."""

    module: bytes
    """An ES module."""
    wasm: bytes
    """The WebAssembly that it runs."""


def runtime_name() -> str:
    """Name, version and licence, for people."""
    return f"{PACKAGE} {VERSION} (MIT licence)"


def load_runtime(folder: Path | None = None) -> Runtime:
    """The runtime; npm gets it once, and the cache folder keeps it.

    Args:
        folder: where the package was unpacked; None: VITRAL_ONNXRUNTIME_WEB, else the cache folder, else npm.

    Raises:
        UserError: the folder does not hold it, npm is missing or fails, or a file has another hash.
    """
    if folder is None and (variable := os.environ.get(VARIABLE)):
        folder = Path(variable).expanduser()
    if folder is not None:
        return _from_folder(folder)
    cached = cache_folder() / f"{PACKAGE}-{VERSION}"
    try:
        return _read(cached)
    except (OSError, UserError):
        pass  # never fetched, or damaged since
    runtime = _from_npm()
    try:
        cached.mkdir(parents=True, exist_ok=True)
        for name, content in ((MODULE, runtime.module), (WASM, runtime.wasm)):
            write_atomically(cached / name, lambda file, content=content: file.write(content))
    except OSError:
        pass  # without a cache, the next export asks npm again
    return runtime


def _from_folder(folder: Path) -> Runtime:
    places = [folder / inner for inner in ("", "dist", "package/dist", f"node_modules/{PACKAGE}/dist")]
    place = next((place for place in places if (place / MODULE).is_file() and (place / WASM).is_file()), None)
    if place is None:
        raise UserError(f"{folder} does not hold {MODULE} and {WASM}: {HOW}")
    return _read(place)


def _read(folder: Path) -> Runtime:
    """Reads and checks both files."""
    contents = {name: (folder / name).read_bytes() for name in SHA512}
    for name, content in contents.items():
        if sha512(content).hexdigest() != SHA512[name]:
            raise UserError(f"{folder / name} is not the file of {PACKAGE} {VERSION}, by its SHA-512: {HOW}")
    return Runtime(module=contents[MODULE], wasm=contents[WASM])


def _from_npm() -> Runtime:
    npm = shutil.which("npm")
    if npm is None:
        raise UserError(f"a page contains {PACKAGE}, which npm downloads, and there is no npm here: {HOW}")
    with TemporaryDirectory() as name:
        folder = Path(name)
        try:
            done = subprocess.run(
                [npm, "pack", "--loglevel=error", f"{PACKAGE}@{VERSION}"],
                cwd=folder,
                capture_output=True,
                text=True,
                timeout=SECONDS,
            )
        except subprocess.TimeoutExpired:
            raise UserError(
                f"npm did not download {PACKAGE} within {SECONDS // 60} minutes: try again, or {HOW}"
            ) from None
        archive = next(folder.glob("*.tgz"), None)
        if done.returncode or archive is None:
            raise UserError(f"npm cannot download {PACKAGE} {VERSION}: {_reason(done.stderr)}; try again, or {HOW}")
        try:
            _unpack(archive, folder)
        except (tarfile.TarError, EOFError, KeyError, OSError):
            raise UserError(f"the package {PACKAGE} that npm downloaded is damaged: try again, or {HOW}") from None
        return _read(folder)


def _unpack(archive: Path, folder: Path) -> None:
    """Writes the two files, under names of ours: nothing else of the archive is trusted."""
    with tarfile.open(archive) as package:
        for name in SHA512:
            stream = package.extractfile(f"package/dist/{name}")
            assert stream is not None
            (folder / name).write_bytes(stream.read())


def _reason(text: str) -> str:
    lines = [line.removeprefix("npm error").removeprefix("npm ERR!").strip() for line in text.splitlines()]
    wordy = [line for line in lines if " " in line and not line.startswith(("code", "A complete log"))]
    return (wordy or ["it gives no reason"])[0][:200].rstrip(".")
