"""What the tests of realtime channels share."""

from __future__ import annotations

import pytest


@pytest.fixture(params=["async", "sync"])
def kind(request: pytest.FixtureRequest) -> str:
    """An async and a sync function."""
    name: str = request.param
    return name
