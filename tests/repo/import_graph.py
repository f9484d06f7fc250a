"""The import graph of the packages, type-checking and late imports included, and its floors.

Run as a program it prints the floors of every package: `python tests/repo/import_graph.py`.
"""

from __future__ import annotations

import ast
import graphlib
from collections.abc import Iterable, Mapping
from pathlib import Path

ROOT = Path(__file__).parents[2]
SOURCES = (ROOT / "src", *sorted((ROOT / "plugins").glob("*/src")))

Graph = dict[str, set[str]]
"""Each node with the nodes that it imports."""


def modules() -> dict[str, Path]:
    """Return every module of `src/` and `plugins/` with its file."""
    found: dict[str, Path] = {}
    for source in SOURCES:
        for path in sorted(source.rglob("*.py")):
            parts = path.relative_to(source).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def import_graph() -> Graph:
    """Return each module with the modules of the project that it imports, wherever in its text."""
    known = modules()
    return {name: _imports(name, path, known) - {name} for name, path in known.items()}


def _imports(name: str, path: Path, known: Mapping[str, Path]) -> set[str]:
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names if alias.name in known)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*above, *([node.module] if node.module else [])])
            for alias in node.names:
                dotted = f"{base}.{alias.name}"
                found.update(target for target in (dotted, base) if target in known)
                if dotted in known:
                    found.discard(base)
    return found


def folded(graph: Graph, names: Mapping[str, str]) -> Graph:
    """Return the graph of groups of modules, such as folders: `names` tells each module's group."""
    groups: Graph = {}
    for module, imported in graph.items():
        group = groups.setdefault(names[module], set())
        group.update(names[target] for target in imported if target in names)
        group.discard(names[module])
    return groups


def circle_in(graph: Graph) -> list[str]:
    """Return the nodes of one circle, the first again at the end; empty where there is none."""
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as err:
        circle: list[str] = err.args[1]
        return circle[::-1]
    return []


def floors(graph: Graph) -> list[list[str]]:
    """Return the nodes by floor, the lowest first; a node imports from lower floors only."""
    sorter = graphlib.TopologicalSorter(graph)
    sorter.prepare()
    found: list[list[str]] = []
    while sorter.is_active():
        ready = sorted(sorter.get_ready())
        found.append(ready)
        sorter.done(*ready)
    return found


def inside(graph: Graph, package: str) -> Graph:
    """Return the part of the graph that lies in one package, without the package's door."""
    within = {name for name in graph if name.startswith(f"{package}.")}
    return {name: graph[name] & within for name in within}


def packages() -> list[str]:
    """Return the packages that stand directly in `inngest_plugins`."""
    return sorted({".".join(name.split(".")[:2]) for name in modules() if name.count(".") >= 1})


def folder_of(package: str, module: str) -> str:
    """Return the folder in which a module of a package stands, by its first name, or the module."""
    return module.removeprefix(f"{package}.").split(".")[0]


def printed(levels: Iterable[Iterable[str]]) -> str:
    """Return floors as text, the highest first."""
    return "\n".join(
        "   " + "  ".join(level) for level in reversed([list(each) for each in levels])
    )


if __name__ == "__main__":
    whole = import_graph()
    for package in packages():
        part = inside(whole, package)
        print(package)
        print(printed(floors(folded(part, {name: folder_of(package, name) for name in part}))))
