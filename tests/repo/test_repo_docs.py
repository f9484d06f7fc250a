"""What the README and the guides show is run, as a reader would run it."""

from __future__ import annotations

import ast
import asyncio
import inspect
import re
import sys
import types
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
GUIDES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
READMES = sorted((ROOT / "plugins").glob("*/README.md"))
FENCE = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
CODE = re.compile(r"^```.*?^```|`[^`\n]*`", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\((?!https?:|#)([^)#\s]+)")


def blocks(page: Path) -> list[tuple[int, str]]:
    """Return the python fences of a page with the line each begins at."""
    text = page.read_text()
    return [(text[: m.start()].count("\n") + 2, m.group(1)) for m in FENCE.finditer(text)]


@pytest.mark.parametrize("page", GUIDES, ids=lambda page: page.name)
def test_the_examples_of_a_guide_run(page: Path) -> None:
    """The python blocks of a page, one after the other, are a program that runs."""
    module = types.ModuleType(f"docs_{page.stem.replace('-', '_').lower()}")
    sys.modules[module.__name__] = module
    try:
        for line, source in blocks(page):
            tree = ast.parse(source, filename=str(page))
            ast.increment_lineno(tree, line - 1)
            code = compile(tree, str(page), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
            result = eval(code, module.__dict__)
            if inspect.iscoroutine(result):
                asyncio.run(result)
    finally:
        del sys.modules[module.__name__]


@pytest.mark.parametrize("page", READMES, ids=lambda page: page.parent.name)
def test_the_examples_of_a_plugin_compile(page: Path) -> None:
    """Every python block of a plugin's README is Python; its own tests run the examples."""
    assert blocks(page)
    for line, source in blocks(page):
        compile("\n" * (line - 1) + source, str(page), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)


@pytest.mark.parametrize(
    "page",
    [
        *sorted({*GUIDES, *(ROOT / "docs").rglob("*.md")}),
        *READMES,
        ROOT / "CONTRIBUTING.md",
        ROOT / "SECURITY.md",
    ],
    ids=lambda page: str(page.relative_to(ROOT)),
)
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    """A relative link names a file of the tree."""
    prose = CODE.sub("`code`", page.read_text())
    broken = [link for link in LINK.findall(prose) if not (page.parent / link).exists()]
    assert broken == []
