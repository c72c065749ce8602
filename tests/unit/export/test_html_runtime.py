"""Where the runtime of a page comes from, without npm's registry."""

import io
import tarfile
from hashlib import sha512
from pathlib import Path

import pytest

from vitral.errors import UserError
from vitral.export import html_runtime
from vitral.export.html_runtime import MODULE, VARIABLE, WASM, load_runtime

FILES = {MODULE: b"export const answer = 42;", WASM: b"\0asm"}


@pytest.fixture(autouse=True)
def small_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package of two small files, an empty cache folder, and no npm."""
    monkeypatch.setattr(html_runtime, "SHA512", {name: sha512(content).hexdigest() for name, content in FILES.items()})
    monkeypatch.setenv("VITRAL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.delenv(VARIABLE, raising=False)


def unpack(folder: Path, **changes: bytes) -> Path:
    folder.mkdir(parents=True)
    for name, content in FILES.items():
        (folder / name).write_bytes(changes.get(name, content))
    return folder


def write_npm(tmp_path: Path, script: str) -> None:
    npm = tmp_path / "bin" / "npm"
    npm.parent.mkdir(exist_ok=True)
    npm.write_text(f"#!/bin/sh\nPATH=/usr/bin:/bin\n{script}\n")
    npm.chmod(0o755)


def archive(path: Path, **changes: bytes) -> Path:
    with tarfile.open(path, "w:gz") as package:
        for name, content in FILES.items():
            entry = tarfile.TarInfo(f"package/dist/{name}")
            content = changes.get(name, content)
            entry.size = len(content)
            package.addfile(entry, io.BytesIO(content))
    return path


@pytest.mark.parametrize("inner", ["", "dist", "package/dist", "node_modules/onnxruntime-web/dist"])
def test_a_folder_holds_it(inner: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    unpack(tmp_path / "there" / inner)
    assert load_runtime(tmp_path / "there").wasm == FILES[WASM]
    monkeypatch.setenv(VARIABLE, str(tmp_path / "there"))
    assert load_runtime().module == FILES[MODULE]


def test_a_folder_without_it_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=rf"{tmp_path} does not hold .*npm pack .*--runtime"):
        load_runtime(tmp_path)


def test_other_content_is_refused(tmp_path: Path) -> None:
    unpack(tmp_path / "there", **{WASM: b"\0asm of somebody else"})
    with pytest.raises(UserError, match=r"by its SHA-512"):
        load_runtime(tmp_path / "there")
    write_npm(tmp_path, f"cp {archive(tmp_path / 'a.tgz', **{WASM: b'other'})} onnxruntime-web.tgz")
    with pytest.raises(UserError, match=r"by its SHA-512"):
        load_runtime()
    assert not (tmp_path / "cache").exists()


def test_npm_downloads_it_once(tmp_path: Path) -> None:
    write_npm(tmp_path, f'echo "$@" >> {tmp_path}/calls; cp {archive(tmp_path / "a.tgz")} onnxruntime-web.tgz')
    assert load_runtime() == load_runtime()
    assert (tmp_path / "calls").read_text().splitlines() == ["pack --loglevel=error onnxruntime-web@1.30.0"]


def test_a_damaged_cache_is_downloaded_again(tmp_path: Path) -> None:
    cached = unpack(tmp_path / "cache" / "onnxruntime-web-1.30.0", **{MODULE: b"export"})
    write_npm(tmp_path, f"cp {archive(tmp_path / 'a.tgz')} onnxruntime-web.tgz")
    assert load_runtime().module == FILES[MODULE]
    assert (cached / MODULE).read_bytes() == FILES[MODULE]


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("", "there is no npm here"),
        ("echo 'npm error code E404' >&2; echo 'npm error 404 Not Found - GET' >&2; exit 1", "404 Not Found - GET;"),
        ("exit 1", "it gives no reason"),
        ("echo half > onnxruntime-web.tgz", "damaged"),
    ],
)
def test_without_npm_another_way_is_named(script: str, words: str, tmp_path: Path) -> None:
    if script:
        write_npm(tmp_path, script)
    with pytest.raises(UserError) as error:
        load_runtime()
    assert words in str(error.value)
    assert "npm pack onnxruntime-web@1.30.0" in str(error.value)
    assert "--runtime" in str(error.value)
