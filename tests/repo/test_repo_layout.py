"""Laws of the repository: what STYLE decides is checked here and not left to attention."""

from __future__ import annotations

import ast
import importlib.metadata
import re
import sys
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # pyright: ignore[reportMissingImports]

ROOT = Path(__file__).resolve().parents[2]
PLUGINS = sorted(path.name for path in (ROOT / "plugins").iterdir() if path.is_dir())
SOURCE_ROOTS = ["src", *(f"plugins/{name}/src" for name in PLUGINS)]
PACKAGES = sorted(
    path
    for root in SOURCE_ROOTS
    for path in (ROOT / root / "inngest_plugins").iterdir()
    if path.is_dir() and path.name != "__pycache__"
)


@pytest.fixture(scope="module")
def project() -> dict[str, Any]:
    """pyproject.toml, parsed."""
    parsed: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())
    return parsed


def test_every_source_root_is_in_every_list(project: dict[str, Any]) -> None:
    """A plugin folder that a tool's list forgets would silently not be built or checked."""
    build = project["tool"]["hatch"]["build"]
    packages = [f"{root}/inngest_plugins" for root in SOURCE_ROOTS]

    assert sorted(SOURCE_ROOTS) == sorted(build["dev-mode-dirs"])
    assert sorted(packages) == sorted(build["targets"]["wheel"]["packages"])
    assert set(SOURCE_ROOTS) <= set(project["tool"]["mypy"]["mypy_path"])
    assert sorted(packages) == sorted(project["tool"]["coverage"]["run"]["source"])


@pytest.mark.parametrize("plugin", PLUGINS)
def test_every_plugin_has_an_extra_a_readme_and_types(project: dict[str, Any], plugin: str) -> None:
    """A plugin is an extra, a README and a typed package."""
    package = ROOT / "plugins" / plugin / "src" / "inngest_plugins" / plugin

    assert plugin in project["project"]["optional-dependencies"]
    assert (ROOT / "plugins" / plugin / "README.md").stat().st_size > 1000
    assert (package / "py.typed").exists()
    assert (package / "__init__.py").exists()


def test_the_namespace_stays_a_namespace() -> None:
    """An `inngest_plugins/__init__.py` anywhere would hide the packages of the other roots."""
    assert [str(path) for path in ROOT.glob("**/src/inngest_plugins/__init__.py")] == []


@pytest.mark.parametrize("package", PACKAGES, ids=lambda path: path.name)
def test_every_package_is_typed_and_documented(package: Path) -> None:
    """Each portion ships py.typed, and each module says what it is for."""
    assert (package / "py.typed").exists()
    undocumented = [
        str(path.relative_to(ROOT))
        for path in package.rglob("*.py")
        if not ast.get_docstring(ast.parse(path.read_text()))
    ]
    assert undocumented == []


def _imports(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            found.add(node.module)
    return found


@pytest.mark.parametrize("plugin", PLUGINS)
def test_plugins_import_the_core_and_never_each_other(plugin: str) -> None:
    """Dependencies point one way: a plugin knows the core's public names only."""
    allowed = {
        "core": re.compile(r"^inngest_plugins\.core$"),
        "own": re.compile(rf"^inngest_plugins\.{plugin}(\.|$)"),
        "cli": re.compile(r"^inngest_plugins\.cli$"),
    }
    for path in (ROOT / "plugins" / plugin / "src").rglob("*.py"):
        for name in _imports(path):
            if not name.startswith("inngest_plugins"):
                continue
            kinds = {kind for kind, pattern in allowed.items() if pattern.match(name)}
            assert kinds, f"{path.relative_to(ROOT)} imports {name}"
            assert kinds != {"cli"} or path.name == "commands.py", f"{path} imports {name}"


def test_the_core_imports_no_plugin_and_no_engine() -> None:
    """The core stands alone."""
    for path in (ROOT / "src/inngest_plugins/core").rglob("*.py"):
        own = {name for name in _imports(path) if name.startswith("inngest_plugins")}
        assert {name for name in own if not name.startswith("inngest_plugins.core.")} == set()


def test_one_folder_touches_the_internals_of_the_sdk() -> None:
    """`inngest._internal` is imported by the core's one door and by nothing else we ship."""
    touching = {
        path.relative_to(ROOT).as_posix()
        for package in PACKAGES
        for path in package.rglob("*.py")
        if any(name.startswith("inngest._internal") for name in _imports(path))
    }
    assert touching
    assert all(path.startswith("src/inngest_plugins/core/sdk/") for path in touching)


def test_all_extra_names_every_plugin(project: dict[str, Any]) -> None:
    """`inngest-plugins[all]` leaves no plugin out."""
    extras = project["project"]["optional-dependencies"]
    (requirement,) = extras["all"]
    assert set(PLUGINS) <= Requirement(requirement).extras


def test_the_supported_sdk_is_said_once(project: dict[str, Any]) -> None:
    """The requirement, the matrix and what is installed agree on the SDK's releases."""
    said = project["tool"]["inngest-plugins"]
    requirements = [Requirement(line) for line in project["project"]["dependencies"]]
    (sdk,) = [requirement for requirement in requirements if requirement.name == "inngest"]

    assert f">={said['oldest-sdk']}" in str(sdk.specifier)
    assert sdk.specifier.contains(said["newest-sdk"])
    installed = importlib.metadata.version("inngest")
    assert installed in (said["oldest-sdk"], said["newest-sdk"])


def test_the_version_is_the_changelogs(project: dict[str, Any]) -> None:
    """The newest heading of the changelog is the version, or what comes after it."""
    version = project["project"]["version"]
    changelog = (ROOT / "CHANGELOG.md").read_text()
    heading = re.search(r"^## \[?([^\]\s]+)", changelog, re.MULTILINE)
    assert heading is not None
    assert heading.group(1) in (version, "Unreleased")


def test_the_readme_names_the_two_commands() -> None:
    """A newcomer finds `make demo` and `make test` on the first page."""
    readme = (ROOT / "README.md").read_text()
    assert "make demo" in readme
    assert "make test" in readme


def test_every_test_says_its_law() -> None:
    """Each test function has a docstring: the sentence that it proves."""
    silent = [
        f"{path.relative_to(ROOT)}:{node.lineno} {node.name}"
        for path in (ROOT / "tests").rglob("test_*.py")
        if "exchanges" not in path.parts
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
        and node.name.startswith("test")
        and not ast.get_docstring(node)
    ]
    assert silent == []


def test_nothing_unfinished_by_its_own_word() -> None:
    """No TODO is shipped."""
    marked = [
        str(path.relative_to(ROOT))
        for package in PACKAGES
        for path in package.rglob("*.py")
        if re.search(r"\b(TODO|FIXME|XXX)\b", path.read_text())
    ]
    assert marked == []
