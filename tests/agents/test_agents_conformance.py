"""What Pydantic AI's own tests ask of its durable backends (Temporal, DBOS, Prefect), asked here.

The cases of `test_temporal.py`, `test_dbos.py` and `test_prefect.py` of pydantic/pydantic-ai, and
where this suite has them:

- A simple and a complex agent, several agents, settings of one tool: test_agents_steps.
- `iter`, `run_stream`, `run_stream_events`; event handlers of the agent, of a run, none, outside of
  a function; `ProcessEventStream`; the same event twice: test_agents_streaming.
- `ModelRetry`, `ToolFailed`, deferred calls, `enqueue` and `cancel` in a step:
  test_agents_control_flow. Approvals: test_agents_approvals.
- MCP servers and dynamic toolsets: listing, instructions, calls, lifecycles: test_agents_mcp.
- Dependencies without JSON, a delegate's usage, structured output, metadata: test_agents_values.
- The spans of a complex agent: test_agents_beside_others.
- Names and binding, toolsets, models, suspended answers, `prepare`, media, the context: here.

What does not apply: workers that are registered before they start and serialised run contexts
(Temporal: steps run in the process of the function), heartbeats, sandboxes, payload converters,
cache keys made of hashed inputs (Prefect: steps are keyed by place), recordings of their former
wrapper agents (there are none of ours), sync functions (refused: test_agents_steps).
"""

from __future__ import annotations

import dataclasses
from typing import Any

import inngest
import pytest
from pydantic_ai import (
    Agent,
    BinaryImage,
    CancellationToken,
    DocumentUrl,
    ExternalToolset,
    FunctionToolset,
    RunContext,
    Tool,
    ToolDefinition,
    UsageLimits,
)
from pydantic_ai.capabilities import (
    AbstractCapability,
    Capability,
    DynamicCapability,
    SelectModel,
    Toolset,
)
from pydantic_ai.durable_exec import (
    CapabilityOperationId,
    DurableOperationId,
    EventStreamHandlerId,
    ModelCancelSuspendedResponseId,
    ModelCompactMessagesId,
    ModelRequestId,
    ToolsetCallToolId,
    ToolsetGetInstructionsId,
    ToolsetGetToolsId,
    ToolsetValidateToolArgumentsId,
)
from pydantic_ai.exceptions import UnexpectedModelBehavior, UserError
from pydantic_ai.messages import (
    ModelMessage,
    ModelRequest,
    ModelResponse,
    TextPart,
    ToolReturnPart,
    UserPromptPart,
)
from pydantic_ai.models import Model
from pydantic_ai.models.function import AgentInfo, FunctionModel
from pydantic_ai.models.wrapper import WrapperModel
from pydantic_ai.tools import DeferredToolRequests
from pydantic_ai.toolsets import DynamicToolset
from pydantic_ai.usage import RequestUsage
from tests.agents.agents_app import App, Script, calls, completed, failure, returned

from inngest_plugins.agents import AgentConfigError, InngestDurability
from inngest_plugins.agents.steps.names import operation_name

pytestmark = pytest.mark.anyio


def support(*answers: Any, **options: Any) -> tuple[Agent[Any, Any], Script]:
    """An agent on a script."""
    script = Script(*answers)
    capabilities = [*options.pop("capabilities", []), InngestDurability()]
    return Agent(script.model, name="support", capabilities=capabilities, **options), script


def running(agent: Agent[Any, Any], **options: Any) -> Any:
    """A function's body that runs an agent."""

    async def body(ctx: inngest.Context) -> Any:
        return (await agent.run("hi", **options)).output

    return body


# ---------------------------------------------------------------- names and binding


def test_an_agent_has_a_name_or_the_capability_has() -> None:
    """The ids of the steps begin with it."""
    script = Script("hi")
    with pytest.raises(UserError, match="needs to have a unique `name`"):
        Agent(script.model, capabilities=[InngestDurability()])
    agent = Agent(script.model, name="a", capabilities=[InngestDurability(name="b")])
    bound = InngestDurability.from_agent(agent)
    assert bound is not None
    assert bound.name == "b"


