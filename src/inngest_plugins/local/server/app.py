"""In-process HTTP from the engine to the app: ASGI or WSGI, no sockets."""

from __future__ import annotations

import asyncio
import inspect
import logging
import typing
from collections.abc import Awaitable, Callable, MutableMapping
from urllib.parse import urlencode

import anyio.to_thread
import httpx

from inngest_plugins.core import class_name, safe_text
from inngest_plugins.local._foreign_code import CrashedError, ends_the_process, isolated

if typing.TYPE_CHECKING:
    import inngest

_logger = logging.getLogger("inngest_plugins.local")

Message = MutableMapping[str, typing.Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
AsgiApp = Callable[[Message, Receive, Send], Awaitable[None]]


class Answer(typing.NamedTuple):
    """What the app answered.

    Attributes:
        status: HTTP status.
        headers: By name in lower case.
        body: The body.
        crash: The exception that escaped the app, if any, see `crash_text`.
    """

    status: int
    headers: dict[str, str]
    body: bytes
    crash: str = ""


def crash_text(error: BaseException) -> str:
    """An exception in one line: its class and what it says.

    Pydantic's report keeps every place, without the inputs that it quotes. Any other message
    keeps its first line.
    """
    text, name = safe_text(error), class_name(error)
    head, *rest = text.strip().splitlines() or [""]
    if " [type=" in text:
        place, places = "", list[str]()
        for line in rest:
            if not line.startswith(" "):
                place = line.strip()
            elif not line.startswith("    "):
                places.append(f"{place}: {line.partition(' [type=')[0].strip()}")
        head = f"{head}: {'; '.join(places)}"
    return f"{name}: {head}" if head else name


class App:
    """The served app, called in process.

    Args:
        app: An ASGI or a WSGI application. WSGI is called in worker threads.
        path: Where the app serves Inngest, for example ``/api/inngest``.
    """

    def __init__(self, app: typing.Any, path: str) -> None:
        self._path = path
        self._asgi: AsgiApp | None = app if _is_asgi(app) else None
        self._wsgi = httpx.WSGITransport(app, raise_app_exceptions=False)

    async def request(
        self, method: str, query: dict[str, str], headers: dict[str, str], body: bytes
    ) -> Answer:
        """Send a request and wait for the whole answer.

        An exception that escapes the app is answered with 500, as a web server would. The
        answer names it, and its traceback is logged at level DEBUG.
        """
        if self._asgi is not None:
            return await _Exchange(method, self._path, query, headers, body).run(self._asgi)
        url = httpx.URL(f"http://localhost{self._path}", params=query)
        request = httpx.Request(method, url, headers=headers, content=body)
        return await anyio.to_thread.run_sync(
            _call_wsgi, self._wsgi, request, abandon_on_cancel=True
        )


class _Exchange:
    """One request and its answer in the ASGI protocol (https://asgi.readthedocs.io, HTTP 2.4).

    httpx has a transport for this too; it costs the engine a third of its speed.
    """

    def __init__(
        self,
        method: str,
        path: str,
        query: dict[str, str],
        headers: dict[str, str],
        body: bytes,
    ) -> None:
        lines = {"host": "localhost", **headers, "content-length": str(len(body))}
        self._scope: Message = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.4"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": path,
            "raw_path": path.encode(),
            "root_path": "",
            "query_string": urlencode(query).encode(),
            "headers": [(name.encode(), value.encode()) for name, value in lines.items()],
            "client": ("127.0.0.1", 0),
            "server": ("localhost", 80),
        }
        self._body: bytes | None = body
        self._status = 500
        self._headers: dict[str, str] = {}
        self._content: list[bytes] = []
        self._complete = asyncio.Event()

    async def run(self, app: AsgiApp) -> Answer:
        """Call the app."""
        crash = ""
        try:
            await isolated(self._call(app))
        except CrashedError as error:
            crash = _crashed(error.cause)
            if not self._complete.is_set():
                return Answer(500, {}, b"", crash)
        return Answer(self._status, self._headers, b"".join(self._content), crash)

    async def _call(self, app: AsgiApp) -> None:
        await app(self._scope, self._receive, self._send)

    async def _receive(self) -> Message:
        if self._body is not None:
            body, self._body = self._body, None
            return {"type": "http.request", "body": body, "more_body": False}
        await self._complete.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._status = message["status"]
            self._headers = {
                name.decode("latin-1").lower(): value.decode("latin-1")
                for name, value in message["headers"]
            }
        else:
            self._content.append(message.get("body", b""))
            if not message.get("more_body", False):
                self._complete.set()


def _call_wsgi(transport: httpx.WSGITransport, request: httpx.Request) -> Answer:
    try:
        response = transport.handle_request(request)
        body = response.read()
    except BaseException as error:
        if ends_the_process(error):
            raise
        return Answer(500, {}, b"", _crashed(error))
    return Answer(response.status_code, dict(response.headers.items()), body)


def _crashed(error: BaseException) -> str:
    _logger.debug("the app raised outside of its functions", exc_info=error)
    return crash_text(error)


def _is_asgi(app: typing.Any) -> bool:
    call = app if inspect.isfunction(app) or inspect.ismethod(app) else type(app).__call__
    return inspect.iscoroutinefunction(call)


def serve_fastapi(
    client: inngest.Inngest, functions: list[inngest.Function[typing.Any]]
) -> typing.Any:
    """Serve the functions on a bare FastAPI app, through the SDK's public ``serve``."""
    import fastapi
    import inngest.fast_api

    app = fastapi.FastAPI(openapi_url=None)
    inngest.fast_api.serve(app, client, functions)
    return app
