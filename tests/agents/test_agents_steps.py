"""Every model request and every tool call is one step, with an id that never changes."""

from __future__ import annotations

import asyncio
from typing import Any

import inngest
import pytest
from pydantic_ai import Agent, RunContext
from pydantic_ai.capabilities import AbstractCapability
from pydantic_ai.models.test import TestModel
from tests.agents.agents_app import App, Script, calls, completed, returned

from inngest_plugins.agents import (
    AgentConfigError,
    AgentContextError,
    InngestDurability,
    StepConfig,
)
from inngest_plugins.core import Call

pytestmark = pytest.mark.anyio


def make_agent(script: Script, **options: Any) -> Agent[object, str]:
    """An agent on a scripted model."""
    options.setdefault("name", "support")
    return Agent(script.model, capabilities=[InngestDurability()], **options)


async def test_a_model_request_and_a_tool_call_are_a_step_each() -> None:
    """The loop between them is replayed from the memos."""
    script, app = Script(calls(("weather", {"city": "Rome"})), returned), App()
    agent = make_agent(script)

    @agent.tool_plain
    async def weather(city: str) -> str:
        app.count["weather"] += 1
        return f"sun in {city}"

    async def body(ctx: inngest.Context) -> str:
        return (await agent.run(str(ctx.event.data["question"]))).output

    run = await app.run(body, {"question": "How is Rome?"})
    assert completed(run) == "weather=sun in Rome"
    assert list(run.steps) == [
        "support__model.request",
        "support__tool:weather",
        "support__model.request:1",
    ]
    assert (script.asked, app.count["weather"]) == (2, 1)


async def test_parallel_tool_calls_are_one_group() -> None:
    """They are planned together, in the order in which the model asked for them."""
    cities = ["Rome", "Oslo", "Lima"]
    script, app = (
        Script(calls(*(("weather", {"city": c}) for c in cities), "clock"), returned),
        App(),
    )
    agent = make_agent(script)

    @agent.tool_plain
    async def weather(city: str) -> str:
        app.count[city] += 1
        return city.upper()

    @agent.tool_plain
    def clock() -> int:
        app.count["clock"] += 1
        return 12

    async def body(ctx: inngest.Context) -> str:
        return (await agent.run("hi")).output

    run = await app.run(body)
    assert completed(run) == "weather=ROME; weather=OSLO; weather=LIMA; clock=12"
    planned = [op["displayName"] for op in run.requests[1].response]
    assert planned == [
        "support__tool:clock",
        "support__tool:weather",
        "support__tool:weather:1",
        "support__tool:weather:2",
    ]
    assert dict(app.count) == {"Rome": 1, "Oslo": 1, "Lima": 1, "clock": 1}
    assert script.asked == 2


async def test_ids_belong_to_calls_whichever_is_reached_first() -> None:
    """A hook that delays one call in some requests does not swap the results of two."""
    script, app = Script(calls(("echo", {"n": 1}), ("echo", {"n": 2})), returned), App()

    class Delay(AbstractCapability[object]):
        async def before_tool_execute(
            self, ctx: Any, *, call: Any, tool_def: Any, args: Any
        ) -> Any:
            if args["n"] == 1 + app.count["request"] % 2:
                await asyncio.sleep(0.02)
            return args

    agent: Agent[object, str] = Agent(
        script.model, name="support", capabilities=[Delay(), InngestDurability()]
    )

    @agent.tool_plain
    async def echo(n: int) -> int:
        app.count[f"echo {n}"] += 1
        return n

    async def body(ctx: inngest.Context) -> str:
        app.count["request"] += 1
        return (await agent.run("hi")).output

    run = await app.run(body)
    assert completed(run) == "echo=1; echo=2"
    results = {name: step.value for name, step in run.steps.items() if "tool" in name}
    assert results["support__tool:echo"]["result"]["result"] == 1
    assert results["support__tool:echo:1"]["result"]["result"] == 2
    assert (app.count["echo 1"], app.count["echo 2"]) == (1, 1)
    assert len(run.requests[1].response) == 2


async def test_one_tool_that_fails_twice_beside_others() -> None:
    """The others run once; the failing one is tried by the engine until it succeeds."""
    script, app = Script(calls("steady", "shaky", "steady"), returned), App()
    agent = make_agent(script)

    @agent.tool_plain
    async def steady() -> str:
        app.count["steady"] += 1
        return "ok"

    @agent.tool_plain
    async def shaky() -> str:
        app.count["shaky"] += 1
        if app.count["shaky"] <= 2:
            raise OSError("line noise")
        return "at last"

    async def body(ctx: inngest.Context) -> str:
        return (await agent.run("hi")).output

    run = await app.run(body)
    assert completed(run) == "steady=ok; shaky=at last; steady=ok"
    assert dict(app.count) == {"steady": 2, "shaky": 3}
    assert script.asked == 2
    assert run.steps["support__tool:shaky"].attempts == 3


