"""What tools say by raising is a value to the engine, and an exception again to the agent."""

from __future__ import annotations

from typing import Any

import inngest
import pytest
from pydantic_ai import (
    Agent,
    AgentRunResult,
    CallDeferred,
    DeferredToolRequests,
    ModelRetry,
    RunContext,
)
from pydantic_ai.capabilities import AbstractCapability
from pydantic_ai.exceptions import ApprovalRequired, ToolFailed, UserError
from pydantic_ai.messages import ModelMessage, ModelRequest, ModelResponse, TextPart, ToolReturnPart
from tests.agents.agents_app import App, Script, calls, completed, failure, returned

from inngest_plugins.agents import InngestDurability

pytestmark = pytest.mark.anyio


def told(messages: list[ModelMessage]) -> ModelResponse:
    """An answer that repeats what the model was told of its calls, retries included."""
    last = messages[-1]
    assert isinstance(last, ModelRequest)
    said = [str(part.content) for part in last.parts if isinstance(part, ToolReturnPart)]
    return ModelResponse(parts=[TextPart("; ".join(said))])


def support(*answers: Any, **options: Any) -> tuple[Agent[object, Any], Script]:
    """An agent on a script."""
    script = Script(*answers)
    return Agent(
        script.model, name="support", capabilities=[InngestDurability()], **options
    ), script


async def test_model_retry_is_the_agents() -> None:
    """The engine does not try the tool again: the model does (pydantic-ai 6640)."""
    agent, script = support(calls(("find", {"n": 1})), calls(("find", {"n": 2})), returned)
    app = App()

    @agent.tool_plain
    async def find(n: int) -> str:
        app.count[f"find {n}"] += 1
        if n == 1:
            raise ModelRetry("try 2")
        return "found"

    async def body(ctx: inngest.Context) -> Any:
        return (await agent.run("hi")).output

    run = await app.run(body)
    assert completed(run) == "find=found"
    assert dict(app.count) == {"find 1": 1, "find 2": 1}
    assert [step.attempts for step in run.steps.values()] == [1] * 5
    assert script.asked == 3
    assert list(run.steps)[3] == "support__tool:find:1"


async def test_a_schema_error_of_arguments_is_told_to_the_model() -> None:
    """Also one that a tool's own validation raises (pydantic-ai 6979)."""
    agent, script = support(calls(("find", {"n": "many"})), calls(("find", {"n": 2})), returned)
    app = App()

    @agent.tool_plain
    async def find(n: int) -> str:
        app.count["find"] += 1
        return "found"

    async def body(ctx: inngest.Context) -> Any:
        return (await agent.run("hi")).output

    run = await app.run(body)
    assert completed(run) == "find=found"
    assert (app.count["find"], script.asked) == (1, 3)
    assert all(step.attempts == 1 for step in run.steps.values())


async def test_a_validator_of_arguments_is_a_step() -> None:
    """It may do what a tool does; what it refuses is told to the model."""
    app = App()

    def check(ctx: RunContext[object], n: int) -> None:
        app.count[f"check {n}"] += 1
        if n == 1:
            raise ModelRetry("1 is taken")

    agent, _ = support(calls(("find", {"n": 1})), calls(("find", {"n": 2})), returned)

    @agent.tool(args_validator=check)
    async def find(ctx: RunContext[object], n: int) -> str:
        app.count["find"] += 1
        return "found"

    async def body(ctx: inngest.Context) -> Any:
        return (await agent.run("hi")).output

    run = await app.run(body)
    assert completed(run) == "find=found"
    assert dict(app.count) == {"check 1": 1, "check 2": 1, "find": 1}
    assert "support__tool:find.validate" in run.steps


async def test_a_tool_that_failed_is_told_to_the_model() -> None:
    """`ToolFailed` is a result."""
    agent, _ = support(calls("find", "other"), told)
    app = App()

    @agent.tool_plain
    async def find() -> str:
        app.count["find"] += 1
        raise ToolFailed("nothing there")

    @agent.tool_plain
    async def other() -> str:
        return "fine"

    async def body(ctx: inngest.Context) -> Any:
        return (await agent.run("hi")).output

    run = await app.run(body)
    assert completed(run) == "nothing there; fine"
    assert app.count["find"] == 1


