"""The mirror on a real server: after a comparison it equals the server's list of runs."""

from __future__ import annotations

import asyncio
import datetime as dt
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import inngest

from inngest_plugins.core import EngineApi
from inngest_plugins.mirror import MirroredRun, MirrorPlugin, RunDetail, Scope, SQLAlchemyStore

if TYPE_CHECKING:
    from tests.live.conftest import LiveServer

EVERYTHING = Scope.of_everything()


async def server_runs(client: inngest.Inngest) -> dict[str, str]:
    """Status of every run of the app as the server lists them."""
    api = EngineApi(client)
    found: dict[str, str] = {}
    params: dict[str, str] = {"limit": "100"}
    while True:
        answer: Any = (await api.request("GET", "/api/v2/runs", params=params)).json()
        for run in answer["data"]:
            if run["app"]["id"] == client.app_id:
                found[run["id"]] = run["status"].capitalize()
        if not answer["page"].get("hasMore"):
            return found
        params["cursor"] = answer["page"]["cursor"]


async def detail_of(store: SQLAlchemyStore, run_id: str) -> RunDetail:
    """The run with its steps, which must be there."""
    detail = await store.run(run_id, EVERYTHING)
    assert detail is not None
    return detail


async def wait_until(
    store: SQLAlchemyStore, run_id: str, condition: Callable[[MirroredRun], bool]
) -> None:
    """Wait until a run's row is there and fulfils a condition."""
    deadline = time.monotonic() + 60
    while True:
        detail = await store.run(run_id, EVERYTHING)
        if detail is not None and condition(detail.run):
            return
        assert time.monotonic() < deadline, detail
        await asyncio.sleep(0.1)


def test_live_the_mirror_equals_the_servers_list(live_server: LiveServer, tmp_path: Path) -> None:
    """Runs that completed, failed after retries, sleep, and were cancelled."""
    app = f"live-mirror-{uuid.uuid4().hex[:8]}"
    store = SQLAlchemyStore(f"sqlite:///{tmp_path / 'mirror.db'}")
    client = live_server.client(app, middleware=[MirrorPlugin(store, timeout=30)])

    async def seven() -> int:
        return 7

    @client.create_function(fn_id="short", trigger=inngest.TriggerEvent(event=f"{app}/short"))
    async def short(ctx: inngest.Context) -> int:
        await ctx.group.parallel(
            (lambda: ctx.step.run("left", seven), lambda: ctx.step.run("right", seven))
        )
        return await ctx.step.run("last", seven)

    @client.create_function(
        fn_id="bad", trigger=inngest.TriggerEvent(event=f"{app}/bad"), retries=0
    )
    async def bad(ctx: inngest.Context) -> None:
        raise ValueError("no")

    @client.create_function(fn_id="long", trigger=inngest.TriggerEvent(event=f"{app}/long"))
    async def long(ctx: inngest.Context) -> None:
        await ctx.step.run("seven", seven)
        await ctx.step.sleep("pause", dt.timedelta(hours=1))

    live_server.serve(client, [short, bad, long])
    ids = {
        name: live_server.start(client, inngest.Event(name=f"{app}/{event}"))
        for name, event in (
            ("short", "short"),
            ("bad", "bad"),
            ("sleeps", "long"),
            ("cancelled", "long"),
        )
    }
    live_server.ended(ids["short"])
    live_server.ended(ids["bad"])

    async def check() -> None:
        for name in ("sleeps", "cancelled"):
            await wait_until(store, ids[name], lambda run: run.status == "Running")
        await asyncio.to_thread(live_server.cancel, ids["cancelled"])
        await store.reconcile(client)
        listed = await server_runs(client)
        mirrored = {run.run_id: run for run in (await store.runs(EVERYTHING)).runs}
        assert {run_id: run.status for run_id, run in mirrored.items()} == listed
        assert set(listed) == set(ids.values())
        assert all(run.confirmed_at is not None for run in mirrored.values())
        assert {name: mirrored[run_id].status for name, run_id in ids.items()} == {
            "short": "Completed",
            "bad": "Failed",
            "sleeps": "Running",
            "cancelled": "Cancelled",
        }
        steps = (await detail_of(store, ids["short"])).steps
        assert {step.step_id: step.status for step in steps} == dict.fromkeys(
            ("left", "right", "last"), "Completed"
        )
        assert mirrored[ids["bad"]].error_class == "ValueError"
        again = await store.reconcile(client)
        assert (again.corrected, again.lost) == (0, 0)
        for run_id, status in listed.items():
            # Asked for one run, the server tells less.
            await store.refresh(client, run_id)
            assert (await detail_of(store, run_id)).run.status == status

    try:
        asyncio.run(check())
    finally:
        store.close_sync()


def test_live_runs_that_were_never_written(live_server: LiveServer, tmp_path: Path) -> None:
    """A comparison finds a run of which no request was mirrored, with its steps."""
    app = f"live-mirror-{uuid.uuid4().hex[:8]}"
    client = live_server.client(app)

    async def seven() -> int:
        return 7

    @client.create_function(fn_id="short", trigger=inngest.TriggerEvent(event=f"{app}/short"))
    async def fn(ctx: inngest.Context) -> int:
        return await ctx.step.run("seven", seven)

    live_server.serve(client, [fn])
    run_id = live_server.start(client, inngest.Event(name=f"{app}/short"))
    live_server.ended(run_id)
    store = SQLAlchemyStore(f"sqlite:///{tmp_path / 'mirror.db'}")

    async def check() -> None:
        found = await store.reconcile(client)
        assert (found.compared, found.corrected) == (1, 1)
        detail = await detail_of(store, run_id)
        assert (detail.run.status, detail.run.function_id) == ("Completed", "short")
        assert [(step.step_id, step.status) for step in detail.steps] == [("seven", "Completed")]

    try:
        asyncio.run(check())
    finally:
        store.close_sync()
