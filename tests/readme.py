"""The Python examples of a plugin's README, executed."""

from __future__ import annotations

import re
import sys
import types
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]


def examples_of(plugin: str) -> list[str]:
    """Return the source of each Python block, in order."""
    readme = ROOT / "plugins" / plugin / "README.md"
    return re.findall(r"^```python\n(.*?)^```", readme.read_text(), re.MULTILINE | re.DOTALL)


def modules_of(plugin: str, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Execute each Python block as a module of its own; return what each defines."""
    monkeypatch.setenv("INNGEST_DEV", "1")
    executed: list[dict[str, Any]] = []
    for number, source in enumerate(examples_of(plugin)):
        module = types.ModuleType(f"{plugin}_readme_{number}")
        monkeypatch.setitem(sys.modules, module.__name__, module)
        exec(compile(source, f"{plugin} README, block {number}", "exec"), module.__dict__)
        executed.append(module.__dict__)
    return executed
