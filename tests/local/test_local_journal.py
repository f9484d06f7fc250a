"""The journal: what is committed survives, everything else is done again."""

from __future__ import annotations

import asyncio
import datetime
import os
import sqlite3
import stat
import subprocess
import sys
import typing
from pathlib import Path

import inngest
import pytest
from tests.kills import run_workload

from inngest_plugins.local import JournalError, LocalEngine, LocalEngineError
from inngest_plugins.local.journal.journal import SqliteJournal

td = datetime.timedelta


def make(journal: Path, app_id: str = "shop") -> tuple[LocalEngine, list[str]]:
    """An engine with functions that use everything that the journal must keep."""
    client = inngest.Inngest(app_id=app_id, is_production=False)
    ran: list[str] = []

    @client.create_function(
        fn_id="all",
        trigger=inngest.TriggerEvent(event="shop/all"),
        cancel=[inngest.Cancel(event="shop/stop", if_exp="event.data.id == async.data.id")],
    )
    async def everything(ctx: inngest.Context) -> typing.Any:
        async def note() -> str:
            ran.append("note")
            return "noted"

        note_ = await ctx.step.run("note", note)
        await ctx.step.send_event("tell", inngest.Event(name="shop/told"))
        await ctx.step.sleep("nap", td(days=1))
        got = await ctx.step.wait_for_event("go", event="shop/go", timeout=td(days=30))
        child_ = await ctx.step.invoke("call", function=child, data={"x": 1})
        return [note_, got.data if got else None, child_]

    @client.create_function(fn_id="child", trigger=inngest.TriggerEvent(event="shop/child"))
    async def child(ctx: inngest.Context) -> typing.Any:
        await ctx.step.sleep("c", td(days=1))
        return ctx.event.data["x"]

    @client.create_function(
        fn_id="bulk",
        trigger=inngest.TriggerEvent(event="shop/bulk"),
        batch_events=inngest.Batch(max_size=3, timeout=td(days=1)),
    )
    async def bulk(ctx: inngest.Context) -> int:
        return len(ctx.events)

    return LocalEngine(client, [everything, child, bulk], journal=journal), ran


def send(name: str, **data: typing.Any) -> inngest.Event:
    """An event."""
    return inngest.Event(name=name, data=data)


@pytest.mark.anyio
async def test_every_kind_of_state_survives_a_restart(tmp_path: Path) -> None:
    """Sleeps, waits, invokes, batches, cancellations and event ids go on in the next engine."""
    journal = tmp_path / "journal.db"
    engine, ran = make(journal)
    named = inngest.Event(name="shop/bulk", id="one", data={})
    async with engine:
        await engine.send([send("shop/all", id=1), send("shop/all", id=2), named])
        await engine.idle()
        assert ran == ["note", "note"]
        assert [run.status for run in engine.runs] == ["Running", "Running"]
        first_requests = [request.request for request in engine.runs[0].requests]

    engine, ran = make(journal)
    async with engine:
        await engine.send(send("shop/stop", id=2))
        one, two = engine.runs
        assert (one.status, two.status) == ("Running", "Cancelled")
        assert [request.request for request in one.requests] == first_requests
        assert one.steps["nap"].status == "Sleeping"
        assert [event["name"] for event in one.events_sent] == ["shop/told"]
        await engine.send([named, send("shop/bulk"), send("shop/bulk")])
        await engine.idle()
        assert engine.runs[2].output == 3

    # Let the sleep end, and stop in the wait that follows.
    engine, ran = make(journal)
    async with engine:
        with_go = engine.runs[0]
        task = asyncio.get_running_loop().create_task(engine.settle())
        while "go" not in with_go.steps:
            await asyncio.sleep(0.005)
        task.cancel()

    engine, ran = make(journal)
    async with engine:
        assert engine.runs[0].steps["go"].status == "Waiting"
        await engine.send(send("shop/go", by="us"))
        await engine.idle()
        assert engine.runs[0].steps["call"].status == "Invoking"

    engine, ran = make(journal)
    async with engine:
        await engine.settle(timeout=200)
        one = engine.runs[0]
        assert (one.status, one.output) == ("Completed", ["noted", {"by": "us"}, 1])
        assert ran == []
        assert engine.runs[3].parent_run_id == one.id
        assert one.steps["call"].invoked_run_id == engine.runs[3].id


