"""Everything that exists only while an engine is open."""

from __future__ import annotations

import asyncio
import contextvars
import dataclasses
import logging
import typing
from collections.abc import Callable
from contextlib import ExitStack

import anyio
import inngest

from ._clock import Clock
from ._errors import LocalEngineError
from .executor.driver import Driver, is_open_to_events
from .executor.events import Router
from .executor.executor import Executor
from .functions.config import FunctionConfig, parse_registration
from .journal.queue import Job
from .journal.records import Json
from .journal.state import RequestState, RunState
from .journal.store import Store
from .report.opener import Opener
from .report.run import Run
from .server.api import Api
from .server.app import App
from .server.http import ApiRequest, ApiResponse
from .server.realtime import Broker
from .server.runs import RunsApi
from .server.transport import EngineTransport, redirected
from .steps.gateway import GatewayTransport
from .steps.inference import Infer
from .wire.ids import UlidFactory
from .wire.protocol import RawAnswer, unwrap

Serve = Callable[[inngest.Inngest, list[inngest.Function[typing.Any]]], typing.Any]

_logger = logging.getLogger("inngest_plugins.local")
_current_run: contextvars.ContextVar[str | None] = contextvars.ContextVar(
    "inngest_plugins.local.current_run", default=None
)


@dataclasses.dataclass(frozen=True)
class Settings:
    """The settings of an engine, and what it keeps between sessions. See `LocalEngine`."""

    client: inngest.Inngest
    functions: list[inngest.Function[typing.Any]]
    clock: Clock
    serve: Serve
    path: str
    infer: Infer | None
    gateway: GatewayTransport | None
    request_timeout: float
    max_requests: int
    retry_interval: float | None
    new_ulid: UlidFactory
    broker: Broker
    opener: Opener


