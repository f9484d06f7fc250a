"""The page on the architecture shows the tree and the state machine as they are."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from inngest_plugins.core.request.course import Stage

ROOT = Path(__file__).resolve().parents[2]
CORE = ROOT / "src" / "inngest_plugins" / "core"
PAGE = (ROOT / "docs" / "architecture.md").read_text()


def test_the_stages_are_the_programs() -> None:
    """The table of stages is the one in the docstring of `Stage`."""
    docstring = [line.strip() for line in (Stage.__doc__ or "").splitlines()]
    table = [line for line in docstring if line.startswith("|")]
    assert len(table) == len(Stage) + 2
    assert "\n".join(table) in PAGE


def test_the_floors_are_the_folders() -> None:
    """Each folder of the core has a row, with the first line that it says of itself."""
    rows = dict(re.findall(r"^\| \d \| `(\w+)/` \| (.*) \|$", PAGE, re.MULTILINE))
    folders = {
        path.parent.name: (ast.get_docstring(ast.parse(path.read_text())) or "").splitlines()[0]
        for path in CORE.glob("*/__init__.py")
    }
    assert rows == folders
