"""Beyond the SDK's own ops: checkpoints, deferred functions, signals, metadata on ops."""

from __future__ import annotations

import contextlib
import json
import shutil
import time
import typing
from collections.abc import Iterator
from pathlib import Path

import httpx
import inngest
import pytest

from inngest_plugins.local import LocalEngine
from inngest_plugins.local.journal.journal import open_journal
from inngest_plugins.local.journal.store import Store
from inngest_plugins.local.wire.protocol import canonical

from .scripted import Answer, Json, Scripted, checkpoint, defer, hashed, op

pytestmark = pytest.mark.anyio


def make_engine(app: Scripted, **options: Json) -> LocalEngine:
    """An engine for the scripted app."""
    return LocalEngine(app.client, app.functions, serve=app.serve, retry_interval=1, **options)


def event(name: str, **data: Json) -> inngest.Event:
    """An event that starts a scripted function."""
    return inngest.Event(name=f"app/{name}", data=data)


async def post(engine: LocalEngine, path: str, body: Json) -> httpx.Response:
    """Call the engine's API."""
    async with httpx.AsyncClient(transport=engine.transport) as http:
        return await http.post(f"http://engine{path}", json=body)


async def save(engine: LocalEngine, body: Json, *ops: Json, **more: Json) -> httpx.Response:
    """Make a checkpoint call for a request."""
    path = f"/v1/checkpoint/{body['ctx']['run_id']}/async"
    return await post(engine, path, checkpoint(body, *ops, **more))


async def test_a_checkpointed_step_says_so_and_has_the_apps_times() -> None:
    """Reports can tell which steps came by checkpoint, and when they ran."""
    started = time.time_ns()

    async def script(body: Json) -> Answer:
        timing = {"a": started, "b": 250_000_000}
        answer = await save(engine, body, op("StepRun", "one", data=1, timing=timing))
        assert answer.status_code == 200
        assert answer.content == b""
        return 200, "done"

    engine = make_engine(Scripted({"steps": script}))
    async with engine:
        run = await engine.run(event("steps"))
    step = run.steps["one"]
    assert step.checkpointed
    assert (step.status, step.value, step.attempts) == ("Completed", 1, 1)
    assert step.ended_at is not None
    assert step.ended_at - step.started_at == pytest.approx(0.25)
    assert len(run.requests) == 1


async def test_an_answer_with_what_was_stored_already_goes_on() -> None:
    """A client that did not see the acknowledgement answers with the same steps: none is lost."""

    async def script(body: Json) -> Answer:
        if body["steps"]:
            return 200, [body["steps"][hashed(name)]["data"] for name in ("one", "two")]
        await save(engine, body, op("StepRun", "one", data="stored"))
        return 206, [op("StepRun", "one", data="again"), op("StepRun", "two", data=2)]

    engine = make_engine(Scripted({"steps": script}))
    async with engine:
        run = await engine.run(event("steps"))
    assert run.output == ["stored", 2]
    assert [step.checkpointed for step in run.steps.values()] == [True, False]


@pytest.mark.parametrize("step_id", ["stored", "new"])
async def test_a_request_that_was_overtaken_changes_nothing(step_id: str) -> None:
    """It answers with the op "None": what moves the run on is what the others answer."""
    answers = [
        [op("StepRun", "stored", data=1)],
        [op("StepPlanned", "left"), op("StepPlanned", "right")],
        [op("StepRun", "left", data=2)],
        [op("None", step_id)],
    ]

    def script(body: Json) -> Answer:
        return 206, answers.pop(0)

    engine = make_engine(Scripted({"steps": script}))
    async with engine:
        run = await engine.run(event("steps"))
    assert run.status == "Failed"
    assert "nothing is left that could move the run on" in run.reason
    assert [step.status for step in run.steps.values()] == ["Completed", "Completed", "Planned"]
    assert answers == []


