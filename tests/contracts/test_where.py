"""CONTRIBUTING's table "Where does it go?": each folder exists, and each registry stands where the table says."""

import ast
import re

import pytest

from contracts.project import ROOT, modules, required_text

ROW = re.compile(r"^\| (?P<new>[a-z ]+) \| (?P<write>[^|]+) \| (?P<register>[^|]*) \|$", re.MULTILINE)


def rows() -> list[dict[str, str]]:
    """Rows of the table, without its head."""
    section = required_text("CONTRIBUTING.md").split("## Where does it go?")[1].split("\n## ")[0]
    return [match.groupdict() for match in ROW.finditer(section) if match["new"] != "new"]


def assigned_names(path: str) -> set[str]:
    """Names that a module of ours assigns at its top level."""
    tree = ast.parse((ROOT / path).read_text())
    targets = [node.target for node in tree.body if isinstance(node, ast.AnnAssign)]
    targets += [target for node in tree.body if isinstance(node, ast.Assign) for target in node.targets]
    return {target.id for target in targets if isinstance(target, ast.Name)}


def test_the_table_covers_what_grows() -> None:
    assert {row["new"] for row in rows()} >= {
        "position embedding",
        "data set",
        "objective",
        "evaluator",
        "recipe",
        "command",
        "checkpoint lineage",
        "optimiser",
        "tracker",
        "export backend",
    }


@pytest.mark.parametrize("row", rows(), ids=lambda row: row["new"])
def test_each_place_exists(row: dict[str, str]) -> None:
    for path in re.findall(r"`([\w/.]+/)`", row["write"]):
        assert (ROOT / path).is_dir(), f"{row['new']}: there is no {path}"
    if row["register"].strip():
        match = re.match(r"`(\w+)` in `([\w/.]+\.py)`", row["register"])
        assert match, f"{row['new']}: name the registry and its file"
        name, path = match.groups()
        assert (ROOT / path).is_file(), f"{row['new']}: there is no {path}"
        assert name in assigned_names(path), f"{row['new']}: {path} has no {name}"


@pytest.mark.parametrize(
    ("folder", "registry"),
    [
        ("layers.positions", "vitral.layers.positions.__init__"),
        ("weights.lineages", "vitral.weights.lineages.registry"),
        ("objectives", "vitral.objectives.registry"),
        ("train.optimisers", "vitral.train.optimisers.optimiser"),
    ],
)
def test_a_registry_imports_from_its_folder(folder: str, registry: str) -> None:
    """What the table calls a registry line is one: the registry's module names modules of the folder."""
    imported = {node.module for node in ast.walk(modules()[registry]) if isinstance(node, ast.ImportFrom)}
    assert any(name and name.startswith(f"vitral.{folder}.") for name in imported), f"{registry} imports none"
