"""The full stack in every way of hosting that the SDK has: results, hooks and leaks."""

from __future__ import annotations

import asyncio
import functools
import json
import sys
import threading
import types
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qsl

import django.conf  # type: ignore[import-untyped,unused-ignore]
import django.urls  # type: ignore[import-untyped,unused-ignore]
import fastapi
import flask
import httpx
import inngest
import inngest.django
import inngest.fast_api
import inngest.flask
import inngest.tornado
import pytest
import tornado.httpserver
import tornado.netutil
import tornado.web
from django.core.handlers.asgi import (  # type: ignore[import-untyped,unused-ignore]
    ASGIHandler,
)
from django.core.handlers.wsgi import (  # type: ignore[import-untyped,unused-ignore]
    WSGIHandler,
)
from tests.composition.composition_app import order, whole_app
from tests.composition.composition_rig import Rig, as_it_was, custom_hooks, names_of, opener
from tests.core.core_connect import connect_sender

pytestmark = pytest.mark.anyio
Functions = list[inngest.Function[Any]]
URLS = "compatibility_urls"


def fast_api(client: inngest.Inngest, functions: Functions, close: list[Any]) -> Any:
    """FastAPI, called as ASGI."""
    app = fastapi.FastAPI()
    inngest.fast_api.serve(app, client, functions)
    return app


def flask_app(client: inngest.Inngest, functions: Functions, close: list[Any]) -> Any:
    """Flask, called as WSGI."""
    app = flask.Flask("compatibility")
    inngest.flask.serve(app, client, functions)
    return app


def _django(client: inngest.Inngest, functions: Functions) -> None:
    urls: Any = types.ModuleType(URLS)
    urls.urlpatterns = [inngest.django.serve(client, functions)]
    sys.modules[URLS] = urls
    if not django.conf.settings.configured:
        django.conf.settings.configure(
            ROOT_URLCONF=URLS, ALLOWED_HOSTS=["*"], SECRET_KEY="compatibility", LOGGING_CONFIG=None
        )
    django.urls.clear_url_caches()


def django_wsgi(client: inngest.Inngest, functions: Functions, close: list[Any]) -> Any:
    """Django, called as WSGI."""
    _django(client, functions)
    return WSGIHandler()


def django_asgi(client: inngest.Inngest, functions: Functions, close: list[Any]) -> Any:
    """Django, called as ASGI."""
    _django(client, functions)
    return ASGIHandler()


def tornado_server(client: inngest.Inngest, functions: Functions, close: list[Any]) -> Any:
    """Tornado, on a loop and a thread of its own, over HTTP on the loopback."""
    sockets = tornado.netutil.bind_sockets(0, "127.0.0.1")
    port = sockets[0].getsockname()[1]
    ready = threading.Event()
    stopping: list[Callable[[], object]] = []

    async def serve() -> None:
        app = tornado.web.Application()
        inngest.tornado.serve(app, client, functions)
        server = tornado.httpserver.HTTPServer(app)
        server.add_sockets(sockets)
        stopped = asyncio.Event()
        loop = asyncio.get_running_loop()
        stopping.append(functools.partial(loop.call_soon_threadsafe, stopped.set))
        ready.set()
        await stopped.wait()
        server.stop()
        await server.close_all_connections()

    thread = threading.Thread(target=lambda: asyncio.run(serve()), daemon=True)
    thread.start()
    assert ready.wait(200)

    def stop() -> None:
        stopping[0]()
        thread.join(10)

    close.append(stop)

    async def forward(
        method: str, query: str, headers: dict[str, str], body: bytes
    ) -> tuple[int, dict[str, str], bytes]:
        async with httpx.AsyncClient(timeout=200) as http:
            answer = await http.request(
                method,
                f"http://127.0.0.1:{port}/api/inngest?{query}",
                headers={**headers, "host": "localhost"},
                content=body,
            )
        return answer.status_code, dict(answer.headers), answer.content

    return _asgi(forward)


def connect(client: inngest.Inngest, functions: Functions, close: list[Any]) -> Any:
    """A connect worker: calls come as messages of its socket, and no request is registered."""
    registering = httpx.ASGITransport(fast_api(client, functions, close))
    post = connect_sender(client, *functions)

    async def forward(
        method: str, query: str, headers: dict[str, str], body: bytes
    ) -> tuple[int, dict[str, str], bytes]:
        if method != "POST":
            async with httpx.AsyncClient(transport=registering) as http:
                answer = await http.request(method, "http://localhost/api/inngest", content=body)
                return answer.status_code, dict(answer.headers), answer.content
        reply = await post(dict(parse_qsl(query)), headers, body)
        of_sdk = {"x-inngest-sdk": "inngest-py", "x-inngest-req-version": "2"}
        return reply.status, {**of_sdk, **reply.headers}, json.dumps(reply.body).encode()

    return _asgi(forward)


def _asgi(forward: Callable[..., Any]) -> Any:
    """An ASGI application that hands each request on."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        message = await receive()
        headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        query = scope["query_string"].decode()
        status, answered, body = await forward(
            scope["method"], query, headers, message.get("body", b"")
        )
        raw = [(name.encode(), value.encode()) for name, value in answered.items()]
        await send({"type": "http.response.start", "status": status, "headers": raw})
        await send({"type": "http.response.body", "body": body})

    return app


HOSTS: list[tuple[Callable[..., Any], bool]] = [
    (fast_api, True),
    (fast_api, False),
    (flask_app, True),
    (flask_app, False),
    (django_wsgi, False),
    (django_asgi, True),
    (tornado_server, False),
    (connect, True),
    (connect, False),
]


@pytest.mark.parametrize(
    ("host", "is_async"),
    HOSTS,
    ids=[f"{host.__name__}-{'async' if is_async else 'sync'}" for host, is_async in HOSTS],
)
async def test_the_full_stack_is_the_same_wherever_it_is_hosted(
    rig: Rig, *, host: Callable[..., Any], is_async: bool
) -> None:
    """All plugins on every host: the bare result, hooks in order, one report, and no leak."""
    bare = as_it_was(await rig.play(whole_app(is_async=is_async), order("raise"), "fulfil"), None)
    rig.records.lines.clear()
    rig.transport.envelopes.clear()
    close: list[Callable[[], None]] = []
    plugins = [*rig.plugins(), *(rig.noting(hooks) for hooks in custom_hooks())]
    app = whole_app(plugins, is_async=is_async)
    try:
        played = await rig.play(
            app,
            order("raise"),
            "fulfil",
            serve=lambda client, functions: host(client, functions, close),
        )
    finally:
        for stop in close:
            stop()
    assert as_it_was(played, opener(rig.key)) == bare
    rig.check_no_leak(played)
    rig.check_order(names_of(sorted(plugins, key=lambda plugin: plugin.layer)))
    # Django and Tornado log answers of status 500; Sentry's integrations for them ignore that.
    failures = [event for event in rig.transport.errors if event.get("level") == "error"]
    failures = [event for event in failures if "exception" in event]
    assert [event["tags"]["inngest.run.id"] for event in failures] == [played.run.id]
    traced = {s.context.trace_id for s in rig.spans.get_finished_spans() if s.context is not None}
    assert traced
    assert {"first", "left"} <= set(played.run.metadata)