async def test_a_tool_that_fails_for_good_fails_the_run() -> None:
    """The function may catch it, as it may catch the failure of any step."""
    script, app = Script(calls("broken", "steady"), returned), App()
    agent = make_agent(script)

    @agent.tool_plain
    async def broken() -> str:
        app.count["broken"] += 1
        raise OSError("no line")

    @agent.tool_plain
    async def steady() -> str:
        app.count["steady"] += 1
        return "ok"

    async def body(ctx: inngest.Context) -> str:
        try:
            return (await agent.run("hi")).output
        except inngest.StepError as err:
            return f"{err.name}: {err.message}"

    run = await app.run(body)
    assert completed(run) == "OSError: no line"
    assert dict(app.count) == {"broken": 3, "steady": 1}


async def test_several_runs_of_an_agent_in_a_function() -> None:
    """The second run has a number in its ids; runs at the same time are a group."""
    script, app = Script(calls("clock"), returned), App()
    agent = make_agent(script)

    agent.tool_plain(app.clock)

    async def body(ctx: inngest.Context) -> list[str]:
        first = await agent.run("one")
        second, third = await asyncio.gather(agent.run("two"), agent.run("three"))
        return [first.output, second.output, third.output]

    run = await app.run(body)
    assert completed(run) == ["clock=12"] * 3
    prefixes = {name.partition("__")[0] for name in run.steps}
    assert prefixes == {"support", "support#2", "support#3"}
    assert (script.asked, app.count["clock"]) == (6, 3)


async def test_agents_in_a_group_of_the_function() -> None:
    """`group.parallel` takes agents as it takes steps."""
    scripts = Script("one"), Script(calls("clock", "clock"), returned)
    app = App()
    one, two = (make_agent(s, name=f"agent-{n}") for n, s in enumerate(scripts))

    two.tool_plain(app.clock)

    async def body(ctx: inngest.Context) -> list[str]:
        results = await ctx.group.parallel((lambda: one.run("a"), lambda: two.run("b")))
        return [result.output for result in results]

    run = await app.run(body)
    assert completed(run) == ["one", "clock=12; clock=12"]
    assert ([s.asked for s in scripts], app.count["clock"]) == ([1, 2], 2)


async def test_outside_of_a_function_the_agent_runs_as_always() -> None:
    """And so it does in a step of the function, which keeps the result of all of it."""
    script, app = Script(calls("clock"), returned), App()
    agent = make_agent(script)

    @agent.tool_plain
    async def clock() -> int:
        app.count["clock"] += 1
        assert Call.current() is None or Call.current().step is not None  # type: ignore[union-attr]
        return 12

    assert (await agent.run("hi")).output == "clock=12"

    async def whole() -> str:
        return (await agent.run("hi")).output

    async def body(ctx: inngest.Context) -> str:
        return await ctx.step.run("whole", whole)

    run = await app.run(body)
    assert completed(run) == "clock=12"
    assert list(run.steps) == ["whole"]
    assert (script.asked, app.count["clock"]) == (4, 2)


async def test_a_sync_function_is_refused() -> None:
    """An agent in it could not be durable: the run fails at once and says what to do."""
    script, app = Script("hi"), App()
    agent = make_agent(script)

    def body(ctx: inngest.ContextSync) -> str:
        return agent.run_sync("hi").output

    run = await app.run(body)  # type: ignore[arg-type]
    assert run.status == "Failed"
    assert "make it `async def`" in str(run.error)
    assert script.asked == 0
    assert len(run.requests) == 1
    assert issubclass(AgentContextError, inngest.NonRetriableError)


async def test_the_test_model() -> None:
    """Pydantic AI's `TestModel` calls every tool there is."""
    app = App()
    agent = Agent(TestModel(), name="tested", capabilities=[InngestDurability()])

    @agent.tool_plain
    async def double(x: int) -> int:
        app.count["double"] += 1
        return 2 * x

    async def body(ctx: inngest.Context) -> str:
        return (await agent.run("hi")).output

    run = await app.run(body)
    assert completed(run) == '{"double":0}'
    assert list(run.steps) == [
        "tested__model.request",
        "tested__tool:double",
        "tested__model.request:1",
    ]
    assert app.count["double"] == 1


