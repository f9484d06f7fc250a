"""Every error that a user can meet is a `PluginsError`."""

from __future__ import annotations

import importlib
import sys

import pytest

from inngest_plugins.core import PluginsError

from .import_graph import packages

NEEDS_PYTHON_311 = {"inngest_plugins.agents"}


@pytest.mark.parametrize("package", packages())
def test_public_errors_have_one_base(package: str) -> None:
    """`except PluginsError` catches what any package of the project raises."""
    if package in NEEDS_PYTHON_311 and sys.version_info < (3, 11):
        pytest.skip("Pydantic AI needs Python 3.11")
    module = importlib.import_module(package)
    errors = {
        name
        for name in getattr(module, "__all__", ())
        if isinstance(value := getattr(module, name), type) and issubclass(value, BaseException)
    }
    assert {name for name in errors if not issubclass(getattr(module, name), PluginsError)} == set()
