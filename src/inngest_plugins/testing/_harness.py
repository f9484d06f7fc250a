"""`Harness`: `LocalEngine` for tests, with stubs, records and sync methods."""

from __future__ import annotations

import contextlib
import importlib
import typing
import warnings
from collections.abc import Callable, Coroutine, Iterator, Sequence

import inngest

from inngest_plugins.core import HookRecord, PluginsError, Stack, record_hooks
from inngest_plugins.core.sdk.assignments import replace_middleware
from inngest_plugins.local import Clock, LocalEngine, Run
from inngest_plugins.local._arguments import check_seconds

from ._engine_thread import EngineThread
from ._step_double import StepCall, StepDoubles
from ._stubs import StubBook, Stubs

if typing.TYPE_CHECKING:
    import os
    from types import TracebackType

    from typing_extensions import Self

with warnings.catch_warnings():
    # The SDK's own deprecation warnings must not fail tests that turn warnings into errors.
    warnings.simplefilter("ignore")
    importlib.import_module("inngest.fast_api")

AnyFunction = inngest.Function[typing.Any]
Events: typing.TypeAlias = inngest.Event | Sequence[inngest.Event]
T = typing.TypeVar("T")


class UnusedStubError(PluginsError, AssertionError):
    """A stub was given for a step that no function reached: most likely its id is misspelt."""


class UnknownServiceError(PluginsError, LookupError):
    """A service was overridden and no plugin of the app gives services to functions."""