def test_an_agent_has_a_model_and_one_durability() -> None:
    """Two of them would make a step in a step."""
    with pytest.raises(UserError, match="model"):
        Agent(name="support", capabilities=[InngestDurability()])
    with pytest.raises(UserError, match="only one durable execution engine"):
        support("hi", capabilities=[InngestDurability()])
    with pytest.raises(UserError, match="'default'"):
        Agent(
            Script("hi").model,
            name="support",
            capabilities=[InngestDurability(models={"default": Script("hi").model})],
        )


def test_one_capability_for_two_agents() -> None:
    """Each agent has a copy of its own; the original stays as it was."""
    shared: InngestDurability[object] = InngestDurability()
    agents = [
        Agent(Script("hi").model, name=name, capabilities=[shared]) for name in ("one", "two")
    ]
    names = [getattr(InngestDurability.from_agent(agent), "name", None) for agent in agents]
    assert names == ["one", "two"]
    assert not shared.name


@pytest.mark.parametrize(
    ("operation", "name"),
    [
        (ModelRequestId(None, model_name="gpt"), "model.request"),
        (ModelRequestId("fast", streaming=True, model_name="gpt"), "model.request_stream.fast"),
        (ModelCompactMessagesId("fast", model_name="gpt"), "model.compact_messages.fast"),
        (ModelCancelSuspendedResponseId(None, model_name="gpt"), "model.cancel_suspended_response"),
        (ToolsetCallToolId("mcp", toolset_id="notes"), "tool:look"),
        (ToolsetValidateToolArgumentsId("function", toolset_id="own"), "tool:look.validate"),
        (ToolsetGetToolsId("dynamic", toolset_id="late"), "toolset:late.get_tools"),
        (ToolsetGetInstructionsId("notes"), "toolset:notes.get_instructions"),
        (EventStreamHandlerId(), "event"),
        (CapabilityOperationId("memory", operation="load"), "capability:memory.load"),
    ],
)
def test_names_that_never_change(operation: DurableOperationId, name: str) -> None:
    """Runs that are under way have them in their state: another name would do the step again."""
    assert operation_name(operation, "look") == name


def test_an_operation_that_nobody_knows_yet() -> None:
    """The union of operations grows in minor releases: the error says what to do."""

    @dataclasses.dataclass(frozen=True)
    class NewOperationId:
        """An operation of a later Pydantic AI."""

    operation: DurableOperationId = NewOperationId()  # type: ignore[assignment]
    with pytest.raises(AgentConfigError, match=r"NewOperationId\. Update inngest-plugins"):
        operation_name(operation, None)


# ---------------------------------------------------------------- toolsets


async def test_toolsets_of_capabilities_are_steps() -> None:
    """Those that are there when the agent is built, and those that a run resolves."""
    app = App()

    def late(ctx: RunContext[Any]) -> Capability[Any]:
        return Capability(tools=[second])

    def first() -> int:
        app.count["first"] += 1
        return 1

    def second() -> int:
        app.count["second"] += 1
        return 2

    own: Capability[Any] = Capability(id="own", tools=[first])
    agent, _ = support(
        calls("first", "second"), returned, capabilities=[own, DynamicCapability(late, id="late")]
    )
    run = await app.run(running(agent))
    assert completed(run) == "first=1; second=2"
    assert {"support__tool:first", "support__tool:second"} <= set(run.steps)
    assert "support__toolset:late.get_tools" in run.steps
    assert dict(app.count) == {"first": 1, "second": 1}


