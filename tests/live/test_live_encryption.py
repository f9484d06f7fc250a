"""Encryption against a real server: nothing in the clear there, and neighbours of other kinds."""

from __future__ import annotations

import json
import uuid
from typing import TYPE_CHECKING, Any

import httpx
import inngest
import inngest_encryption

from inngest_plugins.encryption import EncryptionPlugin, Key, KeyRing

if TYPE_CHECKING:
    from tests.live.conftest import LiveServer

SHARED = "a passphrase that both apps know"


def outputs(live_server: LiveServer, run: Any) -> str:
    """Everything the server shows of a run: its tree, and each step's stored output."""
    texts = [json.dumps(run)]
    pending = [run["trace"]]
    while pending:
        span = pending.pop()
        pending.extend(span.get("childrenSpans") or [])
        if span.get("outputID"):
            query = '{runTraceSpanOutputByID(outputID:"%s"){data error{name message stack}}}'
            texts.append(json.dumps(live_server.query(query % span["outputID"])))
    return "\n".join(texts)


def test_parent_and_child_with_other_rings_and_middleware(live_server: LiveServer) -> None:
    """A parent on this plugin invokes a child on the official Python middleware, and back."""
    name = f"enc-{uuid.uuid4().hex[:8]}"
    canary = f"canary-{uuid.uuid4().hex}"
    parent_client = live_server.client(
        f"{name}-parent",
        middleware=[
            EncryptionPlugin(
                KeyRing(Key.official(SHARED), Key.generate("own")), strategy="libsodium"
            )
        ],
    )
    child_client = live_server.client(
        f"{name}-child",
        middleware=[inngest_encryption.EncryptionMiddleware.factory(SHARED)],
    )
    seen: dict[str, Any] = {}

    @child_client.create_function(fn_id="child", trigger=inngest.TriggerEvent(event=f"{name}/c"))
    async def child(ctx: inngest.Context) -> Any:
        seen["child"] = ctx.event.data["encrypted"]
        return {"back": ctx.event.data["encrypted"]}

    async def on_failure(ctx: inngest.Context) -> None:
        data: Any = ctx.event.data
        seen["failure"] = data["error"]["message"]
        seen["failed event"] = data["event"]["data"]["encrypted"]

    @parent_client.create_function(
        fn_id="parent",
        retries=0,
        trigger=inngest.TriggerEvent(event=f"{name}/p"),
        on_failure=on_failure,
    )
    async def parent(ctx: inngest.Context) -> None:
        async def step() -> str:
            return canary

        seen["step"] = await ctx.step.run("step", step)
        seen["invoke"] = await ctx.step.invoke_by_id(
            "invoke",
            app_id=f"{name}-child",
            function_id="child",
            data={"encrypted": ctx.event.data["encrypted"]},
        )
        raise ValueError(canary)

    live_server.serve(child_client, [child])
    live_server.serve(parent_client, [parent])
    run_id = live_server.start(
        parent_client, inngest.Event(name=f"{name}/p", data={"encrypted": canary})
    )
    run = live_server.ended(run_id)
    assert run["status"] == "FAILED"
    shown = outputs(live_server, run)
    events = httpx.get(f"{live_server.url}/v1/events", timeout=30).text
    assert canary not in shown + events
    assert seen["step"] == seen["child"] == canary
    assert seen["invoke"] == {"back": canary}


def test_our_own_format_between_apps_with_other_rings(live_server: LiveServer) -> None:
    """Two apps share one key, each as another member of its ring; workers rotate apart."""
    name = f"enc-{uuid.uuid4().hex[:8]}"
    canary = f"canary-{uuid.uuid4().hex}"
    shared = Key.generate("shared")
    parent_ring, child_ring = KeyRing(shared), KeyRing(shared, Key.generate("next"))
    clients = [
        live_server.client(f"{name}-{role}", middleware=[EncryptionPlugin(ring, event_fields="*")])
        for role, ring in (("parent", parent_ring), ("child", child_ring))
    ]

    @clients[1].create_function(fn_id="child", trigger=inngest.TriggerEvent(event=f"{name}/c"))
    async def child(ctx: inngest.Context) -> Any:
        return {"got": ctx.event.data["secret"], "engine": "_inngest" in ctx.event.data}

    @clients[0].create_function(fn_id="parent", trigger=inngest.TriggerEvent(event=f"{name}/p"))
    async def parent(ctx: inngest.Context) -> Any:
        results = await ctx.group.parallel(
            tuple(
                lambda n=n: ctx.step.invoke_by_id(  # type: ignore[misc]
                    f"invoke-{n}",
                    app_id=f"{name}-child",
                    function_id="child",
                    data={"secret": ctx.event.data["secret"]},
                )
                for n in range(2)
            )
        )
        return list(results)

    live_server.serve(clients[1], [child])
    live_server.serve(clients[0], [parent])
    run_id = live_server.start(clients[0], inngest.Event(name=f"{name}/p", data={"secret": canary}))
    run = live_server.ended(run_id)
    assert run["status"] == "COMPLETED"
    assert canary not in outputs(live_server, run)
    opened = EncryptionPlugin(parent_ring).decrypt(json.loads(run["output"]))
    assert opened == [{"got": canary, "engine": True}] * 2
