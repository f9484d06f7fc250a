"""What only a server in production mode shows: signed requests, keys, rotation, environments."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
import uuid
from collections.abc import Iterator
from typing import Any

import httpx
import inngest
import pytest
from inngest.connect import connect
from tests.live.conftest import LiveServer
from tests.live.live_client import IN_PRODUCTION, SIGNING_KEY

from inngest_plugins.core import Call, Hooks
from inngest_plugins.encryption import EncryptionPlugin, KeyRing
from inngest_plugins.metadata import MetadataPlugin, metadata

needs_production = pytest.mark.skipif(
    not IN_PRODUCTION, reason="INNGEST_SIGNING_KEY and INNGEST_EVENT_KEY are not set"
)

WRONG_KEY = "signkey-prod-" + "0f" * 32


def make_function(
    client: inngest.Inngest, event: str, *, retries: int = 0
) -> inngest.Function[Any]:
    """Make a function of two steps that records metadata."""

    @client.create_function(
        fn_id="work", trigger=inngest.TriggerEvent(event=event), retries=retries
    )
    async def work(ctx: inngest.Context) -> int:
        first = await ctx.step.run("first", one)
        metadata.set("progress", 0.5)
        return first + await ctx.step.run("second", one)

    return work


async def one() -> int:
    """A step's handler."""
    return 1


def unique(name: str) -> str:
    """Return a name that no earlier run of the suite has used."""
    return f"{name}-{uuid.uuid4().hex[:8]}"


@needs_production
def test_live_signed_requests_and_rest_calls(live_server: LiveServer) -> None:
    """A run goes through, and the plugins' REST calls are made by the signing key."""
    app = unique("live-signed")
    told: list[str] = []
    hooks = Hooks("told")

    @hooks.before_response
    async def ask(call: Call) -> None:
        answer = await call.engine.api.request("GET", f"/v1/runs/{call.run_id}")
        told.append(answer.json()["data"]["run_id"])

    client = live_server.client(
        app, middleware=[hooks, MetadataPlugin(), EncryptionPlugin(KeyRing.generate())]
    )
    live_server.serve(client, [make_function(client, f"{app}/go")])
    run_id = live_server.start(client, inngest.Event(name=f"{app}/go", data={"encrypted": 1}))
    assert live_server.ended(run_id)["status"] == "COMPLETED"
    assert set(told) == {run_id}


@needs_production
def test_live_an_unsigned_request_is_refused(live_server: LiveServer) -> None:
    """Who does not hold the key cannot call the app."""
    app = unique("live-unsigned")
    client = live_server.client(app, middleware=[MetadataPlugin()])
    endpoint = live_server.serve(client, [make_function(client, f"{app}/go")])
    body = {"ctx": {"run_id": "r", "attempt": 0}, "event": {"name": "e"}, "events": [], "steps": {}}
    answer = httpx.post(f"{endpoint}?fnId={app}-work&stepId=step", json=body)
    assert answer.status_code >= 400


@needs_production
def test_live_the_fallback_key_works_after_a_rotation(
    live_server: LiveServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The app has the new key already, the server still the old one."""
    app = unique("live-rotation")
    monkeypatch.setenv("INNGEST_SIGNING_KEY_FALLBACK", str(SIGNING_KEY))
    client = live_server.client(
        app,
        signing_key=WRONG_KEY,
        middleware=[MetadataPlugin(), EncryptionPlugin(KeyRing.generate())],
    )
    live_server.serve(client, [make_function(client, f"{app}/go")])
    run_id = live_server.start(client, inngest.Event(name=f"{app}/go"))
    assert live_server.ended(run_id)["status"] == "COMPLETED"


@needs_production
def test_live_a_wrong_key_is_refused_clearly(live_server: LiveServer) -> None:
    """Registering with a wrong key says so, and nothing of the app is called."""
    app = unique("live-wrong-key")
    client = live_server.client(app, signing_key=WRONG_KEY, middleware=[MetadataPlugin()])
    with pytest.raises(AssertionError, match="registration_failed"):
        live_server.serve(client, [make_function(client, f"{app}/go")])


@needs_production
def test_live_a_refused_rest_call_is_logged_once_and_harms_no_run(
    live_server: LiveServer, caplog: pytest.LogCaptureFixture
) -> None:
    """Where the engine refuses what a plugin asks of it, the run ends as without."""
    app = unique("live-refused")
    hooks = Hooks("refused", fail_open=True)

    @hooks.before_response
    async def ask(call: Call) -> None:
        answer = await call.engine.api.request("POST", "/v1/no-such-endpoint")
        answer.raise_for_status()

    client = live_server.client(app, middleware=[hooks, MetadataPlugin()])
    live_server.serve(client, [make_function(client, f"{app}/go")])
    with caplog.at_level(logging.ERROR, logger="inngest_plugins"):
        run_id = live_server.start(client, inngest.Event(name=f"{app}/go"))
        assert live_server.ended(run_id)["status"] == "COMPLETED"
    assert "plugin 'refused'" in caplog.text


@contextlib.contextmanager
def connected(client: inngest.Inngest, functions: list[inngest.Function[Any]]) -> Iterator[None]:
    """Serve functions over a connect worker's connection."""
    loop = asyncio.new_event_loop()
    worker = connect([(client, functions)], shutdown_signals=[])
    thread = threading.Thread(target=loop.run_until_complete, args=(worker.start(),), daemon=True)
    thread.start()
    try:
        yield
    finally:
        asyncio.run_coroutine_threadsafe(worker.close(), loop).result(20)
        thread.join(20)
        loop.close()


def test_live_connect(live_server: LiveServer) -> None:
    """A worker that the server reaches by its own connection runs with the plugins, too."""
    app = unique("live-connect")
    client = live_server.client(
        app, middleware=[MetadataPlugin(), EncryptionPlugin(KeyRing.generate())]
    )
    # The server knows an app some time before it can reach the worker.
    with connected(client, [make_function(client, f"{app}/go", retries=4)]):
        deadline = time.monotonic() + 30
        while app not in str(live_server.query("{apps{name}}")):
            assert time.monotonic() < deadline, "the worker did not connect"
            time.sleep(0.2)
        run_id = live_server.start(client, inngest.Event(name=f"{app}/go"))
        assert live_server.ended(run_id)["status"] == "COMPLETED"
