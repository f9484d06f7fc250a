"""Fixtures every test folder shares."""

import pytest


@pytest.fixture
def anyio_backend() -> str:
    """Run async tests on asyncio, the only event loop the SDK supports."""
    return "asyncio"
