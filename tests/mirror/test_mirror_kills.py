"""Processes that are killed and a database that goes away: then the mirror equals the engine."""

from __future__ import annotations

import asyncio
import json
import pathlib
import subprocess
import sys
from collections import defaultdict
from typing import Any

import pytest
from tests.kills import ROOT

from inngest_plugins.mirror import SQLAlchemyStore
from inngest_plugins.mirror.store.tables import attempts, runs, steps

from .conftest import Server, rows_of

RUNS, KILLS = 495, 9
"""Each of two processes has so many runs, and five more that are cancelled."""


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_thousand_runs(postgres: Server, tmp_path: pathlib.Path) -> None:
    """Every run, step and attempt is as the engine has it.

    Reports that are kept while the database is away end with their process: where that is killed
    meanwhile, statuses are made good, and what is known of attempts is true.
    """
    moments = ("between", "meanwhile")
    urls = [postgres.new_database().replace("postgresql", "postgresql+asyncpg") for _ in moments]
    workers: list[subprocess.Popen[str]] = []
    for moment, url in zip(moments, urls, strict=True):
        store = SQLAlchemyStore(url)
        store.upgrade_sync()
        store.close_sync()
        (tmp_path / moment).mkdir()
        arguments = [str(tmp_path / moment), url, str(RUNS), str(KILLS), moment]
        workers.append(
            subprocess.Popen(
                [sys.executable, "-m", "tests.mirror.kill_workload", *arguments],
                cwd=ROOT,
                stdout=subprocess.PIPE,
                text=True,
            )
        )
    said = [worker.communicate(timeout=280)[0] for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0]
    for moment, url, text in zip(moments, urls, said, strict=True):
        found = json.loads(text)
        assert found["killed"] == KILLS
        assert len(found["runs"]) == RUNS + 5
        asyncio.run(compare(url, found["runs"], is_exact=moment == "between"))


async def compare(url: str, known: list[dict[str, Any]], *, is_exact: bool) -> None:
    """Compare all rows with what the engine knows."""
    store = SQLAlchemyStore(url)
    run_rows = {row["run_id"]: row for row in await rows_of(store, runs)}
    step_rows: dict[str, dict[str, Any]] = defaultdict(dict)
    for row in await rows_of(store, steps):
        step_rows[row["run_id"]][row["step_id"]] = row
    tried: dict[tuple[str, str], list[tuple[int, str]]] = defaultdict(list)
    for row in await rows_of(store, attempts):
        tried[row["run_id"], row["hashed_id"]].append((row["attempt"], row["status"]))
    await store.close()
    assert {each: row["status"] for each, row in run_rows.items()} == {
        run["id"]: run["status"] for run in known
    }
    unknown = 0
    for run in known:
        rows = step_rows[run["id"]]
        assert {each: row["status"] for each, row in rows.items()} == {
            each: expected_status(run, step) for each, step in run["steps"].items()
        }, run
        for each, step in run["steps"].items():
            if step["op"] == "StepRun":
                made = sorted(tried[run["id"], rows[each]["hashed_id"]])
                told = expected_attempts(step)
                assert set(made) <= set(told), (run, each)
                assert rows[each]["attempts"] in (None, len(told)), (run, each)
                unknown += made != told or rows[each]["attempts"] is None
    assert not (is_exact and unknown), unknown


def expected_status(run: dict[str, Any], step: dict[str, Any]) -> str:
    """The mirror's word for a step that ended, or whose run was cancelled while it waited."""
    if run["status"] == "Cancelled":
        return "Waiting"
    return "Failed" if step["status"] == "Failed" else "Completed"


def expected_attempts(step: dict[str, Any]) -> list[tuple[int, str]]:
    """All attempts but the last failed."""
    last = step["attempts"] - 1
    return [(n, "Completed" if n == last else "Failed") for n in range(last + 1)]
