"""Model calls counted by OpenTelemetry spans, each once whoever reports it."""

from __future__ import annotations

import sys
from typing import Any

import httpx2
import inngest
import openai
import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import Status, StatusCode
from tests.ai.ai_provider import Provider
from tests.ai.ai_rig import App, counted, run_values

from inngest_plugins.ai import instrument, usage
from inngest_plugins.ai.calls import metrics as ai_metrics
from inngest_plugins.ai.spans import UsageSpanProcessor
from inngest_plugins.checkpoint import CheckpointPlugin

pytestmark = pytest.mark.anyio

CHAT = {"gen_ai.operation.name": "chat", "gen_ai.request.model": "gpt-5"}
USAGE = {"gen_ai.usage.input_tokens": 100, "gen_ai.usage.output_tokens": 10}


@pytest.fixture
def provider() -> TracerProvider:
    made = TracerProvider()
    made.add_span_processor(UsageSpanProcessor())
    return made


@pytest.mark.parametrize(
    ("attributes", "figures"),
    [
        (
            {
                **CHAT,
                **USAGE,
                "gen_ai.provider.name": "openai",
                "gen_ai.usage.cache_read.input_tokens": 40,
                "gen_ai.usage.cache_creation.input_tokens": 5,
                "gen_ai.usage.reasoning.output_tokens": 3,
            },
            (100, 10, 40, 5, 3),
        ),
        (
            {
                "gen_ai.system": "openai",
                "gen_ai.request.model": "gpt-5",
                "gen_ai.usage.prompt_tokens": 100,
                "gen_ai.usage.completion_tokens": 10,
            },
            (100, 10, 0, 0, 0),
        ),
        (
            {
                "openinference.span.kind": "LLM",
                "llm.model_name": "gpt-5",
                "llm.provider": "openai",
                "llm.token_count.prompt": 100,
                "llm.token_count.completion": 10,
                "llm.token_count.prompt_details.cache_read": 40,
                "llm.token_count.completion_details.reasoning": 2,
            },
            (100, 10, 40, 0, 2),
        ),
        (
            {
                **CHAT,
                **USAGE,
                "gen_ai.usage.details.cache_read_tokens": 7,
                "gen_ai.usage.details.reasoning_tokens": 1,
            },
            (100, 10, 7, 0, 1),
        ),
        (
            {
                **CHAT,
                "gen_ai.usage.input_tokens": 10,
                "gen_ai.usage.output_tokens": 1,
                "gen_ai.usage.cache_read_input_tokens": 80,
            },
            (90, 1, 80, 0, 0),
        ),
        (
            {
                "gen_ai.operation.name": "embeddings",
                "gen_ai.provider.name": "openai",
                "gen_ai.request.model": "text-embedding-3-small",
                "gen_ai.usage.input_tokens": 40,
            },
            (40, 0, 0, 0, 0),
        ),
    ],
    ids=["current", "previous", "openinference", "pydantic-ai", "anthropic-copied", "embeddings"],
)
async def test_each_convention(
    provider: TracerProvider, attributes: dict[str, Any], figures: tuple[int, ...]
) -> None:
    """One meaning, whatever the names."""

    async def step() -> None:
        with provider.get_tracer("x").start_as_current_span("chat", attributes=attributes):
            pass

    total, _ = await counted(step)
    assert total.calls == 1
    assert total.unpriced_calls == 0
    assert (
        total.input_tokens,
        total.output_tokens,
        total.cache_read_tokens,
        total.cache_write_tokens,
        total.reasoning_tokens,
    ) == figures


async def test_an_agent_s_span_does_not_count_again(provider: TracerProvider) -> None:
    """Nor a chain's around it; one without calls of its own inside is counted itself."""
    tracer = provider.get_tracer("x")
    agent = {"gen_ai.operation.name": "invoke_agent", "gen_ai.request.model": "gpt-5"}

    async def step() -> None:
        chain = {"openinference.span.kind": "CHAIN"}
        with (
            tracer.start_as_current_span("chain", attributes=chain),
            tracer.start_as_current_span("agent") as span,
        ):
            for _ in range(2):
                with tracer.start_as_current_span("chat", attributes={**CHAT, **USAGE}):
                    pass
            span.set_attributes({**agent, "gen_ai.usage.input_tokens": 200})
        with tracer.start_as_current_span("lone", attributes={**agent, **USAGE}):
            pass

    total, _ = await counted(step)
    assert (total.calls, total.input_tokens) == (3, 300)


async def test_two_instrumentations_of_one_call(provider: TracerProvider) -> None:
    """Side by side or inside one another, by the answer's id or by equal counts."""
    answer = {"gen_ai.response.id": "r1"}

    async def step() -> None:
        for scope in ("openai", "litellm"):
            tracer = provider.get_tracer(scope)
            extras: list[dict[str, Any]] = [answer, {}]
            for extra in extras:
                attributes: dict[str, Any] = {**CHAT, **USAGE, **extra}
                with tracer.start_as_current_span("chat", attributes=attributes):
                    pass
        usage.record(model="gpt-5", input_tokens=100, output_tokens=10, response_id="r1")

    total, _ = await counted(step)
    assert total.calls == 2


