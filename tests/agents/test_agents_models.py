"""The real client of a provider, on a fake of its network; which model is asked, and how often."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime, timezone
from typing import Any

import httpx2 as httpx
import inngest
import pytest
from openai import AsyncOpenAI
from pydantic_ai import Agent
from pydantic_ai.capabilities import ResolveModelId
from pydantic_ai.models.fallback import FallbackModel
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider
from pydantic_ai.settings import ModelSettings
from tests.agents.agents_app import App, Script, completed, failure

from inngest_plugins.agents import InngestDurability

pytestmark = pytest.mark.anyio

Handler = Callable[[int, dict[str, Any]], httpx.Response]


class FakeOpenAI:
    """The chat completions API, without a network."""

    def __init__(self, handler: Handler) -> None:
        self.requests: list[dict[str, Any]] = []
        self._handler = handler
        transport = httpx.MockTransport(self._answer)
        self.client = AsyncOpenAI(
            api_key="k3y",
            base_url="http://fake/v1",
            http_client=httpx.AsyncClient(transport=transport),
        )

    def _answer(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(json.loads(request.content))
        return self._handler(len(self.requests), self.requests[-1])

    def model(self, name: str = "gpt-5", **options: Any) -> OpenAIChatModel:
        """A model of Pydantic AI that asks here."""
        return OpenAIChatModel(name, provider=OpenAIProvider(openai_client=self.client), **options)


def says(text: str | None, *tools: tuple[str, dict[str, Any]]) -> httpx.Response:
    """A chat completion."""
    calls = [
        {
            "id": f"call_{n}",
            "type": "function",
            "function": {"name": name, "arguments": json.dumps(args)},
        }
        for n, (name, args) in enumerate(tools)
    ]
    message: dict[str, Any] = {"role": "assistant", "content": text}
    if calls:
        message["tool_calls"] = calls
    return httpx.Response(
        200,
        json={
            "id": "chatcmpl-1",
            "object": "chat.completion",
            "created": 1_700_000_000,
            "model": "gpt-5",
            "choices": [
                {
                    "index": 0,
                    "message": message,
                    "finish_reason": "tool_calls" if calls else "stop",
                }
            ],
            "usage": {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15},
        },
    )


def support(model: Any, **options: Any) -> Agent[object, Any]:
    """A durable agent."""
    return Agent(model, name="support", capabilities=[InngestDurability(**options)])


async def test_the_real_client() -> None:
    """Two requests to the provider for a question with a tool call, however often it replays."""

    def answer(number: int, request: dict[str, Any]) -> httpx.Response:
        if request["messages"][-1]["role"] == "user":
            return says(None, ("weather", {"city": "Rome"}), ("weather", {"city": "Oslo"}))
        return says(" and ".join(m["content"] for m in request["messages"] if m["role"] == "tool"))

    fake, app = FakeOpenAI(answer), App()
    agent = support(fake.model())

    @agent.tool_plain
    async def weather(city: str) -> str:
        app.count[city] += 1
        return f"sun in {city}"

    async def body(ctx: inngest.Context) -> Any:
        result = await agent.run("How is the weather?")
        return [result.output, result.usage.input_tokens, result.usage.output_tokens]

    assert completed(await app.run(body)) == ["sun in Rome and sun in Oslo", 20, 10]
    assert len(fake.requests) == 2
    assert dict(app.count) == {"Rome": 1, "Oslo": 1}


@pytest.mark.parametrize(("client_retries", "requests"), [(False, 3), (True, 7)])
async def test_the_engine_alone_tries_again(*, client_retries: bool, requests: int) -> None:
    """The client's own two retries are off, unless asked for."""

    def answer(number: int, request: dict[str, Any]) -> httpx.Response:
        good = number >= requests
        return says("hi") if good else httpx.Response(503, headers={"retry-after-ms": "1"})

    fake = FakeOpenAI(answer)
    agent = support(fake.model(), client_retries=client_retries)

    async def body(ctx: inngest.Context) -> Any:
        return (await agent.run("hi")).output

    run = await App().run(body, retries=2)
    assert completed(run) == "hi"
    assert len(fake.requests) == requests
    assert run.steps["support__model.request"].attempts == 3


async def test_settings_of_the_request_win() -> None:
    """Somebody who sets `max_retries` has asked for the client's retries; other settings stay."""

    def answer(number: int, request: dict[str, Any]) -> httpx.Response:
        good = number >= 2
        return says("hi") if good else httpx.Response(503, headers={"retry-after-ms": "1"})

    fake = FakeOpenAI(answer)
    agent = support(fake.model("gpt-4o", settings=ModelSettings(temperature=0.25)))

    async def body(ctx: inngest.Context) -> Any:
        return (await agent.run("hi", model_settings=ModelSettings(max_retries=1))).output

    run = await App().run(body, retries=0)
    assert completed(run) == "hi"
    assert [request["temperature"] for request in fake.requests] == [0.25, 0.25]


