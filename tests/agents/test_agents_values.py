"""What is stored with a step, what is not, and what happens to values that are no JSON."""

from __future__ import annotations

import dataclasses
import json
from datetime import date
from typing import Any

import inngest
import pydantic
import pytest
from pydantic_ai import Agent, RunContext, ToolReturn
from pydantic_ai.messages import ModelRequest, ToolCallPart, ToolReturnPart
from pydantic_ai.usage import RunUsage
from pydantic_core import core_schema
from tests.agents.agents_app import App, Script, calls, completed, failure, returned

from inngest_plugins.agents import InngestDurability, StepConfig

pytestmark = pytest.mark.anyio


def support(*answers: Any, **options: Any) -> tuple[Agent[Any, Any], Script]:
    """An agent on a script."""
    script = Script(*answers)
    return Agent(
        script.model, name="support", capabilities=[InngestDurability()], **options
    ), script


async def test_usage_travels_with_the_result() -> None:
    """What a tool adds to the usage counts once, however often it is replayed (6886, 6907)."""
    agent, _ = support(calls("search", "search"), calls("search"), returned)
    app = App()

    @agent.tool
    async def search(ctx: RunContext[object]) -> str:
        ctx.usage.incr(RunUsage(requests=1, input_tokens=100, details={"pages": 3}))
        return "found"

    async def body(ctx: inngest.Context) -> Any:
        usage = (await agent.run("hi")).usage
        return [usage.requests, usage.input_tokens, usage.output_tokens, usage.details]

    usage = (await agent.run("hi")).usage
    run = await app.run(body)
    assert completed(run) == [
        usage.requests,
        usage.input_tokens,
        usage.output_tokens,
        {"pages": 9},
    ]
    assert usage.requests == 6


@dataclasses.dataclass
class Database:
    """Dependencies that are no JSON, and that pickle refuses too."""

    secret: str
    used: list[str] = dataclasses.field(default_factory=list)

    def __reduce__(self) -> Any:
        raise AssertionError("dependencies are never serialised")


async def test_dependencies_never_leave_the_process() -> None:
    """Each request gives the agent its own (pydantic-ai 6919)."""
    script = Script(calls(("look", {"key": "a"})), returned)
    agent: Agent[Database, str] = Agent(
        script.model, name="support", deps_type=Database, capabilities=[InngestDurability()]
    )
    databases: list[Database] = []

    @agent.tool
    async def look(ctx: RunContext[Database], key: str) -> str:
        ctx.deps.used.append(key)
        return key * 3

    async def body(ctx: inngest.Context) -> Any:
        databases.append(Database("s3cret" * 1000))
        return (await agent.run("hi", deps=databases[-1])).output

    run = await App().run(body)
    assert completed(run) == "look=aaa"
    assert [d.used for d in databases].count(["a"]) == 1
    wire = json.dumps([[r.request, r.response] for r in run.requests])
    assert "s3cret" not in wire


class Place(pydantic.BaseModel):
    """What a tool may give."""

    name: str
    seen: date


@pytest.mark.parametrize(
    "value",
    [
        None,
        0,
        "",
        [],
        {"kind": "tool-return", "x": 1},
        {"result": 1},
        [1.5, None, {"a": [True]}],
        "\u2028\U0001f600",
    ],
)
async def test_values_come_back_as_they_were(value: Any) -> None:
    """The agent cannot tell a replayed result from a fresh one."""
    agent, _ = support(calls("give"), "done")

    @agent.tool_plain
    async def give() -> Any:
        return value

    async def body(ctx: inngest.Context) -> Any:
        result = await agent.run("hi")
        return _given(result.all_messages())

    assert completed(await App().run(body)) == [value]


def _given(messages: list[Any]) -> list[Any]:
    return [
        part.content
        for message in messages
        if isinstance(message, ModelRequest)
        for part in message.parts
        if isinstance(part, ToolReturnPart)
    ]


async def test_numbers_that_json_has_not_are_null() -> None:
    """As they are in Pydantic's JSON everywhere."""
    agent, _ = support(calls("give"), "done")

    @agent.tool_plain
    async def give() -> Any:
        return [float("nan"), float("inf"), 1.5]

    async def body(ctx: inngest.Context) -> Any:
        return _given((await agent.run("hi")).all_messages())

    assert completed(await App().run(body)) == [[None, None, 1.5]]


