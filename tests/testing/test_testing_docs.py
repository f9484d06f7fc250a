"""docs/testing.md: every example in it is run, as a user would run it.

The page's examples are files of one project, not one program: its fences say ``python`` after a
space, which sets them apart from those of the other guides.
"""

from __future__ import annotations

import pathlib
import re
import subprocess
import sys

DOCS = pathlib.Path(__file__).parents[2] / "docs" / "testing.md"
FENCE = re.compile(r"<!-- file: (\S+) -->\n``` python\n(.*?)```", re.DOTALL)
CONFTEST = """
import pytest

@pytest.fixture
def anyio_backend():
    return "asyncio"
"""


def test_the_documented_tests_pass(tmp_path: pathlib.Path) -> None:
    """The five shapes of tests run in a project that has nothing but the documented files."""
    files = dict(FENCE.findall(DOCS.read_text("utf-8")))
    assert len(files) == 6
    for name, source in files.items():
        (tmp_path / name).write_text(source, "utf-8")
    (tmp_path / "conftest.py").write_text(CONFTEST, "utf-8")
    ended = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-W", "error", "-p", "no:cacheprovider"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    tests = sum(source.count("def test_") for source in files.values())
    assert f"{tests} passed" in ended.stdout


def test_every_python_example_is_a_file() -> None:
    """No Python example of the page escapes the test above."""
    text = DOCS.read_text("utf-8")
    assert len(re.findall(r"^```.*python", text, re.MULTILINE)) == len(FENCE.findall(text))
