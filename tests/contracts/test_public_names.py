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


def public_names(module: str) -> set[str]:
    """`__all__` of a module of ours, read from its syntax tree."""
    for node in modules()[module].body:
        if isinstance(node, ast.Assign) and any(getattr(target, "id", "") == "__all__" for target in node.targets):
            return set(ast.literal_eval(node.value))
    return set()


@pytest.mark.parametrize("name", modules())
def test_imports_are_of_public_names(name: str) -> None:
    """A module imports of another only what that offers in `__all__`, or a module."""
    for node in ast.walk(modules()[name]):
        if not isinstance(node, ast.ImportFrom) or (node.module or "").split(".")[0] != "vitral":
            continue
        known = modules()
        source = node.module if node.module in known else f"{node.module}.__init__"
        for alias in node.names:
            whole = f"{node.module}.{alias.name}"
            if whole in known or f"{whole}.__init__" in known or alias.name == "__version__":
                continue
            assert alias.name in public_names(source), f"{name} imports {alias.name}, which {source} does not offer"
