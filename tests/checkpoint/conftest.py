"""What the tests of checkpointing share."""

from __future__ import annotations

import pytest
from tests.composition.conftest import make_rig, rig

__all__ = ["make_rig", "rig", "setting"]


@pytest.fixture(params=["fastapi-async", "fastapi-pool"], ids=["async", "sync"])
def setting(request: pytest.FixtureRequest) -> str:
    """An async and a sync function."""
    name: str = request.param
    return name
