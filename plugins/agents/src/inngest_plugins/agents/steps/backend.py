"""Runs the operations of an agent as steps: the backend of Pydantic AI's durable execution."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import Any, Generic, Literal, TypeVar

import inngest
from pydantic_ai import RunContext
from pydantic_ai.durable_exec import (
    BoundDurableOperation,
    CapabilityOperationId,
    DurableOperation,
    DurableOperationBackend,
    ModelRequestParams,
    ToolsetCallToolId,
    ToolsetCallToolParams,
    ToolsetValidateToolArgumentsId,
    durable_unit_scope,
)
from pydantic_ai.messages import ModelResponse
from pydantic_ai.toolsets import ToolsetTool
from pydantic_ai.usage import RunUsage

from inngest_plugins.agents._config import StepConfig, config_of
from inngest_plugins.agents._errors import AgentConfigError
from inngest_plugins.core import Call

from .failures import as_step_errors, encoded
from .ids import runs_of
from .invoke import invoke_params
from .memo import restored, stored
from .names import operation_name
from .scheduler import scheduler_of
from .usage import mark_recorded, record, recorded_answers

P = TypeVar("P")
W = TypeVar("W")
R = TypeVar("R")

_TOOL_OPERATIONS = (ToolsetCallToolId, ToolsetValidateToolArgumentsId)


class StepBackend(DurableOperationBackend[StepConfig]):
    """Binds each operation of an agent to a step of the run that calls it.

    Args:
        agent_name: what the ids of the steps begin with.
        model: settings of model requests.
        tools: settings of tool calls that have none of their own.
        client_retries: whether the model's client may try requests again by itself.
    """

    def __init__(
        self, *, agent_name: str, model: StepConfig, tools: StepConfig, client_retries: bool
    ) -> None:
        self.agent_name = agent_name
        self.client_retries = client_retries
        self._model = model
        self._tools = tools

    def bind(self, operation: DurableOperation[P, W, R]) -> BoundDurableOperation[P, W, R]:
        """Return the callable that runs an operation as a step."""
        return _StepOperation(operation, self)

    def config_for_tool(
        self, operation: DurableOperation[P, W, R], *, tool: object | None, tool_name: str
    ) -> StepConfig | Literal[False]:
        """Return a tool's settings, or False for one that runs in the function's body.

        Raises:
            AgentConfigError: the settings are wrong, or say what this kind of tool cannot do.
        """
        metadata = tool.tool_def.metadata if isinstance(tool, ToolsetTool) else None
        config = config_of(metadata, tool_name, self._tools)
        kind = getattr(operation.operation_id, "toolset_kind", "function")
        if kind == "mcp" and not config.durable:
            raise AgentConfigError(
                f"tool {tool_name!r} is a tool of an MCP server, which cannot run in the body of "
                "the function: remove `durable=False`"
            )
        if kind != "function" and config.invoke is not None:
            raise AgentConfigError(
                f"tool {tool_name!r}: `invoke` is for function tools, and this is a tool of "
                f"{'an MCP server' if kind == 'mcp' else 'a dynamic toolset'}"
            )
        return config if config.durable else False

    def registrations(self) -> Sequence[Callable[..., object]]:
        """Return nothing: steps need no registration."""
        return ()

    def config_for(self, operation: DurableOperation[P, W, R]) -> StepConfig:
        """Return the settings of an operation that has none of its own."""
        return self._model if operation.config_role == "model" else StepConfig()


class _StepOperation(BoundDurableOperation[P, W, R], Generic[P, W, R]):
    """One operation of an agent; calling it makes a step, or reads its memo."""

    def __init__(self, operation: DurableOperation[P, W, R], backend: StepBackend) -> None:
        self._operation = operation
        self._backend = backend

    @property
    def operation(self) -> DurableOperation[P, W, R]:
        return self._operation

    async def __call__(self, params: P, *, config: object | None = None) -> R:
        call = Call.current()
        assert call is not None  # noqa: S101 - the capability asks before it dispatches
        settings = config if isinstance(config, StepConfig) else self._settings()
        ctx = _context_of(params)
        step_id = self._step_id(call, ctx)
        if settings.invoke is not None and isinstance(params, ToolsetCallToolParams):
            invoke: Any = invoke_params(call, params, settings, step_id)
            return await self._operation.handler(invoke)
        memo = await scheduler_of(call).run(
            step_id,
            lambda: _run_step(call, step_id, self._handler(call, params, settings, step_id)),
        )
        payload, used = restored(memo, step_id)
        ctx.usage.incr(used)
        result = self._operation.result_codec.load(payload)
        if isinstance(result, ModelResponse):
            mark_recorded(call, result, ctx.model.model_name)
        return result

    def _settings(self) -> StepConfig:
        return self._backend.config_for(self._operation)

    def _step_id(self, call: Call, ctx: RunContext[Any]) -> str:
        operation = self._operation.operation_id
        run = runs_of(call).of(self._backend.agent_name, ctx.run_id)
        if isinstance(operation, _TOOL_OPERATIONS):
            return run.tool_step_id(operation_name(operation, ctx.tool_name), ctx)
        return run.step_id(operation_name(operation, None))

    def _handler(
        self, call: Call, params: P, settings: StepConfig, step_id: str
    ) -> Callable[[], Awaitable[Any]]:
        async def handle() -> dict[str, Any]:
            own, before = self._own(params)
            with (
                as_step_errors(call, settings, step_id),
                durable_unit_scope(),
                recorded_answers() as answers,
            ):
                result = await self._operation.handler(own)
                if self._operation.config_role == "model" and not answers:
                    # No recording model stood in between: a compaction, or a capability that
                    # answered.
                    record(call, result)
                payload = encoded(self._operation.result_codec, result, step_id)
            return stored(payload, _context_of(own).usage - before)

        return handle

    def _own(self, params: P) -> tuple[P, RunUsage]:
        """Return the step's own parameters, and the usage before it.

        What the step adds to the usage is stored, and added when the result is read: once, whether
        the function goes on in this request or is replayed in another.
        """
        changes: dict[str, Any] = {}
        usage = _context_of(params).usage
        if not isinstance(self._operation.operation_id, CapabilityOperationId):
            # Pydantic AI adds these to the usage itself.
            name = _context_field(params)
            usage = copy.deepcopy(usage)
            changes[name] = dataclasses.replace(getattr(params, name), usage=usage)
        if isinstance(params, ModelRequestParams) and not self._backend.client_retries:
            changes["model_settings"] = _without_client_retries(params)
        own: Any = dataclasses.replace(params, **changes) if changes else params  # type: ignore[type-var]
        return own, copy.deepcopy(usage)


async def _run_step(call: Call, step_id: str, handler: Callable[[], Awaitable[Any]]) -> Any:
    ctx = call.ctx
    assert isinstance(ctx, inngest.Context)  # noqa: S101 - agents refuse sync functions
    return await ctx.step.run(step_id, handler)


def _context_field(params: object) -> str:
    return "ctx" if hasattr(params, "ctx") else "run_context"


def _context_of(params: object) -> RunContext[Any]:
    ctx: RunContext[Any] = getattr(params, _context_field(params))
    return ctx


def _without_client_retries(params: ModelRequestParams) -> Any:
    """Turn off the retries of the model's client, so that the engine alone tries again."""
    unsupported: Collection[str] = getattr(
        params.run_context.model, "unsupported_settings", frozenset()
    )
    if "max_retries" in unsupported:
        return params.model_settings
    return {"max_retries": 0, **(params.model_settings or {})}
