"""The files of the page, and its modules joined into one script."""

import re
from graphlib import TopologicalSorter
from pathlib import Path

from jinja2 import Environment, FileSystemLoader

__all__ = ["STATIC", "bundle", "render"]

STATIC = Path(__file__).parent / "static"
"""The folder of style, icon and scripts."""

IMPORT = re.compile(r'^import (\{[^}]*\}) from "\./([a-z]+)\.js";$', re.MULTILINE)
EXPORT = re.compile(r"^export (?=(?:async function|function|class|const) (\w+))", re.MULTILINE)


def bundle(entry: str) -> str:
    """One script of a module and of all that it imports. A page that is a file cannot import other files.

    Each module becomes a function that returns what it exports, so that equal names in two modules do not meet.

    Args:
        entry: name of the module, such as `file`.
    """
    sources, waiting = {}, [entry]
    while waiting:
        name = waiting.pop()
        if name not in sources:
            sources[name] = (STATIC / f"{name}.js").read_text(encoding="utf-8")
            waiting += [imported for _, imported in IMPORT.findall(sources[name])]
    order = TopologicalSorter({name: [other for _, other in IMPORT.findall(text)] for name, text in sources.items()})
    return "\n".join(_as_function(name, sources[name]) for name in order.static_order())


def render(**values: object) -> str:
    """The page's HTML.

    Args:
        values: variables of `page.html`; `service` says for which of the two it is.
    """
    environment = Environment(
        loader=FileSystemLoader(STATIC.parent), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    return environment.get_template("page.html").render(**values)


def _as_function(name: str, source: str) -> str:
    exported = ", ".join(EXPORT.findall(source))
    body = EXPORT.sub("", IMPORT.sub(r"const \1 = $\2;", source))
    return f'const ${name} = (() => {{\n"use strict";\n{body}\nreturn {{ {exported} }};\n}})();'
