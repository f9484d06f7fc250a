"""Agents with a scripted model, and apps whose functions run them on the embedded engine."""

from __future__ import annotations

import sys
from importlib.util import find_spec

import pytest

# Pydantic AI needs Python 3.11.
if sys.version_info < (3, 11) or not find_spec("pydantic_ai"):
    collect_ignore_glob = ["test_*.py"]


@pytest.fixture(autouse=True)
def no_real_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no test reach a provider, whatever keys the environment holds."""
    for name in ("OPENAI_API_KEY", "ANTHROPIC_API_KEY"):
        monkeypatch.delenv(name, raising=False)
