"""What the real server was recorded to do beyond the SDK's own ops, the embedded engine does too.

``exchanges_beyond/app.py`` is the app that was recorded, verbatim; ``exchanges_beyond/*.json`` are
the recordings, whose README says what each shows.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import re
import typing
from pathlib import Path

import anyio
import fastapi
import httpx
import inngest
import inngest.fast_api
import pytest

from inngest_plugins.local import LocalEngine
from inngest_plugins.local.server.transport import EngineTransport

from .test_local_recorded_exchanges import (
    RECORDED_WITH,
    Json,
    Recording,
    differences,
    embedded_calls,
    in_order,
    normal,
    recorded_calls,
)

HERE = Path(__file__).parent / "exchanges_beyond"
RECORDINGS = {path.stem: Recording(path) for path in sorted(HERE.glob("*.json"))}
STEPS = sorted(name for name in RECORDINGS if name.startswith(("checkpoint", "defer", "gateway")))
# The recording shortens long strings.
LONG = re.compile(r"^((.)\2{39})\2{4299960}$")


def load_app() -> typing.Any:
    """A fresh copy of the recorded app's module."""
    spec = importlib.util.spec_from_file_location("recorded_beyond", HERE / "app.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def target(request: httpx.Request) -> httpx.Response:
    """The server that the recorded Gateway ops called."""
    if request.url.host != "target.test":
        raise httpx.ConnectError("nobody listens", request=request)
    date = {"Date": "Sun, 29 Nov 2026 01:10:06 GMT", "Server": "uvicorn"}
    path = request.url.path.lstrip("/")
    if path in ("down", "teapot"):
        status, text = (503, "down") if path == "down" else (418, "short and stout")
        kind = {"X-Kind": path} if path == "teapot" else {}
        return httpx.Response(status, headers={**date, **kind}, content=text.encode())
    answer = {
        "path": path,
        "method": request.method,
        "body": request.content.decode(),
        "x-mine": request.headers.get("x-mine"),
        "user-agent": request.headers["user-agent"],
    }
    content = json.dumps(answer, separators=(",", ":"), ensure_ascii=False).encode()
    return httpx.Response(
        200, headers={**date, "Content-Type": "application/json"}, content=content
    )


def make_engine() -> LocalEngine:
    """An engine with the recorded app."""
    module = load_app()
    client, functions = module.build()

    def serve(
        served: inngest.Inngest, listed: list[inngest.Function[typing.Any]]
    ) -> fastapi.FastAPI:
        app = fastapi.FastAPI()
        app.add_middleware(module.Bodies)
        inngest.fast_api.serve(app, served, listed)
        return app

    return LocalEngine(
        client, functions, serve=serve, retry_interval=1, gateway=httpx.MockTransport(target)
    )


@pytest.fixture
def checkpoint_answers(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, Json]]:
    """What the engine answers to checkpoint calls."""
    seen: list[tuple[int, Json]] = []
    original = EngineTransport.handle_request

    def handle(transport: EngineTransport, request: httpx.Request) -> httpx.Response:
        response = original(transport, request)
        if "/v1/checkpoint/" in request.url.path:
            seen.append((response.status_code, response.json() if response.content else ""))
        return response

    async def handle_async(transport: EngineTransport, request: httpx.Request) -> httpx.Response:
        await request.aread()
        return handle(transport, request)

    monkeypatch.setattr(EngineTransport, "handle_request", handle)
    monkeypatch.setattr(EngineTransport, "handle_async_request", handle_async)
    return seen


def comparable(document: Json) -> Json:
    """Normalise what differs between two machines."""
    if isinstance(document, dict):
        return {key: comparable(child) for key, child in document.items()}
    if isinstance(document, list):
        return [comparable(child) for child in document]
    if isinstance(document, str):
        return LONG.sub(r"\1...<4300000 chars>", document)
    return document


def calls_by_function(engine: LocalEngine) -> dict[str, list[list[dict[str, Json]]]]:
    """What the engine and the app said, by function and run."""
    found: dict[str, list[list[dict[str, Json]]]] = {}
    for run in engine.runs:
        documents = in_order(embedded_calls(run), is_batch=False)
        found.setdefault(f"fnId={run.function_id}", []).append(without_spans(documents))
    return found


def without_spans(documents: list[dict[str, Json]]) -> Json:
    """Span ids of the trace view are derived from ids that differ."""
    text = json.dumps(documents)
    text = re.sub(r'"dstp": "00-[0-9a-f]{32}-[0-9a-f]{16}-00"', '"dstp": "<span>"', text)
    text = re.sub(r'"tp": "00-[0-9a-f]{32}-[0-9a-f]{16}-00"', '"tp": "<span>"', text)
    text = re.sub(r"\w{3}, \d\d \w{3} 2026 [0-9:]{8} GMT", "<date>", text)
    return json.loads(text)


