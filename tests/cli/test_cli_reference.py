"""The page of the documentation that is made from the program."""

from __future__ import annotations

import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]


def test_the_reference_is_what_the_program_says() -> None:
    """docs/reference/cli.md is fresh, and names every command with its exit codes."""
    script = ROOT / ".ci" / "cli_reference.py"
    checked = subprocess.run(
        [sys.executable, str(script), "--check"],
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert (checked.returncode, checked.stderr) == (0, "")
    page = (ROOT / "docs" / "reference" / "cli.md").read_text("utf-8")
    for command in ("run", "doctor", "new-plugin", "decrypt", "keys new", "schemas check"):
        section = page.partition(f" `{command}`\n")[2].partition("\n## ")[0].partition("\n### ")[0]
        assert "inngest-plugins " + command in section
        assert "xit code" in section or command == "keys new"
