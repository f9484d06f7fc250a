"""`instrument`: real clients against a provider that keeps a ledger."""

from __future__ import annotations

import gzip
import logging
from typing import Any

import anyio
import httpx
import httpx2
import inngest
import openai
import pytest
from tests.ai.ai_provider import URL, Provider
from tests.ai.ai_rig import App, attempt_values, in_step, run_values

from inngest_plugins.ai import (
    AIPlugin,
    Budget,
    UsageValueError,
    instrument,
    usage,
)
from inngest_plugins.ai.sources import exchange

pytestmark = pytest.mark.anyio

CHAT: Any = {"model": "gpt-5", "messages": [{"role": "user", "content": "secret"}]}
WITH_USAGE: Any = {"stream": True, "stream_options": {"include_usage": True}}


def async_client(provider: Provider, **options: Any) -> openai.AsyncOpenAI:
    http = httpx2.AsyncClient(transport=provider.transport())
    return instrument(openai.AsyncOpenAI(api_key="k", http_client=http, **options))


def sync_client(provider: Provider, **options: Any) -> openai.OpenAI:
    http = httpx2.Client(transport=provider.transport())
    return instrument(openai.OpenAI(api_key="k", http_client=http, **options))


async def test_every_kind_of_call_is_counted_to_the_token() -> None:
    """Chat, responses and embeddings, streamed and not, equal the provider's ledger."""
    provider = Provider()
    client = async_client(provider)

    async def calls() -> None:
        await client.chat.completions.create(**CHAT)
        async for _ in await client.chat.completions.create(**CHAT, **WITH_USAGE):
            pass
        await client.responses.create(model="gpt-5", input="secret")
        async for _ in await client.responses.create(model="gpt-5", input="x", stream=True):
            pass
        await client.embeddings.create(model="text-embedding-3-small", input="secret")

    total, run = await in_step(calls)
    assert run.status == "Completed", run.reason
    assert (
        total.calls,
        total.input_tokens,
        total.output_tokens,
        total.cache_read_tokens,
    ) == provider.total
    assert total.reasoning_tokens == sum(one.reasoning for one in provider.ledger)
    assert total.unpriced_calls == total.uncounted_calls == 0
    values = attempt_values(run)["s@0"]
    assert values["request_model"] == "gpt-5, text-embedding-3-small"
    assert values["provider"] == "openai"
    assert "secret" not in str(run.metadata)


def test_a_sync_client_in_a_sync_function() -> None:
    """The same for sync code."""
    provider = Provider()
    client = sync_client(provider)
    app = App()

    @app.function(retries=0)
    def fn(ctx: inngest.ContextSync) -> int:
        def step() -> None:
            client.chat.completions.create(**CHAT)
            for _ in client.chat.completions.create(**CHAT, **WITH_USAGE):
                pass

        ctx.step.run("s", step)
        return usage.run_total().input_tokens

    run = anyio.run(app.run)
    assert run.output == provider.total[1], run.reason
    assert run_values(run)["calls"] == 2


