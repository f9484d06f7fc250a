"""An app for tests: a client, functions that the event of their id starts, the embedded engine."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any, ClassVar

import inngest
from tests.bodies import Body, handler_of

from inngest_plugins.core import StackEntry
from inngest_plugins.local import LocalEngine, Run


class App:
    """A client and its functions.

    Args:
        middleware: the client's plugins.
        is_async: whether `body` makes async functions, or sync ones.
    """

    defaults: ClassVar[dict[str, Any]] = {}
    """Options of functions that do not set them."""

    def __init__(self, *middleware: StackEntry, is_async: bool = True) -> None:
        self.is_async = is_async
        self.client = inngest.Inngest(app_id="app", is_production=False, middleware=[*middleware])
        self.functions: list[inngest.Function[Any]] = []

    def function(self, fn_id: str = "fn", **options: Any) -> Callable[[Any], Any]:
        """Register a handler, triggered by the event of its id."""

        def register(handler: Any) -> Any:
            given: dict[str, Any] = {"trigger": inngest.TriggerEvent(event=fn_id)}
            given |= {**self.defaults, **options}
            function = self.client.create_function(fn_id=fn_id, **given)(handler)
            self.functions.append(function)
            return function

        return register

    def body(self, fn_id: str = "fn", **options: Any) -> Callable[[Body], Any]:
        """Register a body that runs as an async or a sync function."""
        return lambda body: self.function(fn_id, **options)(
            handler_of(body, is_async=self.is_async)
        )

    @contextlib.asynccontextmanager
    async def engine(self, **options: Any) -> AsyncIterator[LocalEngine]:
        """Open the engine on all functions."""
        options.setdefault("retry_interval", 0.01)
        async with LocalEngine(self.client, self.functions, **options) as engine:
            yield engine

    async def run(self, name: str = "fn", **data: Any) -> Run:
        """Run a function to its end, and everything that it started."""
        async with self.engine() as engine:
            run = await engine.run(inngest.Event(name=name, data=data), function=name)
            await engine.settle()
            return run