# ---------------------------------------------------------------- settings of a tool


async def test_a_tool_that_is_no_step() -> None:
    """`durable=False`, or plain False: the tool runs in the body, in each request."""
    script, app = Script(calls("body", "other", "step"), returned), App()
    agent = make_agent(script)

    @agent.tool_plain(metadata={"inngest": StepConfig(durable=False)})
    async def body() -> bool:
        call = Call.current()
        return call is not None and call.step is None

    @agent.tool_plain(metadata={"inngest": False})
    async def other() -> bool:
        return bool(await body())

    @agent.tool_plain
    async def step() -> bool:
        call = Call.current()
        return call is not None and call.step is not None

    async def function(ctx: inngest.Context) -> str:
        return (await agent.run("hi")).output

    run = await app.run(function)
    assert completed(run) == "body=True; other=True; step=True"
    assert [name for name in run.steps if "tool" in name] == ["support__tool:step"]


async def test_a_tool_in_the_body_makes_steps_of_its_own() -> None:
    """Such as those of another durable agent."""
    inner, outer, app = Script(calls("clock"), returned), Script(calls("ask"), returned), App()
    helper, agent = make_agent(inner, name="helper"), make_agent(outer)

    helper.tool_plain(app.clock)

    @agent.tool(metadata={"inngest": StepConfig(durable=False)})
    async def ask(ctx: RunContext[object]) -> str:
        return (await helper.run("hi", usage=ctx.usage)).output

    async def body(ctx: inngest.Context) -> list[Any]:
        result = await agent.run("hi")
        return [result.output, result.usage.requests]

    run = await app.run(body)
    assert completed(run) == ["ask=clock=12", 4]
    assert (inner.asked, outer.asked, app.count["clock"]) == (2, 2, 1)
    assert "helper__tool:clock" in run.steps


async def test_an_agent_in_the_body_beside_a_tool_that_is_a_step() -> None:
    """They are reached in another order in each request, and nothing runs twice."""
    inner, outer, app = (
        Script(calls("look"), returned),
        Script(calls("ask", "clock"), returned),
        App(),
    )
    helper, agent = make_agent(inner, name="helper"), make_agent(outer)

    @helper.tool_plain
    async def look() -> str:
        app.count["look"] += 1
        return "seen"

    @agent.tool_plain(metadata={"inngest": StepConfig(durable=False)})
    async def ask() -> str:
        app.count["ask"] += 1
        await asyncio.sleep(0.02 * (app.count["ask"] % 2))
        return (await helper.run("hi")).output

    agent.tool_plain(app.clock)

    async def body(ctx: inngest.Context) -> str:
        return (await agent.run("hi")).output

    run = await app.run(body, retries=0)
    assert completed(run) == "ask=look=seen; clock=12"
    assert (inner.asked, outer.asked, app.count["look"], app.count["clock"]) == (2, 2, 1, 1)


@pytest.mark.parametrize(
    ("tool", "function", "runs"), [(0, 3, 1), (1, 3, 2), (None, 3, 4), (9, 1, 2)]
)
async def test_retries_of_a_tool(tool: int | None, function: int, runs: int) -> None:
    """They are the tool's own, up to those of the function."""
    script, app = Script(calls("broken"), returned), App()
    agent = make_agent(script)

    @agent.tool_plain(metadata={"inngest": StepConfig(retries=tool)})
    async def broken() -> str:
        app.count["broken"] += 1
        raise OSError("no line")

    async def body(ctx: inngest.Context) -> str:
        return (await agent.run("hi")).output

    run = await app.run(body, retries=function)
    assert run.status == "Failed"
    assert app.count["broken"] == runs
    assert "OSError" in str(run.error)


async def test_settings_of_all_tools_and_of_the_model() -> None:
    """`tools=` and `model=` hold for what has no settings of its own."""
    app = App()

    def failing(messages: Any) -> Any:
        app.count["model"] += 1
        raise OSError("no line")

    capability: InngestDurability[object] = InngestDurability(
        model=StepConfig(retries=0), tools=StepConfig(retries=1)
    )
    agent: Agent[object, str] = Agent(
        Script(calls("broken"), failing).model, name="support", capabilities=[capability]
    )

    @agent.tool_plain
    async def broken() -> str:
        app.count["tool"] += 1
        raise OSError("no line")

    @agent.tool_plain(metadata={"inngest": StepConfig(retries=0)})
    async def own() -> str:
        return "fine"

    async def body(ctx: inngest.Context) -> str:
        return (await agent.run("hi")).output

    assert (await app.run(body)).status == "Failed"
    assert dict(app.count) == {"tool": 2}

    other = App()
    failing_agent: Agent[object, str] = Agent(
        Script(failing).model, name="support", capabilities=[capability]
    )

    async def failing_body(ctx: inngest.Context) -> str:
        return (await failing_agent.run("hi")).output

    assert (await other.run(failing_body)).status == "Failed"
    assert app.count["model"] == 1


