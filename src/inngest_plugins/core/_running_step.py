"""A step whose handler runs, with the plugins' contexts around it."""

from __future__ import annotations

import contextvars
from types import TracebackType
from typing import TYPE_CHECKING, Any

from . import _sdk
from ._call import Opened, current_step
from ._drive import run_async

if TYPE_CHECKING:
    from ._step import Step
    from ._step_reports import StepReports


class RunningStep:
    """Stands in for the SDK's reported step in its `with` block, which holds the handler.

    It is entered with `async with` for an async function and with `with` for a sync one.
    """

    __slots__ = ("_opened", "_reported", "_reports", "_step", "_token")

    def __init__(self, reports: StepReports, step: Step, reported: Any) -> None:
        self._reports = reports
        self._step = step
        self._reported = reported
        self._opened: Opened = []
        self._token: contextvars.Token[Step | None] | None = None

    async def __aenter__(self) -> Any:
        entered = await self._reported.__aenter__()
        self._begin()
        try:
            if self._reports.wraps_steps:
                await run_async(self._reports.contexts.enter_step(self._step, self._opened))
                self._check()
        except BaseException as err:
            await self.__aexit__(type(err), err, err.__traceback__)
            raise
        return entered

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            if self._opened:
                await run_async(self._reports.contexts.exit(self._opened, self._error(exc)))
        finally:
            self._end(exc)
            await self._reported.__aexit__(exc_type, exc, traceback)

    def __enter__(self) -> Any:
        entered = self._reported.__enter__()
        self._begin()
        try:
            if self._reports.wraps_steps:
                self._portal.run(self._reports.contexts.enter_step(self._step, self._opened))
                self._check()
        except BaseException as err:
            self.__exit__(type(err), err, err.__traceback__)
            raise
        return entered

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            if self._opened:
                self._portal.run(self._reports.contexts.exit(self._opened, self._error(exc)))
        finally:
            self._end(exc)
            self._reported.__exit__(exc_type, exc, traceback)

    @property
    def _portal(self) -> Any:
        return self._reports.portal

    def _error(self, exc: BaseException | None) -> BaseException | None:
        # A step that a plugin refused ends in an interrupt that carries no error.
        return _sdk.error_in(exc) or self._reports.call.failure

    def _begin(self) -> None:
        self._token = current_step.set(self._step)

    def _end(self, exc: BaseException | None) -> None:
        if self._token is not None:
            current_step.reset(self._token)
        if isinstance(exc, _sdk.ResponseInterrupt):
            self._reports.ran(self._step)

    def _check(self) -> None:
        if self._reports.call.failure is not None:
            raise _sdk.interrupt_at(self._reported.info)
