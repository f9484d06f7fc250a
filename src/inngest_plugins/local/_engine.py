"""The embedded engine's public face."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import typing
from collections.abc import Iterable, Sequence

import inngest

from inngest_plugins.core import embed_engine

from ._arguments import (
    check_called,
    check_client,
    check_clock,
    check_events,
    check_function,
    check_functions,
    check_gateway,
    check_journal,
    check_max_requests,
    check_request_timeout,
    check_retry_interval,
    check_seconds,
    check_serve_path,
)
from ._choice import Chooser, FunctionRef
from ._clock import Clock, VirtualClock
from ._errors import LocalEngineError
from ._session import Serve, Session, Settings
from .functions.config import FunctionConfig
from .journal.journal import open_journal
from .journal.records import Json
from .journal.store import Store
from .report.opener import Opener
from .report.run import Run
from .server.api import UserlandTraces
from .server.app import serve_fastapi
from .server.realtime import Broker, Subscription
from .server.transport import EngineTransport
from .steps.gateway import GatewayTransport
from .steps.inference import Infer
from .wire.ids import UlidFactory

Events = inngest.Event | Sequence[inngest.Event]
_DEFAULT_PATH = "/api/inngest"
_REQUEST_TIMEOUT = 7200.0
_MAX_REQUESTS = 16


class LocalEngine:
    """Runs Inngest functions in this process, without a server.

    The engine plays the executor: it calls the served functions exactly as the Inngest server
    does, over HTTP in process (no sockets), stores step results, and calls again until the run
    ends. Functions, middleware and plugins see real requests, JSON round trips, replays, retries
    and parallel planning.

    It is for tests, demos and small deployments. Real load belongs on the Inngest server.

    Example::

        async with LocalEngine(client, [fulfil]) as engine:
            run = await engine.run(inngest.Event(name="shop/order.placed", data={"id": 1}))
            assert run.status == "Completed", run.reason
            print(run.timeline())

    What it does not do:

    - One process, one app. Two engines on one journal are refused.
    - Dev-mode clients only (``is_production=False`` or ``INNGEST_DEV=1``): requests are not signed.
    - Cron triggers are not scheduled; ``engine.run(function=...)`` fires one.
    - ``concurrency``, ``throttle``, ``debounce``, ``rate_limit``, ``priority`` and ``singleton``
      are not applied: every event starts its run at once. A warning names such functions. Because
      nothing waits for capacity, ``timeouts.start`` never strikes.
    - Expressions (``if``, trigger conditions, keys) are evaluated in the common forms of CEL; an
      unsupported one (macros such as ``exists()``, maps, ``date()``, ``uint()``) is an error when
      it is first seen. The error of a condition that the server cannot read either has a
      ``stack`` of its own wording, and so has the refusal of an event with fields of wrong types.
    - Of members of a parallel group that end at the same moment, those of the real server end in
      any order; here in that of the group.
    - The events of ``client.send`` and ``send_sync`` are attributed to runs (`Run.events_sent`)
      as far as that is visible: calls from a sync function outside of a step are attributed only
      while no other run is active.
    - Everything a run did is kept in memory until the engine is dropped.

    Args:
        client: The client of the functions. While the engine is open its HTTP goes to the engine.
        functions: The functions to serve.
        journal: Path of a SQLite file that survives the process, or None to keep runs in memory.
            A killed process's runs go on when an engine is opened on its journal again.
        clock: `VirtualClock` (also the default) or `RealClock`. The virtual clock jumps over
            sleeps, backoff and timeouts, but only while somebody awaits `run` or `settle`; code
            of the functions still sees the system clock.
        serve: Makes the app to call, from client and functions: an ASGI or WSGI application that
            serves them under ``serve_path``. By default a bare FastAPI app.
        serve_path: Where the app serves; by default ``INNGEST_SERVE_PATH`` or ``/api/inngest``.
        infer: Answers the inference calls of ``step.ai``; without it they fail. See
            `infer_over_http`.
        gateway: An httpx transport, sync or async, that makes the requests of durable fetch (the
            ``Gateway`` op); without it they fail. ``httpx.AsyncHTTPTransport()`` uses the network.
        request_timeout: Real seconds that one request may take; then the attempt has failed. An
            infinity sets no limit.
        max_requests: How many requests to the app may be in flight; others that are due wait. A
            kill repeats at most that many handlers. Code of functions that waits for other runs
            of this engine holds a place.
        retry_interval: Seconds between attempts instead of the server's table (15 s, 30 s, 1 min
            ... with jitter), like ``inngest dev --retry-interval``.

    Raises:
        LocalEngineError: No functions, or a client that is not in dev mode.
        TypeError: An argument is none of these.
        ValueError: ``max_requests`` is below 1, ``request_timeout`` not above 0, ``retry_interval``
            negative or longer than a century, or ``serve_path`` begins with no slash.
    """

    def __init__(
        self,
        client: inngest.Inngest,
        functions: Sequence[inngest.Function[typing.Any]],
        journal: str | os.PathLike[str] | None = None,
        clock: Clock | None = None,
        *,
        serve: Serve | None = None,
        serve_path: str | None = None,
        infer: Infer | None = None,
        gateway: GatewayTransport | None = None,
        request_timeout: float = _REQUEST_TIMEOUT,
        max_requests: int = _MAX_REQUESTS,
        retry_interval: float | None = None,
    ) -> None:
        check_client(client)
        listed = check_functions(functions)
        check_journal(journal)
        chosen_clock = check_clock(clock)
        check_gateway(gateway)
        check_called("serve", "a function of client and functions that makes an app", serve)
        check_serve_path(serve_path)
        check_called("infer", "a function that answers inference calls", infer)
        check_request_timeout(request_timeout)
        check_retry_interval(retry_interval)
        check_max_requests(max_requests)
        if client.is_production:
            raise LocalEngineError(
                f"LocalEngine needs a client in dev mode: create app {client.app_id!r} with "
                "inngest.Inngest(..., is_production=False) or set INNGEST_DEV=1"
            )
        if not listed:
            raise LocalEngineError("LocalEngine needs at least one function")
        self._settings = Settings(
            client=client,
            functions=listed,
            clock=VirtualClock() if chosen_clock is None else chosen_clock,
            serve=serve or serve_fastapi,
            path=serve_path or os.environ.get("INNGEST_SERVE_PATH") or _DEFAULT_PATH,
            infer=infer,
            gateway=gateway,
            request_timeout=request_timeout,
            max_requests=max_requests,
            retry_interval=retry_interval,
            new_ulid=UlidFactory(),
            broker=Broker(),
            opener=Opener(client, listed),
        )
        self._client = client
        self._journal = journal
        self._functions: dict[str, FunctionConfig] = {}
        self._store: Store | None = None
        self._session: Session | None = None
        self._embedding = contextlib.ExitStack()

    # Opening and closing

    async def __aenter__(self) -> LocalEngine:
        if self._session is not None:
            raise LocalEngineError("this LocalEngine is open already")
        store = self._store
        if store is None or store.is_durable:
            store = Store(open_journal(self._journal))
        try:
            self._check_owner(store)
            session = Session(self._settings, store)
            await session.open()
        except BaseException:
            store.close()
            raise
        self._store, self._session, self._functions = store, session, session.functions
        self._embedding.enter_context(embed_engine(self._client, self))
        return self

    async def __aexit__(self, *exc: object) -> None:
        session, self._session = self._opened(), None
        self._embedding.close()
        try:
            await session.close()
        finally:
            session.store.close()

    # Starting runs

    async def run(
        self,
        events: Events | None = None,
        function: FunctionRef | None = None,
        timeout: float | None = None,
    ) -> Run:
        """Send events and wait until the run that they start has ended.

        Args:
            events: One event, or several for a batch function. They are sent through the client,
                so its middleware sees them. None fires the cron of ``function`` now.
            function: Which function's run to wait for, when several are started: its id, its full
                id, or the function itself.
            timeout: Real seconds; then the run ends with status ``TimedOut``.

        Returns:
            The ended run. A failed run is returned, not raised.

        Raises:
            LocalEngineError: The events start no run, or several and ``function`` does not say
                which one is meant.
            TypeError: An argument is none of these.
        """
        session = self._opened()
        check_function(function)
        check_seconds("timeout", timeout)
        if events is None:
            state = session.router.fire_cron(self._chooser(session).cron_function(function))
            session.store.commit()
            session.driver.wake()
        else:
            batch = check_events(events)
            target = self._chooser(session).of_events(batch, function)
            ids = await self._client.send(batch)
            state = await session.started(ids, target, timeout)
        return await session.finished(state, timeout)

    async def send(self, events: Events) -> list[str]:
        """Send events through the client, without waiting for what they start.

        Returns:
            The ids that the engine gave them.
        """
        self._opened()
        batch = check_events(events)
        return await self._client.send(batch)

    async def settle(
        self,
        timeout: float | None = None,
    ) -> None:
        """Wait until nothing is left to do: every run has ended, no batch is open.

        With a virtual clock, sleeps and timeouts are jumped over.

        Args:
            timeout: Real seconds; then the runs that are left end with status ``TimedOut``.
        """
        check_seconds("timeout", timeout)
        await self._opened().settled(timeout)

    async def idle(self) -> None:
        """Wait until nothing can happen without time moving on or another event.

        This is the moment at which a test can look at a run that waits, and send what it waits for.
        Time does not jump.
        """
        driver = self._opened().driver
        await driver.watch(lambda: driver.is_idle)

    def run_sync(
        self,
        events: Events | None = None,
        function: FunctionRef | None = None,
        timeout: float | None = None,
    ) -> Run:
        """`run` for scripts and REPLs: opens the engine, runs, settles, closes.

        Raises:
            LocalEngineError: As `run`; or an event loop is running in this thread, or the engine is
                open: await `run` there.
        """
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            pass
        else:
            raise LocalEngineError("run_sync() inside of an event loop: await engine.run() there")

        async def once() -> Run:
            async with self:
                run = await self.run(events, function, timeout)
                await self.settle(timeout)
                return run

        return asyncio.run(once())

    async def cancel(self, run: Run) -> None:
        """Cancel a run, as ``DELETE /v1/runs/{id}`` does; an ended run stays as it is."""
        session = self._opened()
        state = session.store.runs[run.id]
        if state.is_open:
            session.executor.end(state, "Cancelled", reason="cancelled by the caller")
            session.store.commit()
            session.driver.wake()

    # Looking

    @property
    def runs(self) -> list[Run]:
        """Every run, oldest first, also those of functions that other runs started."""
        return (
            []
            if self._store is None
            else [Run(run, self._settings.opener) for run in self._store.runs.values()]
        )

    @property
    def deferred(self) -> list[Run]:
        """The runs of deferred functions, oldest first; `Run.deferred` lists those of one run."""
        return [run for run in self.runs if run.is_deferred]

    @property
    def events(self) -> list[dict[str, Json]]:
        """Every event received from the app or from outside, oldest first."""
        events = {} if self._store is None else self._store.events
        return [json.loads(received.event) for received in events.values()]

    @property
    def functions(self) -> dict[str, FunctionConfig]:
        """The registered functions by full id; empty before the engine was opened."""
        return dict(self._functions)

    @property
    def clock(self) -> Clock:
        """The engine's clock."""
        return self._settings.clock

    @property
    def transport(self) -> EngineTransport:
        """An httpx transport (sync and async) that ends in this engine's API.

        Raises:
            LocalEngineError: The engine is not open.
        """
        return self._opened().transport

    @property
    def userland_traces(self) -> list[UserlandTraces]:
        """Every accepted ``POST /v1/traces/userland``, raw, oldest first."""
        return list(self._opened().api.traces)

    def subscribe(self, channel: str, topics: Iterable[str] | None = None) -> Subscription:
        """Collect the realtime messages of a channel from now on.

        Args:
            channel: The channel.
            topics: Only these topics; None for all.

        Returns:
            An async iterator over messages; its ``close()`` (or leaving its ``with`` block, or
            closing the engine) ends the iteration.
        """
        self._opened()
        return self._settings.broker.subscribe(channel, topics)

    # Inside

    def _opened(self) -> Session:
        if self._session is None:
            raise LocalEngineError("this LocalEngine is not open: use it with 'async with'")
        return self._session

    def _check_owner(self, store: Store) -> None:
        owner = store.claim_app(self._client.app_id)
        if owner != self._client.app_id:
            raise LocalEngineError(
                f"journal {self._journal}: belongs to app {owner!r}, not to {self._client.app_id!r}"
            )

    def _chooser(self, session: Session) -> Chooser:
        return Chooser(self._client.app_id, self._functions, session.router)
