"""Agents in every shape in which they can be used: wrapped, of one name, in groups."""

from __future__ import annotations

import asyncio
from typing import Any

import inngest
import pytest
from pydantic_ai import Agent, RunContext
from pydantic_ai.agent import WrapperAgent
from tests.agents.agents_app import App, Script, calls, completed, failure, returned

from inngest_plugins.agents import InngestDurability
from inngest_plugins.core import Call

pytestmark = pytest.mark.anyio


def make_agent(app: App, script: Script, tool: str = "clock", **options: Any) -> Agent[Any, str]:
    """An agent with one tool, which is counted."""
    agent: Agent[Any, str] = Agent(
        script.model, name="support", capabilities=[InngestDurability()], **options
    )

    async def call() -> str:
        app.count[tool] += 1
        return tool

    agent.tool_plain(name=tool)(call)
    return agent


async def test_two_agents_of_one_name() -> None:
    """Their runs are counted together: no step of one is taken for one of the other."""
    app = App()
    scripts = Script(calls("left"), returned), Script(calls("right"), returned)
    left, right = (make_agent(app, s, t) for s, t in zip(scripts, ("left", "right"), strict=True))

    async def body(ctx: inngest.Context) -> Any:
        first = await left.run("hi")
        second, third = await asyncio.gather(right.run("hi"), left.run("hi"))
        return [first.output, second.output, third.output]

    run = await app.run(body)
    assert completed(run) == ["left=left", "right=right", "left=left"]
    assert {name.partition("__")[0] for name in run.steps} == {"support", "support#2", "support#3"}
    assert dict(app.count) == {"left": 2, "right": 1}
    assert [script.asked for script in scripts] == [4, 2]


async def test_an_agent_in_a_wrapper() -> None:
    """`WrapperAgent` and its subclasses run the agent that they wrap, in steps."""

    class Polite(WrapperAgent[Any, str]):
        """Adds something to each question."""

        async def run(self, user_prompt: Any = None, **options: Any) -> Any:
            return await super().run(f"Please, {user_prompt}", **options)

    app, script = App(), Script(calls("clock"), returned)
    agent = Polite(make_agent(app, script))

    async def body(ctx: inngest.Context) -> Any:
        return (await agent.run("the time")).output

    run = await app.run(body)
    assert completed(run) == "clock=clock"
    assert (script.asked, app.count["clock"]) == (2, 1)
    assert list(run.steps)[1] == "support__tool:clock"
    assert getattr(script.requests[0][0].parts[-1], "content", None) == "Please, the time"


async def test_an_agent_in_two_groups() -> None:
    """One after the other, each beside a step of the function and with parallel tools."""
    app, script = App(), Script(calls("clock", "clock"), returned)
    agent = make_agent(app, script)

    async def beside() -> str:
        app.count["beside"] += 1
        return "beside"

    async def ask() -> str:
        return (await agent.run("hi")).output

    async def both(ctx: inngest.Context, name: str) -> list[str]:
        return list(await ctx.group.parallel((ask, lambda: ctx.step.run(name, beside))))

    async def body(ctx: inngest.Context) -> Any:
        return [await both(ctx, "first"), await both(ctx, "second")]

    run = await app.run(body)
    assert completed(run) == [["clock=clock; clock=clock", "beside"]] * 2
    assert (script.asked, dict(app.count)) == (4, {"clock": 4, "beside": 2})


async def test_run_sync_in_a_sync_tool() -> None:
    """Pydantic AI refuses it, and no attempt is wasted; a sync function is refused as well."""
    app, script = App(), Script("hi")
    inner = make_agent(app, script)
    outer = make_agent(app, Script(calls("delegate"), returned))

    @outer.tool_plain
    def delegate() -> str:
        return inner.run_sync("hi").output

    async def body(ctx: inngest.Context) -> Any:
        return (await outer.run("hi")).output

    run = await app.run(body, retries=3)
    assert "cannot be used inside a synchronous tool" in failure(run)
    assert all(request.request["ctx"]["attempt"] == 0 for request in run.requests)
    assert script.asked == 0


async def test_dependencies_that_are_callables() -> None:
    """What the function gives is what a tool gets, and nothing calls it in between."""
    app = App()
    agent: Agent[Any, str] = Agent(
        Script(calls("look"), returned).model, name="support", capabilities=[InngestDurability()]
    )

    @agent.tool
    async def look(ctx: RunContext[Any]) -> str:
        return str(ctx.deps())

    def open_database() -> str:
        app.count["opened"] += 1
        call = Call.current()
        return "no step" if call is None or call.step is None else call.step.id

    async def body(ctx: inngest.Context) -> Any:
        return (await agent.run("hi", deps=open_database)).output

    assert completed(await app.run(body)) == "look=support__tool:look"
    assert app.count["opened"] == 1


async def test_a_second_durability_for_one_run_is_refused() -> None:
    """Steps in steps are impossible; the error names both."""
    app, script = App(), Script("hi")
    agent = make_agent(app, script)

    async def body(ctx: inngest.Context) -> Any:
        return (await agent.run("hi", capabilities=[InngestDurability(name="other")])).output

    run = await app.run(body, retries=0)
    assert "only one durable execution engine" in failure(run)
    assert script.asked == 0


async def test_an_agent_between_steps_of_the_function() -> None:
    """They keep their own ids and order, and each runs once."""
    app, script = App(), Script(calls("clock"), returned)
    agent = make_agent(app, script)

    async def step() -> str:
        app.count["step"] += 1
        return "s"

    async def body(ctx: inngest.Context) -> Any:
        before = await ctx.step.run("before", step)
        answer = await agent.run(before)
        await ctx.step.sleep("nap", 60_000)
        after = await ctx.step.run("after", step)
        return [before, answer.output, after]

    run = await app.run(body)
    assert completed(run) == ["s", "clock=clock", "s"]
    assert [name for name in run.steps if "support" not in name] == ["before", "nap", "after"]
    assert (script.asked, dict(app.count)) == (2, {"step": 2, "clock": 1})
