"""Anthropic's client, Google's API, and OpenInference's instrumentations, over real HTTP."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import anthropic
import httpx
import openai
import pytest
from openinference.instrumentation.anthropic import AnthropicInstrumentor
from openinference.instrumentation.openai import OpenAIInstrumentor
from opentelemetry.sdk.trace import TracerProvider
from tests.ai.ai_rig import counted
from tests.ai.ai_server import BREAK_HEADER, ProviderServer, serving

from inngest_plugins.ai import AIPlugin, ModelUsage, Price, instrument
from inngest_plugins.ai.spans import UsageSpanProcessor

pytestmark = pytest.mark.anyio

ASKED: Any = {
    "model": "claude-house",
    "max_tokens": 100,
    "messages": [{"role": "user", "content": "secret"}],
}


@pytest.fixture
def server() -> Iterator[ProviderServer]:
    with serving() as made:
        yield made


@pytest.fixture
def tracing() -> Iterator[TracerProvider]:
    """A provider whose spans are counted."""
    made = TracerProvider()
    made.add_span_processor(UsageSpanProcessor())
    yield made
    made.shutdown()


async def in_step(body: Callable[[], Awaitable[None]]) -> ModelUsage:
    """Run something in a step; returns the run's total. No text is in what the engine has."""
    total, run = await counted(body, AIPlugin(prices={"claude-house": Price(input=3, output=15)}))
    assert "secret" not in str(run.metadata)
    return total


def told(total: ModelUsage) -> tuple[int, int, int, int]:
    """What the ledger has, too."""
    cached = total.cache_read_tokens + total.cache_write_tokens
    return total.calls, total.input_tokens, total.output_tokens, cached


async def test_anthropic_s_clients(server: ProviderServer) -> None:
    """Async and sync, streamed and not, by the client's own helpers: equal to the ledger."""
    client = instrument(anthropic.AsyncAnthropic(api_key="k", base_url=server.url))
    sync = instrument(anthropic.Anthropic(api_key="k", base_url=server.url))

    async def calls() -> None:
        async with client:
            await client.messages.create(**ASKED)
            async for _ in await client.messages.create(**ASKED, stream=True):
                pass
        with sync:
            sync.messages.create(**ASKED)
            for _ in sync.messages.create(**ASKED, stream=True):
                pass

    total = await in_step(calls)
    assert told(total) == server.provider.total
    assert total.unpriced_calls == total.uncounted_calls == 0
    assert total.models == ("claude-house",)


@pytest.mark.parametrize("by", ["server", "user"])
async def test_a_stream_of_anthropic_that_is_broken_off(server: ProviderServer, by: str) -> None:
    """The input is known from the first event, the output is not."""
    client = instrument(anthropic.AsyncAnthropic(api_key="k", base_url=server.url, max_retries=0))
    headers = {BREAK_HEADER: "2"} if by == "server" else {}

    async def calls() -> None:
        async with client:
            stream = await client.messages.create(**ASKED, stream=True, extra_headers=headers)
            if by == "user":
                async for _ in stream:
                    break
                await stream.close()
                return
            with pytest.raises(Exception, match="incomplete chunked read"):
                async for _ in stream:
                    pass

    total = await in_step(calls)
    assert (total.calls, total.input_tokens) == server.provider.total[:2]
    assert total.uncounted_calls == 1


async def test_google_s_api_through_an_http_client(server: ProviderServer) -> None:
    """As its client sends with `HttpOptions(httpx_client=...)`: equal to the ledger."""
    http = instrument(httpx.Client(base_url=f"{server.url}/v1beta/models"))

    async def calls() -> None:
        for _ in range(3):
            http.post("/gemini-2.5-flash:generateContent", json={})
            http.post("/gemini-2.5-flash:streamGenerateContent?alt=sse", json={})

    total = await in_step(calls)
    http.close()
    assert told(total) == server.provider.total
    assert total.reasoning_tokens == sum(one.reasoning for one in server.provider.ledger)
    assert total.unpriced_calls == total.uncounted_calls == 0


@pytest.mark.parametrize("both", [False, True], ids=["spans", "spans-and-instrument"])
async def test_openinference_s_instrumentation_of_openai(
    server: ProviderServer, tracing: TracerProvider, *, both: bool
) -> None:
    """Its spans count each call; with `instrument(client)` beside it each still counts once."""
    made = openai.AsyncOpenAI(api_key="k", base_url=f"{server.url}/v1")
    instrumentor = OpenAIInstrumentor()
    instrumentor.instrument(tracer_provider=tracing)
    client: Any = instrument(made) if both else made
    asked = {"model": "gpt-5", "messages": [{"role": "user", "content": "secret"}]}

    async def calls() -> None:
        async with client:
            await client.chat.completions.create(**asked)
            streamed = {"stream": True, "stream_options": {"include_usage": True}}
            async for _ in await client.chat.completions.create(**asked, **streamed):
                pass

    try:
        total = await in_step(calls)
    finally:
        instrumentor.uninstrument()
    assert told(total)[:3] == server.provider.total[:3]
    assert total.unpriced_calls == 0


@pytest.mark.parametrize("both", [False, True], ids=["spans", "spans-and-instrument"])
async def test_openinference_s_instrumentation_of_anthropic(
    server: ProviderServer, tracing: TracerProvider, *, both: bool
) -> None:
    """Whatever it means by its input, the sum is the ledger's."""
    instrumentor = AnthropicInstrumentor()
    instrumentor.instrument(tracer_provider=tracing)
    made = anthropic.AsyncAnthropic(api_key="k", base_url=server.url)
    client = instrument(made) if both else made

    async def calls() -> None:
        async with client:
            for _ in range(3):
                await client.messages.create(**ASKED)

    try:
        total = await in_step(calls)
    finally:
        instrumentor.uninstrument()
    assert told(total) == server.provider.total
