"""Waiting for Sentry where the platform freezes the process, and never in the event loop."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest
import sentry_sdk
from sentry_sdk.transport import HttpTransport
from tests.silent_server import silent_server

from inngest_plugins.sentry import SentryPlugin
from inngest_plugins.sentry._flush import Flusher, is_serverless

if TYPE_CHECKING:
    from tests.sentry.conftest import MakeShop, Post, Sentry

TIMEOUT = 0.4
PAUSE = TIMEOUT / 4
"""Far above what the tests' own work takes on a busy machine, far below a flush in the loop."""


async def boom(*_: Any) -> None:
    raise ValueError("boom")


@pytest.fixture
def silent_port() -> Iterator[int]:
    """The port of a server that accepts connections and never answers."""
    with silent_server() as port:
        yield port


async def longest_pause(work: asyncio.Future[Any]) -> float:
    """Return the longest time for which the loop did not get round to this, in seconds."""
    longest, last = 0.0, time.perf_counter()
    while not work.done():
        await asyncio.sleep(0.001)
        now = time.perf_counter()
        longest, last = max(longest, now - last - 0.001), now
    return longest


@pytest.mark.anyio
async def test_silent_endpoint(
    sentry: Sentry,
    async_shop: MakeShop,
    post: Post,
    body_of: Any,
    silent_port: int,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Ten failing runs whose events nobody takes do not stop the loop, nor wait beyond the limit.

    How short the pauses are is measured by `benchmarks/sentry_request.py`.
    """
    caplog.set_level("CRITICAL", "urllib3.connectionpool")
    client = sentry_sdk.Client(
        dsn=f"http://key@127.0.0.1:{silent_port}/1",
        transport=HttpTransport,
        default_integrations=False,
        shutdown_timeout=0,
    )
    sentry_sdk.get_global_scope().set_client(client)
    app = async_shop(SentryPlugin(flush=True, flush_timeout=TIMEOUT))
    app.function(boom)
    served = app.asgi()
    await post(served, body_of("run-0"))

    async def arrive(n: int) -> int:
        # All ten wait at the same time, but the test's own HTTP work does not come in one heap.
        await asyncio.sleep(n / 100)
        response = await post(served, body_of(f"run-{n}"))
        return response.status_code

    pauses: list[float] = []
    durations: list[float] = []
    for _ in range(5):
        started = time.perf_counter()
        work = asyncio.ensure_future(asyncio.gather(*(arrive(n) for n in range(10))))
        pauses.append(await longest_pause(work))
        assert await work == [500] * 10
        durations.append(time.perf_counter() - started)
        if pauses[-1] < PAUSE:
            break
    assert min(pauses) < PAUSE
    assert max(durations) < TIMEOUT + 1


@pytest.mark.anyio
async def test_flush_is_after_everything(
    sentry: Sentry, shop: MakeShop, post: Post, body_of: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The flush comes after the request's last envelope, and before its response."""
    sentry.init(traces_sample_rate=1.0)
    flushed: list[list[str]] = []
    threads: list[threading.Thread] = []

    def flush(timeout: float | None = None, callback: Any = None) -> None:
        flushed.append([line.split()[0] for line in sentry.lines()])
        threads.append(threading.current_thread())

    monkeypatch.setattr(sentry_sdk.get_client(), "flush", flush)
    app = shop(SentryPlugin(flush=True))
    app.function(boom)
    await post(app.asgi(), body_of("run-1"))
    assert flushed == [["error", "transaction"]]
    assert threads[0] is not threading.main_thread()


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("variable", "option", "expected"),
    [
        (None, None, 0),
        ("AWS_LAMBDA_FUNCTION_NAME", None, 1),
        ("AWS_LAMBDA_FUNCTION_NAME", False, 0),
        (None, True, 1),
    ],
)
async def test_when_it_flushes(
    sentry: Sentry,
    async_shop: MakeShop,
    post: Post,
    body_of: Any,
    monkeypatch: pytest.MonkeyPatch,
    variable: str | None,
    option: bool | None,
    expected: int,
) -> None:
    """Requests wait on serverless platforms, or when told to, and nowhere else."""
    if variable is not None:
        monkeypatch.setenv(variable, "shop")
    sentry.init()
    flushes: list[None] = []
    monkeypatch.setattr(sentry_sdk.get_client(), "flush", lambda timeout: flushes.append(None))
    app = async_shop(SentryPlugin(flush=option))
    app.function(boom)
    await post(app.asgi(), body_of("run-1"))
    assert len(flushes) == expected


@pytest.mark.parametrize(
    "variable",
    [
        "AWS_LAMBDA_FUNCTION_NAME",
        "FUNCTIONS_WORKER_RUNTIME",
        "FUNCTION_TARGET",
        "K_SERVICE",
        "NETLIFY",
        "VERCEL",
    ],
)
def test_serverless_platforms(variable: str) -> None:
    """Each platform is known by a variable that it sets."""
    assert is_serverless({variable: "x"})
    assert not is_serverless({variable: ""})
    assert not is_serverless({"PATH": "/bin"})


class SlowClient:
    """Stands in for Sentry's client: its flush takes a while, and is counted."""

    def __init__(self, seconds: float, error: Exception | None = None) -> None:
        self.seconds = seconds
        self.error = error
        self.started = 0
        self.ended = 0

    def flush(self, timeout: float) -> None:
        self.started += 1
        time.sleep(self.seconds)
        self.ended += 1
        if self.error is not None:
            raise self.error


def test_flushes_are_shared() -> None:
    """Requests that come during a flush share the next one, which starts after they came."""
    client: Any = SlowClient(0.1)
    flusher = Flusher(timeout=5)
    first = threading.Thread(target=flusher.wait_sync, args=(client,))
    first.start()
    while not client.started:
        time.sleep(0.001)
    others = [threading.Thread(target=flusher.wait_sync, args=(client,)) for _ in range(20)]
    for thread in others:
        thread.start()
    for thread in (first, *others):
        thread.join()
    assert client.ended == 2


def test_wait_ends_with_the_time() -> None:
    """A request does not wait longer than it was told to."""
    client: Any = SlowClient(0.6)
    started = time.perf_counter()
    Flusher(timeout=0.05).wait_sync(client)
    assert time.perf_counter() - started < 0.5


def test_failing_flush(caplog: pytest.LogCaptureFixture) -> None:
    """A flush that raises is logged, and nobody waits for it in vain."""
    client: Any = SlowClient(0, OSError("no disk"))
    flusher = Flusher(timeout=5)
    started = time.perf_counter()
    flusher.wait_sync(client)
    flusher.wait_sync(client)
    assert time.perf_counter() - started < 4
    assert [record.message for record in caplog.records] == ["flushing Sentry failed"] * 2


def test_loop_that_is_gone() -> None:
    """A flush that outlives the event loop of a waiting request ends quietly."""
    client: Any = SlowClient(0.2)
    flusher = Flusher(timeout=0.05)
    asyncio.run(flusher.wait(client))
    while not client.ended:
        time.sleep(0.01)
    flusher.wait_sync(client)
    assert client.started == 2
