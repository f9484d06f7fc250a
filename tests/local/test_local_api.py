"""The engine's REST surface, through its transport, as plugins and the SDK use it."""

from __future__ import annotations

import asyncio
import datetime
import json
import typing
from collections.abc import AsyncIterator

import httpx
import inngest
import pytest
from inngest.experimental import realtime

from inngest_plugins.local import LocalEngine, Run

pytestmark = pytest.mark.anyio
Json = typing.Any


class Bench:
    """An open engine with one run that waits, and an HTTP client."""

    def __init__(self, engine: LocalEngine, http: httpx.AsyncClient, run: Run) -> None:
        self.engine, self.http, self.run = engine, http, run

    async def update(self, body: Json, run_id: str | None = None) -> tuple[int, str]:
        """Post metadata; returns status and error message."""
        content = body if isinstance(body, str) else json.dumps(body)
        answer = await self.http.post(f"/v1/runs/{run_id or self.run.id}/metadata", content=content)
        return answer.status_code, answer.json()["error"] if answer.content else ""


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    """A `Bench`."""
    client = inngest.Inngest(app_id="shop", is_production=False)

    @client.create_function(fn_id="wait", trigger=inngest.TriggerEvent(event="shop/wait"))
    async def wait(ctx: inngest.Context) -> str:
        await ctx.step.wait_for_event("w", event="shop/go", timeout=datetime.timedelta(days=1))
        return "done"

    async with (
        LocalEngine(client, [wait]) as engine,
        httpx.AsyncClient(transport=engine.transport, base_url="http://engine") as http,
    ):
        await engine.send(inngest.Event(name="shop/wait", data={"a": 1}))
        await engine.idle()
        yield Bench(engine, http, engine.runs[0])


def entry(op: str = "merge", kind: str = "userland.k", **values: Json) -> dict[str, Json]:
    """One metadata entry."""
    return {"kind": kind, "op": op, "values": values}


async def test_metadata_ops(bench: Bench) -> None:
    """merge, set, delete and add do what they say, whatever their case; merge is the default."""
    updates = [
        entry(a=1, b=2),
        entry("ADD", a=5, new=1),
        entry("delete", b=None),
        {"kind": "userland.k", "values": {"c": {"deep": True}}},
    ]
    assert await bench.update({"target": {}, "metadata": updates}) == (200, "")
    assert bench.run.metadata == {"run": {"userland.k": {"a": 6, "new": 1, "c": {"deep": True}}}}
    assert await bench.update({"metadata": [entry("set", z=1)]}) == (200, "")
    assert bench.run.metadata["run"]["userland.k"] == {"z": 1}


async def test_metadata_targets(bench: Bench) -> None:
    """Updates land on the run, a step, a repeated step, or one attempt of a step."""
    targets: list[dict[str, Json]] = [
        {"step_id": "w"},
        {"step_id": "w", "step_index": 1},
        {"step_id": "w", "step_attempt": 0},
        {"step_id": "w", "step_attempt": -1},
    ]
    for target in targets:
        assert (await bench.update({"target": target, "metadata": [entry(x=1)]}))[0] == 200
    assert list(bench.run.metadata) == ["w", "w:1", "w@0"]
    for bad in ({"step_index": 1}, {"step_attempt": 0}, {"span_id": "x"}, "w", {"step_id": 3}):
        assert await bench.update({"target": bad, "metadata": []}) == (
            400,
            "Invalid metadata target",
        )


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ([entry("explode", a=1)], "Invalid metadata target"),
        ([{"kind": "k", "op": "set", "values": [1]}], "Invalid metadata target"),
        (["nothing"], "Invalid metadata target"),
        ("nothing", "Invalid metadata target"),
        ([entry(kind="inngest.mine", a=1)], "Invalid metadata"),
        ([entry(kind="k" * 129, a=1)], "Invalid metadata"),
        ([entry(kind="inngest.score", good={"value": "high"})], "Invalid metadata"),
        ([{"kind": "inngest.score", "values": {"it's": {"value": 1}}}], "Invalid metadata"),
    ],
)
async def test_metadata_that_the_server_refuses(bench: Bench, metadata: Json, message: str) -> None:
    """Bad ops, values, kinds and scores are refused with the server's messages."""
    assert await bench.update({"metadata": metadata}) == (400, message)
    assert bench.run.metadata == {}