async def test_the_limit_of_the_state_is_counted_across_requests_and_restarts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each memo counts once, however it was stored."""
    monkeypatch.setattr("inngest_plugins.local.steps.checkpoints.MAX_STATE", 100)
    monkeypatch.setattr("inngest_plugins.local.steps.ops.MAX_STATE", 100)
    refused: list[int] = []

    async def script(body: Json) -> Answer:
        if not body["steps"]:
            await save(engine, body, op("StepRun", "one", data="a" * 20))
            await save(engine, body, op("StepRun", "one", data="a" * 20))
            return 206, [op("StepRun", "two", data="a" * 20)]
        answer = await save(engine, body, op("StepRun", "three", data="a" * 30))
        refused.append(answer.status_code)
        answer = await save(engine, body, op("StepRun", "four", data="a"))
        refused.append(answer.status_code)
        return 200, "done"

    journal = tmp_path / "journal"
    app = Scripted({"steps": script})
    engine = make_engine(app, journal=journal)
    async with engine:
        run = await engine.run(event("steps"))
        assert run.output == "done"
        sizes = [len(canonical(step.memo)) for step in run.steps.values()]
    assert refused == [413, 200]
    with contextlib.closing(open_journal(journal)) as reopened:
        (state,) = Store(reopened).runs.values()
    assert state.memo_bytes == sum(sizes)


async def test_a_checkpoint_of_a_superseded_request_is_refused() -> None:
    """A request whose queue item was dispatched again, or is gone, may not write any more."""
    answers: list[tuple[int, str]] = []

    async def script(body: Json) -> Answer:
        context = body["ctx"]
        old = {"request_started_at": int((time.time() - 60) * 1000)}
        for generation, reference in (
            (context["generation_id"], context["qi_id"]),
            (context["generation_id"] + 1, context["qi_id"]),
            (context["generation_id"], "Z29uZTo6ZGVmYXVsdA=="),
            (0, "Z29uZTo6ZGVmYXVsdA=="),
        ):
            changed = {**old, "generation_id": generation, "qi_id": reference}
            answer = await save(engine, body, **changed)
            answers.append((answer.status_code, answer.json()["error"] if answer.content else ""))
        return 200, None

    engine = make_engine(Scripted({"steps": script}))
    async with engine:
        await engine.run(event("steps"))
    assert [status for status, _ in answers] == [200, 409, 409, 200]
    assert "does not match queue item generation 1" in answers[1][1]
    assert "queue item not found" in answers[2][1]


@pytest.mark.parametrize(
    "raw",
    [
        "",
        "[]",
        '{"steps": 1}',
        '{"steps": [1]}',
        '{"steps": [{"op": "StepRun", "id": 1}]}',
        '{"steps": [{"op": "StepRun", "id": "a", "data": NaN}]}',
        '{"steps": [{"op": "StepRun", "id": "a", "userland": 1}]}',
        '{"generation_id": "x"}',
        '{"generation_id": NaN}',
        '{"run_id": "UUUUUUUUUUUUUUUUUUUUUUUUUU"}',
        '{"steps": ' + "[" * 100_000,
    ],
)
async def test_a_malformed_checkpoint_is_refused(raw: str) -> None:
    """Nothing that is posted makes the engine fail."""
    engine = make_engine(Scripted({"steps": lambda body: (200, None)}))
    async with engine, httpx.AsyncClient(transport=engine.transport) as http:
        run_id = "01AAAAAAAAAAAAAAAAAAAAAAAA"
        answer = await http.post(f"http://engine/v1/checkpoint/{run_id}/async", content=raw)
        assert answer.status_code == 400
        assert answer.json()["error"].startswith("invalid request body: ")


def snapshots(journal: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Copies of the journal as a kill after each commit would leave it."""
    copies: list[Path] = []
    original = Store.commit

    def commit(store: Store) -> None:
        original(store)
        copy = journal.with_name(f"copy-{len(copies)}.db")
        for end in ("", "-wal"):
            if Path(f"{journal}{end}").exists():
                shutil.copy(f"{journal}{end}", f"{copy}{end}")
        copies.append(copy)

    monkeypatch.setattr(Store, "commit", commit)
    yield journal
    monkeypatch.undo()
    yield from copies


