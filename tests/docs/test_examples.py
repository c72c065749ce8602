"""Every Python example of README.md and docs/ runs as it stands."""

import re
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

from forks import start
from vitral.cli import main

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks(page: Path) -> list[str]:
    """The Python examples of a page, in order; they share their names, as a reader would type them."""
    return re.findall(r"^```python\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, photographs: Path) -> Path:
    """A folder with what the pages speak of: runs/demo, runs/photos, B_16.npz, photos.onnx, photos.xml, photographs."""
    folder = tmp_path_factory.mktemp("place")
    files = sorted(photographs.rglob("*.jpg"))
    for name in ("new-photos/cat.jpg", "holiday/one.jpg", "holiday/two.jpg"):
        (folder / name).parent.mkdir(exist_ok=True)
        shutil.copy(files.pop(), folder / name)
    tiny = ["--model.depth", "1", "--train.steps", "1", "--data.workers", "0"]
    main(["train", "digits", "--out", str(folder / "runs/demo"), *tiny])
    main(["train", "folder", "--data.root", str(photographs), "--out", str(folder / "runs/photos"), *tiny])
    main(["convert", str(folder / "runs/photos"), str(folder / "B_16.npz"), "--to", "google"])
    # in a process of its own: the shape checks take no symbolic lengths
    for name in ("photos.onnx", "photos.xml"):
        process = start("export", "runs/photos", name, "--with-preprocessing", "--tolerance", "0", cwd=folder)
        errors = process.ended()
        assert process.returncode == 0, errors
    return folder


def test_pages_have_examples() -> None:
    assert {page.name for page in PAGES if blocks(page)} >= {"README.md", "index.md", "vit-in-ten-minutes.md"}


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page)], ids=lambda page: page.name)
def test_examples_run(page: Path, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)
    monkeypatch.setitem(sys.modules, "openvino_telemetry", None)  # through which OpenVINO reports its import
    names: dict[str, Any] = {}
    for block in blocks(page):
        exec(compile(block, f"{page.name}: {block.splitlines()[0]}", "exec"), names)
