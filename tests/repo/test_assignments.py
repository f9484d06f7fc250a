"""Nothing outside of the core's door to the SDK assigns to an attribute of one of its objects."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator
from pathlib import Path

import inngest
import pytest

from .import_graph import ROOT, modules

DOOR = "inngest_plugins.core.sdk"

OBJECTS = frozenset(
    {
        "client",
        "ctx",
        "execution",
        "function",
        "info",
        "inngest",
        "interrupt",
        "manager",
        "middleware",
        "output",
        "response",
        "step_info",
        "tools",
    }
)
"""What the project's modules call the SDK's objects."""

TOOLS = frozenset(
    name
    for kind in (inngest.Step, inngest.StepSync, inngest.Inngest)
    for name, _ in inspect.getmembers(kind, callable)
    if not name.startswith("_")
)
"""The methods by which a function talks to the engine."""


def assignments(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Every assignment to an attribute of what may be one of the SDK's objects."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, (ast.Store, ast.Del)):
            base = ast.unparse(node.value).rpartition(".")[2].lstrip("_")
            if base in OBJECTS or (base not in ("self", "cls") and node.attr in TOOLS):
                yield node.lineno, ast.unparse(node)
        elif isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            if name in ("setattr", "delattr", "object.__setattr__"):
                base = ast.unparse(node.args[0]).rpartition(".")[2].lstrip("_")
                if base in OBJECTS | {"module", "step"}:
                    yield node.lineno, ast.unparse(node)


@pytest.mark.parametrize("module", [name for name in modules() if not name.startswith(DOOR)])
def test_only_the_door_assigns_to_the_sdks_objects(module: str) -> None:
    """What the function has is what the SDK gave it, but for what the door changed."""
    path: Path = modules()[module]
    found = [
        f"{path.relative_to(ROOT)}:{line}: {text}"
        for line, text in assignments(ast.parse(path.read_text(encoding="utf-8")))
    ]
    assert found == []


@pytest.mark.parametrize(
    "source",
    [
        "ctx.step = other",
        "self._client.middleware = []",
        "call.ctx.step.run = double",
        "step.wait_for_event = watched",
        "setattr(ctx, name, value)",
        "del info.opts",
    ],
)
def test_assignments_are_found(source: str) -> None:
    """The search sees each form."""
    assert list(assignments(ast.parse(source)))
