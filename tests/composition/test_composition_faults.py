"""What is around the runs breaks: exporters, Sentry, the engine's API, keys, clocks, processes."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import socket
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx
import pytest
import sentry_sdk
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult
from tests.composition.composition_app import EVENT, App, order, small_app, whole_app
from tests.composition.composition_plugins import NAMES
from tests.composition.composition_rig import Rig, as_it_was, opener
from tests.composition.composition_secrets import all_leaks, secret
from tests.silent_server import silent_server

from inngest_plugins.core import StackEntry, answered_by
from inngest_plugins.encryption import EncryptionPlugin, Key, KeyRing
from inngest_plugins.local import LocalEngine, VirtualClock
from inngest_plugins.metadata import metadata

pytestmark = pytest.mark.anyio
ROOT = Path(__file__).resolve().parents[2]


async def test_load_200_concurrent_runs_are_all_right() -> None:
    """200 runs at once with all plugins: no wrong result, at most 1 MiB of memory each."""
    done = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, str(ROOT / "benchmarks" / "load.py"), "--runs", "200"],
        capture_output=True,
        text=True,
        check=False,
        timeout=110,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "200 concurrent runs" in done.stdout
    assert " 0 wrong results" in done.stdout
    kept = re.search(r"\((\d+) KiB a run", done.stdout)
    assert kept is not None
    assert int(kept.group(1)) < 1024


class Down(SpanExporter):
    """An exporter that fails, in both of the ways that exporters fail."""

    def __init__(self) -> None:
        self.tried = 0

    def export(self, spans: Any) -> SpanExportResult:
        self.tried += 1
        if self.tried % 2:
            raise ConnectionError("the collector is away")
        return SpanExportResult.FAILURE


@pytest.mark.parametrize("is_async", [True, False], ids=["async", "sync"])
async def test_an_exporter_that_is_down_changes_nothing(rig: Rig, *, is_async: bool) -> None:
    """When spans cannot be exported, runs come to what they would, and nothing leaks."""
    down = Down()
    rig.provider.add_span_processor(SimpleSpanProcessor(down))
    bare = as_it_was(await rig.play(small_app(is_async=is_async), order(), "fulfil"), None)
    rig.records.lines.clear()
    played = await rig.play(small_app(rig.plugins(), is_async=is_async), order(), "fulfil")
    assert as_it_was(played, opener(rig.key)) == bare
    assert down.tried > 4
    rig.check_no_leak(played)


@pytest.mark.parametrize("mode", ["refused", "silent"])
async def test_a_sentry_that_is_down_or_slow_changes_nothing(rig: Rig, mode: str) -> None:
    """When Sentry refuses connections or never answers, failing runs are not held up."""
    bare = as_it_was(await rig.play(whole_app(), order("raise"), "fulfil"), None)
    with contextlib.ExitStack() as stack:
        if mode == "silent":
            port = stack.enter_context(silent_server())
        else:
            with socket.create_server(("127.0.0.1", 0)) as closed:
                port = closed.getsockname()[1]
        sentry_sdk.init(
            dsn=f"http://key@127.0.0.1:{port}/1",
            traces_sample_rate=1.0,
            shutdown_timeout=0,
            auto_enabling_integrations=False,
        )
        started = time.monotonic()
        played = await rig.play(whole_app(rig.plugins()), order("raise"), "fulfil")
        took = time.monotonic() - started
    assert as_it_was(played, opener(rig.key)) == bare
    assert took < 30
    rig.check_no_leak(played)


class Faulty(httpx.AsyncBaseTransport, httpx.BaseTransport):
    """The engine, whose metadata endpoint answers with 500 or late for a while."""

    def __init__(self, inner: Any, *, failures: int, delay: float) -> None:
        self.inner = inner
        self.failures = failures
        self.delay = delay
        self.failed = 0

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("/metadata"):
            time.sleep(self.delay)
            if self.failed < self.failures:
                self.failed += 1
                return httpx.Response(500)
        response: httpx.Response = self.inner.handle_request(request)
        return response

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        response: httpx.Response = await self.inner.handle_async_request(request)
        return response


@pytest.mark.parametrize(
    ("failures", "delay", "arrives"), [(1, 0.0, True), (10_000, 0.0, False), (0, 0.2, True)]
)
async def test_a_metadata_endpoint_that_fails_or_is_slow_fails_no_run(
    rig: Rig, *, failures: int, delay: float, arrives: bool
) -> None:
    """Runs complete whatever the metadata endpoint does; what a retry can deliver arrives."""
    app = App(rig.plugins())

    async def main(ctx: Any, step: Any) -> Any:
        first = await step.run("first", app.noting("first", secret("first")))
        second = await step.run("second", app.noting("second", secret("second")))
        # After the last step no operation carries it: a request of its own does.
        metadata.set("late", 1)
        return [first, second]

    app.function(main, "fulfil", EVENT, retries=0)
    async with LocalEngine(app.client, app.functions, clock=VirtualClock(0)) as engine:
        faulty = Faulty(engine.transport, failures=failures, delay=delay)
        with answered_by(app.client, faulty, faulty):
            run = await engine.run(order(), function="fulfil")
            await engine.settle()
    assert run.status == "Completed"
    assert opener(rig.key)(run.output) == [secret("first"), secret("second")]
    assert app.ran == ["first", "second"]
    assert "first" in run.metadata
    assert "second" in run.metadata
    assert ("late" in run.metadata.get("run", {}).get("userland.default", {})) == arrives
    assert faulty.failed == min(failures, 2)


async def test_keys_replaced_in_the_file_while_a_run_sleeps(rig: Rig, tmp_path: Path) -> None:
    """A key file that gets a new first key mid-way: old results are read, new ones use it."""
    old, new = Key.generate("old"), Key.generate("new")
    file = tmp_path / "keys"
    file.write_text(f"{old.to_text()}\n")
    others: list[StackEntry] = rig.plugins([name for name in NAMES if name != "encryption"])
    app = App([*others, EncryptionPlugin(KeyRing.from_file(file))])

    async def replace() -> str:
        replaced = tmp_path / "next"
        replaced.write_text(f"{new.to_text()}\n{old.to_text()}\n")
        replaced.replace(file)
        await asyncio.sleep(1.1)
        return secret("replaced")

    async def main(ctx: Any, step: Any) -> Any:
        first = await step.run("first", app.noting("first", secret("first")))
        second = await step.run("replace", replace)
        await step.sleep("nap", 60_000)
        return [first, second, await step.run("third", app.noting("third", secret("third")))]

    app.function(main, "fulfil", EVENT, retries=0)
    played = await rig.play(app, order(), "fulfil")
    assert played.run.status == "Completed", played.run.reason
    decrypt = EncryptionPlugin(KeyRing(new, old)).decrypt
    assert decrypt(played.run.output) == [secret("first"), secret("replaced"), secret("third")]
    with pytest.raises(Exception, match="old"):
        EncryptionPlugin(KeyRing(old)).decrypt(played.run.steps["third"].value)
    assert '"old"' not in json.dumps(played.run.steps["third"].value)
    rig.check_no_leak(played)


@pytest.mark.parametrize("is_async", [True, False], ids=["async", "sync"])
@pytest.mark.parametrize("jump", [-7200.0, 30 * 86400.0], ids=["back", "ahead"])
async def test_a_clock_that_jumps_loses_nothing(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, *, jump: float, is_async: bool
) -> None:
    """When the system clock is set back or ahead inside of a run, its result is the same."""
    offset = 0.0
    real, real_ns = time.time, time.time_ns
    monkeypatch.setattr(time, "time", lambda: real() + offset)
    monkeypatch.setattr(time, "time_ns", lambda: real_ns() + int(offset * 1e9))
    app = App(rig.plugins(), is_async=is_async)

    async def set_clock() -> str:
        nonlocal offset
        offset += jump
        return secret("jumped")

    async def main(ctx: Any, step: Any) -> Any:
        first = await step.run("first", app.noting("first", secret("first")))
        jumped = await step.run("jump", set_clock)
        await step.sleep("nap", 60_000)
        return [first, jumped, await step.run("third", app.noting("third", 3))]

    app.function(main, "fulfil", EVENT, retries=0)
    played = await rig.play(app, order(), "fulfil")
    assert played.run.status == "Completed"
    assert opener(rig.key)(played.run.output) == [secret("first"), secret("jumped"), 3]
    assert app.ran == ["first", "third"]
    spans = rig.spans.get_finished_spans()
    ids = [span.context.span_id for span in spans if span.context is not None]
    assert len(ids) == len(set(ids))
    assert {"first", "third"} <= set(played.run.metadata)


RUNS = 4
STEPS = 4 * RUNS


def _lines(file: Path) -> list[str]:
    return file.read_text().splitlines() if file.exists() else []


def _acknowledged(journal: Path) -> set[str]:
    """`run step` for each step whose result the journal holds."""
    connection = sqlite3.connect(journal)
    try:
        rows = connection.execute("SELECT key, body FROM documents WHERE kind = 'step'").fetchall()
    finally:
        connection.close()
    steps = ((key.partition("/")[0], json.loads(body)) for key, body in rows)
    return {f"{run} {step['id']}" for run, step in steps if step["has_memo"]}


@pytest.mark.slow
def test_kill_9_at_any_step_loses_nothing_and_leaks_nothing(tmp_path: Path) -> None:
    """A worker killed three times finishes every run, and its journal never holds plaintext."""
    (tmp_path / "keys").write_text(f"{Key.generate().to_text()}\n")
    script = Path(__file__).with_name("composition_worker.py")
    command = [sys.executable, str(script), str(tmp_path), str(RUNS)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    again: list[str] = []
    for enough in (1, 5, 9):
        known = _acknowledged(tmp_path / "journal") if enough > 1 else set[str]()
        before = len(_lines(tmp_path / "log"))
        life = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
        try:
            while len(_lines(tmp_path / "log")) < enough and life.poll() is None:
                time.sleep(0.001)
        finally:
            life.kill()
            life.wait()
        again += [line for line in _lines(tmp_path / "log")[before:] if line in known]
        leaks = [(file.name, file.read_bytes()) for file in tmp_path.glob("journal*")]
        assert all_leaks(leaks) == []
    known = _acknowledged(tmp_path / "journal")
    before = len(_lines(tmp_path / "log"))
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, check=False, timeout=200
    )
    assert done.returncode == 0, done.stderr
    again += [line for line in _lines(tmp_path / "log")[before:] if line in known]

    said = json.loads(done.stdout)
    names = ("first", "second", "third", "last")
    assert said["outputs"] == [
        [*(f"{name} {n} {secret(name)}" for name in names), 4] for n in range(RUNS)
    ]
    assert said["judged"] == [secret("deferred")] * RUNS
    assert again == []
    assert len(set(_lines(tmp_path / "log"))) == STEPS
    assert all_leaks([("stderr", done.stderr)]) == []
    leaks = [(file.name, file.read_bytes()) for file in tmp_path.glob("journal*")]
    assert all_leaks(leaks) == []
