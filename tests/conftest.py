"""Fixtures every test folder shares."""

import functools
import gc
import os
import ssl
from collections.abc import Iterator

import pytest


def pytest_xdist_auto_num_workers() -> int:
    """Run two workers on each processor: half of the time a test waits."""
    return 2 * (os.cpu_count() or 1)


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


@pytest.fixture(scope="session", autouse=True)
def _collector_between_tests() -> Iterator[None]:
    """Have the garbage collector come between the tests, and seldom within one.

    What a test leaves open is then reported by that test. And until Python 3.12 the collector runs
    in any allocation, that in the middle of `ContextVar.set` too: where it closes a generator that
    sets the same variables, as one that holds a span does, the interpreter crashes.
    """
    before = gc.get_threshold()
    gc.collect()
    gc.freeze()
    gc.set_threshold(200_000, 10, 10)
    yield
    gc.set_threshold(*before)
    gc.unfreeze()


@pytest.fixture(scope="module", autouse=True)
def _all_collected() -> Iterator[None]:
    """Collect what outlived its test, too, and what then is left no more.

    Libraries keep what they have seen in caches, apps among it: to look through all of that after
    each module takes a third of the suite's processor time.
    """
    yield
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    """Collect what the test left, and take back what it, or its app, set in the environment."""
    before = dict(os.environ)
    yield
    gc.collect(1)
    if os.environ != before:
        os.environ.clear()
        os.environ.update(before)