async def test_a_stream_without_usage_is_unknown_and_says_so(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Not zero, and nothing is guessed; one sentence in a run says what to do."""
    provider = Provider()
    client = async_client(provider)

    async def calls() -> None:
        for _ in range(2):
            async for _chunk in await client.chat.completions.create(**CHAT, stream=True):
                pass

    with caplog.at_level(logging.WARNING, "inngest_plugins.ai"):
        total, run = await in_step(calls)
    assert (total.calls, total.uncounted_calls, total.unpriced_calls) == (2, 2, 2)
    assert run_values(run)["uncounted_calls"] == 2
    said = [one for one in caplog.messages if "include_usage" in one]
    assert len(said) == 1


async def test_a_stream_that_is_broken_off_counts() -> None:
    """An OpenAI stream that is closed early is a call with unknown tokens."""
    provider = Provider()
    client = async_client(provider)

    async def calls() -> None:
        stream = await client.chat.completions.create(**CHAT, **WITH_USAGE)
        async for _ in stream:
            break
        await stream.close()

    total, _ = await in_step(calls)
    assert (total.calls, total.uncounted_calls) == (1, 1)


@pytest.mark.parametrize(("stream", "early"), [(False, False), (True, False), (True, True)])
async def test_anthropic_s_counts_get_the_one_meaning(stream: bool, early: bool) -> None:
    """Its input lacks the cache's tokens: the total has them, read and written apart."""
    provider = Provider()
    http = instrument(httpx2.AsyncClient(transport=provider.transport()))

    async def calls() -> None:
        for _ in range(5):
            body = {"model": "claude-sonnet-4-5", "stream": stream}
            url = "https://api.anthropic.com/v1/messages"
            async with http.stream("POST", url, json=body) as response:
                async for _data in response.aiter_bytes():
                    if early:
                        break

    total, run = await in_step(calls)
    assert run.status == "Completed", run.reason
    cached = total.cache_read_tokens + total.cache_write_tokens
    assert (total.calls, total.input_tokens, cached) == (
        provider.total[0],
        provider.total[1],
        provider.total[3],
    )
    if early:
        # The first event counts the input; the output is known at the end only.
        assert (total.output_tokens, total.uncounted_calls) == (0, 5)
    else:
        assert total.output_tokens == provider.total[2]
        assert total.unpriced_calls == 0
    assert attempt_values(run)["s@0"]["provider"] == "anthropic"


async def test_answers_that_are_errors_cost_nothing() -> None:
    """The client's own retries are calls of their own; a 500 is not charged."""
    provider = Provider()
    provider.fail_next = 1
    client = async_client(provider, max_retries=1)

    async def calls() -> None:
        await client.chat.completions.create(**CHAT)

    total, _ = await in_step(calls)
    assert (total.calls, total.input_tokens) == provider.total[:2] == (1, 1001)


async def test_a_compressed_answer_reads_the_same() -> None:
    """The user's client gets what it would get; the copy of the answer is not decoded twice."""
    body = gzip.compress(
        b'{"id": "x", "model": "gpt-5", "usage": {"prompt_tokens": 5, "completion_tokens": 6}}'
    )
    headers = {"content-encoding": "gzip", "content-type": "application/json"}
    transport = httpx.MockTransport(
        lambda request: httpx.Response(200, headers=headers, content=body)
    )
    http = instrument(httpx.AsyncClient(transport=transport, base_url=URL))
    got: list[Any] = []

    async def calls() -> None:
        got.append((await http.post("/chat/completions", json={})).json())

    total, _ = await in_step(calls)
    assert got[0]["id"] == "x"
    assert (total.input_tokens, total.output_tokens) == (5, 6)


async def test_other_requests_are_left_alone() -> None:
    """Answers without a model are no calls; outside of a run nothing is counted."""
    transport = httpx.MockTransport(lambda request: httpx.Response(200, json={"usage": "none"}))
    http = instrument(httpx.AsyncClient(transport=transport))

    async def calls() -> None:
        await http.get("https://example.test/")
        await http.post("https://example.test/", json={})

    total, _ = await in_step(calls)
    assert total.calls == 0
    assert (await http.post("https://example.test/")).status_code == 200


@pytest.mark.parametrize(
    "body",
    [b'{"model": "gpt-5", "usage": {', b'{"model": "gpt-5"}' + b" " * 15_000, b"[" * 12_000],
    ids=["cut off", "too long", "too deep"],
)
async def test_an_answer_that_cannot_be_read_passes_by(
    body: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cut off, longer than is kept, or deeper than Python reads; the caller gets it whole."""
    monkeypatch.setattr(exchange, "_MOST_BYTES", 14_000)
    headers = {"content-type": "application/json"}
    transport = httpx.MockTransport(lambda _: httpx.Response(200, content=body, headers=headers))
    http = instrument(httpx.AsyncClient(transport=transport))
    got: list[bytes] = []

    async def calls() -> None:
        got.append((await http.post(URL, json={})).content)

    total, run = await in_step(calls)
    assert run.status == "Completed", run.reason
    assert (total.calls, got) == (0, [body])
    await http.aclose()


@pytest.mark.parametrize("is_async", [True, False])
async def test_a_spent_budget_stops_the_next_request(is_async: bool) -> None:
    """Nothing leaves, and what the client made of the error does not make it be tried again."""
    provider = Provider()
    plugin = AIPlugin(budgets=[Budget(tokens=2000)])
    app = App(plugin=plugin)

    @app.function(retries=4)
    async def fn(ctx: inngest.Context) -> None:
        async def step() -> None:
            for _ in range(5):
                if is_async:
                    await async_client(provider, max_retries=0).chat.completions.create(**CHAT)
                else:
                    sync_client(provider, max_retries=0).chat.completions.create(**CHAT)

        await ctx.step.run("s", step)

    run = await app.run()
    assert run.status == "Failed"
    assert len(provider.ledger) == 2
    assert "is exceeded" in str(run.error)
    assert run_values(run)["failed_calls"] == 2
    assert attempt_values(run)["s@0"]["input_tokens"] == provider.total[1]


async def test_the_same_call_by_hand_too_counts_once() -> None:
    """`usage.record_response` of an instrumented client's answer is the same call."""
    provider = Provider()
    client = async_client(provider)

    async def calls() -> None:
        answer = await client.chat.completions.create(**CHAT)
        call = usage.record_response(answer, provider="openai")
        assert call.cost_usd is not None
        answer = await client.chat.completions.create(**CHAT)
        assert answer.usage is not None
        usage.record(
            model="gpt-5",
            input_tokens=answer.usage.prompt_tokens,
            output_tokens=answer.usage.completion_tokens,
        )

    total, run = await in_step(calls)
    assert run.status == "Completed", run.reason
    assert (total.calls, total.input_tokens) == provider.total[:2]
    assert total.calls == 2


@pytest.mark.parametrize(
    ("answer", "figures"),
    [
        (
            {
                "modelVersion": "gemini-2.5-flash",
                "responseId": "g",
                "usageMetadata": {
                    "promptTokenCount": 100,
                    "cachedContentTokenCount": 40,
                    "candidatesTokenCount": 10,
                    "thoughtsTokenCount": 5,
                },
            },
            (100, 15, 40, 0, 5),
        ),
        (
            {
                "type": "message",
                "model": "claude-sonnet-4-5",
                "usage": {
                    "input_tokens": 10,
                    "output_tokens": 3,
                    "cache_read_input_tokens": 20,
                    "cache_creation_input_tokens": 30,
                },
            },
            (60, 3, 20, 30, 0),
        ),
        (
            {
                "model": "gpt-5",
                "usage": {
                    "input_tokens": 60,
                    "input_tokens_details": {"cached_tokens": 20},
                    "output_tokens": 9,
                    "output_tokens_details": {"reasoning_tokens": 4},
                },
            },
            (60, 9, 20, 0, 4),
        ),
        (
            {
                "model": "gpt-5",
                "usage": {
                    "prompt_tokens": 60,
                    "prompt_tokens_details": {"cached_tokens": 20},
                    "completion_tokens": 9,
                    "completion_tokens_details": None,
                },
            },
            (60, 9, 20, 0, 0),
        ),
    ],
    ids=["google", "anthropic", "openai-responses", "openai-chat"],
)
async def test_what_each_provider_means(answer: Any, figures: tuple[int, ...]) -> None:
    """One meaning: all of the input, all of the output, and what of it is special."""

    async def calls() -> None:
        assert usage.record_response(answer).cost_usd

    total, run = await in_step(calls)
    assert run.status == "Completed", run.reason
    assert (
        total.input_tokens,
        total.output_tokens,
        total.cache_read_tokens,
        total.cache_write_tokens,
        total.reasoning_tokens,
    ) == figures


async def test_an_answer_without_figures_is_refused() -> None:
    """And something that is no model client, too."""
    problems: list[str] = []

    async def calls() -> None:
        try:
            usage.record_response({"text": "secret"})
        except UsageValueError as err:
            problems.append(str(err))

    await in_step(calls)
    assert "usage.record(" in problems[0]
    assert "secret" not in problems[0]
    with pytest.raises(TypeError, match="record_response"):
        instrument(object())
