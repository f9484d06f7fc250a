"""Workers that are killed: what the workloads and the tests that start them share.

A workload is a module that is run as a program. It imports everything once and forks a process for
every life, so that a hundred lives take seconds.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import os
import sqlite3
import subprocess
import sys
import traceback
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any

import inngest

from inngest_plugins.local import LocalEngine

# Imported once, before forking: it takes longer than a life.
importlib.import_module("inngest.fast_api")

ROOT = Path(__file__).parents[1]


def run_workload(module: str, *arguments: object, timeout: float = 400) -> Any:
    """Run a workload as a program of its own; return the JSON that it prints last."""
    done = subprocess.run(
        [sys.executable, "-m", module, *map(str, arguments)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=timeout,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def start_life(live: Callable[[], Coroutine[Any, Any, None]]) -> int:
    """Fork a process that runs one life; return its id."""
    child = os.fork()
    if child == 0:
        try:
            asyncio.run(live())
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    return child


def start_open_life(engine: LocalEngine, events: Sequence[inngest.Event]) -> int:
    """Fork a process that finishes the events' runs; return its id when its engine is open."""
    ready, signal_ready = os.pipe()
    child = start_life(lambda: finish(engine, events, opened=lambda: os.write(signal_ready, b"!")))
    os.close(signal_ready)
    os.read(ready, 1)
    os.close(ready)
    return child


async def finish(
    engine: LocalEngine,
    events: Sequence[inngest.Event],
    opened: Callable[[], object] = lambda: None,
) -> None:
    """Send the events and finish. They have ids: they start as many runs however often."""
    async with engine:
        opened()
        await engine.send(list(events))
        await engine.settle()


def acknowledged(journal: Path) -> set[tuple[str, str]]:
    """The run and step ids of which the journal holds the result."""
    if not journal.exists():
        return set()
    connection = sqlite3.connect(journal)
    try:
        rows = connection.execute("SELECT key, body FROM documents WHERE kind = 'step'").fetchall()
    except sqlite3.OperationalError:
        return set()
    finally:
        connection.close()
    steps = ((key.partition("/")[0], json.loads(body)) for key, body in rows)
    return {(run, step["id"]) for run, step in steps if step["has_memo"]}


def executed(log: Path) -> list[tuple[int, str, str]]:
    """What a workload has noted in its log: life, run and step, in order."""
    if not log.exists():
        return []
    lines = (line.split() for line in log.read_text().splitlines())
    return [(int(life), run, step) for life, run, step in lines]


def ran_again(log: Path, life: int, known: set[tuple[str, str]]) -> list[str]:
    """What this life ran although its result was acknowledged before."""
    return [
        f"ran again {run} {step}"
        for number, run, step in executed(log)
        if number == life and (run, step) in known
    ]


def wrong_outputs(engine: LocalEngine, expected: list[Any]) -> list[str]:
    """What is wrong with the outputs of all runs in the engine's journal."""

    async def look() -> list[Any]:
        async with engine:
            return [run.output for run in engine.runs]

    outputs = asyncio.run(look())
    return [] if outputs == expected else [f"outputs {outputs}"]
