"""The site: its links are followed, its pages are complete, and the checks themselves can fail."""

from __future__ import annotations

import importlib.util
import re
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from inngest_plugins.core import PluginsError

ROOT = Path(__file__).resolve().parents[2]


def _script(name: str) -> Any:
    folder = ROOT / ".ci" / "site"
    spec = importlib.util.spec_from_file_location(f"site_{name}", folder / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    sys.path.insert(0, str(folder))
    try:
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(folder))
    return module


PAGE = """<a href="{href}">x</a><img src="{src}"><h1 id="top">x</h1>"""


@pytest.mark.parametrize(
    ("href", "src", "fault"),
    [
        ("b/", "picture.svg", None),
        ("b/#top", "picture.svg", None),
        ("#top", "picture.svg", None),
        ("/docs/b/", "/docs/picture.svg", None),
        ("https://example.com/gone", "picture.svg", None),
        ("mailto:a@example.com", "picture.svg", None),
        ("b/../picture.svg?v=1", "picture.svg", None),
        ("c/", "picture.svg", "c/: no such file"),
        ("plugins/README.md", "picture.svg", "plugins/README.md: no such file"),
        ("b/#bottom", "picture.svg", "b/#bottom: no such anchor"),
        ("#bottom", "picture.svg", "#bottom: no such anchor"),
        ("/b/", "picture.svg", "/b/: outside of /docs/"),
        ("b/", "docs/picture.svg", "docs/picture.svg: no such file"),
    ],
)
def test_the_crawl_finds_what_is_broken(
    tmp_path: Path, href: str, src: str, fault: str | None
) -> None:
    """Links, anchors and pictures that lead nowhere are found; what answers is left alone."""
    (tmp_path / "b").mkdir()
    (tmp_path / "index.html").write_text(PAGE.format(href=href, src=src))
    (tmp_path / "b" / "index.html").write_text(PAGE.format(href="../", src="../picture.svg"))
    (tmp_path / "picture.svg").write_text("<svg/>")

    found = list(_script("check_links").broken_links(tmp_path, "/docs/"))
    assert found == ([] if fault is None else [f"index.html: {fault}"])


def test_a_site_without_pages_is_a_fault(tmp_path: Path) -> None:
    """An empty folder does not pass for a site."""
    assert list(_script("check_links").broken_links(tmp_path)) == [f"{tmp_path}: no page"]


@pytest.mark.parametrize(
    ("path", "page"),
    [
        ("README.md", "index.md"),
        ("docs/testing.md", "testing.md"),
        ("docs/plugins/otel.md", "plugins/otel.md"),
        ("plugins/otel/README.md", "plugins/otel.md"),
        ("plugins/otel/trace.svg", "plugins/otel/trace.svg"),
        ("examples/shop/app.py", "examples/shop/app.py"),
    ],
)
def test_files_of_the_repository_have_places_on_the_site(path: str, page: str) -> None:
    """A README's link leads to the page that is made of the file."""
    assert _script("hooks").site_path(path) == page


def _documented() -> list[str]:
    """The plugins whose README is written: one that is planned only announces its sections."""
    readmes = (ROOT / "plugins").glob("*/README.md")
    return sorted(
        readme.parent.name
        for readme in readmes
        if "The sections below say what each option does" not in readme.read_text()
    )


@pytest.mark.parametrize("plugin", _documented())
def test_every_plugin_is_on_the_site(plugin: str) -> None:
    """A plugin has a page, a reference, a place in the navigation and a line in the README."""
    navigation = (ROOT / "mkdocs.yml").read_text()
    for page in (f"plugins/{plugin}.md", f"reference/{plugin}.md"):
        assert (ROOT / "docs" / page).exists(), f"docs/{page} is missing"
        assert f": {page}\n" in navigation, f"{page} is not in the nav of mkdocs.yml"
    assert "hide:" not in (ROOT / "docs" / "plugins" / f"{plugin}.md").read_text()

    readme = (ROOT / "README.md").read_text()
    row = re.compile(rf"^\| `{plugin}` \| .*\(plugins/{plugin}/README\.md\)", re.MULTILINE)
    assert row.search(readme), f"the table of README.md has no row for {plugin}"


def test_every_error_says_what_to_do() -> None:
    """Each public error has its cause in the docstring and what to do in docs/errors.toml."""
    index = _script("error_index")
    errors = index.public_errors()
    to_do = index.mends()
    raised = {(each.package, each.error.__name__) for each in errors if not each.is_base}
    mended = {(package, name) for package, lines in to_do.items() for name in lines}
    installed = {each.package for each in errors}

    assert [each for each in errors if not each.causes] == []
    missing = [f"[{package}] {name} = ..." for package, name in sorted(raised - mended)]
    assert missing == [], "add these lines to docs/errors.toml: what should the user do?"
    gone = {(package, name) for package, name in mended - raised if package in installed}
    assert gone == set(), "lines of docs/errors.toml whose error is gone or only groups others"


def test_every_error_leads_to_its_place_in_the_index() -> None:
    """`docs_url` is an anchor of the page, also for errors that are not public."""
    index = _script("error_index")
    headings = re.findall(r"^### `(\w+)`$", index.error_index(), re.MULTILINE)
    site = re.search(r"^site_url: (.*)$", (ROOT / "mkdocs.yml").read_text(), re.MULTILINE)
    assert site is not None
    classes = Counter(kind.__name__ for kind in {each.error for each in index.public_errors()})
    assert [name for name, count in classes.items() if count > 1] == [], "two anchors of one name"
    anchors = {f"{site[1]}errors/#{name.lower()}" for name in headings}
    kinds = set(_subclasses(PluginsError))
    assert {each.error for each in index.public_errors() if each.error is not PluginsError} <= kinds
    assert sorted(kind.__name__ for kind in kinds if kind.docs_url() not in anchors) == []


def _subclasses(kind: type[PluginsError]) -> Iterator[type[PluginsError]]:
    for each in kind.__subclasses__():
        yield from (each, *_subclasses(each))


def test_the_index_shows_cause_and_remedy() -> None:
    """An error's section is its name, what it can be caught as, its docstring and what to do."""
    text = _script("error_index").error_index()
    section = text.partition("### `UnusedStubError`\n")[2].partition("\n#")[0]
    assert "Caught as `PluginsError`, `AssertionError` too." in section
    assert "A stub was given for a step that no function reached" in section
    assert "**What to do:** Compare the stub's id" in section
