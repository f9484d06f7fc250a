"""The steps that a function reaches in a request: replayed, planned, skipped or run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from . import _attachments, _sdk
from ._call import Call
from ._contexts import Contexts
from ._dispatch import Dispatcher, Sequence
from ._drive import Portal, advance, resume
from ._errors import PluginsError
from ._running_step import RunningStep
from ._stack import BoundHook, Stack
from ._step import Step

_LEAVING = frozenset({"InvokeFunction", "WaitForEvent", "AIGateway"})


class StepReports:
    """Stands in front of the SDK's `report_step`, which it calls for each step reached.

    Args:
        call: the call.
        dispatcher: calls the hooks.
        contexts: enters what plugins want around a step.
        portal: runs `async def` hooks of a sync function; None for an async one.
        memos: what was not consumed yet by hashed id, when it is looked up in constant time;
            None when the SDK does that, which makes a new dict for each step.
        begin_execution: fires what is due before new code runs, once.
    """

    __slots__ = (
        "_begin_execution",
        "_dispatcher",
        "_memos",
        "_ran",
        "_stack",
        "call",
        "contexts",
        "portal",
    )

    def __init__(
        self,
        call: Call,
        dispatcher: Dispatcher,
        contexts: Contexts,
        portal: Portal | None,
        *,
        memos: dict[str, _sdk.Output] | None,
        begin_execution: Callable[[], Sequence],
    ) -> None:
        self.call = call
        self.contexts = contexts
        self.portal = portal
        self._stack: Stack = call.stack
        self._dispatcher = dispatcher
        self._memos = memos
        self._begin_execution = begin_execution
        self._ran: list[Step] = []

    @property
    def wraps_steps(self) -> bool:
        """Whether a plugin wants to be around the steps that run."""
        return bool(self._stack.hooks("around_step"))

    def report_async(self, original: Any) -> Any:
        """Wrap the execution's coroutine function that the SDK calls when a step is reached."""
        call = self.call
        memos = self._memos
        before_execution = _sdk.before_execution_of(call.ctx)

        async def report_step(info: _sdk.StepInfo) -> Any:
            if call.failure is not None:
                raise _sdk.interrupt_at(info)
            if self._has_memo(info.id):
                self._consume(info)
                if memos is None:
                    reported = await original(info)
                else:
                    reported = _sdk.ReplayedStep(info, memos.pop(info.id))
                    if not memos:
                        await before_execution()
                if call.failure is not None:
                    raise _sdk.interrupt_at(info)
                return reported
            awaitable, step = advance(sequence := self._reach(info))
            if awaitable is not None:
                step = await resume(sequence, awaitable)
            reported = await original(info)
            return reported if step is None else RunningStep(self, step, reported)

        return report_step

    def report_sync(self, original: Any) -> Any:
        """Wrap the execution's function that the SDK calls when a step is reached."""
        portal = self.portal
        assert portal is not None  # noqa: S101 - a sync function's session always has one

        def report_step(info: _sdk.StepInfo) -> Any:
            if self.call.failure is not None:
                raise _sdk.interrupt_at(info)
            if self._has_memo(info.id):
                self._consume(info)
                reported = original(info)
                if self.call.failure is not None:
                    raise _sdk.interrupt_at(info)
                return reported
            step = portal.run(self._reach(info))
            reported = original(info)
            return reported if step is None else RunningStep(self, step, reported)

        return report_step

    def _has_memo(self, hashed_id: str) -> bool:
        memos = self._memos
        return hashed_id in (_sdk.memos_of(self.call.ctx) if memos is None else memos)

    def _consume(self, info: _sdk.StepInfo) -> None:
        """The function came to a step that has a memo."""
        call = self.call
        rules = call._op_rules  # noqa: SLF001
        if rules is not None and info.id in rules:
            ops, error = rules[info.id]
            if info.op.value not in ops:
                call.failure = error
                raise _sdk.interrupt_at(info)
        call.consumed.append(info.id)
        call._replayed[info.id] = info  # noqa: SLF001

    def _reach(self, info: _sdk.StepInfo) -> Any:
        """The function came to a step that has no memo: it will run, be planned or be skipped."""
        call = self.call
        if call.target is not None and call.target != info.id:
            return None
        yield from self._begin_execution()
        if call.failure is not None:
            raise _sdk.interrupt_at(info)
        op = info.op.value
        step_id, index = _sdk.identity_of(info)
        step = Step(
            id=step_id,
            hashed_id=info.id,
            index=index,
            op=op,
            name=info.name or info.display_name,
            parallel=_sdk.in_parallel(),
            input=info.opts,
        )
        if op in _LEAVING:
            yield from self._transform_step_input(step)
            info.opts = step.input
        return step

    def _transform_step_input(self, step: Step) -> Sequence:
        outer_hooks, inner_hooks = self._stack.parts("transform_step_input")
        args = (self.call, step)
        yield from self._dispatcher.fire(inner_hooks, args, self._raise_here)
        if step.attachments and step.input is not None:
            payload = step.input["payload"]
            payload["data"] = {
                **(payload.get("data") or {}),
                _attachments.EVENT_KEY: step.attachments,
            }
        yield from self._dispatcher.fire(outer_hooks, args, self._raise_here)

    def ran(self, step: Step) -> None:
        """Note a step whose handler has run, in the order in which they ended."""
        self._ran.append(step)

    def step_named(self, step_id: str) -> Step:
        # One request runs one step; user code that starts several at once (`asyncio.gather`) or
        # swallows the SDK's interrupt can have run more. The SDK answers with the first.
        for step in self._ran:
            if step_id in (step.id, f"{step.id}:{step.index}"):
                return step
        raise PluginsError(
            f"the SDK reported a result of step {step_id!r}, which the plugins have not seen run "
            f"in function {self.call.function_id!r}: nothing of it is sent"
        )

    def _raise_here(self, bound: BoundHook, err: Exception) -> None:
        if bound.closed:
            raise err
        self._dispatcher.ignored(bound, err)