@pytest.mark.anyio
async def test_second_engine_on_a_journal_is_refused(tmp_path: Path) -> None:
    """While an engine has a journal open, nobody else gets it, in this process or another."""
    journal = tmp_path / "journal.db"
    engine, _ = make(journal)
    other, _ = make(journal)
    async with engine:
        with pytest.raises(JournalError, match="another engine has it open"):
            await other.__aenter__()
        script = (
            f"from inngest_plugins.local.journal.journal import *; SqliteJournal({str(journal)!r})"
        )
        done = subprocess.run(
            [sys.executable, "-c", script], capture_output=True, text=True, timeout=200
        )
        assert "another engine has it open" in done.stderr
    async with other:
        assert other.runs == []


@pytest.mark.anyio
async def test_journal_belongs_to_one_app(tmp_path: Path) -> None:
    """The journal of one app is not continued by another."""
    journal = tmp_path / "journal.db"
    engine, _ = make(journal)
    async with engine:
        pass
    stranger, _ = make(journal, "other")
    with pytest.raises(LocalEngineError, match="belongs to app 'shop', not to 'other'"):
        await stranger.__aenter__()
    async with engine:
        pass


def test_files_that_are_no_journals_are_refused(tmp_path: Path) -> None:
    """Foreign databases, other formats, other files and missing folders are named errors."""
    foreign = tmp_path / "foreign.db"
    connection = sqlite3.connect(foreign)
    connection.execute("CREATE TABLE t (x)")
    connection.close()
    with pytest.raises(JournalError, match="another program"):
        SqliteJournal(foreign)
    newer = tmp_path / "newer.db"
    SqliteJournal(newer).close()
    connection = sqlite3.connect(newer)
    connection.execute("PRAGMA user_version=99")
    connection.close()
    with pytest.raises(JournalError, match="format 99"):
        SqliteJournal(newer)
    text = tmp_path / "notes.txt"
    text.write_text("not a database, but long enough to be mistaken for one" * 100)
    with pytest.raises(JournalError, match="not a database"):
        SqliteJournal(text)
    with pytest.raises(JournalError, match="cannot be opened"):
        SqliteJournal(tmp_path / "missing" / "journal.db")


def test_what_is_not_committed_is_gone(tmp_path: Path) -> None:
    """A transition that was not committed leaves no trace; deletes and overwrites do count."""
    path = tmp_path / "journal.db"
    journal = SqliteJournal(path)
    journal.put("run", "a", 1)
    journal.put("run", "b", 2)
    journal.commit()
    journal.put("run", "a", 3)
    journal.delete("run", "b")
    journal.close()
    journal = SqliteJournal(path)
    assert list(journal.load("run")) == [("a", 1), ("b", 2)]
    journal.put("run", "a", 3)
    journal.delete("run", "b")
    journal.commit()
    journal.close()
    journal = SqliteJournal(path)
    assert list(journal.load("run")) == [("a", 3)]
    assert path.read_bytes()[:15] == b"SQLite format 3"
    journal.close()


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_hundred_kills_lose_nothing(tmp_path: Path) -> None:
    """After SIGKILL at 100 random moments every run ends and no acknowledged step ran again."""
    result = run_workload("tests.local.crash_workload", tmp_path, 100)
    assert result["problems"] == []
    assert result["kills"] >= 100
    # Each step of each run; those that a kill hit at work again, as nobody knew their result.
    assert result["executions"] >= result["rounds"] * 10 * 5
    # No more of them than requests were in flight.
    assert result["executions"] <= result["rounds"] * 10 * 5 + result["kills"] * 3


@pytest.mark.skipif(os.name != "posix", reason="permissions of POSIX")
def test_a_new_journal_is_its_owners(tmp_path: Path) -> None:
    """It holds payloads: nobody else may read it, nor what SQLite keeps beside it."""
    path = tmp_path / "runs.db"
    before = os.umask(0)
    try:
        journal = SqliteJournal(path)
        journal.put("run", "key", {"a": 1})
        journal.commit()
        files = {file.name: stat.S_IMODE(file.stat().st_mode) for file in tmp_path.iterdir()}
        journal.close()
    finally:
        os.umask(before)
    assert set(files) >= {"runs.db", "runs.db-wal"}
    assert set(files.values()) == {0o600}
    path.chmod(0o640)
    SqliteJournal(path).close()
    assert stat.S_IMODE(path.stat().st_mode) == 0o640, "the owner's choice stays"


def test_a_journal_in_no_folder(tmp_path: Path) -> None:
    """The message names the file."""
    with pytest.raises(JournalError, match=r"runs\.db: cannot be opened"):
        SqliteJournal(tmp_path / "none" / "runs.db")
