"""Imports point one way: a module knows only of those on levels below its own."""

import ast
import graphlib

import pytest

from contracts.project import PACKAGE, modules

LEVELS = (
    ("__init__", "__main__"),  # entry points, which no module imports
    ("cli", "sklearn"),  # what users call
    ("commands",),
    ("studies",),
    ("sweeps",),
    ("suites",),  # fine-tune with the recipes of the paper
    ("recipes",),
    ("train", "serve"),
    ("export",),  # an exported file is a model that serve takes
    ("runs",),  # keep what evaluators predicted and objectives drew
    ("evals", "objectives", "inspection", "weights"),
    ("models", "packing", "token_merging"),
    ("vit", "resnet"),
    ("compat",),
    ("vit_config",),
    ("layers", "card", "datasets"),
    ("data",),
    ("distributed", "config"),
    ("files", "device", "page"),
    ("errors",),
)
LEVEL = {name: level for level, names in enumerate(LEVELS) for name in names}
LATE = {"vitral.compat": {"vitral.weights", "vitral.inspection.cost"}}
"""The one exception: `model.save_pretrained` and its like are methods of models, and need what is built on models. They
import it when they are called, so that `vit.py` can be read and imported without it.
"""


def top_level(module: str) -> str:
    """`vitral.train.fit` is of `train`."""
    return module.split(".")[1]


def resolve(dotted: str) -> str:
    """The module that a dotted name of ours leads to: itself, its package, or the module it is defined in."""
    known = modules()
    for name in (dotted, f"{dotted}.__init__"):
        if name in known:
            return name
    return resolve(dotted.rpartition(".")[0])


def imported(module: str) -> set[str]:
    """The other modules of ours that `module` imports, anywhere in it."""
    found = set()
    for node in ast.walk(modules()[module]):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module} line {node.lineno}: write the import out from vitral"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        # the version alone is for all to read: it is set before anything is imported
        ours = [name for name in names if name.split(".")[0] == "vitral" and name != "vitral.__version__"]
        if is_late(module, node):
            continue
        found |= {resolve(name) for name in ours}
    return found - {module}


def is_late(module: str, node: ast.Import | ast.ImportFrom) -> bool:
    """Whether this is an import inside a function that `LATE` allows."""
    allowed = LATE.get(module, set())
    inside = node not in modules()[module].body
    return inside and isinstance(node, ast.ImportFrom) and any((node.module or "").startswith(name) for name in allowed)


def test_every_top_level_name_has_a_level() -> None:
    on_disk = {path.stem for path in PACKAGE.iterdir() if path.suffix == ".py" or any(path.glob("*.py"))}
    assert on_disk, "src/vitral is empty"
    assert on_disk <= set(LEVEL), f"give these a level in {__name__}: {sorted(on_disk - set(LEVEL))}"


@pytest.mark.parametrize("module", modules())
def test_imports_point_to_lower_levels(module: str) -> None:
    own = top_level(module)
    for target in imported(module):
        other = top_level(target)
        assert own == other or LEVEL[own] < LEVEL[other], f"{module} may not import {target}"


def test_no_import_goes_in_a_circle() -> None:
    try:
        graphlib.TopologicalSorter({module: imported(module) for module in modules()}).prepare()
    except graphlib.CycleError as error:
        pytest.fail(f"these import one another: {' -> '.join(error.args[1])}")
