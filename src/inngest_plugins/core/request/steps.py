"""The steps that a function reaches in a request: replayed, planned, skipped or run."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

from inngest_plugins.core.base.errors import PluginsError
from inngest_plugins.core.base.sync_async import Portal, advance, resume
from inngest_plugins.core.data import attachments
from inngest_plugins.core.data.call import Call, current_branch
from inngest_plugins.core.data.memos import Memo, memo_of, replace_memo
from inngest_plugins.core.data.step import Step, StepStatus
from inngest_plugins.core.sdk import assignments, door, ops
from inngest_plugins.core.sdk.invoked import invoked_function
from inngest_plugins.core.stack.stack import BoundHook, Stack

from .arguments import StepArguments
from .contexts import Contexts
from .dispatch import Dispatcher, Rest, Sequence
from .running_step import RunningStep, RunningStepSync


class _MemoRefusedError(Exception):
    """A plugin that fails closed could not give the function its stored result."""


_WITHOUT_ARGUMENTS = frozenset({"StepRun", "Sleep"})
"""Operations that carry nothing to the engine which a plugin could want to change."""


class StepReports:
    """Stands in front of the SDK's `report_step`, which it calls for each step reached.

    Args:
        call: the call.
        dispatcher: calls the hooks.
        contexts: enters what plugins want around a step; None where no plugin does.
        portal: runs `async def` hooks of a sync function; None for an async one.
        memos: what was not consumed yet by hashed id, when it is looked up in constant time;
            None when the SDK does that, which makes a new dict for each step.
        begin_execution: fires what is due before new code runs, once.

    Attributes:
        stands_aside: whether the SDK calls no hooks of this request.
        on_reached: gets each step without a stored result first; None without a delivery.
    """

    __slots__ = (
        "_arguments",
        "_begin_execution",
        "_contexts",
        "_dispatcher",
        "_memos",
        "_ran",
        "_stack",
        "_watches_memos",
        "call",
        "on_reached",
        "portal",
        "stands_aside",
    )

    def __init__(
        self,
        call: Call,
        dispatcher: Dispatcher,
        contexts: Contexts | None,
        portal: Portal | None,
        *,
        memos: dict[str, door.Output] | None,
        begin_execution: Callable[[], Rest],
    ) -> None:
        self.call = call
        self.portal = portal
        self._contexts = contexts
        self._stack: Stack = call.stack
        self._dispatcher = dispatcher
        self._memos = memos
        self._begin_execution = begin_execution
        hooks = self._stack.hooks
        self._arguments = (
            StepArguments(call.ctx, is_async=portal is None) if hooks["answer_step"] else None
        )
        self._watches_memos = bool(
            self._stack.memoized_reached or hooks["transform_memo"] or hooks["answer_step"]
        )
        self._ran: list[Step] = []
        self.stands_aside = False
        self.on_reached: Callable[[door.StepInfo, StepStatus], Sequence] | None = None

    def report_async(self, original: Any) -> Any:
        """Wrap the execution's coroutine function that the SDK calls when a step is reached."""
        call = self.call
        memos = self._memos
        contexts = self._contexts
        ran = self._ran.append
        before_execution = door.before_execution_of(call.ctx)

        async def report_step(info: door.StepInfo) -> Any:
            if call.failure is not None:
                raise door.interrupt_at(info)
            output = self._memo_of(info)
            if output is not None:
                if not self._watches_memos:
                    self._consume(info, output)
                else:
                    awaitable, _ = advance(sequence := self._reach_memoized(info, output))
                    if awaitable is not None:
                        await resume(sequence, awaitable)
                if memos is None:
                    reported = await original(info)
                else:
                    reported = door.ReplayedStep(info, memos.pop(info.id))
                    if not memos:
                        await before_execution()
                return self._given(info, reported)
            awaitable, step = advance(sequence := self._reach(info))
            if awaitable is not None:
                step = await resume(sequence, awaitable)
            return (
                await original(info)
                if step is None
                else RunningStep(call, step, info, contexts, ran)
            )

        return report_step

    def report_sync(self, original: Any) -> Any:
        """Wrap the execution's function that the SDK calls when a step is reached."""
        call = self.call
        contexts = self._contexts
        ran = self._ran.append
        portal = self.portal
        assert portal is not None  # noqa: S101 - a sync function's session always has one

        def report_step(info: door.StepInfo) -> Any:
            if call.failure is not None:
                raise door.interrupt_at(info)
            output = self._memo_of(info)
            if output is not None:
                if not self._watches_memos:
                    self._consume(info, output)
                else:
                    portal.run(self._reach_memoized(info, output))
                reported = original(info)
                return self._given(info, reported)
            step = portal.run(self._reach(info))
            return (
                original(info)
                if step is None
                else RunningStepSync(call, step, info, contexts, ran, portal=portal)
            )

        return report_step

    def _memo_of(self, info: door.StepInfo) -> door.Output | None:
        memos = door.memos_of(self.call.ctx) if self._memos is None else self._memos
        return memos.get(info.id)

    def _is_replayed(self) -> bool:
        return not (door.memos_of(self.call.ctx) if self._memos is None else self._memos)

    def _consume(self, info: door.StepInfo, output: door.Output) -> None:
        """The function reached a step that has a memo."""
        call = self.call
        if attachments.is_joined(output.data):
            call.memos.split(info.id, output)
        rules = call._op_rules  # noqa: SLF001
        if rules is not None and info.id in rules:
            allowed, error = rules[info.id]
            if info.op.value not in allowed:
                call.failure = error
                raise door.interrupt_at(info)
        if call._after_race and not door.in_parallel():  # noqa: SLF001
            call._after_race = False  # noqa: SLF001
        call.consumed.append(info.id)
        call._replayed[info.id] = info  # noqa: SLF001

    def _ask(self, step: Step, info: door.StepInfo) -> Sequence:
        """Ask plugins to answer a step of the engine; with an answer it is a step of this app."""
        answer = None if self._contexts is None else (yield from self._contexts.ask(step))
        if self.call.failure is not None:
            raise door.interrupt_at(info)
        if answer is None:
            return
        assignments.put_run(info)
        step.op, step.name, step.input = info.op.value, step.id, None
        step._answer = answer  # noqa: SLF001
        if step.status == "waiting":
            step.status = door.status_of(self.call.ctx, info)
            if self.on_reached is not None:
                yield from self.on_reached(info, step.status)

    def _given(self, info: door.StepInfo, reported: Any) -> Any:
        """The SDK gives the function a stored result."""
        if self.stands_aside and self._is_replayed():
            self._begin_execution()
        if self.call.failure is not None:
            raise door.interrupt_at(info)
        if reported.error is not None:
            self.call._failed_steps.append((weakref.ref(reported.error), info.id))  # noqa: SLF001
        return reported

    def _reach_memoized(self, info: door.StepInfo, output: door.Output) -> Sequence:
        """Let plugins see a step that has a memo, and change what the function gets."""
        step = self._step(info, "memoized")
        if self._arguments is not None and not ops.is_run(info):
            # Another request may have taken a plugin's answer for what the engine has stored.
            yield from self._ask(step, info)
        self._consume(info, output)
        if hooks := self._stack.memoized_reached:
            yield from self._dispatcher.fire(hooks, (self.call, step), self._raise_here)
        if self._stack.hooks["transform_memo"]:
            yield from self._transform_memo(step, output, info)

    def _transform_memo(self, step: Step, output: door.Output, info: door.StepInfo) -> Sequence:
        outer_hooks, inner_hooks = self._stack.parts["transform_memo"]
        args = (self.call, step)
        step.memo = stored = memo_of(output)
        try:
            yield from self._dispatcher.fire(outer_hooks, args, self._refuse_memo)
            self._split_attachments(step)
            yield from self._dispatcher.fire(inner_hooks, args, self._refuse_memo)
        except _MemoRefusedError:
            raise door.interrupt_at(info) from None
        if step.memo is not stored:
            replace_memo(output, step.memo)

    def _split_attachments(self, step: Step) -> None:
        """Take the attachments off a result that a plugin has just opened."""
        memos = self.call.memos
        if step.memo is not None:
            value = memos.value_of(step.hashed_id, step.memo.data)
            if value is not step.memo.data:
                step.memo = Memo(value)
        step._memo_attachments = memos.attachments_of(step.hashed_id)  # noqa: SLF001

    def _refuse_memo(self, bound: BoundHook, err: Exception) -> None:
        if not bound.closed:
            self._dispatcher.ignored(bound, err)
            return
        if self.call.failure is None:
            door.forget_interrupts(err)
            self.call.failure = err
        raise _MemoRefusedError

    def _step(self, info: door.StepInfo, status: StepStatus) -> Step:
        step_id, index = door.identity_of(info)
        step = Step(
            id=step_id,
            hashed_id=info.id,
            index=index,
            op=info.op.value,
            name=info.name or info.display_name,
            parallel=door.in_parallel(),
            input=info.opts,
            status=status,
            branch=current_branch.get(),
            function=invoked_function.get(),
        )
        if self._arguments is not None:
            step.args = self._arguments.take()
        return step

    def _reach(self, info: door.StepInfo) -> Any:
        """The function reached a step that has no memo: it will run, be planned or be skipped.

        Returns:
            The step if its handler is to run; else None, and the SDK ends the request.
        """
        call = self.call
        hooks = self._stack.hooks["step_reached"]
        status = door.status_of(call.ctx, info)
        if self.on_reached is not None:
            yield from self.on_reached(info, status)
        if status == "skipped":
            if hooks:
                args = (call, self._step(info, status))
                yield from self._dispatcher.fire(hooks, args, self._raise_here)
            return None
        yield from self._begin_execution()
        if call.failure is not None:
            raise door.interrupt_at(info)
        step = self._step(info, status)
        if self._arguments is not None and not ops.is_run(info):
            yield from self._ask(step, info)
        if hooks:
            yield from self._dispatcher.fire(hooks, (call, step), self._raise_here)
        if step.op not in _WITHOUT_ARGUMENTS:
            yield from self.transform_input(step)
            assignments.put_options(info, step.input)
        return step if step.status == "running" else None

    def transform_input(self, step: Step) -> Sequence:
        """Run the outbound hooks on the input that leaves with a step."""
        outer_hooks, inner_hooks = self._stack.parts["transform_step_input"]
        args = (self.call, step)
        yield from self._dispatcher.fire(inner_hooks, args, self._raise_here)
        if step.attachments and step.input is not None:
            if step.op == "DeferAdd":
                holder, key = step.input, "input"
            else:
                holder, key = step.input["payload"], "data"
            holder[key] = {**(holder.get(key) or {}), attachments.EVENT_KEY: step.attachments}
        yield from self._dispatcher.fire(outer_hooks, args, self._raise_here)

    def give_stored(self, step: Step, data: Any, info: door.StepInfo) -> Any:
        """Run the inbound hooks on a result that the engine has stored in this request.

        Returns:
            What the SDK would hand the step on replay.
        """
        output = door.Output(data=data)
        if attachments.is_joined(data):
            self.call.memos.split(info.id, output)
        yield from self._transform_memo(step, output, info)
        return output

    def running(self, info: door.StepInfo) -> Step | None:
        """Return the step of which the SDK reports a result, if its handler has run."""
        for step in self._ran:
            if step.hashed_id == info.id:
                return step
        return None

    def forget(self, step: Step) -> None:
        """Note that nothing more will be reported of a step."""
        self._ran.remove(step)

    def step_named(self, step_id: str) -> Step:
        """Return the step whose result the SDK reports.

        Raises:
            PluginsError: no such step has run in this request.
        """
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
