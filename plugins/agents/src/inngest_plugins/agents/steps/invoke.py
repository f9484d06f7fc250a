"""Tools that are Inngest functions: a call of the tool invokes the function."""

from __future__ import annotations

import dataclasses
from typing import Any

import inngest
from pydantic_ai import RunContext
from pydantic_ai.durable_exec import ToolsetCallToolParams
from pydantic_ai.toolsets.function import FunctionToolsetTool
from pydantic_core import PydanticSerializationError, to_jsonable_python

from inngest_plugins.agents._config import StepConfig
from inngest_plugins.core import Call

from .failures import no_json
from .scheduler import scheduler_of


def invoke_params(
    call: Call, params: ToolsetCallToolParams, config: StepConfig, step_id: str
) -> ToolsetCallToolParams:
    """Return a tool call's parameters with a body that invokes a function.

    Args:
        call: the request.
        params: the tool call's own parameters.
        config: the tool's settings; `config.invoke` is the function.
        step_id: the id of the step.
    """
    tool = params.tool
    assert isinstance(tool, FunctionToolsetTool)  # noqa: S101 - the backend refuses others

    async def invoke(args: dict[str, Any], ctx: RunContext[Any]) -> Any:
        del ctx
        data = _as_json(args, step_id)
        return await scheduler_of(call).run(step_id, lambda: _invoke(call, config, step_id, data))

    return dataclasses.replace(params, tool=dataclasses.replace(tool, call_func=invoke))


async def _invoke(call: Call, config: StepConfig, step_id: str, data: dict[str, Any]) -> Any:
    ctx = call.ctx
    assert isinstance(ctx, inngest.Context)  # noqa: S101 - agents refuse sync functions
    assert config.invoke is not None  # noqa: S101 - what the caller looked at
    return await ctx.step.invoke(step_id, function=config.invoke, data=data, timeout=config.timeout)


def _as_json(args: dict[str, Any], step_id: str) -> dict[str, Any]:
    def of(name: str) -> Any:
        try:
            return to_jsonable_python(args[name])
        except (PydanticSerializationError, ValueError) as err:
            raise no_json(f"argument {name!r} of step {step_id!r}", args[name], err) from err

    return {name: of(name) for name in args}
