"""openai's real client on the durable transport, against a local fake of its API."""

from __future__ import annotations

import json
from typing import Any

import httpx
import inngest
import openai
import pytest

from inngest_plugins.fetch import DurableTransport, DurableTransportSync
from inngest_plugins.local import LocalEngine

from .conftest import Answer, Received, Server

pytestmark = pytest.mark.anyio

MESSAGES: Any = [{"role": "user", "content": "hello"}]


def own(http: Any) -> Any:
    """The newest client is typed for a fork of httpx, and takes httpx's own clients, too."""
    return http


def completion(request: Received) -> Answer:
    """What the API answers, streamed when asked for."""
    asked = json.loads(request.body)
    base = {"id": "c1", "created": 1, "model": asked["model"]}
    if asked.get("stream"):
        chunks = [
            {
                **base,
                "object": "chat.completion.chunk",
                "choices": [{"index": 0, "delta": {"content": text}, "finish_reason": None}],
            }
            for text in ("hel", "lo")
        ]
        lines = [f"data: {json.dumps(chunk)}\n\n" for chunk in chunks]
        body = "".join([*lines, "data: [DONE]\n\n"]).encode()
        return 200, [("content-type", "text/event-stream")], body
    message = {"role": "assistant", "content": "hello"}
    choices = [{"index": 0, "message": message, "finish_reason": "stop"}]
    answer = {**base, "object": "chat.completion", "choices": choices}
    return 200, [("content-type", "application/json")], json.dumps(answer).encode()


async def test_the_async_client(server: Server) -> None:
    """Completions, plain and streamed, are steps; each is asked for once."""
    server.answers["/v1/chat/completions"] = completion
    client = inngest.Inngest(app_id="app", is_production=False)

    @client.create_function(fn_id="fn", trigger=inngest.TriggerEvent(event="fn"), retries=0)
    async def fn(ctx: inngest.Context) -> list[Any]:
        async with (
            httpx.AsyncClient(transport=DurableTransport()) as http,
            openai.AsyncOpenAI(
                api_key="k", base_url=f"{server.url}/v1", http_client=own(http)
            ) as model,
        ):
            plain = await model.chat.completions.create(model="m", messages=MESSAGES)
            stream = await model.chat.completions.create(model="m", messages=MESSAGES, stream=True)
            parts = [chunk.choices[0].delta.content async for chunk in stream]
        return [plain.choices[0].message.content, parts]

    async with LocalEngine(client, [fn]) as engine:
        run = await engine.run(inngest.Event(name="fn"))
    assert run.output == ["hello", ["hel", "lo"]], run.reason
    assert len(server.received) == 2
    assert len(run.steps) == 2


def test_the_sync_client(server: Server) -> None:
    """The same in a sync function; the engine tries again what the server could not do."""
    down: list[Answer] = [(503, [], b"{}")]

    def flaky(request: Received) -> Answer:
        return down.pop() if down else completion(request)

    server.answers["/v1/chat/completions"] = flaky
    client = inngest.Inngest(app_id="app", is_production=False)

    @client.create_function(fn_id="fn", trigger=inngest.TriggerEvent(event="fn"), retries=1)
    def fn(ctx: inngest.ContextSync) -> str | None:
        with (
            httpx.Client(transport=DurableTransportSync()) as http,
            openai.OpenAI(
                api_key="k",
                base_url=f"{server.url}/v1",
                http_client=own(http),
                max_retries=0,
            ) as model,
        ):
            answer = model.chat.completions.create(model="m", messages=MESSAGES)
        return answer.choices[0].message.content

    run = LocalEngine(client, [fn], retry_interval=0.01).run_sync(inngest.Event(name="fn"))
    assert run.output == "hello", run.reason
    assert len(server.received) == 2
    keys = {each.headers["idempotency-key"] for each in server.received}
    assert len(keys) == 1


async def test_its_errors_are_its_own(server: Server) -> None:
    """A timeout and a refused connection are what the client's users know."""
    client = inngest.Inngest(app_id="app", is_production=False)

    @client.create_function(fn_id="fn", trigger=inngest.TriggerEvent(event="fn"), retries=0)
    async def fn(ctx: inngest.Context) -> list[str]:
        seen: list[str] = []
        for path in ("hang", "v1"):
            async with (
                httpx.AsyncClient(transport=DurableTransport(), timeout=0.05) as http,
                openai.AsyncOpenAI(
                    api_key="k",
                    base_url=f"{server.url}/{path}" if path == "hang" else "http://127.0.0.1:9/v1",
                    http_client=own(http),
                    max_retries=0,
                    timeout=0.05,
                ) as model,
            ):
                try:
                    await model.chat.completions.create(model="m", messages=MESSAGES)
                except openai.APIConnectionError as err:
                    seen.append(type(err).__name__)
        return seen

    def hang(request: Received) -> Answer:
        server.release.wait(200)
        return 200, [], b""

    server.answers["/hang/chat/completions"] = hang
    async with LocalEngine(client, [fn]) as engine:
        run = await engine.run(inngest.Event(name="fn"))
    assert run.output == ["APITimeoutError", "APIConnectionError"], run.reason