async def test_models_and_dataclasses_and_tool_returns() -> None:
    """They are stored as JSON; metadata of a `ToolReturn` stays beside its value."""
    agent, _ = support(calls("place", "rich"), returned)

    @agent.tool_plain
    async def place() -> Place:
        return Place(name="Rome", seen=date(2026, 1, 2))

    @agent.tool_plain
    async def rich() -> ToolReturn[Any]:
        return ToolReturn(return_value="seen", metadata={"source": "web"})

    async def body(ctx: inngest.Context) -> Any:
        result = await agent.run("hi")
        parts = [p for m in result.all_messages() for p in m.parts if isinstance(p, ToolReturnPart)]
        return [result.output, [p.metadata for p in parts]]

    output, metadata = completed(await App().run(body))
    assert output == "place={'name': 'Rome', 'seen': '2026-01-02'}; rich=seen"
    assert metadata == [None, {"source": "web"}]


class Opaque:
    """Has no JSON."""


@pytest.mark.parametrize("value", [Opaque(), {"deep": [Opaque()]}])
async def test_a_result_that_is_no_json_fails_at_once(value: Any) -> None:
    """It names the step and the type, and is not tried again (pydantic-ai 6893)."""
    agent, _ = support(calls("give"), returned)
    app = App()

    @agent.tool_plain
    async def give() -> Any:
        app.count["give"] += 1
        return value

    async def body(ctx: inngest.Context) -> Any:
        return (await agent.run("hi")).output

    run = await app.run(body, retries=3)
    assert run.status == "Failed"
    assert app.count["give"] == 1
    message = failure(run)
    assert "the result of step 'support__tool:give'" in message


async def test_arguments_need_no_json_for_a_step() -> None:
    """They stay in the process; only a tool that invokes a function sends them."""
    agent, _ = support(calls(("find", {"place": {"name": "Rome", "seen": "2026-01-02"}})), returned)
    app = App()
    seen: list[Any] = []

    @agent.tool_plain
    async def find(place: Place) -> str:
        seen.append(place)
        return place.name

    async def body(ctx: inngest.Context) -> Any:
        return (await agent.run("hi")).output

    assert completed(await app.run(body)) == "find=Rome"
    assert seen == [Place(name="Rome", seen=date(2026, 1, 2))]


class Wrapped:
    """A type of argument that has no JSON."""

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> Any:
        return core_schema.no_info_after_validator_function(
            lambda _: cls(), core_schema.str_schema()
        )


async def test_an_argument_of_an_invoke_that_is_no_json_fails_at_once() -> None:
    """It names the argument and its type."""
    agent, _ = support(calls(("ask", {"data": "x"})), returned)
    app = App()

    async def callee(ctx: inngest.Context) -> None: ...

    function = app.function(callee, event="never")

    @agent.tool_plain(metadata={"inngest": StepConfig(invoke=function)})
    async def ask(data: Wrapped) -> str:
        return ""

    async def body(ctx: inngest.Context) -> Any:
        return (await agent.run("hi")).output

    run = await app.run(body, retries=3)
    assert run.status == "Failed"
    assert "argument 'data' of step 'support__tool:ask' is Wrapped" in failure(run)
    assert len([r for r in run.requests if r.request["ctx"]["attempt"]]) == 0


class Verdict(pydantic.BaseModel):
    """Structured output."""

    city: str
    sunny: bool


async def test_structured_output() -> None:
    """The output tool is the agent's: no step, and validated on each replay."""
    agent, script = support(
        [ToolCallPart("final_result", {"city": "Rome", "sunny": "who knows"})],
        [ToolCallPart("final_result", {"city": "Rome", "sunny": True})],
        output_type=Verdict,
    )

    async def body(ctx: inngest.Context) -> Any:
        output = (await agent.run("hi")).output
        assert isinstance(output, Verdict)
        return output.model_dump()

    run = await App().run(body)
    assert completed(run) == {"city": "Rome", "sunny": True}
    assert script.asked == 2
    assert list(run.steps) == ["support__model.request", "support__model.request:1"]


async def test_a_foreign_memo_under_an_agents_id() -> None:
    """A step of the function with the same id is found out, and named."""
    agent, _ = support("hi")

    async def one() -> int:
        return 1

    async def body(ctx: inngest.Context) -> Any:
        if "support__model.request" not in seen:
            seen.append("support__model.request")
            await ctx.step.run("support__model.request", one)
        return (await agent.run("hi")).output

    seen: list[str] = []
    run = await App().run(body, retries=0)
    assert run.status == "Failed"
    assert "step 'support__model.request': the stored result is int" in failure(run)