async def test_instrument_and_a_span_of_the_same_call(provider: TracerProvider) -> None:
    """The client's HTTP exchange and the span around it are one call, to the token."""
    models = Provider()
    http = httpx2.AsyncClient(transport=models.transport())
    client = instrument(openai.AsyncOpenAI(api_key="k", http_client=http))
    tracer = provider.get_tracer("openai")

    async def step() -> None:
        for with_id in (True, False):
            with tracer.start_as_current_span("chat", attributes=CHAT) as span:
                answer = await client.chat.completions.create(model="gpt-5", messages=[])
                assert answer.usage is not None
                span.set_attribute("gen_ai.usage.input_tokens", answer.usage.prompt_tokens)
                span.set_attribute("gen_ai.usage.output_tokens", answer.usage.completion_tokens)
                if with_id:
                    span.set_attribute("gen_ai.response.id", answer.id)

    total, _ = await counted(step)
    assert (total.calls, total.input_tokens, total.output_tokens) == models.total[:3]


async def test_spans_that_are_no_calls_or_tell_nothing(provider: TracerProvider) -> None:
    """An error without figures costs nothing; an answer without figures is unknown."""
    tracer = provider.get_tracer("x")

    async def step() -> None:
        with tracer.start_as_current_span("GET /"):
            pass
        with tracer.start_as_current_span("chat", attributes=CHAT) as span:
            span.set_status(Status(StatusCode.ERROR))
        with tracer.start_as_current_span("chat", attributes=CHAT):
            pass

    total, _ = await counted(step)
    assert (total.calls, total.uncounted_calls) == (1, 1)


async def test_a_span_that_ends_elsewhere_counts_where_it_began(provider: TracerProvider) -> None:
    """A stream is often closed by other code; two processors count it once."""
    processor = UsageSpanProcessor()
    provider.add_span_processor(processor)
    tracer = provider.get_tracer("x")
    with tracer.start_as_current_span("outside", attributes={**CHAT, **USAGE}):
        pass

    async def step() -> None:
        import threading

        span = tracer.start_span("chat", attributes={**CHAT, **USAGE})
        thread = threading.Thread(target=span.end)
        thread.start()
        thread.join()

    total, _ = await counted(step)
    assert total.calls == 1
    assert processor._open == {}


@pytest.mark.parametrize("when", ["in the request", "after it"])
async def test_a_span_that_ends_late(
    provider: TracerProvider, when: str, caplog: pytest.LogCaptureFixture
) -> None:
    """After its step it counts for the run; after the request it is said to be lost."""
    app = App(CheckpointPlugin())
    left: list[Any] = []

    @app.function(retries=0)
    async def fn(ctx: inngest.Context) -> None:
        async def step() -> None:
            attributes: dict[str, Any] = {**CHAT, **USAGE}
            left.append(provider.get_tracer("x").start_span("chat", attributes=attributes))

        await ctx.step.run("s", step)
        if when == "in the request" and left:
            left.pop().end()

    run = await app.run()
    assert run.status == "Completed", run.reason
    if left:
        left.pop().end()
        assert "was not counted" in caplog.text
        assert run_values(run) == {}
    else:
        assert run_values(run)["input_tokens"] == 100


@pytest.mark.skipif(sys.version_info < (3, 11), reason="pydantic-ai needs Python 3.11")
async def test_pydantic_ai_s_own_spans(provider: TracerProvider) -> None:
    """A real agent with a tool: two model calls, and the agent's span is none."""
    from pydantic_ai import Agent
    from pydantic_ai.capabilities import Instrumentation
    from pydantic_ai.models.instrumented import InstrumentationSettings
    from pydantic_ai.models.test import TestModel

    settings = InstrumentationSettings(tracer_provider=provider)
    agent = Agent(TestModel(), capabilities=[Instrumentation(settings)])
    used: list[Any] = []

    @agent.tool_plain
    def look_up() -> str:
        return "x"

    async def step() -> None:
        result = await agent.run("secret")
        used.append(result.usage)

    total, _ = await counted(step)
    assert total.calls == 2
    assert (total.input_tokens, total.output_tokens) == (
        used[0].input_tokens,
        used[0].output_tokens,
    )


async def test_the_metric_is_recorded_once(
    provider: TracerProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For calls that no instrumentation measures itself, with the conventions' names."""
    reader = InMemoryMetricReader()
    meter = MeterProvider([reader]).get_meter("test")
    histogram = meter.create_histogram("gen_ai.client.token.usage", unit="{token}")
    monkeypatch.setattr(ai_metrics, "_histogram", lambda: histogram)

    async def step() -> None:
        usage.record(model="gpt-5", provider="openai", input_tokens=7, output_tokens=3)
        with provider.get_tracer("x").start_as_current_span("chat", attributes={**CHAT, **USAGE}):
            pass

    await counted(step)
    data: Any = reader.get_metrics_data()
    (metric,) = data.resource_metrics[0].scope_metrics[0].metrics
    points = {point.attributes["gen_ai.token.type"]: point for point in metric.data.data_points}
    assert {kind: (point.count, point.sum) for kind, point in points.items()} == {
        "input": (1, 7),
        "output": (1, 3),
    }
    assert points["input"].attributes["gen_ai.provider.name"] == "openai"