@pytest.mark.parametrize("error", [ApprovalRequired(metadata={"why": "much"}), CallDeferred()])
async def test_deferred_calls_end_the_agent_run(error: Exception) -> None:
    """Without anything that answers them they are the run's output, as in Pydantic AI."""
    agent, script = support(calls("pay", "clock"), output_type=[str, DeferredToolRequests])
    app = App()

    @agent.tool_plain
    async def pay() -> str:
        app.count["pay"] += 1
        raise error

    agent.tool_plain(app.clock)

    async def body(ctx: inngest.Context) -> Any:
        output = (await agent.run("hi")).output
        assert isinstance(output, DeferredToolRequests)
        return [[c.tool_name for c in output.approvals], [c.tool_name for c in output.calls]]

    run = await app.run(body)
    expected = [["pay"], []] if isinstance(error, ApprovalRequired) else [[], ["pay"]]
    assert completed(run) == expected
    assert dict(app.count) == {"pay": 1, "clock": 1}
    assert script.asked == 1


async def test_user_errors_are_not_tried_again() -> None:
    """Another attempt would meet them again."""
    agent, _ = support(calls("broken"), returned)
    app = App()

    @agent.tool_plain
    async def broken() -> str:
        app.count["broken"] += 1
        raise UserError("no such table")

    async def body(ctx: inngest.Context) -> Any:
        return (await agent.run("hi")).output

    run = await app.run(body, retries=3)
    assert run.status == "Failed"
    assert app.count["broken"] == 1
    assert "'support__tool:broken': UserError: no such table" in str(run.error)


@pytest.mark.parametrize("what", ["enqueue", "cancel"])
async def test_what_a_replay_would_lose_is_refused_in_a_step(what: str) -> None:
    """By name, at the first attempt."""
    agent, _ = support(calls("tool"), returned)
    app = App()

    @agent.tool
    async def tool(ctx: RunContext[object]) -> str:
        app.count["tool"] += 1
        if what == "enqueue":
            ctx.enqueue("more")
        ctx.cancel()
        return ""

    async def body(ctx: inngest.Context) -> Any:
        return (await agent.run("hi")).output

    run = await app.run(body, retries=3)
    assert what in failure(run)
    assert "is not supported inside a durable step" in failure(run)
    assert app.count["tool"] == 1


async def test_a_sub_agents_steps_cannot_hide_in_a_step() -> None:
    """A durable agent in a tool that is a step runs there as a plain one, in one step."""
    inner, inner_script = support(calls("clock"), returned)
    app = App()

    inner.tool_plain(app.clock)

    outer, _ = support(calls("ask"), returned)

    @outer.tool
    async def ask(ctx: RunContext[object]) -> str:
        return str((await inner.run("hi", usage=ctx.usage)).output)

    async def body(ctx: inngest.Context) -> list[Any]:
        result = await outer.run("hi")
        return [result.output, result.usage.requests]

    run = await app.run(body)
    assert completed(run) == ["ask=clock=12", 4]
    assert "support__tool:ask" in run.steps
    assert (inner_script.asked, app.count["clock"]) == (2, 1)


async def test_a_hook_that_mends_every_error_does_not_keep_the_run_from_going_on() -> None:
    """The end of a request passes through the agent; it is no error that a hook can mend."""

    class Mends(AbstractCapability[object]):
        async def wrap_tool_execute(self, ctx: Any, *, handler: Any, args: Any, **_: Any) -> Any:
            try:
                return await handler(args)
            except BaseException:
                return "mended"

    script, app = Script(calls("clock"), returned), App()
    agent: Agent[object, str] = Agent(
        script.model, name="support", capabilities=[Mends(), InngestDurability()]
    )

    agent.tool_plain(app.clock)

    async def body(ctx: inngest.Context) -> Any:
        return (await agent.run("hi")).output

    run = await app.run(body)
    assert completed(run) == "clock=12"
    assert (script.asked, app.count["clock"]) == (2, 1)


async def test_a_hook_that_recovers_runs_is_not_asked_for_the_end_of_a_request() -> None:
    """What it returns for it is no result of the agent."""

    class Recovers(AbstractCapability[object]):
        async def on_run_error(self, ctx: Any, *, error: BaseException) -> Any:
            return AgentRunResult("recovered")

    script, app = Script(calls("clock"), returned), App()
    agent: Agent[object, str] = Agent(
        script.model, name="support", capabilities=[Recovers(), InngestDurability()]
    )

    @agent.tool_plain
    async def clock() -> int:
        return 12

    async def body(ctx: inngest.Context) -> Any:
        return (await agent.run("hi")).output

    assert completed(await app.run(body)) == "clock=12"
    assert script.asked == 2


async def test_toolsets_given_to_a_run_are_refused_by_name() -> None:
    """They were dropped in silence elsewhere (pydantic-ai 6076)."""
    from pydantic_ai import FunctionToolset

    agent, script = support("hi")
    late: FunctionToolset[object] = FunctionToolset(id="late")
    app = App()

    async def body(ctx: inngest.Context) -> Any:
        return (await agent.run("hi", toolsets=[late])).output

    run = await app.run(body, retries=0)
    assert run.status == "Failed"
    assert "late" in str(run.error)
    assert script.asked == 0
