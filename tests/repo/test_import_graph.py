"""Imports point down: no circle anywhere, and the core's folders are its floors."""

from __future__ import annotations

import pytest

from .import_graph import circle_in, floors, folded, folder_of, import_graph, inside, packages

GRAPH = import_graph()

CORE_FLOORS = ["base", "sdk", "engine", "stack", "data", "protocol", "request", "entry"]
"""The core's folders, the lowest first. Each imports from those before it only."""


@pytest.mark.parametrize("package", packages())
def test_no_circle(package: str) -> None:
    """Modules of a package can be read in an order."""
    circle = circle_in(inside(GRAPH, package))
    assert not circle, " -> ".join(circle)


@pytest.mark.parametrize("package", packages())
def test_no_circle_of_folders(package: str) -> None:
    """So can its folders."""
    part = inside(GRAPH, package)
    circle = circle_in(folded(part, {name: folder_of(package, name) for name in part}))
    assert not circle, " -> ".join(circle)


def test_packages_stand_on_each_other_without_a_circle() -> None:
    """The packages stand on each other in one direction."""
    package_of = {name: ".".join(name.split(".")[:2]) for name in GRAPH}
    circle = circle_in(folded(GRAPH, package_of))
    assert not circle, " -> ".join(circle)


def test_the_cores_folders_are_its_floors() -> None:
    """Each folder of the core imports from the folders below it only."""
    part = inside(GRAPH, "inngest_plugins.core")
    folder = {name: folder_of("inngest_plugins.core", name) for name in part}
    graph = folded(part, folder)
    against = {
        f"{name} -> {target}"
        for name, targets in graph.items()
        for target in targets
        if name in CORE_FLOORS
        and target in CORE_FLOORS
        and CORE_FLOORS.index(target) >= CORE_FLOORS.index(name)
    }
    assert not against
    assert set(graph) == {*CORE_FLOORS, "realtime"}
    assert graph["realtime"] <= {"base", "sdk", "engine"}


def test_a_circle_and_the_floors_are_found() -> None:
    """The graph functions see a circle, and sort what has none."""
    assert circle_in({"a": {"b"}, "b": {"c"}, "c": {"a"}})
    assert floors({"a": {"b"}, "b": {"c"}, "c": set()}) == [["c"], ["b"], ["a"]]
