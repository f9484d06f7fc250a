"""An app whose process is killed again and again, and whose database goes away for a while.

Run as `python -m tests.mirror.kill_workload DIRECTORY URL RUNS KILLS WHEN` (see
test_mirror_kills.py). WHEN is "between", where the database
goes away while nothing is killed, or "meanwhile". In the end the mirror is compared with the
engine, and what the engine knows is printed as JSON.
"""

from __future__ import annotations

import asyncio
import json
import os
import pathlib
import random
import signal
import sys
import time
from typing import Any

import inngest
import sqlalchemy as sa
from tests.kills import start_life

from inngest_plugins.local import LocalEngine, RealClock
from inngest_plugins.mirror import MirrorPlugin, SQLAlchemyStore

LONG_RUNS = 5
LONGEST_LIFE = 0.8


async def number(n: int) -> int:
    return n


def build(directory: pathlib.Path, url: str) -> tuple[LocalEngine, MirrorPlugin]:
    """The app of one life: runs that retry, go parallel, fail, or wait to be cancelled."""
    store = SQLAlchemyStore(url)
    # A busy machine is no database that is down, and a fast one makes many reports meanwhile.
    plugin = MirrorPlugin(store, timeout=30, keep=100_000)
    client = inngest.Inngest(app_id="kill", is_production=False, middleware=[plugin])

    @client.create_function(fn_id="work", trigger=inngest.TriggerEvent(event="work"), retries=2)
    async def work(ctx: inngest.Context) -> int:
        n = int(str(ctx.event.data["n"]))

        async def charge() -> int:
            if ctx.attempt < n % 2:
                raise RuntimeError("the provider is busy")
            return n

        charged = await ctx.step.run("charge", charge)
        await ctx.group.parallel(
            (
                lambda: ctx.step.run("left", number, 1),
                lambda: ctx.step.run("right", number, 2),
            )
        )
        if n % 10 == 0:
            raise inngest.NonRetriableError("not this one")
        return charged

    @client.create_function(fn_id="long", trigger=inngest.TriggerEvent(event="long"))
    async def long(ctx: inngest.Context) -> None:
        await ctx.step.wait_for_event("answer", event="never", timeout=3_600_000)

    engine = LocalEngine(
        client,
        [work, long],
        journal=directory / "journal.sqlite3",
        clock=RealClock(),
        max_requests=8,
        retry_interval=0.01,
    )
    return engine, plugin


async def live(directory: pathlib.Path, url: str, runs: int, *, is_last: bool) -> None:
    """Send the events, which have ids: they start as many runs however often. Work."""
    opened, plugin = build(directory, url)
    async with opened as engine:
        if len(engine.runs) < runs + LONG_RUNS:
            events = [inngest.Event(name="work", id=f"{n}", data={"n": n}) for n in range(runs)]
            events += [inngest.Event(name="long", id=f"long-{n}") for n in range(LONG_RUNS)]
            await engine.send(events)
        while not is_last:
            await asyncio.sleep(1)
        while any(run.status == "Running" for run in engine.runs if run.function_id == "kill-work"):
            await asyncio.sleep(0.5)
        for run in engine.runs:
            if run.function_id == "kill-long":
                await engine.cancel(run)
        await engine.settle()
        while plugin._writer._is_keeping():
            await asyncio.sleep(0.1)
        await plugin.store.reconcile(opened._client)
        known = [
            {
                "id": run.id,
                "status": run.status,
                "steps": {
                    each: {"op": step.op, "status": step.status, "attempts": step.attempts}
                    for each, step in run.steps.items()
                },
            }
            for run in engine.runs
        ]
    await plugin.store.close()
    (directory / "known.json").write_text(json.dumps(known))


def fork(directory: pathlib.Path, url: str, runs: int, *, is_last: bool = False) -> int:
    """Start one life."""
    return start_life(lambda: live(directory, url, runs, is_last=is_last))


class Database:
    """The database, which can go away: its connections are cut, and it takes no others."""

    def __init__(self, url: str) -> None:
        parts = sa.make_url(url)
        self._name = parts.database
        self._admin = sa.create_engine(
            parts.set(drivername="postgresql+psycopg", database="postgres"),
            isolation_level="AUTOCOMMIT",
            poolclass=sa.NullPool,
        )

    def allow(self, allowed: bool) -> None:
        """Let it go away, or come back."""
        cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = :name"
        with self._admin.connect() as connection:
            connection.execute(
                sa.text(f'ALTER DATABASE "{self._name}" ALLOW_CONNECTIONS {allowed}')
            )
            if not allowed:
                connection.execute(sa.text(cut), {"name": self._name})


def torture(directory: pathlib.Path, url: str, runs: int, kills: int, when: str) -> dict[str, Any]:
    """Kill lives at random moments, and let the last one finish."""
    randomness, database, killed = random.Random(17), Database(url), 0
    for life in range(kills):
        if when == "meanwhile" and life in (kills // 3, kills // 2):
            database.allow(life != kills // 3)
        child = fork(directory, url, runs)
        time.sleep(randomness.uniform(0.1, LONGEST_LIFE))
        os.kill(child, signal.SIGKILL)
        killed += os.WIFSIGNALED(os.waitpid(child, 0)[1])
    last = fork(directory, url, runs, is_last=True)
    if when == "between":
        time.sleep(1)
        database.allow(False)
        time.sleep(2)
        database.allow(True)
    _, status = os.waitpid(last, 0)
    assert status == 0, status
    return {"killed": killed, "runs": json.loads((directory / "known.json").read_text())}


if __name__ == "__main__":
    _, folder, target, run_count, kill_count, moment = sys.argv
    print(
        json.dumps(torture(pathlib.Path(folder), target, int(run_count), int(kill_count), moment))
    )