class Session:
    """Everything that exists only while the engine is open."""

    def __init__(self, settings: Settings, store: Store) -> None:
        self._settings = settings
        self._client = settings.client
        self._clock = settings.clock
        self.functions: dict[str, FunctionConfig] = {}
        self._exits = ExitStack()
        self.store = store
        self.router = Router(
            functions=self.functions,
            store=store,
            clock=self._clock,
            new_id=self.new_id,
            run_started=self.run_started,
        )
        self.executor = Executor(
            app_id=self._client.app_id,
            functions=self.functions,
            store=store,
            clock=self._clock,
            call_app=self._call_app,
            hub=self,
            infer=settings.infer,
            gateway=settings.gateway,
            retry_interval=settings.retry_interval,
        )
        self.router.bind(self.executor)
        self.driver = Driver(
            store=store,
            clock=self._clock,
            work=self._work,
            give_up=self._give_up,
            max_requests=settings.max_requests,
            is_open_to_events=lambda job: is_open_to_events(store, job, self.functions),
        )
        self.api = Api(
            app_id=self._client.app_id,
            store=store,
            clock=self._clock,
            router=self.router,
            executor=self.executor,
            broker=settings.broker,
            runs=RunsApi(
                app_id=self._client.app_id,
                functions=self.functions,
                store=store,
                clock=self._clock,
                router=self.router,
                executor=self.executor,
            ),
            register=self._register,
            sender=self._sender,
        )
        self.transport = EngineTransport(self._handle, asyncio.get_running_loop())
        self._in_flight: dict[str, None] = {}

    async def open(self) -> None:
        """Redirect the client, learn the functions, begin to work."""
        with ExitStack() as exits:
            exits.callback(self.transport.shut)
            exits.enter_context(redirected(self._client, self.transport))
            app = self._settings.serve(self._client, self._settings.functions)
            self._app = App(app, self._settings.path)
            await self._sync()
            self._exits = exits.pop_all()
        # What the last session was working on when it closed has to be done again.
        self.store.queue.put_all_again()
        self.driver.start()

    async def close(self) -> None:
        """Stop working and give the client back."""
        try:
            # Also where whoever closes is being cancelled: what is in flight uses the client.
            with anyio.CancelScope(shield=True):
                await self.driver.stop()
        finally:
            self._settings.broker.close()
            self._exits.close()

    async def started(self, ids: list[str], function_id: str, within: float | None) -> RunState:
        """Wait for the run of a function that the received events start (batches take time)."""
        received = [self.store.events[event_id] for event_id in ids]

        def run() -> RunState | None:
            runs = (self.store.runs[run_id] for event in received for run_id in event.runs)
            return next((run for run in runs if run.function_id == function_id), None)

        state = run()
        if state is None:
            batches = self.store.batches.values()
            if not any(set(ids) & set(b.received) for b in batches if b.function_id == function_id):
                raise LocalEngineError(
                    f"the event started no run of {function_id!r}: its id or idempotency key was "
                    "used before, or middleware changed the event"
                )
            with self.driver.jumping(), anyio.move_on_after(within):
                await self.driver.watch(lambda: run() is not None)
            state = run()
            if state is None:
                raise LocalEngineError(f"the batch of {function_id!r} was not closed in {within} s")
        return state

    async def finished(self, state: RunState, within: float | None) -> Run:
        """Wait for a run's end, or end it."""
        with self.driver.jumping(), anyio.move_on_after(within):
            await self.driver.watch(lambda: not state.is_open)
        self._time_out([state], within)
        return Run(state, self._settings.opener)

    async def settled(self, within: float | None) -> None:
        """Wait until nothing is left, or end what is left."""
        with self.driver.jumping(), anyio.move_on_after(within):
            await self.driver.watch(lambda: self.driver.is_settled)
        self._time_out(list(self.store.runs.values()), within)

    def _time_out(self, runs: list[RunState], within: float | None) -> None:
        for run in runs:
            if run.is_open and within is not None:
                self.executor.end(run, "TimedOut", reason=f"did not end within {within:g} s")
                self.driver.abandon(run.id)
        self.store.commit()
        self.driver.wake()

    # What the executor asks of us

    def claim_events(self, run: RunState, ids: Json, since: float) -> None:
        """The run's step returned these ids: events among them that nobody sent are the run's."""
        self.router.claim(run, ids, since)

    def new_id(self) -> str:
        """A fresh ULID."""
        return self._settings.new_ulid(self._clock.now())

    def publish(self, event: dict[str, Json], *, trace_id: str) -> None:
        """Let an engine's own event start functions and resume waits."""
        self.router.publish(event, trace_id=trace_id)

    def start_deferred(self, event: dict[str, Json], *, parent: RunState) -> list[str]:
        """Start what an ended run deferred; returns the ids of the runs."""
        return self.router.start_deferred(event, parent=parent)

    def start_invoked(
        self, function: FunctionConfig, event: dict[str, Json], *, parent: RunState, step: str
    ) -> None:
        """Start the run that an invoke step asks for."""
        self.router.start_invoked(function, event, parent=parent, step=step)

    def run_started(self, run: RunState) -> None:
        """There is a new run."""
        self.driver.wake()

    def run_ended(self, run: RunState) -> None:
        """A run has reached its final status."""
        self.driver.wake()

    # Inside

    async def _work(self, job: Job) -> None:
        if job.kind == "batch":
            self.router.close_batch(job.step)
            self.store.commit()
        else:
            await self.executor.work(job)

    def _give_up(self, job: Job, error: BaseException) -> None:
        run = self.store.runs.get(job.run_id)
        if run is not None:
            self.executor.give_up(run, error)
            return
        _logger.error("batch %s cannot start its run", job.step, exc_info=error)
        batch = self.store.batches.get(job.step)
        if batch is not None:
            self.store.remove_batch(batch)
        self.store.remove_job(job)
        self.store.commit()

    async def _call_app(self, run: RunState, request: RequestState) -> RawAnswer:
        query = {"fnId": request.fn_id, "stepId": request.step_id}
        token = _current_run.set(run.id)
        self._in_flight[run.id] = None
        limit = self._settings.request_timeout
        try:
            with anyio.fail_after(limit):
                status, headers, body, crash = await self._app.request(
                    "POST", query, request.request_headers, request.request_bytes
                )
        except TimeoutError:
            return RawAnswer(0, {}, b"", f"The app did not answer within {limit:g} s.")
        except Exception as error:
            _logger.exception("run %s: the app could not be called", run.id)
            return RawAnswer(0, {}, b"", f"The app could not be called: {type(error).__name__}")
        finally:
            self._in_flight.pop(run.id, None)
            _current_run.reset(token)
        raw = unwrap(status, headers, body)
        if not crash:
            return raw
        if self._settings.opener.is_secret(run.function_id):
            # The text may quote a payload. It belongs neither into the journal, as the run's
            # reason, nor to what collects logs.
            crash = f"{crash.partition(':')[0]} (logging at level DEBUG shows its text)"
        # No error: the app's own plugins report it, and this process's log may be theirs too.
        _logger.warning("run %s: the app raised outside of its functions: %s", run.id, crash)
        return dataclasses.replace(raw, crash=crash)

    def _handle(self, request: ApiRequest) -> ApiResponse:
        response = self.api.handle(request)
        self.driver.wake()
        return response

    def _sender(self, request: ApiRequest) -> RunState | None:
        run_id = _current_run.get()
        if run_id is None and request.from_thread and len(self._in_flight) == 1:
            # The SDK's worker threads do not carry the context, but only one run is active.
            run_id = next(iter(self._in_flight))
        return None if run_id is None else self.store.runs.get(run_id)

    def _register(self, body: dict[str, Json]) -> None:
        self.functions.clear()
        self.functions.update(parse_registration(body))

    async def _sync(self) -> None:
        """Let the app register its functions, as the server would."""
        self.functions.clear()
        status, _, body, crash = await self._app.request(
            "PUT", {}, {"content-type": "application/json"}, b"{}"
        )
        if status != 200 or not self.functions:
            why = f"HTTP {status}: {body.decode('utf-8', 'replace')[:500]}"
            if status == 404:
                why += f" (nothing is served at {self._settings.path!r}: see serve_path=)"
            if crash:
                why = f"it raised {crash} (logging at level DEBUG shows where)"
            raise LocalEngineError(f"the app did not register its functions: {why}")
        for function in self.functions.values():
            if function.ignored:
                _logger.warning(
                    "function %s: LocalEngine does not apply %s",
                    function.id,
                    ", ".join(function.ignored),
                )