async def test_metadata_edges(bench: Bench) -> None:
    """Scores, empty kinds and lists, unknown and invalid runs, and bad JSON."""
    assert (await bench.update({"metadata": [entry(kind="inngest.score", a={"value": 1})]}))[
        0
    ] == 200
    assert (await bench.update({"metadata": [entry(kind="", a=1)]}))[0] == 200
    assert (await bench.update({"metadata": []}))[0] == 200
    assert (await bench.update({}))[0] == 200
    assert (await bench.update("{"))[0] == 400
    assert (await bench.update("[]"))[0] == 400
    assert await bench.update({}, run_id="nonsense") == (400, "Invalid run ID")
    assert (await bench.update({}, run_id="01M7Y8120PVQF88D1VSMK7TKTJ"))[0] == 200


async def test_metadata_sizes(bench: Bench) -> None:
    """An entry may have 64 KiB and a run 1 MiB; entries before the refused one stay."""
    small, big = entry(a="x" * (65_536 - 3)), entry(a="x" * (65_536 - 2))
    assert await bench.update({"metadata": [entry(b=1), big]}) == (
        413,
        "Metadata span exceeds maximum size of 64KB",
    )
    assert bench.run.metadata["run"]["userland.k"] == {"b": 1}
    for _ in range(15):
        assert (await bench.update({"metadata": [small]}))[0] == 200
    assert await bench.update({"metadata": [small]}) == (
        413,
        "Cumulative metadata size exceeds limit",
    )
    await bench.engine.settle()
    assert (await bench.update({"metadata": [small]}))[0] == 200


async def test_runs_and_events_can_be_read(bench: Bench) -> None:
    """Runs, the runs of an event, and events have the server's shape."""
    running = (await bench.http.get(f"/v1/runs/{bench.run.id}")).json()["data"]
    assert (running["status"], running["ended_at"]) == ("Running", None)
    event_id = bench.run.events[0]["id"]
    assert (await bench.http.get(f"/v1/events/{event_id}")).json()["data"]["name"] == "shop/wait"
    (run,) = (await bench.http.get(f"/v1/events/{event_id}/runs")).json()["data"]
    assert run == running
    assert (await bench.http.get(f"/v0/runs/{bench.run.id}/actions")).json() == {}
    (batch,) = (await bench.http.get(f"/v0/runs/{bench.run.id}/batch")).json()
    assert batch["data"] == {"a": 1}
    await bench.engine.settle()
    ended = (await bench.http.get(f"/v1/runs/{bench.run.id}")).json()["data"]
    assert (ended["status"], ended["output"]) == ("Completed", "done")
    for path in ("actions", "batch"):
        assert (await bench.http.get(f"/v0/runs/{bench.run.id}/{path}")).status_code == 410
        assert (await bench.http.get(f"/v0/runs/nobody/{path}")).status_code == 404
    for path in ("/v1/runs/x", "/v1/events/x", "/v1/events/x/runs", "/v2/never"):
        assert (await bench.http.get(path)).status_code == 404


async def test_runs_can_be_cancelled(bench: Bench) -> None:
    """DELETE cancels, also twice; unknown and invalid ids are told apart."""
    assert (await bench.http.delete(f"/v1/runs/{bench.run.id}")).status_code == 200
    assert (bench.run.status, bench.run.reason) == ("Cancelled", "cancelled through the API")
    assert (await bench.http.delete(f"/v1/runs/{bench.run.id}")).status_code == 200
    assert (await bench.http.delete("/v1/runs/01M7Y8120PVQF88D1VSMK7TKTJ")).status_code == 404
    assert (await bench.http.delete("/v1/runs/x")).status_code == 400


