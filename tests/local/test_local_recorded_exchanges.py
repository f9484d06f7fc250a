"""Every exchange recorded from the real server happens the same way on the embedded engine.

``exchanges/app.py`` is the app that was recorded, verbatim (tracebacks carry its line numbers);
``exchanges/*.json`` are the recordings.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import re
import typing
from collections.abc import Awaitable, Callable
from pathlib import Path

import anyio
import fastapi
import flask
import httpx
import inngest
import inngest.fast_api
import inngest.flask
import pytest

from inngest_plugins.local import InferenceRequest, InferenceResponse, LocalEngine, json_answer
from inngest_plugins.local.functions.config import parse_registration

HERE = Path(__file__).parent / "exchanges"
RECORDED_WITH = "0.5.19"
Json = typing.Any
Script = Callable[[LocalEngine, "Recording"], Awaitable[None]]

# What is normalised before comparing, and why.
PATTERNS: list[tuple[str, str]] = [
    # Identifiers are random on both sides.
    (r"\b01[0-9A-HJKMNP-TV-Z]{24}\b", "<ulid>"),
    (r"\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b", "<uuid>"),
    (r"\b00-[0-9a-f]{32}-[0-9a-f]{16}-0[01]\b", "<traceparent>"),
    # Times are those of the recording.
    (r"\b20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", "<date>"),
    # Tracebacks: where the app lies, and the markers that differ between Python versions.
    (r'File "[^"]*?app\.py"', 'File "app.py"'),
    (r"\n *[~^]+(?=\n)", ""),
    # The recording shortens long strings.
    (r"^((.)\2{39})\2{1499960}$", r"\1...<1500000 chars>"),
]
# Instants in milliseconds are those of the recording (and of nothing else in it).
MILLISECONDS = range(1_780_000_000_000, 1_900_000_000_000)
# Fields that hold nothing but identifiers in shapes of their own.
IDENTIFIERS = {"job_id", "qi_id", "gid", "sid", "dsid", "x-inngest-job-id", "tracestate"}
# The function's version counts how often the recorded server saw it changed.
IDENTIFIERS.add("source_fn_v")
# Timings of the SDK, not of the engine.
IGNORED_HEADERS = {"server-timing", "content-length"}
# Recordings of the SDK alone: no executor call, or calls that a person made with curl.
SDK_ONLY = {"sync_and_probe", "flask_sync_put"}


class Recording:
    """One fixture: the executor's calls by run, in the order in which the runs began."""

    def __init__(self, path: Path) -> None:
        self.name = path.stem
        exchanges: list[dict[str, Json]] = json.loads(path.read_text())
        self.exchanges = exchanges
        self.runs: dict[str, list[dict[str, Json]]] = {}
        for exchange in exchanges:
            body = exchange["request"]["body"]
            context = body.get("ctx", {}) if isinstance(body, dict) else {}
            if exchange["direction"] == "executor->sdk" and "run_id" in context:
                self.runs.setdefault(context["run_id"], []).append(exchange)

    @property
    def triggers(self) -> list[inngest.Event]:
        """The events that somebody outside sent."""
        events: dict[str, inngest.Event] = {}
        for calls in self.runs.values():
            for raw in calls[0]["request"]["body"]["events"]:
                if not raw["name"].startswith("inngest/"):
                    named = re.fullmatch(PATTERNS[0][0], raw["id"]) is None
                    events[raw["id"]] = inngest.Event(
                        name=raw["name"], data=raw["data"], id=raw["id"] if named else ""
                    )
        return list(events.values())

    @property
    def kind(self) -> str:
        """Which app was recorded."""
        if self.name.startswith("streaming_"):
            return "stream"
        if self.name.startswith("flask_asyncmode_"):
            return "flask"
        return "flask-sync" if self.name.startswith("flask_") else "fastapi"


RECORDINGS = {path.stem: Recording(path) for path in sorted(HERE.glob("*.json"))}


