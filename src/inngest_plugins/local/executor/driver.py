"""Starts jobs when they are due, moves time, and knows when nothing is left to do."""

from __future__ import annotations

import asyncio
import typing
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

import anyio

from inngest_plugins.local._clock import Clock
from inngest_plugins.local._foreign_code import ends_the_process
from inngest_plugins.local.functions.config import FunctionConfig
from inngest_plugins.local.journal.journal import JOURNAL_FAILURES
from inngest_plugins.local.journal.queue import Job
from inngest_plugins.local.journal.store import Store

_CALLS = ("edge", "sleep")


class Driver:
    """One task that starts every job in a task of its own.

    Jobs are started by the driver's task only, so they inherit its context and never that of the
    request that happened to cause them: what a plugin sets in one run cannot be seen in another.

    Args:
        store: The state.
        clock: Time.
        work: Does one job.
        give_up: Ends what a job stands for, which cannot go on because of an exception.
        is_open_to_events: Whether an event from outside could still change what a job stands for.
        max_requests: How many jobs that call the app may be in flight.
    """

    def __init__(
        self,
        *,
        store: Store,
        clock: Clock,
        work: Callable[[Job], Awaitable[None]],
        give_up: Callable[[Job, BaseException], None],
        is_open_to_events: Callable[[Job], bool],
        max_requests: int,
    ) -> None:
        self._store = store
        self._clock = clock
        self._work = work
        self._give_up = give_up
        self._max_requests = max_requests
        # Jobs that are due and wait for a request's end, with their version at that time.
        self._ready: deque[tuple[Job, int]] = deque()
        self._cancelled: set[asyncio.Task[None]] = set()
        self._is_stopping = False
        self._is_open_to_events = is_open_to_events
        self._tasks: dict[asyncio.Task[None], Job] = {}
        self._wake = asyncio.Event()
        self._watchers: list[tuple[Callable[[], bool], asyncio.Future[None]]] = []
        self._jump_requests = 0
        self._loop_task: asyncio.Task[None] | None = None
        self._failure: BaseException | None = None

    def start(self) -> None:
        """Begin to work on the queue."""
        self._store.queue.changed = self.wake
        self._loop_task = asyncio.get_running_loop().create_task(self._drive())

    async def stop(self) -> None:
        """Cancel what is in flight and wait until it is gone."""
        self._is_stopping = True
        tasks: list[asyncio.Task[None]] = [*self._tasks]
        if self._loop_task is not None:
            tasks.append(self._loop_task)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for _, future in self._watchers:
            future.cancel()

    def wake(self) -> None:
        """Something changed: look again."""
        self._wake.set()

    def abandon(self, run_id: str) -> None:
        """Cancel what is in flight for a run."""
        for task, job in self._tasks.items():
            if job.run_id == run_id:
                self._cancelled.add(task)
                task.cancel()

    @property
    def is_idle(self) -> bool:
        """Whether nothing can happen without time moving on or an event coming in."""
        if self._is_busy:
            return False
        job = self._store.queue.next_job()
        return job is None or job.due > self._clock.now()

    @property
    def is_settled(self) -> bool:
        """Whether nothing is left to do at all."""
        return not self._store.queue and not any(
            self._is_wanted(job) for job in self._tasks.values()
        )

    @contextmanager
    def jumping(self) -> Iterator[None]:
        """Let a clock that can jump do so for as long as somebody waits for results."""
        self._jump_requests += 1
        self.wake()
        try:
            yield
        finally:
            self._jump_requests -= 1

    async def watch(self, condition: Callable[[], bool]) -> None:
        """Wait until a condition on the state holds.

        Raises:
            BaseException: What broke the engine, if something did.
        """
        if self._failure is not None:
            raise self._failure
        if condition():
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        entry = (condition, future)
        self._watchers.append(entry)
        self.wake()
        try:
            await future
        finally:
            if entry in self._watchers:
                self._watchers.remove(entry)

    @property
    def _is_busy(self) -> bool:
        return any(self._is_wanted(job) for job in self._tasks.values()) or any(
            job.version == version for job, version in self._ready
        )

    def _is_wanted(self, job: Job) -> bool:
        # A request whose run has ended goes on in the app, but nobody waits for it.
        run = self._store.runs.get(job.run_id)
        return run is None or run.is_open

    async def _drive(self) -> None:
        while True:
            try:
                await self._turn()
            except asyncio.CancelledError:  # noqa: PERF203 - the loop's own end
                # Code of a function that cancels every task it finds does not stop the engine.
                if self._is_stopping:
                    raise
                _uncancel()
            except BaseException as error:
                self._break(error)
                return

    async def _turn(self) -> None:
        self._wake.clear()
        self._start_due()
        self._notify()
        await self._rest()

    def _start_due(self) -> None:
        now = self._clock.now()
        while (job := self._store.queue.pop_due(now)) is not None:
            if job.kind in _CALLS:
                self._ready.append((job, job.version))
            else:
                self._start(job)
        if not self._ready:
            return
        # A request whose run has ended goes on in the app, but holds no place.
        in_flight = sum(job.kind in _CALLS and self._is_wanted(job) for job in self._tasks.values())
        while self._ready and in_flight < self._max_requests:
            job, version = self._ready.popleft()
            if job.version == version:
                self._start(job)
                in_flight += 1

    def _start(self, job: Job) -> None:
        task: asyncio.Task[None] = asyncio.get_running_loop().create_task(self._do(job))
        self._tasks[task] = job
        task.add_done_callback(self._done)

    async def _do(self, job: Job) -> None:
        try:
            await self._work(job)
        except JOURNAL_FAILURES:
            # Nothing that happens from now on would survive.
            raise
        except BaseException as error:
            task = asyncio.current_task()
            is_ours = self._is_stopping or task in self._cancelled
            if isinstance(error, asyncio.CancelledError) and is_ours:
                raise
            if ends_the_process(error):
                if not self._watchers:
                    raise
                # Raised where somebody waits, who can close the engine. From a task it could stop
                # the event loop at once.
                self._break(error)
                return
            _uncancel()
            self._give_up(job, error)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.pop(task, None)
        self._cancelled.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._break(error)
        self.wake()

    def _break(self, error: BaseException) -> None:
        """The engine itself failed (not a run): raise the error in everybody who waits."""
        self._failure = self._failure or error
        for _, future in self._watchers:
            if not future.done():
                future.set_exception(error)

    def _notify(self) -> None:
        for condition, future in self._watchers:
            if not future.done() and condition():
                future.set_result(None)

    async def _rest(self) -> None:
        """Wait for work, for time to pass, or make it pass."""
        job = self._store.queue.next_job()
        if job is None:
            await self._wake.wait()
            return
        if not self._is_busy and self._clock.jumps and self._jump_requests:
            patience = self._clock.patience if self._is_open_to_events(job) else 0.0
            # Whoever was just given a result acts on it before time moves on.
            if not await self._woken_within(patience) and self._jump_requests:
                self._clock.jump_to(job.due)
            return
        await self._woken_within(max(job.due - self._clock.now(), 0.0))

    async def _woken_within(self, seconds: float) -> bool:
        if seconds <= 0:
            await asyncio.sleep(0)
            return self._wake.is_set()
        # Not asyncio.wait_for: before Python 3.12 it loses a cancellation that arrives with
        # what it waits for, and the engine would never close.
        with anyio.move_on_after(seconds):
            await self._wake.wait()
        return self._wake.is_set()


def is_open_to_events(store: Store, job: Job, functions: dict[str, FunctionConfig]) -> bool:
    """Whether an event from outside could still change what the job stands for."""
    if job.kind in ("wait", "batch"):
        return True
    run = store.runs.get(job.run_id)
    function = functions.get(run.function_id) if run else None
    return function is not None and bool(function.cancellations)


def _uncancel() -> None:
    """Forget that the running task was cancelled (Python 3.10 does not remember it)."""
    task: typing.Any = asyncio.current_task()
    if task is not None and hasattr(task, "uncancel"):
        while task.cancelling():
            task.uncancel()