async def test_a_provider_that_says_when_to_come_back() -> None:
    """The engine waits as long as the provider asks."""

    def answer(number: int, request: dict[str, Any]) -> httpx.Response:
        if number == 1:
            return httpx.Response(429, headers={"retry-after": "600"}, json={"error": {}})
        return says("hi")

    fake = FakeOpenAI(answer)
    agent = support(fake.model())

    async def body(ctx: inngest.Context) -> Any:
        return (await agent.run("hi")).output

    run = await App().run(body)
    assert completed(run) == "hi"
    (failed,) = (r for r in run.requests if r.status == 500)
    asked = datetime.fromisoformat(failed.response_headers["retry-after"].replace("Z", "+00:00"))
    assert 500 < (asked - datetime.now(timezone.utc)).total_seconds() < 700
    assert len(fake.requests) == 2


async def test_a_provider_that_names_no_time_that_there_is() -> None:
    """A delay longer than a date can be said with is one of a year."""

    def answer(number: int, request: dict[str, Any]) -> httpx.Response:
        if number == 1:
            return httpx.Response(429, headers={"retry-after": "9" * 30}, json={"error": {}})
        return says("hi")

    agent = support(FakeOpenAI(answer).model())

    async def body(ctx: inngest.Context) -> Any:
        return (await agent.run("hi")).output

    run = await App().run(body)
    assert completed(run) == "hi"
    (failed,) = (r for r in run.requests if r.status == 500)
    assert "retry-after" in failed.response_headers


async def test_an_error_of_the_model_that_stays() -> None:
    """It is the function's to catch, by the name of the error."""
    fake = FakeOpenAI(lambda number, request: httpx.Response(500, json={"error": {}}))
    agent = support(fake.model())

    async def body(ctx: inngest.Context) -> Any:
        try:
            return (await agent.run("hi")).output
        except inngest.StepError as err:
            return err.name

    assert completed(await App().run(body, retries=1)) in {
        "ModelHTTPError",
        "ModelServerError",
    }
    assert len(fake.requests) == 2


async def test_a_fallback_model_falls_back_in_its_step() -> None:
    """No attempt of the engine is spent on it."""
    broken = FakeOpenAI(lambda number, request: httpx.Response(500, json={"error": {}}))
    good = FakeOpenAI(lambda number, request: says("hi"))
    agent = support(FallbackModel(broken.model(), good.model()))

    async def body(ctx: inngest.Context) -> Any:
        return (await agent.run("hi")).output

    run = await App().run(body)
    assert completed(run) == "hi"
    assert (len(broken.requests), len(good.requests)) == (1, 1)
    assert run.steps["support__model.request"].attempts == 1


async def test_the_model_that_is_named_is_asked() -> None:
    """By a key of `models=`, or by an alias that a capability knows (pydantic-ai 6631)."""
    default, other, alias = Script("default"), Script("other"), Script("alias")
    agent: Agent[object, str] = Agent(
        default.model,
        name="support",
        capabilities=[
            ResolveModelId(lambda ctx, model_id: alias.model if model_id == "house" else None),
            InngestDurability(models={"other": other.model}),
        ],
    )

    async def body(ctx: inngest.Context) -> Any:
        results = [
            await agent.run("hi"),
            await agent.run("hi", model="other"),
            await agent.run("hi", model="house"),
        ]
        return [result.output for result in results]

    run = await App().run(body)
    assert completed(run) == ["default", "other", "alias"]
    assert (default.asked, other.asked, alias.asked) == (1, 1, 1)
    assert list(run.steps) == [
        "support__model.request",
        "support#2__model.request.other",
        "support#3__model.request.house",
    ]


async def test_a_model_that_nobody_registered_is_refused() -> None:
    """It would be rebuilt as another one; the error says what to do."""
    stranger = Script("hi")
    agent = support(Script("hi").model)

    async def body(ctx: inngest.Context) -> Any:
        return (await agent.run("hi", model=stranger.model)).output

    run = await App().run(body, retries=0)
    assert "Register the instance in `models=` on `InngestDurability`" in failure(run)
    assert stranger.asked == 0


async def test_request_and_conversation_keep_their_ids() -> None:
    """Each replay sees the same run, and messages carry the metadata of the first request."""
    agent = support(Script("one", "two").model)
    seen: set[Any] = set()

    async def body(ctx: inngest.Context) -> Any:
        first = await agent.run("hi", metadata={"tenant": "a"})
        seen.add((first.run_id, first.conversation_id))
        return [first.run_id, first.metadata]

    run = await App().run(body)
    assert completed(run) == [f"{run.id}:support:1", {"tenant": "a"}]
    assert len(seen) == 1


async def test_a_timeout_counts_from_the_first_request() -> None:
    """The moment at which the run began is a step."""
    agent = support(Script("hi").model)

    async def body(ctx: inngest.Context) -> Any:
        return (await agent.run("hi", timeout=200)).output

    run = await App().run(body)
    assert completed(run) == "hi"
    assert list(run.steps) == ["support__started", "support__model.request"]
