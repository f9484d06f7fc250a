"""Waiting for Sentry where the platform freezes the process, and never in the event loop."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest
import sentry_sdk
from sentry_sdk.transport import HttpTransport
from tests.silent_server import silent_server

from inngest_plugins.sentry import SentryPlugin
from inngest_plugins.sentry.base.flush import Flusher, is_serverless

if TYPE_CHECKING:
    from tests.sentry.conftest import MakeShop, Post, Sentry


async def boom(*_: Any) -> None:
    raise ValueError("boom")


@pytest.fixture
def silent_port() -> Iterator[int]:
    """The port of a server that accepts connections and never answers."""
    with silent_server() as port:
        yield port


@pytest.mark.anyio
async def test_silent_endpoint(
    sentry: Sentry,
    async_shop: MakeShop,
    post: Post,
    body_of: Any,
    silent_port: int,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Ten failing runs whose events nobody takes are answered when the time is up."""
    caplog.set_level("CRITICAL", "urllib3.connectionpool")
    client = sentry_sdk.Client(
        dsn=f"http://key@127.0.0.1:{silent_port}/1",
        transport=HttpTransport,
        default_integrations=False,
        shutdown_timeout=0,
    )
    sentry_sdk.get_global_scope().set_client(client)
    app = async_shop(SentryPlugin(flush=True, flush_timeout=0.2))
    app.function(boom)
    served = app.asgi()
    responses = await asyncio.gather(*(post(served, body_of(f"run-{n}")) for n in range(10)))
    assert [response.status_code for response in responses] == [500] * 10


@pytest.mark.anyio
async def test_the_loop_goes_on_while_requests_wait(
    sentry: Sentry, async_shop: MakeShop, post: Post, body_of: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only the event loop can end the flush here: one that blocks it would never end.

    How short the pauses of the loop are is measured by `benchmarks/sentry_request.py`.
    """
    sentry.init()
    flushing, release = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()

    def flush(timeout: float) -> None:
        loop.call_soon_threadsafe(flushing.set)
        assert release.wait(200)

    monkeypatch.setattr(sentry_sdk.get_client(), "flush", flush)
    app = async_shop(SentryPlugin(flush=True, flush_timeout=60))
    app.function(boom)
    served = app.asgi()
    requests = [asyncio.ensure_future(post(served, body_of(f"run-{n}"))) for n in range(10)]
    await flushing.wait()
    assert not any(request.done() for request in requests)
    release.set()
    responses = await asyncio.gather(*requests)
    assert [response.status_code for response in responses] == [500] * 10


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


class HeldClient:
    """Stands in for Sentry's client: its flush ends when the test lets it, and is counted."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error
        self.begun = threading.Semaphore(0)
        self.release = threading.Event()
        self.started = 0
        self.ended = 0

    def flush(self, timeout: float) -> None:
        self.started += 1
        self.begun.release()
        assert self.release.wait(200)
        self.ended += 1
        if self.error is not None:
            raise self.error


LONG = 600
"""Seconds; beyond the time limit of a test."""


def test_flushes_are_shared(monkeypatch: pytest.MonkeyPatch) -> None:
    """Requests that come during a flush share the next one, which starts after they came."""
    client: Any = HeldClient()
    flusher = Flusher(timeout=LONG)
    joined = threading.Semaphore(0)
    join = flusher._join

    def joining(*arguments: Any) -> None:
        join(*arguments)
        joined.release()

    monkeypatch.setattr(flusher, "_join", joining)
    first = threading.Thread(target=flusher.wait_sync, args=(client,))
    first.start()
    client.begun.acquire()
    others = [threading.Thread(target=flusher.wait_sync, args=(client,)) for _ in range(20)]
    for thread in others:
        thread.start()
    for _ in range(21):
        joined.acquire()
    client.release.set()
    for thread in (first, *others):
        thread.join()
    assert client.ended == 2


def test_wait_ends_with_the_time() -> None:
    """A request does not wait longer than it was told to."""
    client: Any = HeldClient()
    Flusher(timeout=0.05).wait_sync(client)
    assert client.ended == 0
    client.release.set()


def test_failing_flush(caplog: pytest.LogCaptureFixture) -> None:
    """A flush that raises is logged, and nobody waits for it in vain."""
    client: Any = HeldClient(OSError("no disk"))
    client.release.set()
    flusher = Flusher(timeout=LONG)
    flusher.wait_sync(client)
    flusher.wait_sync(client)
    assert [record.message for record in caplog.records] == ["flushing Sentry failed"] * 2


def test_loop_that_is_gone() -> None:
    """A flush that outlives the event loop of a waiting request ends quietly."""
    client: Any = HeldClient()
    flusher = Flusher(timeout=0.05)
    asyncio.run(flusher.wait(client))
    client.begun.acquire()
    assert client.ended == 0
    client.release.set()
    flusher._timeout = LONG
    flusher.wait_sync(client)
    assert client.ended == 2
