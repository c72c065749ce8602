"""Files say nothing that holds for one machine only, and agree on the version."""

import ast
import re
import tomllib
from pathlib import Path

import pytest

from contracts.project import ROOT, modules, required_text, tracked_files

# spelt in pieces, so that this file does not hold what it looks for
REGISTRIES = tuple(
    ".".join(pieces)
    for pieces in (
        ("pypi", "org"),
        ("pythonhosted", "org"),
        ("download", "pytorch", "org"),
        ("npmjs", "org"),
        ("anaconda", "org"),
        ("debian", "org"),
    )
)
MACHINE_PATH = re.compile(r"(?<![\w.])/(work|root|home)/")


def test_git_keeps_files() -> None:
    assert tracked_files()


@pytest.mark.parametrize("path", tracked_files(), ids=lambda path: path.relative_to(ROOT).as_posix())
def test_file_fits_every_machine(path: Path) -> None:
    text = path.read_bytes().decode(errors="replace")
    named = [host for host in REGISTRIES if host in text]
    assert not named, f"{path.relative_to(ROOT)} names {named}: where packages come from is the reader's choice"
    match = MACHINE_PATH.search(text)
    assert match is None, f"{path.relative_to(ROOT)} names a folder of one machine: {match[0]}"


def test_lock_names_no_address() -> None:
    assert not re.search(r"\w+://|index-url|find-links", required_text("requirements.lock"))


def test_version_is_the_same_everywhere() -> None:
    project = tomllib.loads(required_text("pyproject.toml"))
    assert "version" in project["project"]["dynamic"]
    version = re.search(
        r'^__version__ = "(.+)"$', required_text(project["tool"]["hatch"]["version"]["path"]), re.MULTILINE
    )
    assert version, "src/vitral/__init__.py sets no __version__"
    newest = re.search(r"^## \[?v?(\d[\w.]*)", required_text("CHANGELOG.md"), re.MULTILINE)
    assert newest, "CHANGELOG.md has no heading such as ## 0.1.0"
    assert newest[1] == version[1]


@pytest.mark.parametrize("folder", ["src", "tests", "benchmarks"])
def test_every_module_says_what_it_is(folder: str) -> None:
    paths = sorted((ROOT / folder).rglob("*.py"))
    assert paths, f"there is no Python in {folder}/"
    silent = [path.relative_to(ROOT).as_posix() for path in paths if not ast.get_docstring(ast.parse(path.read_text()))]
    assert not silent, f"these begin without a docstring: {silent}"


def test_modules_are_found() -> None:
    assert "vitral.vit" in modules()