async def test_events_are_checked(bench: Bench) -> None:
    """What is not an event is refused with a message; one object and a list are both fine."""
    for body in (
        "{",
        "[3]",
        '{"data": {}}',
        '{"name": "a", "data": 3}',
        '{"name": "a", "ts": NaN}',
        '{"name": "a", "ts": "1"}',
        '{"name": "a", "ts": 1.5}',
        '{"name": "a", "ts": -5}',
        '{"name": "a", "ts": 4102444800001}',
        '{"name": "a", "id": 5}',
        '{"name": "a", "v": true}',
        '{"name": "Inngest/function.failed"}',
    ):
        answer = await bench.http.post("/e/key", content=body)
        assert answer.status_code == 400, body
        assert answer.json()["error"]
    one = await bench.http.post(
        "/e/key", json={"name": "a", "v": "2", "data": None, "user": {"u": 1}}
    )
    assert len(one.json()["ids"]) == 1
    event = bench.engine.events[-1]
    assert (event["v"], event["data"], event["user"]) == ("2", None, {"u": 1})
    for nothing in ("", "[]"):
        answer = await bench.http.post("/e/key", content=nothing)
        assert answer.json() == {"ids": [""], "status": 200}
    await bench.http.post("/e/key", json={"name": "a", "data": {"n": 1, "_inngest": {"x": 1}}})
    assert bench.engine.events[-1]["data"] == {"n": 1}
    assert (
        await bench.http.post("/fn/register", json={"functions": [{"id": "x"}]})
    ).status_code == 400


async def test_userland_traces_are_kept_raw(bench: Bench) -> None:
    """Protobuf and JSON bodies are accepted as posted; compressed, broken and huge ones are not."""
    protobuf = {"content-type": "application/x-protobuf"}
    url = "/v1/traces/userland"
    answer = await bench.http.post(url, content=b"\x0a\x00", headers=protobuf)
    assert (answer.status_code, answer.content) == (200, b"")
    answer = await bench.http.post(
        url, content=b'{"resourceSpans":[]}', headers={"content-type": "application/json"}
    )
    assert (answer.status_code, answer.json()) == (200, {})
    assert [trace.body for trace in bench.engine.userland_traces] == [
        b"\x0a\x00",
        b'{"resourceSpans":[]}',
    ]
    zipped = await bench.http.post(url, content=b"x", headers={"content-encoding": "gzip"})
    assert (zipped.status_code, zipped.json()["error"]) == (400, "Invalid payload")
    broken = await bench.http.post(url, content=b"{", headers={"content-type": "application/json"})
    assert broken.status_code == 400
    huge = await bench.http.post(url, content=b"x" * (8 * 1024 * 1024 + 1), headers=protobuf)
    assert huge.status_code == 413
    assert len(bench.engine.userland_traces) == 2


async def test_realtime_messages_reach_subscribers(bench: Bench) -> None:
    """The SDK's publish reaches matching subscriptions, in order; closing ends them."""
    client = bench.engine._settings.client
    everything = bench.engine.subscribe("orders")
    with bench.engine.subscribe("orders", ["paid"]) as paid:
        await realtime.publish(client, "orders", "placed", {"n": 1})
        await asyncio.to_thread(realtime.publish_sync, client, "orders", "paid", {"n": 2})
        await realtime.publish(client, "others", "paid", {"n": 3})
        message = await paid.__anext__()
        assert (message.channel, message.topic, message.data) == ("orders", "paid", {"n": 2})
    assert [message async for message in paid] == []
    everything.close()
    everything.close()
    assert [message.data["n"] async for message in everything] == [1, 2]
    assert [message async for message in everything] == []
    token = await realtime.get_subscription_token(client, "orders", ["paid"])
    assert str(token["key"]).count(".") == 2
    nowhere = await bench.http.post("/v1/realtime/publish", json={})
    assert nowhere.status_code == 200, "accepted, as on the server, and nobody's"
    assert (await bench.http.post("/v1/realtime/token", content="{")).status_code == 400
    text = bench.engine.subscribe("c")
    await bench.http.post("/v1/realtime/publish?channel=c&topic=t", content="plain")
    assert (await text.__anext__()).data == "plain"
