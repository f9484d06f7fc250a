"""`InngestDurability`: the capability that makes a Pydantic AI agent durable."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterable, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

from pydantic_ai import Agent, AgentStreamEvent, RunContext
from pydantic_ai.agent import AbstractAgent, AgentRunResult, EventStreamHandler
from pydantic_ai.capabilities import WrapRunHandler
from pydantic_ai.durable_exec import (
    JSON_CODEC,
    BaseDurabilityCapability,
    DurabilityEngineSpec,
    conversation_id_from_run_id,
    external_event_scope,
)
from pydantic_ai.messages import ToolCallPart
from pydantic_ai.models import Model
from pydantic_ai.tools import (
    AgentDepsT,
    DeferredToolRequests,
    DeferredToolResults,
    ToolDefinition,
)
from pydantic_ai.toolsets import AbstractToolset, FunctionToolset

from inngest_plugins.core import Call, class_name, require_calls

from ._config import METADATA_KEY, StepConfig, check_settings, config_of
from ._errors import AgentConfigError, AgentContextError
from .events.approvals import Approvals, decide
from .events.external import EventWaiter
from .steps.backend import StepBackend
from .steps.clock import durable_sleep, started_at
from .steps.failures import as_run_errors
from .steps.ids import AgentRun, runs_of
from .steps.scheduler import scheduler_of
from .steps.usage import recording_model

if TYPE_CHECKING:
    from ._publishing import EventPublisher, Publish


class InngestDurability(BaseDurabilityCapability[AgentDepsT]):
    """Makes every model request and every tool call of an agent a step of the run that calls it.

    Outside of an Inngest function, and inside of a step, the agent runs as always.

    Example:
        ```python
        agent = Agent("openai:gpt-5", name="support", capabilities=[InngestDurability()])

        @client.create_function(fn_id="support", trigger=trigger)
        async def support(ctx: inngest.Context) -> str:
            result = await agent.run(ctx.event.data["question"])
            return result.output
        ```

    Args:
        name: what the ids of the steps begin with; the agent's name if not given.
        models: further models by name, for `agent.run(model=...)`.
        event_stream_handler: gets the events of the run: those of the model's answer in the step
            that asks the model, as they arrive, each other one in a step of its own.
        publish: a realtime topic to which the events of the run are published as they arrive, as
            lists; or a function that returns one for a run; or the name of a topic in the channel
            whose name is the run's id. It makes no step.
        model: settings of the steps that ask the model.
        tools: settings of the steps that call tools; a tool's own are in its metadata, as
            `metadata={"inngest": StepConfig(...)}`.
        approvals: how tool calls that need an approval get it. Without it they end the run of the
            agent with `DeferredToolRequests`, as Pydantic AI does by itself.
        answers: name of the event, with an `ExternalAnswer` as its data, that ends a
            `wait_for_external_event`, such as that of Pydantic AI's `RequestInput`. Without it such
            a wait is refused.
        client_retries: whether the client of the model's provider may try a request again by
            itself, as often as it is set up to. By default the engine alone tries again.

    Raises:
        AgentConfigError: when the agent is built, for options that are wrong, and for settings of a
            tool that are unknown or wrong.
        AgentContextError: when the agent runs in a sync Inngest function.
    """

    engine_spec = DurabilityEngineSpec(
        engine_name="Inngest",
        durable_unit_noun="step",
        durable_container_noun="function",
        codec=JSON_CODEC,
        toolset_lifecycles={
            "function": "enter-always",
            "mcp": "enter-in-durable-unit",
            "dynamic": "enter-never",
        },
        unsupported_runtime_toolset_kinds=frozenset({"function", "mcp", "dynamic"}),
        tool_config_key=METADATA_KEY,
    )

    def __init__(
        self,
        *,
        name: str | None = None,
        models: Mapping[str, Model] | None = None,
        event_stream_handler: EventStreamHandler[AgentDepsT] | None = None,
        publish: Publish | None = None,
        model: StepConfig | None = None,
        tools: StepConfig | None = None,
        approvals: Approvals | None = None,
        answers: str | None = None,
        client_retries: bool = False,
    ) -> None:
        model_config, tool_config = check_settings("model", model), check_settings("tools", tools)
        for option, value, wanted in (
            ("name", name, str),
            ("approvals", approvals, Approvals),
            ("answers", answers, str),
            ("models", models, Mapping),
            ("client_retries", client_retries, bool),
        ):
            if value is not None and not isinstance(value, wanted):
                raise AgentConfigError(
                    f"InngestDurability({option}=...) must be {wanted.__name__}, and is "
                    f"{class_name(value)}"
                )
        publisher: EventPublisher | None = None
        if publish is not None:
            # Imported when it is used: the schema of all events is half of what the package costs.
            from ._publishing import EventPublisher

            publisher = EventPublisher(publish)
        handler = (
            event_stream_handler if publisher is None else publisher.handler(event_stream_handler)
        )
        super().__init__(models=models, event_stream_handler=handler, name=name)
        self._publisher = publisher
        self._publishes_alone = publisher is not None and event_stream_handler is None
        self._model_config = model_config
        self._tool_config = tool_config
        self._approvals = approvals
        self._answers = answers
        self._client_retries = client_retries
        # Without this the agent finds its run only where the client lists a plugin.
        require_calls("inngest_plugins.agents")

    # ------------------------------------------------------------ where the agent runs

    @property
    def in_durable_context(self) -> bool:
        """Whether the current code is in the body of an Inngest function."""
        return _durable_call() is not None

    def get_default_run_id(self) -> str | None:
        """Return an id for the agent run that is the same on every replay."""
        call = _durable_call()
        return None if call is None else runs_of(call).new_id(call, self.name)

    def get_default_conversation_id(self, run_id: str) -> str | None:
        """Return an id for the conversation that is the same on every replay."""
        return conversation_id_from_run_id(run_id) if self.in_durable_context else None

    async def get_run_start_time(self, run_id: str) -> datetime | None:
        """Return when the agent run began, from a step: what a `timeout=` is counted from."""
        call = _durable_call()
        if call is None:
            return None
        return await started_at(call, runs_of(call).of(self.name, run_id))

    # ------------------------------------------------------------ how it is set up

    def get_durable_operation_backend(self) -> StepBackend:
        """Return what runs the agent's operations as steps."""
        return StepBackend(
            agent_name=self.name,
            model=self._model_config,
            tools=self._tool_config,
            client_retries=self._client_retries,
        )

    def get_wrapper_toolset(
        self, toolset: AbstractToolset[AgentDepsT]
    ) -> AbstractToolset[AgentDepsT] | None:
        """Return the toolset with its calls as steps; refuse one that it was not built with."""
        with as_run_errors():
            return super().get_wrapper_toolset(toolset)

    def get_wrapper_model(self, model: Model) -> Model | None:
        """Return the model with its answers counted, if a plugin counts them."""
        return recording_model(model)

    def _bind_to_agent(self, agent: AbstractAgent[AgentDepsT, Any]) -> None:
        super()._bind_to_agent(agent)
        self._check_tools(agent)

    def _check_tools(self, agent: AbstractAgent[AgentDepsT, Any] | None) -> None:
        if agent is not None:
            for toolset in agent.toolsets:
                toolset.apply(_check_settings)

    # ------------------------------------------------------------ a run

    async def wrap_run(
        self, ctx: RunContext[AgentDepsT], *, handler: WrapRunHandler
    ) -> AgentRunResult[Any]:
        """Run the agent. The SDK's interrupt, which ends the request, passes through unchanged."""
        call = _durable_call()
        if call is None:
            # Decorators add tools after the agent is built, so their settings are checked here.
            self._check_tools(self.agent)
            return await handler()
        run = self._run(call, ctx)
        scheduler = scheduler_of(call)
        with (
            as_run_errors(),
            scheduler.making_steps(),
            Agent.using_sleep(durable_sleep(call, run)),
            contextlib.ExitStack() as stack,
        ):
            self._check_tools(self.agent)
            if self._publisher is not None:
                # Called for its check: a wrong topic fails before the model is called.
                self._publisher.topic(call, ctx)
            if self._answers is not None:
                waiter = EventWaiter(call, run, self._answers)
                stack.enter_context(external_event_scope(waiter))
            result = await super().wrap_run(ctx, handler=handler)
        if scheduler.interrupt is not None:
            # Something in the agent has handled the interrupt as an error and gone on.
            raise scheduler.interrupt
        return result

    async def on_run_error(
        self, ctx: RunContext[AgentDepsT], *, error: BaseException
    ) -> AgentRunResult[Any]:
        """Raise the SDK's interrupt, or the error as one that the engine does not retry."""
        call = _durable_call()
        if call is not None:
            interrupt = scheduler_of(call).interrupt
            if interrupt is not None:
                # Something in the agent went on without the result of its last step.
                raise interrupt
            with as_run_errors():
                raise error
        return await super().on_run_error(ctx, error=error)

    async def wrap_run_event_stream(
        self, ctx: RunContext[AgentDepsT], *, stream: AsyncIterable[AgentStreamEvent]
    ) -> AsyncIterable[AgentStreamEvent]:
        """Publish the events that are not part of the model's answer, without a step for each."""
        call = _durable_call()
        publisher = self._publisher if self._publishes_alone and call is not None else None
        if publisher is None:
            stream = super().wrap_run_event_stream(ctx, stream=stream)
        try:
            async for event in stream:
                if publisher is not None and call is not None:
                    await publisher.from_body(call, ctx, event)
                yield event
        finally:
            close = getattr(stream, "aclose", None)
            if close is not None:
                await close()

    async def wrap_tool_execute(
        self,
        ctx: RunContext[AgentDepsT],
        *,
        call: ToolCallPart,
        tool_def: ToolDefinition,
        args: dict[str, Any],
        handler: Any,
    ) -> Any:
        """Make the steps of other tool calls wait for this one's, so that they form one group."""
        request = _durable_call()
        if request is None:
            return await handler(args)
        scheduler = scheduler_of(request)
        config = config_of(tool_def.metadata, call.tool_name, self._tool_config)
        with scheduler.expecting_step() if config.durable else scheduler.making_steps():
            return await handler(args)

    async def handle_deferred_tool_calls(
        self, ctx: RunContext[AgentDepsT], *, requests: DeferredToolRequests
    ) -> DeferredToolResults | None:
        """Ask for the approvals that tool calls need, as `approvals` says."""
        call = _durable_call()
        if call is None or self._approvals is None or not requests.approvals:
            return None
        run = self._run(call, ctx)
        decisions = await decide(call, run, self.name, requests, self._approvals)
        return requests.build_results(approvals=decisions)

    def _run(self, call: Call, ctx: RunContext[AgentDepsT]) -> AgentRun:
        return runs_of(call).of(self.name, ctx.run_id)


def _durable_call() -> Call | None:
    """Return the request whose function body is running, None outside of one and in a step.

    Raises:
        AgentContextError: the function is sync.
    """
    call = Call.current()
    if call is None or call.step is not None:
        return None
    if not call.is_async:
        raise AgentContextError(
            f"an agent with InngestDurability runs in the sync function {call.local_id!r}, whose "
            "steps cannot await a model: make it `async def` and use `await agent.run(...)`"
        )
    return call


def _check_settings(toolset: AbstractToolset[Any]) -> None:
    """Refuse settings of tools that have no effect, when the agent is built."""
    if isinstance(toolset, FunctionToolset):
        for name, tool in toolset.tools.items():
            config_of(tool.metadata, name, StepConfig())