async def test_a_tool_that_invokes_a_function() -> None:
    """A sub-agent in a function of its own: an invoke, with the arguments as the event's data."""
    outer, inner, app = (
        Script(calls(("expert", {"topic": "Rome"}), "clock"), returned),
        Script("sun"),
        App(),
    )
    agent, expert_agent = make_agent(outer), make_agent(inner, name="expert")

    async def expert_function(ctx: inngest.Context) -> dict[str, Any]:
        answer = await expert_agent.run(str(ctx.event.data["topic"]))
        return {"answer": answer.output, "asked": ctx.event.data["topic"]}

    function = app.function(expert_function, event="never")

    @agent.tool_plain(metadata={"inngest": StepConfig(invoke=function)})
    async def expert(topic: str) -> str:
        """Ask the expert."""
        raise AssertionError("the function is invoked instead")

    @agent.tool_plain
    async def clock() -> int:
        return 12

    async def body(ctx: inngest.Context) -> str:
        return (await agent.run("hi")).output

    run = await app.run(body)
    assert completed(run) == "expert={'answer': 'sun', 'asked': 'Rome'}; clock=12"
    assert run.steps["support__tool:expert"].op == "InvokeFunction"
    assert (outer.asked, inner.asked) == (2, 1)


# ---------------------------------------------------------------- refused while the agent is built


def _function() -> Any:
    async def function(ctx: inngest.Context) -> None: ...

    return App().function(function)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"durable": "no"}, "StepConfig.durable must be True or False, and is str"),
        ({"retries": -1}, "StepConfig.retries must be None or a number from 0, and is int"),
        ({"retries": True}, "StepConfig.retries must be None or a number from 0, and is bool"),
        ({"invoke": print}, "StepConfig.invoke must be what `client.create_function` returned"),
        ({"timeout": 5}, "StepConfig.timeout must be a timedelta, and is int"),
        ({"durable": False, "retries": 1}, "makes no step"),
        ({"timeout": __import__("datetime").timedelta(1)}, "is for `invoke`"),
    ],
)
def test_settings_that_say_nothing(options: dict[str, Any], message: str) -> None:
    """They are an error where they are written."""
    with pytest.raises(AgentConfigError, match=message):
        StepConfig(**options)
    with pytest.raises(AgentConfigError, match="beside `invoke`"):
        StepConfig(invoke=_function(), retries=1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"model": "openai:gpt-5"}, r"\(model=...\) must be a StepConfig, and is str"),
        ({"model": StepConfig(durable=False)}, "`durable=False` and `invoke` are for tools"),
        ({"tools": {"retries": 1}}, r"\(tools=...\) must be a StepConfig, and is dict"),
        ({"name": 5}, r"\(name=...\) must be str, and is int"),
        ({"approvals": True}, r"\(approvals=...\) must be Approvals, and is bool"),
        ({"answers": 5}, r"\(answers=...\) must be str, and is int"),
        ({"client_retries": "no"}, r"\(client_retries=...\) must be bool, and is str"),
    ],
)
def test_options_that_cannot_be(options: dict[str, Any], message: str) -> None:
    """They are an error when the agent is built, not in its first run."""
    with pytest.raises(AgentConfigError, match=message):
        InngestDurability(**options)


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ({"retires": 3}, "has unknown settings: retires. Known are: durable, invoke, retries"),
        (True, "must be a StepConfig or False, and is bool"),
    ],
)
async def test_settings_that_are_unknown(metadata: Any, message: str) -> None:
    """They are an error when the agent is built, or at its first run for tools added later."""

    async def tool() -> str:
        return ""

    from pydantic_ai import Tool

    with pytest.raises(AgentConfigError, match=message):
        make_agent(Script("hi"), tools=[Tool(tool, metadata={"inngest": metadata})])
    agent = make_agent(Script("hi"))
    agent.tool_plain(metadata={"inngest": metadata})(tool)
    with pytest.raises(AgentConfigError, match=message):
        await agent.run("hi")
