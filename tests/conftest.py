"""Fixtures every test folder shares."""

import functools
import os
import ssl
from collections.abc import Iterator

import pytest


@pytest.fixture
def anyio_backend() -> str:
    """Run async tests on asyncio, the only event loop the SDK supports."""
    return "asyncio"


@pytest.fixture(scope="session", autouse=True)
def _one_tls_context() -> Iterator[None]:
    """Load the certificates once: each client would do it twice, for 60 ms, and none is needed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ssl, "create_default_context", functools.cache(ssl.create_default_context))
        yield


@pytest.fixture(autouse=True)
def _environment_as_before() -> Iterator[None]:
    """Take back what a test, or an app that it ran in this process, set in the environment."""
    before = dict(os.environ)
    yield
    if os.environ != before:
        os.environ.clear()
        os.environ.update(before)