def test_toolsets_are_told_apart_by_their_ids() -> None:
    """Two with one id are refused; one that stands there twice is one."""
    toolset: FunctionToolset[object] = FunctionToolset(id="same")
    other: FunctionToolset[object] = FunctionToolset(id="same")
    support("hi", toolsets=[toolset, toolset])
    with pytest.raises(UserError, match="same `id` 'same'"):
        support("hi", toolsets=[toolset, other])
    with pytest.raises(UserError, match="id"):
        support("hi", toolsets=[DynamicToolset(lambda ctx: None)])


async def test_toolsets_that_come_with_a_run() -> None:
    """What executes nothing may come late, and what is no step; the rest is refused at once."""

    def plain() -> str:
        return "plain"

    no_step: FunctionToolset[Any] = FunctionToolset(id="late")
    no_step.add_function(plain, metadata={"inngest": False})
    agent, _ = support(calls("plain"), returned)
    assert completed(await App().run(running(agent, toolsets=[no_step]))) == "plain=plain"

    outside = ExternalToolset[Any]([ToolDefinition(name="ask")], id="external")
    agent, script = support(calls("ask"), output_type=[str, DeferredToolRequests])

    async def asks(ctx: inngest.Context) -> Any:
        output = (await agent.run("hi", toolsets=[outside])).output
        assert isinstance(output, DeferredToolRequests)
        return [call.tool_name for call in output.calls]

    assert completed(await App().run(asks)) == ["ask"]
    assert script.asked == 1

    dynamic: DynamicToolset[Any] = DynamicToolset(lambda ctx: FunctionToolset(), id="dynamic")
    late: list[dict[str, Any]] = [{"toolsets": [dynamic]}, {"capabilities": [Toolset(dynamic)]}]
    for options in late:
        agent, script = support("hi")
        refused = await App().run(running(agent, **options), retries=3)
        assert "DynamicToolset" in failure(refused)
        assert (len(refused.requests), script.asked) == (1, 0)
        assert (await agent.run("hi", **options)).output == "hi"


# ---------------------------------------------------------------- models


async def test_models_that_capabilities_choose() -> None:
    """By the name of one that is registered, or wrapped; strangers are refused."""
    plain, other = Script("plain"), Script("other")
    selects: SelectModel[Any] = SelectModel(lambda ctx: "other")
    durability: InngestDurability[Any] = InngestDurability(models={"other": other.model})
    agent = Agent(plain.model, name="support", capabilities=[selects, durability])
    run = await App().run(running(agent))
    assert completed(run) == "other"
    assert list(run.steps) == ["support__model.request.other"]

    @dataclasses.dataclass
    class Swaps(AbstractCapability[Any]):
        other: Model | None = None

        async def before_model_request(self, ctx: Any, request_context: Any) -> Any:
            request_context.model = self.other or WrapperModel(request_context.model)
            return request_context

    swapped, script = support("wrapped", capabilities=[Swaps()])
    assert completed(await App().run(running(swapped))) == "wrapped"
    swapped, script = support("hi", capabilities=[Swaps(other.model)])
    run = await App().run(running(swapped), retries=3)
    assert "was not registered with `InngestDurability`" in failure(run)
    assert (len(run.requests), script.asked, other.asked) == (1, 0, 1)


async def test_overrides_of_a_run() -> None:
    """A model and dependencies that `agent.override` sets hold; other tools are refused by name."""
    other = Script(calls("here"), returned)
    agent = Agent(
        Script("plain").model,
        name="support",
        deps_type=str,
        capabilities=[InngestDurability(models={"other": other.model})],
    )

    @agent.tool
    async def here(ctx: RunContext[str]) -> str:
        return ctx.deps

    async def body(ctx: inngest.Context) -> Any:
        with agent.override(model=other.model, deps="overridden"):
            return (await agent.run("hi", deps="given")).output

    assert completed(await App().run(body)) == "here=overridden"

    async def other_tools(ctx: inngest.Context) -> Any:
        with agent.override(tools=[]):
            return (await agent.run("hi", deps="given")).output

    run = await App().run(other_tools, retries=3)
    assert "cannot be added at runtime with Inngest" in failure(run)
    assert len(run.requests) == 1


