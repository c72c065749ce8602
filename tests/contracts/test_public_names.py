"""`__all__` says what a module offers; that it is sorted, ruff checks (RUF022)."""

import ast
import importlib

import pytest

from contracts.project import modules


def is_documentation_alone(tree: ast.Module) -> bool:
    """Whether a module holds nothing but its docstring."""
    return len(tree.body) <= 1


PUBLIC = [
    name
    for name, tree in modules().items()
    if not (name.endswith(".__init__") and is_documentation_alone(tree))
    and not name.removesuffix(".__init__").rpartition(".")[2].startswith("_")
]


@pytest.mark.parametrize("name", PUBLIC)
def test_public_names_exist(name: str) -> None:
    module = importlib.import_module(name.removesuffix(".__init__"))
    assert hasattr(module, "__all__"), f"{name} has no __all__"
    names = list(module.__all__)
    assert len(set(names)) == len(names), f"{name} lists a name twice"
    missing = [public for public in names if not hasattr(module, public)]
    assert not missing, f"{name} has no {missing}"
