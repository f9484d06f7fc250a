"""Operations beyond the SDK's own: steps of other kinds, fields that its model of an op lacks."""

from __future__ import annotations

import enum
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, cast

import inngest
from inngest._internal import server_lib, types
from inngest._internal.step_lib import base as step_base

from .door import EMPTY, AnyContext, CallResult, Manager, Output, ResponseInterrupt, StepInfo

NO_OP: Final = "None"
"""The opcode with which an answer neither moves nor ends the run."""


@functools.cache
def opcode(op: str) -> enum.Enum:
    """Return the opcode of this name on the wire: the SDK's own, if it has one."""
    try:
        return server_lib.Opcode(op)
    except ValueError:
        make: Any = enum.Enum
        foreign: enum.Enum = make("ForeignOpcode", [(op, op)])(op)
        return foreign


def new_op(
    ctx: AnyContext, step_id: str, *, op: str, opts: dict[str, Any] | None, name: str | None
) -> StepInfo:
    """Make the operation of a step that the function has reached; counts reused ids."""
    from .op_info import OpInfo

    parsed = ctx.step._parse_step_id(step_id)
    return OpInfo(
        display_name=parsed.user_facing,
        id=parsed.hashed,
        name=name or parsed.user_facing,
        op=opcode(op),
        opts=opts,
        # Older SDKs have no such field.
        userland=parsed.userland_info() if hasattr(parsed, "userland_info") else None,
    )


async def run_op(ctx: AnyContext, info: StepInfo) -> Any:
    """Report a step of an async function to the engine; returns the stored result on replay."""
    async with await cast("Any", ctx).step._execution.report_step(info) as step:
        return _result(step)


def run_op_sync(ctx: AnyContext, info: StepInfo) -> Any:
    """Report a step of a sync function to the engine; returns the stored result on replay."""
    with cast("Any", ctx).step._execution.report_step(info) as step:
        return _result(step)


def _result(step: Any) -> Any:
    if step.skip:
        raise step_base.SkipInterrupt(step.info.display_name)
    if step.error is not None:
        raise step.error
    return step.output


def with_metadata(info: StepInfo, metadata: Sequence[Mapping[str, Any]]) -> StepInfo:
    """Return an operation that carries metadata."""
    from .op_info import OpInfo

    return OpInfo(
        **{name: getattr(info, name) for name in type(info).model_fields if name != "metadata"},
        metadata=[dict(entry) for entry in metadata],
    )


# ---------------------------------------------------------------- results of steps


def is_run(info: StepInfo) -> bool:
    """Return whether a step's handler runs in this app."""
    return info.op is server_lib.Opcode.STEP_RUN


def success_in(interrupt: ResponseInterrupt) -> StepInfo | None:
    """Return the step whose handler returned, given the interrupt that ends it; else None."""
    if len(interrupt.responses) != 1:
        return None
    (response,) = interrupt.responses
    is_run = response.step.op is server_lib.Opcode.STEP_RUN
    return response.step if is_run and response.original_error is None else None


def failure_in(interrupt: ResponseInterrupt) -> StepInfo | None:
    """Return the step whose handler raised, given the interrupt that ends it; else None."""
    if len(interrupt.responses) != 1:
        return None
    (response,) = interrupt.responses
    return response.step if response.original_error is not None else None


def result_of(interrupt: ResponseInterrupt) -> CallResult:
    """Make the result that the SDK makes of an interrupt."""
    return CallResult.from_responses(interrupt.responses)


def interrupt_of(items: Sequence[CallResult]) -> ResponseInterrupt:
    """Make an interrupt of the results of steps; `result_of` is the inverse."""
    return ResponseInterrupt(
        [
            step_base.StepResponse(output=item.output, original_error=item.error, step=item.step)
            for item in items
            if item.step is not None
        ]
    )


def stop_at(info: StepInfo) -> CallResult:
    """Make the result of a request that another one has overtaken: it leaves the run alone."""
    from .op_info import OpInfo

    # Without an id the server would take it for no answer, and call the function again.
    fields: dict[str, Any] = {"id": info.id, "display_name": info.display_name}
    return CallResult(multi=[CallResult(step=OpInfo(op=opcode(NO_OP), **fields))])


def steps_found(items: Sequence[CallResult]) -> CallResult:
    """Make the result of a request that reports steps."""
    return CallResult(multi=list(items))


def wire_op(item: CallResult) -> dict[str, Any]:
    """Return the operation of a step that succeeded, as it would stand in an answer.

    Raises:
        Exception: what the SDK raises where it cannot be written.
    """
    assert item.step is not None  # noqa: S101 - the caller has a step's result
    op = item.step.to_dict()
    if isinstance(op, Exception):
        raise op
    return {**op, "data": None if item.output is EMPTY else item.output}


def result_on_replay(client: inngest.Inngest, stored: Output, options: Mapping[str, Any]) -> Any:
    """Make of a stored result what `step.run` gives on replay, given its keyword arguments."""
    error = stored.error
    if error is not None:
        raise inngest.StepError(message=error.message, name=error.name, stack=error.stack)
    return client._deserialize(stored.data, options.get("output_type", types.EmptySentinel))


async def transform_output(ctx: AnyContext, result: CallResult) -> Exception | None:
    """Take the result of a step of an async function out through all middleware."""
    manager: Any = ctx.step._execution._middleware  # type: ignore[union-attr]
    error: Exception | None = await manager.transform_output(result)
    return error


def transform_output_sync(ctx: AnyContext, result: CallResult) -> Exception | None:
    """Take the result of a step of a sync function out through all middleware."""
    manager: Any = ctx.step._execution._middleware  # type: ignore[union-attr]
    error: Exception | None = manager.transform_output_sync(result)
    return error


def pass_transformed(
    manager: Manager,
    transformed: Callable[[CallResult], tuple[bool, Exception | None]],
    *,
    is_async: bool,
) -> None:
    """Have the SDK take no result out through middleware that it has gone through already.

    Args:
        manager: the request's middleware.
        transformed: knows whether a result has, and what middleware raised then.
        is_async: whether the function is.
    """
    if is_async:
        original = manager.transform_output

        async def transform_output(result: CallResult) -> Exception | None:
            passed, error = transformed(result)
            return error if passed else await original(result)

        manager.transform_output = transform_output  # type: ignore[method-assign, assignment]
    else:
        original_sync = manager.transform_output_sync

        def transform_output_sync(result: CallResult) -> Exception | None:
            passed, error = transformed(result)
            return error if passed else original_sync(result)

        manager.transform_output_sync = transform_output_sync  # type: ignore[method-assign, assignment]
