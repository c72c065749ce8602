"""The project as the contracts see it: its files, and the syntax trees of its modules."""

import ast
import subprocess
from functools import cache
from pathlib import Path

__all__ = ["PACKAGE", "ROOT", "modules", "required_text", "tracked_files"]

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "src" / "vitral"


@cache
def modules() -> dict[str, ast.Module]:
    """Syntax tree of every module on disk by dotted name; a package goes by the name of its `__init__`."""
    trees = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        name = ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts)
        trees[name] = ast.parse(path.read_text(), filename=str(path))
    return trees


@cache
def tracked_files() -> tuple[Path, ...]:
    """Every file that git keeps."""
    listing = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return tuple(ROOT / name for name in listing.split("\0") if name and (ROOT / name).is_file())


def required_text(name: str) -> str:
    """Content of a file of the root that the project promises to have."""
    path = ROOT / name
    assert path.is_file(), f"the project has no {name}"
    return path.read_text()
