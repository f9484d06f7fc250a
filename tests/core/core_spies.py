"""Plugins and middleware that note every hook, and fail where a test wants them to."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any

import inngest

from inngest_plugins.core import Call, Layer, Outcome, Plugin, Send, Step

Log = list[str]

HOOKS = (
    "transform_input",
    "before_memoization",
    "after_memoization",
    "before_execution",
    "transform_step_input",
    "around_step",
    "after_execution",
    "transform_output",
    "before_response",
    "before_send_events",
    "after_send_events",
)


class _Noting(Plugin):
    """Notes `"<name>.<hook>"` in a list that a test shares between plugins, and raises on wish."""

    def __init__(
        self,
        name: str,
        log: Log,
        *,
        layer: Layer = Layer.CONTEXT,
        fail_open: bool | None = None,
        raises: Mapping[str, BaseException] | None = None,
    ) -> None:
        self.name = name
        self.log = log
        self.layer = layer
        self.fail_open = fail_open
        self.raises = dict(raises or {})

    def _note(self, hook: str) -> None:
        self.log.append(f"{self.name}.{hook}" if self.name else hook)
        error = self.raises.get(hook)
        if error is not None:
            raise error


class Spy(_Noting):
    """Every hook a plain `def`."""

    def transform_input(self, call: Call) -> None:
        self._note("transform_input")

    def before_memoization(self, call: Call) -> None:
        self._note("before_memoization")

    def after_memoization(self, call: Call) -> None:
        self._note("after_memoization")

    def before_execution(self, call: Call) -> None:
        self._note("before_execution")

    def transform_step_input(self, call: Call, step: Step) -> None:
        self._note("transform_step_input")

    @contextlib.contextmanager
    def around_step(self, call: Call, step: Step) -> Iterator[None]:
        self._note("around_step")
        try:
            yield
        finally:
            self._note("~around_step")

    def after_execution(self, call: Call) -> None:
        self._note("after_execution")

    def transform_output(self, call: Call, outcome: Outcome) -> None:
        self._note("transform_output")

    def before_response(self, call: Call) -> None:
        self._note("before_response")

    def before_send_events(self, send: Send) -> None:
        self._note("before_send_events")

    def after_send_events(self, send: Send) -> None:
        self._note("after_send_events")


class AsyncSpy(_Noting):
    """Every hook an `async def` that really waits."""

    async def transform_input(self, call: Call) -> None:
        await asyncio.sleep(0)
        self._note("transform_input")

    async def before_memoization(self, call: Call) -> None:
        await asyncio.sleep(0)
        self._note("before_memoization")

    async def after_memoization(self, call: Call) -> None:
        await asyncio.sleep(0)
        self._note("after_memoization")

    async def before_execution(self, call: Call) -> None:
        await asyncio.sleep(0)
        self._note("before_execution")

    async def transform_step_input(self, call: Call, step: Step) -> None:
        await asyncio.sleep(0)
        self._note("transform_step_input")

    @contextlib.asynccontextmanager
    async def around_step(self, call: Call, step: Step) -> AsyncIterator[None]:
        await asyncio.sleep(0)
        self._note("around_step")
        try:
            yield
        finally:
            await asyncio.sleep(0)
            self._note("~around_step")

    async def after_execution(self, call: Call) -> None:
        await asyncio.sleep(0)
        self._note("after_execution")

    async def transform_output(self, call: Call, outcome: Outcome) -> None:
        await asyncio.sleep(0)
        self._note("transform_output")

    async def before_response(self, call: Call) -> None:
        await asyncio.sleep(0)
        self._note("before_response")

    async def before_send_events(self, send: Send) -> None:
        await asyncio.sleep(0)
        self._note("before_send_events")

    async def after_send_events(self, send: Send) -> None:
        await asyncio.sleep(0)
        self._note("after_send_events")


def foreign(name: str, log: Log, *, raises: Mapping[str, BaseException] | None = None) -> Any:
    """An ordinary `inngest.MiddlewareSync`, which works for async and sync functions."""
    errors = dict(raises or {})

    def note(hook: str) -> None:
        log.append(f"{name}.{hook}")
        if hook in errors:
            raise errors[hook]

    class Foreign(inngest.MiddlewareSync):
        def transform_input(self, ctx: Any, function: Any, steps: Any) -> None:
            note("transform_input")

        def before_execution(self) -> None:
            note("before_execution")

        def after_execution(self) -> None:
            note("after_execution")

        def transform_output(self, result: Any) -> None:
            note("transform_output")

        def before_response(self) -> None:
            note("before_response")

        def before_send_events(self, events: Any) -> None:
            note("before_send_events")

        def after_send_events(self, result: Any) -> None:
            note("after_send_events")

    return Foreign


def foreign_async(name: str, log: Log) -> Any:
    """An ordinary `inngest.Middleware`, which works for async functions only."""

    class ForeignAsync(inngest.Middleware):
        async def transform_input(self, ctx: Any, function: Any, steps: Any) -> None:
            log.append(f"{name}.transform_input")

        async def before_execution(self) -> None:
            log.append(f"{name}.before_execution")

        async def after_execution(self) -> None:
            log.append(f"{name}.after_execution")

        async def transform_output(self, result: Any) -> None:
            log.append(f"{name}.transform_output")

        async def before_response(self) -> None:
            log.append(f"{name}.before_response")

    return ForeignAsync


def only(log: Log, *hooks: str) -> Log:
    """The entries of these hooks, in order."""
    return [entry for entry in log if entry.rsplit(".", 1)[-1] in hooks]


def of(log: Log, name: str) -> Log:
    """The hooks of one plugin, in order."""
    return [entry.split(".", 1)[1] for entry in log if entry.startswith(f"{name}.")]