class Harness:
    """Runs functions in a test; made by the ``inngest_engine`` fixture.

    It is a context manager in both worlds: ``async with`` it and await `run`, or ``with`` it and
    call `run_sync` (the engine then works in a thread of its own).

    Args:
        client: The client of the functions, in dev mode.
        functions: The functions.
        stubs: What replaces steps, see `inngest_plugins.testing.Stubs`.
        clock: `VirtualClock` by default: sleeps, backoff and timeouts take no time.
        journal: Path of a journal file; runs are kept in memory by default.
        timeout: Real seconds that `run` and `settle` wait before they end the runs that are left
            with the status ``TimedOut``: a test fails instead of hanging.
        allow_unused_stubs: Whether a stub whose step is never reached is fine.
        engine_options: Further arguments of `LocalEngine`.

    Raises:
        LocalEngineError: No functions, or a client that is not in dev mode.
        TypeError: An argument is none of these.
    """

    def __init__(
        self,
        client: inngest.Inngest,
        functions: AnyFunction | Sequence[AnyFunction],
        *,
        stubs: Stubs | None = None,
        clock: Clock | None = None,
        journal: str | os.PathLike[str] | None = None,
        timeout: float | None = 30.0,
        allow_unused_stubs: bool = False,
        **engine_options: typing.Any,
    ) -> None:
        check_seconds("timeout", timeout)
        listed = [functions] if isinstance(functions, inngest.Function) else functions
        self._client = client
        self._timeout = timeout
        self._book = StubBook({} if stubs is None else stubs)
        self._doubles = StepDoubles(self._book)
        self._allow_unused_stubs = allow_unused_stubs
        self._engine = LocalEngine(client, listed, journal, clock, **engine_options)
        self._functions = tuple(listed)
        self._records: list[HookRecord] = []
        self._exits: contextlib.ExitStack | None = None
        self._thread: EngineThread | None = None

    # Opening and closing

    async def __aenter__(self) -> Self:
        self._prepare()
        try:
            await self._engine.__aenter__()
        except BaseException:
            self._leave()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            await self._engine.__aexit__(kind, error, trace)
        finally:
            self._leave()
        self._check_stubs(error)

    def __enter__(self) -> Self:
        self._prepare()
        try:
            exits = typing.cast("contextlib.ExitStack", self._exits)
            self._thread = EngineThread(self._engine)
            exits.callback(self._thread.close)
        except BaseException:
            self._leave()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._leave()
        self._check_stubs(error)

    def _prepare(self) -> None:
        if self._exits is not None:
            raise RuntimeError("this harness is open already")
        self._exits = contextlib.ExitStack()
        self._records = self._exits.enter_context(_recording())
        self._exits.enter_context(self._listed())

    def _leave(self) -> None:
        exits, self._exits, self._thread = self._exits, None, None
        if exits is not None:
            exits.close()

    @contextlib.contextmanager
    def _listed(self) -> Iterator[None]:
        """Keep the doubles in the client's list."""
        before = replace_middleware(self._client, [*self._client.middleware, self._doubles])
        try:
            yield
        finally:
            replace_middleware(self._client, before)

    def _check_stubs(self, error: BaseException | None) -> None:
        unused = [] if self._allow_unused_stubs else self._book.unused()
        if unused and error is None:
            seen = sorted({step for run in self.runs for step in run.steps})
            raise UnusedStubError(
                f"no function reached the stubbed step {', '.join(map(repr, unused))}; the steps "
                f"that were reached: {', '.join(map(repr, seen)) or 'none'} "
                "(allow_unused_stubs=True accepts this)"
            )

    # Services

    @contextlib.contextmanager
    def override(self, service: typing.Any, value: object) -> Iterator[None]:
        """Give the functions another value where they ask for a service.

        It is what `get` and `aget` of `inngest_plugins.injection` return, in every function and
        step that asks while the block lasts; the real one is not opened. Of several overrides of a
        type the innermost counts.

        Args:
            service: The type that the functions ask for.
            value: What they get: an object, not a factory.

        Raises:
            UnknownServiceError: The app has no plugin that gives services.

        Example::

            with engine.override(Session, FakeSession()):
                run = await engine.run(order_placed)
        """
        entries = {
            id(entry): entry
            for function in (None, *self._functions)
            for entry in Stack.of(self._client, function).plugins
        }
        with contextlib.ExitStack() as exits:
            overrides = [entry.override_service(service, value) for entry in entries.values()]
            taken = [override for override in overrides if override is not None]
            if not taken:
                raise UnknownServiceError(
                    f"override({getattr(service, '__name__', service)}) has no effect: no plugin "
                    "of the client or of a function gives services; add an InjectionPlugin to "
                    "middleware=[...]"
                )
            for override in taken:
                exits.enter_context(override)
            yield

    # Running

    async def run(
        self,
        events: Events | None = None,
        function: str | AnyFunction | None = None,
        timeout: float | None = None,
    ) -> Run:
        """Send events and wait until the run that they start has ended: `LocalEngine.run`."""
        return await self._engine.run(events, function, self._limit(timeout))

    async def send(self, events: Events) -> list[str]:
        """Send events without waiting for what they start: `LocalEngine.send`."""
        return await self._engine.send(events)

    async def settle(self, timeout: float | None = None) -> None:
        """Wait until every run has ended; time jumps: `LocalEngine.settle`."""
        await self._engine.settle(self._limit(timeout))

    async def idle(self) -> None:
        """Wait until nothing can happen without time or another event: `LocalEngine.idle`.

        The moment to look at a run that waits, and to send what it waits for.
        """
        await self._engine.idle()

    async def cancel(self, run: Run) -> None:
        """Cancel a run: `LocalEngine.cancel`."""
        await self._engine.cancel(run)

    def run_sync(
        self,
        events: Events | None = None,
        function: str | AnyFunction | None = None,
        timeout: float | None = None,
    ) -> Run:
        """`run` inside of ``with``."""
        return self._await(self.run, events, function, timeout)

    def send_sync(self, events: Events) -> list[str]:
        """`send` inside of ``with``."""
        return self._await(self.send, events)

    def settle_sync(self, timeout: float | None = None) -> None:
        """`settle` inside of ``with``."""
        self._await(self.settle, timeout)

    def idle_sync(self) -> None:
        """`idle` inside of ``with``."""
        self._await(self.idle)

    def cancel_sync(self, run: Run) -> None:
        """`cancel` inside of ``with``."""
        self._await(self.cancel, run)

    def _limit(self, timeout: float | None) -> float | None:
        return self._timeout if timeout is None else timeout

    def _await(
        self, call: Callable[..., Coroutine[typing.Any, typing.Any, T]], *args: typing.Any
    ) -> T:
        if self._thread is None:
            raise RuntimeError(
                "the methods that end in _sync work inside of `with inngest_engine(...)`; inside "
                "of `async with` await the ones without"
            )
        return self._thread.call(call, *args)

    # Looking

    @property
    def engine(self) -> LocalEngine:
        """The engine itself."""
        return self._engine

    @property
    def runs(self) -> list[Run]:
        """Every run so far, oldest first."""
        return self._engine.runs

    @property
    def deferred(self) -> list[Run]:
        """The runs of deferred functions, oldest first: `LocalEngine.deferred`."""
        return self._engine.deferred

    def run_of(self, function: str | AnyFunction) -> Run:
        """The latest run of a function: for functions that others start.

        Args:
            function: The function, its id, or its full id (``"shop-fulfil-failure"`` for the
                failure handler of ``fulfil``).

        Raises:
            AssertionError: It was not run.
        """
        full = function if isinstance(function, str) else function.id
        wanted = (full, f"{self._client.app_id}-{full}")
        found = [run for run in self.runs if run.function_id in wanted]
        if not found:
            ran = sorted({run.function_id for run in self.runs})
            raise AssertionError(f"{full!r} was not run; these were: {', '.join(ran) or 'none'}")
        return found[-1]

    def calls(self, step: str, function: str | None = None) -> list[StepCall]:
        """Every execution of a step, stubbed or real, oldest first; replays do not count.

        Args:
            step: The step's id.
            function: Local id of the function; any function by default.
        """
        return [
            call
            for call in self._doubles.calls
            if call.step_id == step and function in (None, call.function_id)
        ]

    def sent(self, name: str | None = None) -> list[inngest.Event]:
        """The events that the functions sent, as their code sent them (before encryption).

        Args:
            name: Only events of this name.
        """
        return [event for event in self._doubles.sent if name in (None, event.name)]

    @property
    def hooks(self) -> list[HookRecord]:
        """Every hook call of the app's plugins, in the order in which they ended."""
        return [record for record in self._records if record.plugin != self._doubles.name]

    def hook_order(self, run: Run, plugin: str | None = None) -> list[list[str]]:
        """Which hooks ran in each request of a run.

        Args:
            run: The run.
            plugin: Only this plugin's hooks, as their names. Without it every plugin's, as
                ``"plugin.hook"``.

        Returns:
            One list for each request, in order.
        """
        by_request: dict[str | None, list[str]] = {}
        for record in self.hooks:
            if plugin in (None, record.plugin):
                name = record.hook if plugin else f"{record.plugin}.{record.hook}"
                by_request.setdefault(record.request_id, []).append(name)
        ids = [request.request_headers.get("x-request-id") for request in run.requests]
        return [by_request.get(request_id, []) for request_id in ids]


@contextlib.contextmanager
def _recording() -> Iterator[list[HookRecord]]:
    recording = record_hooks()
    records = recording.__enter__()
    try:
        yield records
    finally:
        # Some async test plugins close a fixture in another context than they opened it in; what
        # was set there cannot be reset here, and is gone with it.
        with contextlib.suppress(ValueError):
            recording.__exit__(None, None, None)