async def test_a_kill_after_any_commit_loses_and_doubles_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was acknowledged is there after a restart; what was deferred runs exactly once."""
    acknowledged: list[str] = []

    async def script(body: Json) -> Answer:
        if hashed("one") not in body["steps"]:
            answer = await save(
                engine, body, op("StepRun", "one", data=1), defer("mail", "mail", {"to": "a"})
            )
            assert answer.status_code == 200
            acknowledged.append(body["ctx"]["run_id"])
        if hashed("two") not in body["steps"]:
            return 206, [op("StepRun", "two", data=2), defer("post", "post", {"to": "b"})]
        return 200, "done"

    app = Scripted({"steps": script})
    app.receiver("mail")
    app.receiver("post")
    states = snapshots(tmp_path / "runs.db", monkeypatch)
    engine = make_engine(app, journal=next(states))
    async with engine:
        await engine.run(event("steps"))
        await engine.settle()
    assert len(acknowledged) == 1
    copies = list(states)
    assert len(copies) > 8
    for copy in copies:
        engine = make_engine(app, journal=copy)
        async with engine:
            known = {run.id for run in engine.runs if "one" in run.steps}
            await engine.settle()
            runs = [(run.function_id, run.status, run.output) for run in engine.runs]
            if not runs:
                continue
            assert sorted(runs) == [
                ("app-mail", "Completed", {"to": "a"}),
                ("app-post", "Completed", {"to": "b"}),
                ("app-steps", "Completed", "done"),
            ]
            parent = next(run for run in engine.runs if not run.is_deferred)
            assert {run.parent_run_id for run in engine.deferred} == {parent.id}
            assert [record.run_ids for record in parent.deferred.values()] == [
                (run.id,) for run in engine.deferred
            ]
        if known:
            assert known == {acknowledged[0]}
    # Only copies from before the acknowledgement ran the first step again.
    again = [run_id for run_id in acknowledged[1:] if run_id != acknowledged[0]]
    assert not again
    before = sum("one" not in text for text in map(stored_steps, copies))
    assert len(acknowledged) <= 1 + before


def stored_steps(journal: Path) -> str:
    """Keys of all steps in a journal."""
    import sqlite3

    with contextlib.closing(sqlite3.connect(journal)) as connection:
        rows = connection.execute("SELECT body FROM documents WHERE kind = 'step'").fetchall()
    return json.dumps([json.loads(body)["id"] for (body,) in rows])


@pytest.mark.parametrize("ending", ["RunComplete", "returns", "fails"])
async def test_defers_in_the_answer(ending: str) -> None:
    """Ops that defer travel beside any answer with steps, and beside the end of the run."""

    def script(body: Json) -> Answer:
        if not body["steps"]:
            return 206, [defer("mail", "mail", {"to": "a"}), op("StepRun", "work", data=1)]
        assert body["defers"] == {hashed("mail"): {"abortable": True}}
        assert body["ctx"]["disable_immediate_execution"] is False
        if ending == "RunComplete":
            return 206, [op("RunComplete", "end", data="done"), defer("late", "mail", {"to": "b"})]
        return (200, "done") if ending == "returns" else (400, {"name": "E", "message": "m"})

    app = Scripted({"steps": script}, retries=0)
    app.receiver("mail")
    engine = make_engine(app)
    async with engine:
        run = await engine.run(event("steps"))
        await engine.settle()
    assert run.status == ("Failed" if ending == "fails" else "Completed")
    assert run.output == (None if ending == "fails" else "done")
    expected = [{"to": "a"}, {"to": "b"}] if ending == "RunComplete" else [{"to": "a"}]
    assert [deferred.output for deferred in engine.deferred] == expected


async def test_defers_without_a_step_beside_them_do_not_hang() -> None:
    """The engine calls again, as the server does; and ends a run that only repeats itself."""

    def script(body: Json) -> Answer:
        stays = body["event"]["data"].get("stays")
        if not body["defers"] or stays:
            return 206, [defer("mail", "mail", {})]
        return 200, "done"

    app = Scripted({"steps": script})
    app.receiver("mail")
    engine = make_engine(app)
    async with engine:
        assert (await engine.run(event("steps"))).output == "done"
        run = await engine.run(event("steps", stays=True))
    assert run.status == "Failed"
    assert "nothing is left that could move the run on" in run.reason
    assert "nothing is left that could move the run on" in run.reason


async def test_an_input_beyond_the_limit_is_dropped_and_the_run_goes_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """4 MB for all of a run; aborting gives room again."""

    def script(body: Json) -> Answer:
        if not body["steps"]:
            first, second = "x" * 3_000_000, "y" * 3_000_000
            return 206, [
                defer("first", "mail", {"text": first}),
                defer("second", "mail", {"text": second}),
                op("DeferAbort", "abort", opts={"target_hashed_id": hashed("first")}),
                defer("third", "mail", {"text": second}),
                op("StepRun", "work", data=1),
            ]
        return 200, None

    app = Scripted({"steps": script})
    app.receiver("mail")
    engine = make_engine(app)
    async with engine:
        run = await engine.run(event("steps"))
        await engine.settle()
    assert {name: record.status for name, record in run.deferred.items()} == {
        "first": "Aborted",
        "second": "Rejected",
        "third": "Started",
    }
    assert len(engine.deferred) == 1
    assert "4194304 bytes" in caplog.text
    assert "yyyy" not in caplog.text


async def test_a_deferred_function_that_nobody_has_is_warned_of(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The server says nothing; here the log does."""
    app = Scripted({"steps": lambda body: (206, [op("RunComplete", "end"), defer("a", "no", {})])})
    engine = make_engine(app)
    async with engine:
        run = await engine.run(event("steps"))
    assert run.deferred["a"].run_ids == ()
    assert "deferred function 'app-no', which starts nothing" in caplog.text


