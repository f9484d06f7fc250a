"""A real HTTP server that counts what it gets, and apps that ask it."""

from __future__ import annotations

import contextlib
import gzip
import http.server
import json
import threading
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, ClassVar

import httpx
import pytest
import tests.app

from inngest_plugins.core import StackEntry
from inngest_plugins.fetch import DurableTransport, DurableTransportSync

Answer = tuple[int, list[tuple[str, str]], bytes]
Body = Callable[[Any, Any, "Http"], Awaitable[Any]]


@dataclass
class Received:
    """One request that the server got."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Server:
    """The server as tests see it.

    Attributes:
        url: where it listens.
        received: what it got, in order.
        answers: what it answers by path: answers in turn, the last one stays; or a function.
        release: lets requests to /hang end.
    """

    url: str
    received: list[Received] = field(default_factory=list)
    answers: dict[str, list[Answer] | Callable[[Received], Answer]] = field(default_factory=dict)
    release: threading.Event = field(default_factory=threading.Event)

    def count(self, path: str) -> int:
        return sum(each.path.partition("?")[0] == path for each in self.received)

    def answer(self, request: Received) -> Answer:
        path = request.path.partition("?")[0]
        given = self.answers.get(path)
        if callable(given):
            return given(request)
        if given is not None:
            return given[min(self.count(path), len(given)) - 1]
        if path == "/hang":
            self.release.wait(200)
        if path == "/gzip":
            headers = [("content-encoding", "gzip"), ("content-type", "application/json")]
            return 200, headers, gzip.compress(b'{"packed": true}')
        if path == "/redirect":
            return 302, [("location", "/json"), ("set-cookie", "step=1")], b""
        return (
            200,
            [("content-type", "application/json")],
            json.dumps({"n": len(self.received), "path": path}).encode(),
        )


@pytest.fixture
def server() -> Iterator[Server]:
    """A real server on a port of loopback."""

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _handle(self) -> None:
            length = int(self.headers.get("content-length") or 0)
            body = self.rfile.read(length)
            headers = {name.lower(): value for name, value in self.headers.items()}
            request = Received(self.command, self.path, headers, body)
            state.received.append(request)
            status, answered, content = state.answer(request)
            with contextlib.suppress(ConnectionError):
                self.send_response(status)
                for name, value in answered:
                    self.send_header(name, value)
                self.send_header("content-length", str(len(content)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(content)

        do_GET = do_POST = do_PUT = do_DELETE = do_PATCH = do_HEAD = _handle

        def log_message(self, format: str, *args: object) -> None:
            pass

    class Quiet(http.server.ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request: Any, client_address: Any) -> None:
            pass

    listening = Quiet(("127.0.0.1", 0), Handler)
    state = Server(f"http://127.0.0.1:{listening.server_address[1]}")
    thread = threading.Thread(target=listening.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield state
    finally:
        state.release.set()
        listening.shutdown()
        listening.server_close()
        thread.join()


class Http:
    """An httpx client on the durable transport, awaited in sync functions, too."""

    def __init__(self, client: Any) -> None:
        self.client = client

    async def request(self, method: str, url: str, **options: Any) -> httpx.Response:
        response = self.client.request(method, url, **options)
        if isinstance(response, httpx.Response):
            return response
        result: httpx.Response = await response
        return result

    async def get(self, url: str, **options: Any) -> httpx.Response:
        return await self.request("GET", url, **options)

    async def post(self, url: str, **options: Any) -> httpx.Response:
        return await self.request("POST", url, **options)


class App(tests.app.App):
    """An app without any plugin, unless given some."""

    defaults: ClassVar[dict[str, Any]] = {"retries": 0}

    def __init__(self, *plugins: StackEntry, is_async: bool = True) -> None:
        super().__init__(*plugins, is_async=is_async)
        self.options: dict[str, Any] = {}
        """For the transport."""
        self.client_options: dict[str, Any] = {}
        """For the client of httpx."""

    @contextlib.contextmanager
    def http(self) -> Iterator[Http]:
        """A client that is made in the body, as users do."""
        if self.is_async:
            transport = DurableTransport(**self.options)
            yield Http(httpx.AsyncClient(transport=transport, **self.client_options))
        else:
            sync = DurableTransportSync(**self.options)
            with httpx.Client(transport=sync, **self.client_options) as client:
                yield Http(client)

    def http_body(self, fn_id: str = "fn", **options: Any) -> Callable[[Body], Any]:
        """Register a body that gets `ctx`, `step` and an HTTP client."""

        def register(body: Body) -> Any:
            async def with_http(ctx: Any, step: Any) -> Any:
                with self.http() as http:
                    try:
                        return await body(ctx, step, http)
                    finally:
                        if self.is_async:
                            await http.client.aclose()

            return self.body(fn_id, **options)(with_http)

        return register


@pytest.fixture(params=[True, False], ids=["async", "sync"])
def app(request: pytest.FixtureRequest) -> App:
    """An app of async functions, and one of sync functions."""
    return App(is_async=request.param)


@pytest.fixture
def make_app() -> type[App]:
    """Apps with plugins."""
    return App