def recorded_by_function(recording: Recording) -> dict[str, list[list[dict[str, Json]]]]:
    """What the real server and the app said, by function and run."""
    found: dict[str, list[list[dict[str, Json]]]] = {}
    for calls in recording.runs.values():
        function = calls[0]["request"]["url_query"].split("&")[0]
        documents = in_order(recorded_calls(calls), is_batch=False)
        found.setdefault(function, []).append(without_spans(documents))
    return found


def by_input(runs: list[list[dict[str, Json]]]) -> list[list[dict[str, Json]]]:
    """Deferred functions start together, and the recording has them in any order."""
    return sorted(runs, key=lambda calls: json.dumps(calls[0]["sent"]["event"]["data"]))


@pytest.mark.anyio
@pytest.mark.skipif(
    importlib.metadata.version("inngest") != RECORDED_WITH,
    reason=f"the answers were recorded with inngest {RECORDED_WITH}",
)
@pytest.mark.parametrize("name", STEPS)
async def test_recorded_scenario(name: str, checkpoint_answers: list[tuple[int, Json]]) -> None:
    """Requests, memos, defers, checkpoint answers and deferred runs are those of the recording."""
    recording = RECORDINGS[name]
    engine = make_engine()
    async with engine:
        with anyio.fail_after(100):
            await engine.send(recording.triggers)
            if name == "defer_then_cancelled":
                await engine.idle()
                async with httpx.AsyncClient(transport=engine.transport) as http:
                    await http.post(f"http://engine/api/v2/runs/{engine.runs[0].id}/cancel")
            await engine.settle(timeout=200)
            if name == "checkpoint_ended":
                await replay_late_calls(engine, recording)
        expected, actual = recorded_by_function(recording), calls_by_function(engine)
        assert set(actual) == set(expected)
        for function, runs in expected.items():
            assert list(differences(by_input(runs), by_input(actual[function]))) == []
        recorded = [
            (exchange["response"]["status"], normal(comparable(exchange["response"]["body"])))
            for exchange in recording.exchanges
            if "/v1/checkpoint/" in exchange["request"]["path"]
        ]
        answered = [(status, normal(comparable(body))) for status, body in checkpoint_answers]
        assert answered == recorded


async def replay_late_calls(engine: LocalEngine, recording: Recording) -> None:
    """Checkpoint calls after the run's end are refused with the recorded words."""
    run = engine.runs[0]
    theirs = next(iter(recording.runs))
    late = [e for e in recording.exchanges if "/v1/checkpoint/" in e["request"]["path"]][1:]
    assert len(late) == 8
    async with httpx.AsyncClient(transport=engine.transport) as http:
        for exchange in late:
            body = exchange["request"]["body"]
            text = body if isinstance(body, str) else json.dumps(body)
            answer = await http.post(
                "http://engine" + exchange["request"]["path"].replace(theirs, run.id),
                content=text.replace(theirs, run.id),
            )
            assert answer.status_code == exchange["response"]["status"]
            wanted = json.dumps(exchange["response"]["body"]).replace(theirs, run.id)
            assert answer.json() == json.loads(wanted)


@pytest.mark.anyio
async def test_recorded_realtime() -> None:
    """Tokens and messages are answered as recorded, and subscribers get the recorded messages."""
    async with make_engine() as engine:
        messages = engine.subscribe("user:1", ["news"])
        async with httpx.AsyncClient(transport=engine.transport) as http:
            for exchange in RECORDINGS["realtime"].exchanges:
                request, recorded = exchange["request"], exchange["response"]
                if request["path"].endswith("/sse"):
                    continue
                body = request["body"]
                is_text = body in ("", "no json")
                answer = await http.request(
                    request["method"],
                    f"http://engine{request['path']}?{request['url_query'] or ''}",
                    content=body if is_text else json.dumps(body),
                )
                assert answer.status_code == recorded["status"]
                if recorded["status"] == 400:
                    assert answer.json() == recorded["body"]
        messages.close()
        got = [message.data async for message in messages]
    stream = RECORDINGS["realtime"].exchanges[1]["response"]["body"]
    lines = [line.removeprefix("data: ") for line in stream.splitlines() if line[:5] == "data:"]
    expected = [json.loads(line)["data"] for line in lines[:5]]
    assert got[:5] == expected == [{"n": 1}, {"n": 2}, "text", "", "no json"]
    assert len(got) == 6