def waits(signal: str = "approved", conflict: str = "fail") -> typing.Callable[[Json], Answer]:
    """A script that waits for a signal."""

    def script(body: Json) -> Answer:
        if hashed("wait") in body["steps"]:
            return 200, {"memo": body["steps"][hashed("wait")]}
        opts = {"signal": signal, "timeout": "30s", "conflict": conflict}
        return 206, [op("WaitForSignal", "wait", opts=opts)]

    return script


async def test_a_signal_resumes_the_step_that_waits_for_it(tmp_path: Path) -> None:
    """Once, also after a restart; a signal nobody waits for is 404."""
    app = Scripted({"wait": waits()})
    journal = tmp_path / "runs.db"
    async with make_engine(app, journal=journal) as engine:
        await engine.send(event("wait"))
        await engine.idle()
        assert (await post(engine, "/v1/signals", {"signal": "other"})).status_code == 404
        assert (await post(engine, "/v1/signals", [])).status_code == 400
    async with make_engine(app, journal=journal) as engine:
        sent = {"signal": "approved", "data": {"by": "ann"}}
        answer = await post(engine, "/v1/signals", sent)
        assert answer.json()["data"] == {"run_id": engine.runs[0].id}
        assert (await post(engine, "/v1/signals", sent)).status_code == 404
        await engine.settle()
        assert engine.runs[0].output == {"memo": {"data": sent}}


async def test_a_signal_that_does_not_come_is_null() -> None:
    """At the timeout the memo is null."""
    async with make_engine(Scripted({"wait": waits()})) as engine:
        run = await engine.run(event("wait"))
    assert run.output == {"memo": None}
    assert run.steps["wait"].status == "TimedOut"


async def test_two_that_wait_for_one_signal() -> None:
    """The second fails, or takes the first one's place."""
    app = Scripted({"wait": waits(), "replace": waits(conflict="replace")})
    async with make_engine(app) as engine:
        await engine.send(event("wait"))
        await engine.idle()
        await engine.send(event("wait"))
        await engine.idle()
        assert engine.runs[1].status == "Failed"
        assert "Signal conflict" in engine.runs[1].reason
        await engine.send(event("replace"))
        await engine.idle()
        answer = await post(engine, "/v1/signals", {"signal": "approved"})
        assert answer.json()["data"] == {"run_id": engine.runs[2].id}
        await engine.settle()
    assert [run.output for run in engine.runs] == [
        {"memo": None},
        None,
        {"memo": {"data": {"signal": "approved", "data": None}}},
    ]