def build_app(kind: str) -> tuple[inngest.Inngest, list[inngest.Function[typing.Any]]]:
    """A fresh copy of the recorded app."""
    spec = importlib.util.spec_from_file_location("recorded_app", HERE / "app.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    built: tuple[inngest.Inngest, list[inngest.Function[typing.Any]]] = module.build(kind)
    return built


def serve_streaming(
    client: inngest.Inngest, functions: list[inngest.Function[typing.Any]]
) -> fastapi.FastAPI:
    """FastAPI with every answer streamed."""
    app = fastapi.FastAPI()
    inngest.fast_api.serve(app, client, functions, streaming=inngest.Streaming.FORCE)
    return app


def serve_flask(
    client: inngest.Inngest, functions: list[inngest.Function[typing.Any]]
) -> flask.Flask:
    """Flask."""
    app = flask.Flask("recorded")
    inngest.flask.serve(app, client, functions)
    return app


SERVE: dict[str, typing.Any] = {
    "fastapi": None,
    "stream": serve_streaming,
    "flask": serve_flask,
    "flask-sync": serve_flask,
}


def model(request: InferenceRequest) -> InferenceResponse:
    """The model server that was recorded."""
    assert request.headers["Authorization"] == "Bearer k"
    if request.body["model"] == "fail":
        return InferenceResponse(429, b'{"error":{"message":"quota"}}')
    return json_answer(
        {
            "choices": [
                {
                    "finish_reason": "stop",
                    "index": 0,
                    "message": {"content": "hello", "role": "assistant"},
                }
            ],
            "id": "x",
            "model": "m",
            "object": "chat.completion",
            "usage": {"completion_tokens": 2, "prompt_tokens": 3, "total_tokens": 5},
        }
    )


async def send_triggers(engine: LocalEngine, recording: Recording) -> None:
    """Send what was sent, and wait for everything."""
    await engine.send(recording.triggers)
    await engine.settle(timeout=200)


async def approve(engine: LocalEngine, recording: Recording) -> None:
    """Send the trigger, then the event that the recorded wait got."""
    await engine.send(recording.triggers)
    await engine.idle()
    (calls,) = recording.runs.values()
    (memo,) = calls[1]["request"]["body"]["steps"].values()
    wrong = {**memo["data"], "id": "another"}
    for data in (wrong, memo["data"]):
        event = {
            "name": memo["name"],
            **{key: memo[key] for key in ("user", "v") if key in memo},
            "data": data,
        }
        async with httpx.AsyncClient(transport=engine.transport) as http:
            await http.post("http://engine/e/key", json=event)
    await engine.settle(timeout=200)


async def cancel_child(engine: LocalEngine, recording: Recording) -> None:
    """Cancel the invoked child by event."""
    await engine.send(recording.triggers)
    await engine.idle()
    await engine.send(inngest.Event(name="refa/cancel-child"))
    await engine.settle(timeout=200)


async def cancel_by_api(engine: LocalEngine, recording: Recording) -> None:
    """Cancel the run through the REST API."""
    await engine.send(recording.triggers)
    await engine.idle()
    async with httpx.AsyncClient(transport=engine.transport) as http:
        answer = await http.delete(f"http://engine/v1/runs/{engine.runs[0].id}")
        assert answer.status_code == 200
    await engine.settle(timeout=200)


async def wait_for_dropped_answer(engine: LocalEngine, recording: Recording) -> None:
    """The run ends while one of its requests is in flight; its answer is recorded all the same."""
    await send_triggers(engine, recording)
    (calls,) = recording.runs.values()
    while not (
        len(requests := engine.runs[0].requests) == len(calls)
        and all(request.status for request in requests)
    ):
        await anyio.sleep(0.01)


async def fire_cron(engine: LocalEngine, recording: Recording) -> None:
    """Fire the cron function."""
    await engine.run(function="cron", timeout=200)


SCRIPTS: dict[str, Script] = {
    "wait_for_event_matched": approve,
    "invoke_child_cancelled": cancel_child,
    "cancel_by_api": cancel_by_api,
    "cron": fire_cron,
    "parallel_nonretriable": wait_for_dropped_answer,
}


def normal(value: Json) -> Json:
    """Without identifiers and times."""
    if isinstance(value, dict):
        return {
            key: "<id>" if key in IDENTIFIERS else normal(child) for key, child in value.items()
        }
    if isinstance(value, list):
        return [normal(child) for child in value]
    if isinstance(value, str):
        for pattern, replacement in PATTERNS:
            value = re.sub(pattern, replacement, value)
    elif type(value) is int and value in MILLISECONDS:
        return "<ms>"
    return value


def headers(raw: typing.Mapping[str, str]) -> dict[str, str]:
    """The headers that a plugin can see."""
    return {key: value for key, value in raw.items() if key not in IGNORED_HEADERS}


class Comparable:
    """One call, normalised; parallel calls have no order of their own."""

    def __init__(self, query: str, sent: Json, sent_headers: Json, answer: Json) -> None:
        self.target = dict(pair.split("=") for pair in query.split("&"))["stepId"]
        self.query = query
        self.sent, self.headers, self.answer = normal(sent), normal(sent_headers), normal(answer)


def in_order(calls: list[Comparable], *, is_batch: bool) -> list[dict[str, Json]]:
    """The calls of one run.

    Calls that target steps of one group leave together and finish in any order, so a series of
    them is sorted, and so is the stack that records the order in which they finished. The order
    of events inside a batch is not defined either.
    """
    ordered: list[Comparable] = []
    series: list[Comparable] = []
    has_group = any(call.target != "step" for call in calls)
    for call in calls:
        if call.target == "step":
            ordered += sorted(series, key=lambda call: call.target)
            series = []
            ordered.append(call)
        else:
            series.append(call)
    ordered += sorted(series, key=lambda call: call.target)
    for call in ordered:
        stack = call.sent["ctx"]["stack"]
        if has_group:
            stack["stack"] = sorted(stack["stack"])
    documents = [
        {"query": c.query, "headers": c.headers, "sent": c.sent, "answer": c.answer}
        for c in ordered
    ]
    if is_batch:
        numbers = re.compile(r'"i": \d+')
        documents = json.loads(numbers.sub('"i": 0', json.dumps(documents)))
    return documents


def recorded_calls(calls: list[dict[str, Json]]) -> list[Comparable]:
    """What the real server and the app said."""
    comparables: list[Comparable] = []
    for call in calls:
        request, response = call["request"], call["response"]
        status, body, answered = response["status"], response["body"], response["headers"]
        if status == 201:
            status, answered = body["status"], body["headers"]
            body = json.loads(body["body"])
        comparables.append(
            Comparable(
                request["url_query"],
                request["body"],
                headers(request["headers"]),
                {"status": status, "headers": headers(answered), "body": body},
            )
        )
    return comparables


def embedded_calls(run: typing.Any) -> list[Comparable]:
    """What the embedded engine and the app said."""
    return [
        Comparable(
            "&".join(f"{key}={value}" for key, value in request.query.items()),
            request.request,
            headers(request.request_headers),
            {
                "status": request.status,
                "headers": headers(request.response_headers),
                "body": request.response,
            },
        )
        for request in run.requests
    ]


def differences(expected: Json, actual: Json, path: str = "$") -> typing.Iterator[str]:
    """Where two documents differ, one readable line each."""
    if isinstance(expected, dict) and isinstance(actual, dict):
        for key in sorted(expected.keys() | actual.keys()):
            yield from differences(
                expected.get(key, "<absent>"), actual.get(key, "<absent>"), f"{path}.{key}"
            )
    elif isinstance(expected, list) and isinstance(actual, list) and len(expected) == len(actual):
        for index, pair in enumerate(zip(expected, actual, strict=True)):
            yield from differences(*pair, f"{path}[{index}]")
    elif expected != actual or type(expected) is not type(actual):
        yield f"{path}: recorded {str(expected)[:200]}, here {str(actual)[:200]}"


@pytest.mark.anyio
@pytest.mark.skipif(
    importlib.metadata.version("inngest") != RECORDED_WITH,
    reason=f"the answers were recorded with inngest {RECORDED_WITH}",
)
@pytest.mark.parametrize("name", sorted(set(RECORDINGS) - SDK_ONLY))
async def test_recorded_scenario(name: str) -> None:
    """The engine sends the same requests in the same order and gets the same answers."""
    recording = RECORDINGS[name]
    client, functions = build_app(recording.kind)
    engine = LocalEngine(
        client, functions, serve=SERVE[recording.kind], infer=model, retry_interval=1
    )
    async with engine:
        with anyio.fail_after(100):
            await SCRIPTS.get(name, send_triggers)(engine, recording)
        expected: dict[str, list[list[dict[str, Json]]]] = {}
        for calls in recording.runs.values():
            function = calls[0]["request"]["url_query"].split("&")[0]
            is_batch = len(calls[0]["request"]["body"]["events"]) > 1
            documents = in_order(recorded_calls(calls), is_batch=is_batch)
            expected.setdefault(function, []).append(documents)
        actual: dict[str, list[list[dict[str, Json]]]] = {}
        for run in engine.runs:
            function = f"fnId={run.function_id}"
            # The recording server had listeners for the events of other scenarios.
            documents = in_order(embedded_calls(run), is_batch=len(run.events) > 1)
            actual.setdefault(function, []).append(documents)
        assert set(expected) <= set(actual)
        assert set(actual) - set(expected) <= UNRECORDED.get(name, set())
        for function, runs in expected.items():
            assert list(differences(runs, actual[function])) == []
        sent = [
            [
                normal({"name": event["name"], "data": event["data"]})
                for event in exchange["request"]["body"]
            ]
            for exchange in recording.exchanges
            if exchange["direction"] == "sdk->server" and exchange["request"]["method"] == "POST"
        ]
        flat = [event for events in sent for event in events]
        assert [
            normal({"name": event["name"], "data": event["data"]})
            for run in engine.runs
            for event in run.events_sent
        ] == flat


# Listeners that the recording does not show although their events happened.
UNRECORDED: dict[str, set[str]] = {}


@pytest.mark.parametrize("name", sorted(SDK_ONLY))
def test_recorded_registration_is_understood(name: str) -> None:
    """Every function that the real app registered is read with its retries and triggers."""
    bodies = [
        exchange["request"]["body"]
        for exchange in RECORDINGS[name].exchanges
        if exchange["request"]["path"] == "/fn/register"
    ]
    functions = parse_registration(bodies[0])
    assert set(functions) == {raw["id"] for raw in bodies[0]["functions"]}
    for raw in bodies[0]["functions"]:
        function = functions[raw["id"]]
        retries = raw["steps"]["step"].get("retries", {}).get("attempts", 4)
        assert function.max_attempts == retries + 1
        assert [t.event or t.cron for t in function.triggers] == [
            t.get("event") or t.get("cron") for t in raw["triggers"]
        ]
