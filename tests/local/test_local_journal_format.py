"""What the journal's file holds: a step costs the same late in a run, and old files are read."""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from pathlib import Path
from typing import Any

import inngest
import pytest
from tests.local.test_local_journal import make, send

from inngest_plugins.checkpoint import CheckpointPlugin
from inngest_plugins.local import LocalEngine
from inngest_plugins.local.journal import journal as journal_module
from inngest_plugins.local.journal.formats import write
from inngest_plugins.metadata import MetadataPlugin, metadata

pytestmark = pytest.mark.anyio


async def _written(path: Path, steps: int, monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Return the bytes that a checkpointed run of so many steps writes, by kind of document."""
    client = inngest.Inngest(
        app_id="shop", is_production=False, middleware=[CheckpointPlugin(), MetadataPlugin()]
    )

    @client.create_function(fn_id="fn", trigger=inngest.TriggerEvent(event="shop/many"))
    async def many(ctx: inngest.Context) -> None:
        async def step() -> str:
            metadata.set("progress", 1)
            return "done"

        for number in range(steps):
            await ctx.step.run(f"step {number:04}", step)
            await ctx.step.send_event(f"tell {number:04}", inngest.Event(name="shop/told"))

    written: Counter[str] = Counter()

    def counted(connection: sqlite3.Connection, kind: str, key: str, document: Any) -> None:
        written[kind] += len(json.dumps(document))
        write(connection, kind, key, document)

    monkeypatch.setattr(journal_module, "write", counted)
    async with LocalEngine(client, [many], journal=path) as engine:
        run = await engine.run(send("shop/many"))
        assert (run.status, len(run.requests)) == ("Completed", 1)
        assert len(run.events_sent) == steps
    return written


async def test_a_step_writes_as_much_late_in_a_run_as_early(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Results, events and metadata are written once each, whatever was there before."""
    few = await _written(tmp_path / "few.db", 20, monkeypatch)
    many = await _written(tmp_path / "many.db", 80, monkeypatch)
    assert few.keys() == many.keys() >= {"run", "step", "event", "metadata"}
    assert many["run"] == pytest.approx(few["run"], rel=0.1)
    for kind in ("step", "event", "metadata"):
        assert many[kind] == pytest.approx(4 * few[kind], rel=0.1), kind


async def test_a_journal_of_format_1_goes_on(tmp_path: Path) -> None:
    """A run that an older release began keeps its steps, events and metadata, and ends."""
    path = tmp_path / "journal.db"
    connection = sqlite3.connect(path)
    connection.executescript((Path(__file__).parent / "journal_1.sql").read_text())
    connection.close()
    for _ in range(2):  # As the older release left it, and as this one did.
        engine, ran = make(path)
        async with engine:
            (run,) = engine.runs
            assert [(name, step.status) for name, step in run.steps.items()] == [
                ("note", "Completed"),
                ("tell", "Completed"),
                ("nap", "Sleeping"),
            ]
            assert [event["name"] for event in run.events_sent] == ["shop/told"]
            assert run.metadata == {
                "run": {"shop.order": {"n": 1}},
                "note": {"shop.step": {"n": 1}},
            }
    engine, ran = make(path)
    async with engine:
        await engine.settle()
        (run, child) = engine.runs
        assert (run.status, run.output) == ("Completed", ["noted", None, 1])
        assert child.parent_run_id == run.id
        stack = run.requests[-1].request["ctx"]["stack"]["stack"]
        assert stack == [step.hashed_id for step in run.steps.values()]
    assert ran == []