async def test_metadata_on_ops(caplog: pytest.LogCaptureFixture) -> None:
    """It is stored with the op, at the attempt that reported it; what breaks a rule is left out."""

    def entries(value: int) -> list[Json]:
        scopes = ("run", "step", "step_attempt", "nonsense")
        return [
            {"scope": scope, "kind": "userland.x", "op": "merge", "values": {scope: value}}
            for scope in scopes
        ]

    def script(body: Json) -> Answer:
        if body["steps"]:
            return 200, None
        error = {"name": "E", "message": "m"}
        if body["ctx"]["attempt"] == 0:
            return 206, [op("StepError", "one", error=error, metadata=entries(1))]
        return 206, [op("StepRun", "one", data=1, metadata=entries(2))]

    async with make_engine(Scripted({"steps": script})) as engine:
        run = await engine.run(event("steps"))
    assert run.metadata == {
        "run": {"userland.x": {"run": 2}},
        "one": {"userland.x": {"step": 2}},
        "one@0": {"userland.x": {"step_attempt": 1}},
        "one@1": {"userland.x": {"step_attempt": 2}},
    }
    assert "Invalid metadata target" in caplog.text


async def test_the_meta_of_an_event() -> None:
    """Sessions come back in the event; inherited ones are merged; nonsense is refused."""
    async with make_engine(
        Scripted({"steps": lambda body: (200, body["event"]["meta"])})
    ) as engine:
        meta = {"sessions": {"a": "1", "b": None}, "propagated_sessions": {"b": "2", "c": "3"}}
        answer = await post(engine, "/e/key", {"name": "app/steps", "data": {}, "meta": meta})
        assert answer.status_code == 200
        await engine.settle()
        assert engine.runs[0].output == {"sessions": {"a": "1", "c": "3"}}
        malformed: list[Json] = [{"sessions": {"a": 1}}, {"sessions": []}, "text"]
        for refused in malformed:
            answer = await post(engine, "/e/key", {"name": "app/steps", "meta": refused})
            assert answer.status_code == 400


async def test_the_gateway_is_refused_unless_it_was_given() -> None:
    """The engine fetches nothing because a payload says so."""

    def script(body: Json) -> Answer:
        if body["steps"]:
            return 200, body["steps"][hashed("fetch")]
        return 206, [op("Gateway", "fetch", opts={"url": "http://127.0.0.1:1/"})]

    async with make_engine(Scripted({"fetch": script})) as engine:
        run = await engine.run(event("fetch"))
    assert "pass gateway=" in run.output["error"]["message"]
    assert run.steps["fetch"].attempts == 1
    with pytest.raises(TypeError, match="gateway must be an httpx transport or None, not str"):
        make_engine(Scripted({"fetch": script}), gateway="network")


async def test_a_sync_gateway_transport() -> None:
    """Transports of either kind are taken; a response is decoded, redirects are followed."""

    class Target(httpx.BaseTransport):
        def handle_request(self, request: httpx.Request) -> httpx.Response:
            if request.url.path == "/old":
                return httpx.Response(302, headers={"location": "/new"})
            lines = [("Set-Cookie", "a=1"), ("Set-Cookie", "b=2")]
            return httpx.Response(201, headers=lines, content=request.read())

    def script(body: Json) -> Answer:
        if body["steps"]:
            return 200, body["steps"][hashed("fetch")]["data"]
        opts = {"url": "http://target/old", "method": "GET", "body": '{"a": 1}'}
        return 206, [op("Gateway", "fetch", opts=opts)]

    async with make_engine(Scripted({"fetch": script}), gateway=Target()) as engine:
        run = await engine.run(event("fetch"))
    assert run.steps["fetch"].errors == ()
    assert run.output["status_code"] == 201
    assert run.output["url"] == "http://target/old"
    assert run.output["headers"]["Set-Cookie"] == "a=1,b=2"
