"""API v2 as it was recorded from the real server: lists, traces, cancel, rerun, invoke, scores."""

from __future__ import annotations

import json
import typing

import httpx
import inngest
import pytest

from inngest_plugins.local import LocalEngine

from .test_local_beyond_exchanges import RECORDINGS, make_engine
from .test_local_recorded_exchanges import Json

pytestmark = pytest.mark.anyio

TIMES = {
    "durationMs",
    "endedAt",
    "queuedAt",
    "startedAt",
    "fetchedAt",
    "cursor",
    "ts",
    "id",
    "eventIds",
}


def outside(name: str) -> list[Json]:
    """The exchanges of somebody outside with API v2."""
    exchanges = RECORDINGS[name].exchanges
    return [e for e in exchanges if e["request"]["path"].startswith("/api/v2/")]


def stable(document: Json) -> Json:
    """Without times and ids."""
    if isinstance(document, dict):
        return {key: stable(child) for key, child in document.items() if key not in TIMES}
    if isinstance(document, list):
        return [stable(child) for child in document]
    return document


def steps_of(trace: Json) -> list[Json]:
    """The steps that a trace shows; the real one shows each of them twice."""
    names = ("name", "output", "status", "stepId", "stepOp")
    spans = [
        {name: span[name] for name in names if name in span}
        for span in trace["rootSpan"]["children"]
        if "stepId" in span
    ]
    return [span for at, span in enumerate(spans) if span not in spans[:at]]


async def call(engine: LocalEngine, method: str, path: str, body: Json = None) -> httpx.Response:
    """Call the engine's API."""
    async with httpx.AsyncClient(transport=engine.transport) as http:
        return await http.request(
            method, f"http://engine{path}", content=json.dumps(body) if body is not None else b""
        )


async def replay(engine: LocalEngine, exchange: Json, ids: dict[str, str]) -> Json:
    """Make a recorded request, with run ids of here; returns the body."""
    request, recorded = exchange["request"], exchange["response"]
    path = request["path"] + (f"?{request['url_query']}" if request["url_query"] else "")
    for theirs, ours in ids.items():
        path = path.replace(theirs, ours)
    answer = await call(engine, request["method"], path, request["body"] or None)
    assert answer.status_code == recorded["status"], (path, answer.text)
    return answer.json()


def recorded_run(name: str) -> str:
    """The id of the first run of a recording."""
    return next(iter(RECORDINGS[name].runs))


@pytest.mark.parametrize("name", ["runs_read", "runs_failed"])
async def test_reading(name: str) -> None:
    """Lists, runs, traces and refusals are those of the recording."""
    async with make_engine() as engine:
        await engine.send(RECORDINGS[name].triggers)
        await engine.settle()
        ids = {recorded_run(name): engine.runs[0].id}
        for exchange in outside(name):
            answer, recorded = await replay(engine, exchange, ids), exchange["response"]["body"]
            path = exchange["request"]["path"]
            if path.endswith("/trace") and "data" in recorded:
                ours, theirs = answer["data"], recorded["data"]
                assert steps_of(ours) == steps_of(theirs)
                assert ours["runId"] == engine.runs[0].id
                for field in ("name", "status"):
                    assert ours["rootSpan"][field] == theirs["rootSpan"][field]
                for field in ("input", "output"):
                    assert without_lines(ours["rootSpan"].get(field)) == without_lines(
                        theirs["rootSpan"].get(field)
                    )
            elif isinstance(recorded.get("data"), list):
                assert stable(answer["data"][0]) == stable(recorded["data"][0])
            else:
                assert without_lines(stable(answer)) == without_lines(stable(recorded))


def without_lines(document: Json) -> Json:
    """Tracebacks carry where the app lies; events carry ids."""
    if isinstance(document, dict):
        return {
            key: without_lines(child) for key, child in stable(document).items() if key != "stack"
        }
    if isinstance(document, list):
        return [without_lines(child) for child in document]
    return document


async def test_cancelling() -> None:
    """A sleeping run is cancelled once; after that it is refused with the recorded words."""
    async with make_engine() as engine:
        await engine.send(RECORDINGS["runs_cancel"].triggers)
        await engine.idle()
        ids = {recorded_run("runs_cancel"): engine.runs[0].id}
        for number, exchange in enumerate(outside("runs_cancel")):
            answer, recorded = await replay(engine, exchange, ids), exchange["response"]["body"]
            if exchange["request"]["path"].endswith("/trace"):
                assert steps_of(answer["data"]) == steps_of(recorded["data"])
            elif number == 0:
                # The recorded server says COMPLETED of a run that sleeps.
                assert answer["data"]["status"] == "RUNNING"
                assert "endedAt" not in answer["data"]
            elif "errors" in recorded:
                assert answer == recorded
        assert engine.runs[0].status == "Cancelled"


