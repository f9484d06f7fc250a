"""The README's examples and the example app, run."""

from __future__ import annotations

import inspect
import json
import sys
from pathlib import Path
from typing import Any

import httpx
import inngest
import pytest
from tests.readme import modules_of

from inngest_plugins import fetch
from inngest_plugins.cli import load_app
from inngest_plugins.local import LocalEngine

from .conftest import Server
from .test_fetch_openai import completion

pytestmark = pytest.mark.anyio

ROOT = Path(__file__).parents[2]
README = ROOT / "plugins" / "fetch" / "README.md"


@pytest.fixture
def modules(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Each Python block of the README, executed as a module of its own."""
    return modules_of("fetch", monkeypatch)


async def test_the_readme_s_examples_work(
    modules: list[dict[str, Any]], server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first with another answer than the network's, the others as they stand."""
    first, library, engine_side = modules

    def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, json={"degrees": 21.5})

    durable = first["DurableTransport"]
    first["DurableTransport"] = lambda: durable(httpx.MockTransport(answer))
    async with LocalEngine(first["client"], [first["report"]]) as engine:
        run = await engine.run(inngest.Event(name="weather/asked"))
    assert run.output == 21.5, run.reason

    server.answers["/v1/chat/completions"] = completion
    client = inngest.Inngest(app_id="app")

    @client.create_function(fn_id="fn", trigger=inngest.TriggerEvent(event="fn"))
    async def fn(ctx: inngest.Context) -> Any:
        return await library["ask"](ctx, f"{server.url}/v1")

    async with LocalEngine(client, [fn]) as engine:
        run = await engine.run(inngest.Event(name="fn"))
    assert run.output == "hello", run.reason
    assert len(server.received) == 1

    client = inngest.Inngest(app_id="app")

    @client.create_function(fn_id="long", trigger=inngest.TriggerEvent(event="long"))
    async def long(ctx: inngest.Context) -> Any:
        return (await engine_side["http"].get(f"{server.url}/json")).json()["path"]

    async with (
        httpx.AsyncHTTPTransport() as network,
        LocalEngine(client, [long], gateway=network) as engine,
    ):
        run = await engine.run(inngest.Event(name="long"))
    assert run.output == "/json", run.reason


def test_the_readme_names_every_error() -> None:
    """What a user can meet is in the table."""
    text = README.read_text()
    for name, value in vars(fetch).items():
        if inspect.isclass(value) and issubclass(value, Exception):
            assert f"`{name}`" in text


async def test_the_example_sends_each_request_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two requests, two steps, three requests of the run."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    folder = ROOT / "examples" / "weather"
    app = load_app(str(folder / "app.py"))
    event = json.loads((folder / "event.json").read_text())
    async with LocalEngine(app.client, app.functions) as engine:
        run = await engine.run(inngest.Event(**event))
    assert run.output == {"degrees": 21, "status": 201}, run.reason
    assert list(run.steps) == ["GET weather.example/forecast", "POST chat.example/messages"]
    assert len(run.requests) == 3
