"""A step whose handler runs, with the plugins' contexts around it."""

from __future__ import annotations

import contextvars
import time
from collections.abc import Callable
from typing import Any

from inngest_plugins.core.base.sync_async import Portal, run_async
from inngest_plugins.core.data.call import Call, current_step
from inngest_plugins.core.data.call_contexts import Opened
from inngest_plugins.core.data.step import Step
from inngest_plugins.core.sdk import door

from .contexts import Contexts
from .dispatch import Sequence

Ran = Callable[[Step], None]


class _Handling:
    """The handling of a step, common to async and sync functions.

    It stands in for the SDK's own reported step, in whose `with` block the handler runs.

    Attributes:
        call: the call.
        step: the step.
        info: the SDK's own of the step.
        contexts: enters what plugins want around the step; None where no plugin does.
        ran: gets the step when its handler has run.
    """

    call: Call
    step: Step
    info: door.StepInfo
    contexts: Contexts | None
    ran: Ran
    _opened: Opened
    _token: contextvars.Token[Step | None]

    def _begin(self) -> None:
        self._token = current_step.set(self.step)
        self.step.started_ns = time.time_ns()

    def _end(self, exc: BaseException | None) -> None:
        current_step.reset(self._token)
        self.step.duration_ns = max(0, time.time_ns() - self.step.started_ns)
        if isinstance(exc, door.ResponseInterrupt):
            self.ran(self.step)

    def _enter_contexts(self, contexts: Contexts) -> Sequence:
        self._opened = []
        yield from contexts.begin_step(self.step, self.info, self._opened)
        if self.call.failure is not None:
            raise door.interrupt_at(self.info)

    def _exit_contexts(self, contexts: Contexts, exc: BaseException | None) -> Sequence:
        # A step that a plugin refused ends in an interrupt that carries no error.
        return contexts.exit(self._opened, door.error_in(exc) or self.call.failure)


class RunningStep(_Handling, door.UnsignalledStep):
    """The object that the SDK gives an async function's `step` for a step whose handler runs.

    Standing in front of the SDK's own step takes 2 % more instructions for one new step.
    """

    def __init__(
        self, call: Call, step: Step, info: door.StepInfo, contexts: Contexts | None, ran: Ran
    ) -> None:
        super().__init__(info)
        self.call = call
        self.step = step
        self.contexts = contexts
        self.ran = ran

    async def __aenter__(self) -> Any:
        await super().__aenter__()
        self._begin()
        if self.contexts is not None:
            try:
                await run_async(self._enter_contexts(self.contexts))
            except BaseException as err:
                await self.__aexit__(type(err), err, err.__traceback__)
                raise
        return self

    async def __aexit__(self, *raised: Any) -> None:
        exc: BaseException | None = raised[1]
        try:
            if self.contexts is not None and self._opened:
                await run_async(self._exit_contexts(self.contexts, exc))
        finally:
            self._end(exc)
            await super().__aexit__(*raised)


class RunningStepSync(_Handling, door.ReportedStepSync):
    """The object that the SDK gives a sync function's `step` for a step whose handler runs.

    Args:
        portal: runs `async def` hooks.
    """

    def __init__(
        self,
        call: Call,
        step: Step,
        info: door.StepInfo,
        contexts: Contexts | None,
        ran: Ran,
        *,
        portal: Portal,
    ) -> None:
        super().__init__(info)
        self.call = call
        self.step = step
        self.contexts = contexts
        self.ran = ran
        self.portal = portal

    def __enter__(self) -> Any:
        super().__enter__()
        self._begin()
        if self.contexts is not None:
            try:
                self.portal.run(self._enter_contexts(self.contexts))
            except BaseException as err:
                self.__exit__(type(err), err, err.__traceback__)
                raise
        return self

    def __exit__(self, *raised: Any) -> None:
        exc: BaseException | None = raised[1]
        try:
            if self.contexts is not None and self._opened:
                self.portal.run(self._exit_contexts(self.contexts, exc))
        finally:
            self._end(exc)
            super().__exit__(*raised)
