"""Errors say where the documentation tells what to do."""

from __future__ import annotations

import pytest

from inngest_plugins.core import EngineApiError, PluginsError

INDEX = "https://inngest-plugins.github.io/inngest-plugins/errors/"


class MineError(EngineApiError):
    """An error of somebody's own plugin."""


class _InternalError(PluginsError): ...


_InternalError.__module__ = "inngest_plugins.somewhere"


@pytest.mark.parametrize(
    ("kind", "place"),
    [
        (PluginsError, "pluginserror"),
        (EngineApiError, "engineapierror"),
        (MineError, "engineapierror"),
        (_InternalError, "pluginserror"),
    ],
)
def test_where_the_documentation_is(kind: type[PluginsError], place: str) -> None:
    """The nearest class that the index has."""
    assert kind.docs_url() == f"{INDEX}#{place}"
