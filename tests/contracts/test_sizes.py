"""Code stays small enough to be read: limits on modules, functions, constructors and nesting."""

import ast
from collections.abc import Iterator

import pytest

from contracts.project import PACKAGE, ROOT, modules

MODULE_LINES, VIT_LINES = 400, 300
FUNCTION_LINES = 60
CONSTRUCTOR_ARGUMENTS = 10
NESTING = 4

CONTROL = (ast.If, ast.For, ast.While, ast.With, ast.Try, ast.Match)
FUNCTION = (ast.FunctionDef, ast.AsyncFunctionDef)


def functions(module: str) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    """Every function of a module, methods and inner ones too."""
    return (node for node in ast.walk(modules()[module]) if isinstance(node, FUNCTION))


def nesting(node: ast.AST) -> int:
    """Levels of control flow below `node`; `elif` opens none, an inner function counts for itself."""
    depths = [0]
    for child in ast.iter_child_nodes(node):
        if isinstance(child, FUNCTION):
            continue
        is_elif = isinstance(node, ast.If) and isinstance(child, ast.If) and node.orelse == [child]
        depths.append(nesting(child) + (isinstance(child, CONTROL) and not is_elif))
    return max(depths)


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_module_is_short(path) -> None:
    limit = VIT_LINES if path == PACKAGE / "vit.py" else MODULE_LINES
    lines = len(path.read_text().splitlines())
    assert lines <= limit, f"{path.relative_to(ROOT)} has {lines} lines; {limit} is the limit"


@pytest.mark.parametrize("module", modules())
def test_functions_are_short(module: str) -> None:
    for function in functions(module):
        where = f"{module}.{function.name}"
        assert function.end_lineno is not None
        lines = function.end_lineno - function.lineno + 1
        assert lines <= FUNCTION_LINES, f"{where} has {lines} lines; {FUNCTION_LINES} is the limit"
        depth = nesting(function)
        assert depth <= NESTING, f"{where} nests {depth} levels of control flow; {NESTING} is the limit"


@pytest.mark.parametrize("module", modules())
def test_constructors_take_few_arguments(module: str) -> None:
    for function in functions(module):
        if function.name == "__init__":
            taken = function.args
            count = len(taken.posonlyargs + taken.args + taken.kwonlyargs) - 1
            assert count <= CONSTRUCTOR_ARGUMENTS, f"{module} line {function.lineno}: {count} arguments"


def test_nesting_is_counted() -> None:
    source = (
        "def f():\n if a:\n  pass\n elif b:\n  for c in d:\n   with e: pass\n else:\n  def g():\n   while h: pass\n"
    )
    assert nesting(ast.parse(source).body[0]) == 3