async def test_rerunning() -> None:
    """From the start, from a step, and from a step with another input."""
    recording = RECORDINGS["runs_rerun"]
    async with make_engine() as engine:
        await engine.send(recording.triggers)
        await engine.settle()
        ids = {recorded_run("runs_rerun"): engine.runs[0].id}
        for exchange in outside("runs_rerun"):
            answer, recorded = await replay(engine, exchange, ids), exchange["response"]["body"]
            await engine.settle()
            if "runId" in recorded.get("data", {}):
                ids[recorded["data"]["runId"]] = answer["data"]["runId"]
            else:
                assert stable(answer) == stable(recorded)
        assert len(engine.runs) == 5
        for theirs, ours in zip(recording.runs.values(), engine.runs, strict=True):
            assert [r.request["steps"] for r in ours.requests] == [
                call["request"]["body"]["steps"] for call in theirs
            ]
            assert [r.request["ctx"]["stack"] for r in ours.requests] == [
                call["request"]["body"]["ctx"]["stack"] for call in theirs
            ]
            assert ours.output == theirs[-1]["response"]["body"]


@pytest.fixture
def app() -> tuple[inngest.Inngest, inngest.Function[typing.Any]]:
    """A function that returns its input."""
    client = inngest.Inngest(app_id="app", is_production=False)

    async def nothing() -> None:
        return None

    @client.create_function(fn_id="echo", trigger=inngest.TriggerEvent(event="app/echo"))
    async def echo(ctx: inngest.Context) -> Json:
        await ctx.step.run("one", nothing)
        return dict(ctx.event.data)

    return client, echo


async def test_invoking(app: tuple[inngest.Inngest, inngest.Function[typing.Any]]) -> None:
    """A function is started by its id, with data."""
    async with LocalEngine(app[0], [app[1]]) as engine:
        path = "/api/v2/apps/app/functions/echo/invoke"
        answer = await call(engine, "POST", path, {"data": {"n": 1}})
        assert answer.json()["data"] == {"runId": engine.runs[0].id}
        await engine.settle()
        (run,) = engine.runs
        assert (run.status, run.output["n"]) == ("Completed", 1)
        malformed: list[Json] = [[], {"data": [1]}]
        for refused in malformed:
            assert (await call(engine, "POST", path, refused)).status_code == 400
        unknown = await call(engine, "POST", "/api/v2/apps/app/functions/none/invoke", {})
        assert unknown.status_code == 404


async def test_scoring(app: tuple[inngest.Inngest, inngest.Function[typing.Any]]) -> None:
    """Scores become metadata of the run or of a step."""
    async with LocalEngine(app[0], [app[1]]) as engine:
        run = await engine.run(inngest.Event(name="app/echo"))
        path = f"/api/v2/runs/{run.id}/scores"
        scores = [
            {"name": "good", "value": 0.5},
            {"name": "liked", "value": True, "stepId": "one"},
            {"name": "better", "value": 1, "experiment": {"id": "e", "variant": "v"}},
        ]
        answer = await call(engine, "POST", path, scores)
        assert answer.json()["data"] == [{"runId": run.id, **score} for score in scores]
        assert run.metadata == {
            "run": {
                "inngest.score": {"good": {"value": 0.5}, "better": {"value": 1}},
                "inngest.experiment": {"name": "e", "variant": "v"},
            },
            "one": {"inngest.score": {"liked": {"value": True}}},
        }
        malformed: list[Json] = [
            {},
            [],
            [1],
            [{"name": "", "value": 1}],
            [{"name": "a", "value": "1"}],
            [{"name": "a", "value": 1, "stepId": ""}],
            [{"name": "a", "value": 1, "stepId": "one", "experiment": {}}],
            [{"name": "a", "value": 1, "experiment": {"id": "e"}}],
        ]
        for refused in malformed:
            assert (await call(engine, "POST", path, refused)).status_code == 400, refused


async def test_pages(app: tuple[inngest.Inngest, inngest.Function[typing.Any]]) -> None:
    """Every run is on one page, latest first."""
    async with LocalEngine(app[0], [app[1]]) as engine:
        await engine.send([inngest.Event(name="app/echo") for _ in range(5)])
        await engine.settle()
        seen: list[str] = []
        query = "limit=2"
        while query:
            answer = (await call(engine, "GET", f"/api/v2/runs?{query}")).json()
            seen += [run["id"] for run in answer["data"]]
            cursor = answer["page"].get("cursor")
            query = f"limit=2&cursor={cursor}" if cursor else ""
        assert seen == [run.id for run in reversed(engine.runs)]
        failed = await call(engine, "GET", "/api/v2/runs?status=FAILED&functionId=echo&appId=app")
        assert failed.json()["data"] == []
        for refused in ("status=odd", "limit=101", "limit=-1", "functionId=echo"):
            assert (await call(engine, "GET", f"/api/v2/runs?{refused}")).status_code == 400