# ---------------------------------------------------------------- answers that come in parts


class Job(FunctionModel):
    """A provider that works on an answer in the background, and is asked again and again."""

    def __init__(self, *ids: str, delay: float | None = 3600.0) -> None:
        self.ids = ids
        self.asked = 0
        self.delay = delay
        self.cancelled: list[str | None] = []
        super().__init__(self._answer, model_name="job")

    def _answer(self, messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        self.asked += 1
        last = messages[-1]
        place = 0
        if isinstance(last, ModelResponse):
            place = self.ids.index(str(last.provider_response_id)) + 1
        return ModelResponse(
            parts=[TextPart(f"{place}")],
            state="complete" if place == len(self.ids) - 1 else "suspended",
            provider_response_id=self.ids[place],
            usage=RequestUsage(input_tokens=50),
        )

    def continuation_delay(self, response: ModelResponse) -> float | None:
        return self.delay

    async def cancel_suspended_response(self, response: ModelResponse) -> None:
        self.cancelled.append(response.provider_response_id)


async def test_a_suspended_answer_is_one_step_a_part() -> None:
    """The wait between them is a sleep of the engine, which nobody sits out again on replay."""
    job, app = Job("one", "two", "three"), App()
    agent = Agent(job, name="support", capabilities=[InngestDurability()])

    async def body(ctx: inngest.Context) -> Any:
        result = await agent.run("hi")
        (answer,) = (m for m in result.all_messages() if isinstance(m, ModelResponse))
        return [len(answer.parts), answer.state, result.usage.requests, result.usage.input_tokens]

    run = await app.run(body)
    assert completed(run) == [3, "complete", 1, 150]
    assert list(run.steps) == [
        "support__model.request",
        "support__wait",
        "support__model.request:1",
        "support__wait:1",
        "support__model.request:2",
    ]
    assert run.steps["support__wait"].op == "Sleep"
    wait = run.steps["support__wait"]
    assert wait.ended_at is not None
    assert wait.ended_at - wait.started_at >= 3600
    assert (job.asked, job.cancelled) == (3, [])


async def test_a_suspended_answer_that_costs_too_much_is_cancelled_in_a_step() -> None:
    """The limit is the run's to keep, and ends it at once."""
    job = Job("one", "two", "three", delay=None)
    agent = Agent(job, name="support", capabilities=[InngestDurability()])
    limits = UsageLimits(input_tokens_limit=60)
    run = await App().run(running(agent, usage_limits=limits), retries=3)
    assert run.error is not None
    assert run.error["name"] == "UsageLimitExceeded"
    assert (job.asked, job.cancelled) == (2, ["two"])
    assert list(run.steps)[-1] == "support__model.cancel_suspended_response"
    assert all(request.request["ctx"]["attempt"] == 0 for request in run.requests)


async def test_a_suspended_answer_in_the_history_is_gone_on_with() -> None:
    """The first step asks for the rest of it."""
    job = Job("one", "two")
    agent = Agent(job, name="support", capabilities=[InngestDurability()])
    history: list[ModelMessage] = [
        ModelRequest(parts=[UserPromptPart("hi")]),
        ModelResponse(parts=[TextPart("0")], state="suspended", provider_response_id="one"),
    ]

    async def body(ctx: inngest.Context) -> Any:
        result = await agent.run(message_history=history)
        return [str(getattr(part, "content", "")) for part in result.all_messages()[-1].parts]

    assert completed(await App().run(body)) == ["0", "1"]
    assert job.asked == 1


# ---------------------------------------------------------------- tools and the run's context


async def test_prepare_runs_in_the_body() -> None:
    """The step calls what the model saw: a renamed tool, with the timeout that it had then."""
    prepared: list[str] = []

    async def prepare(ctx: RunContext[object], definition: ToolDefinition) -> ToolDefinition:
        prepared.append(definition.name)
        return dataclasses.replace(definition, name="shown")

    async def hidden() -> str:
        before.append(len(prepared))
        return "found"

    before: list[int] = []
    tool = Tool(hidden, prepare=prepare)
    agent, script = support(calls("shown"), returned, tools=[tool])
    run = await App().run(running(agent))
    assert completed(run) == "shown=found"
    assert "support__tool:shown" in run.steps
    assert script.asked == 2
    # Once for each request to the model in each request of the run, and never in a step.
    assert len(prepared) == 1 + 1 + 2 + 2


async def test_the_context_in_a_step() -> None:
    """A tool sees the run as it would without steps."""
    agent, _ = support(calls("look"), returned, deps_type=str)
    seen: list[Any] = []

    @agent.tool
    async def look(ctx: RunContext[str]) -> str:
        seen.append(
            [ctx.deps, ctx.agent is agent, ctx.prompt, ctx.run_step, ctx.retry, len(ctx.messages)]
        )
        seen.append([ctx.metadata, ctx.run_id])
        return "seen"

    async def body(ctx: inngest.Context) -> Any:
        result = await agent.run("hi", deps="deps", metadata={"a": 1}, run_id="mine")
        return [result.output, result.run_id]

    run = await App().run(body)
    assert completed(run) == ["look=seen", "mine"]
    assert seen == [["deps", True, "hi", 1, 0, 2], [{"a": 1}, "mine"]]


async def test_media_come_back_as_what_they_were() -> None:
    """In prompts and in results, alone and in a list."""
    agent, _ = support(calls("picture"), "done")

    @agent.tool_plain
    async def picture() -> list[Any]:
        image = BinaryImage(data=b"\x89PNG", media_type="image/png")
        return ["seen", image, DocumentUrl(url="https://a.example/b", media_type="application/pdf")]

    async def body(ctx: inngest.Context) -> Any:
        prompt: list[Any] = ["look", BinaryImage(data=b"\x00\xff", media_type="image/png")]
        result = await agent.run(prompt)
        parts = [part for message in result.all_messages() for part in message.parts]
        items = [
            item
            for part in parts
            if isinstance(part, ToolReturnPart)
            for item in part.content_items()
        ]
        (asked,) = (part.content for part in parts if isinstance(part, UserPromptPart))
        data = [getattr(item, "data", b"").hex() for item in [*asked, *items]]
        return [[type(item).__name__ for item in items], data]

    names, data = completed(await App().run(body))
    assert names == ["str", "BinaryImage", "DocumentUrl"]
    assert data == ["", "00ff", "", "89504e47", ""]


async def test_cancellation_tokens_are_refused() -> None:
    """They cancel this process's run, of which a replay knows nothing; outside they work."""
    agent, script = support("hi")
    run = await App().run(running(agent, cancellation_token=CancellationToken()), retries=3)
    assert "cancellation" in failure(run).lower()
    assert (len(run.requests), script.asked) == (1, 0)
    assert (await agent.run("hi", cancellation_token=CancellationToken())).output == "hi"


async def test_errors_of_the_loop_end_the_run_at_once() -> None:
    """Another attempt would come to the same place; a function may catch them by their class."""
    agent, script = support(calls("nothing"), calls("nothing"), calls("nothing"))
    run = await App().run(running(agent), retries=3)
    assert run.error is not None
    assert run.error["name"] == "UnexpectedModelBehavior"
    assert "exceeded max retries" in failure(run)
    assert all(request.request["ctx"]["attempt"] == 0 for request in run.requests)
    assert script.asked == 2

    async def catches(ctx: inngest.Context) -> Any:
        try:
            return (await agent.run("hi")).output
        except UnexpectedModelBehavior as err:
            return [type(err).__name__, err.message, isinstance(err, inngest.NonRetriableError)]

    name, message, is_final = completed(await App().run(catches))
    assert (name, is_final) == ("UnexpectedModelBehavior", True)
    assert "exceeded max retries" in message
