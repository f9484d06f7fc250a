"""Starts jobs when they are due, moves time, and knows when nothing is left to do."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

import anyio

from ._clock import Clock
from ._queue import Job
from ._store import Store


class Driver:
    """One task that starts every job in a task of its own.

    Jobs are started by the driver's task only, so they inherit its context and never that of the
    request that happened to cause them: what a plugin sets in one run cannot be seen in another.

    Args:
        store: The state.
        clock: Time.
        work: Does one job.
        is_open_to_events: Whether an event from outside could still change what a job stands for.
    """

    def __init__(
        self,
        *,
        store: Store,
        clock: Clock,
        work: Callable[[Job], Awaitable[None]],
        is_open_to_events: Callable[[Job], bool],
    ) -> None:
        self._store = store
        self._clock = clock
        self._work = work
        self._is_open_to_events = is_open_to_events
        self._tasks: dict[asyncio.Task[None], Job] = {}
        self._wake = asyncio.Event()
        self._watchers: list[tuple[Callable[[], bool], asyncio.Future[None]]] = []
        self._jump_requests = 0
        self._loop_task: asyncio.Task[None] | None = None
        self._failure: BaseException | None = None

    def start(self) -> None:
        """Begin to work on the queue."""
        self._loop_task = asyncio.get_running_loop().create_task(self._drive())

    async def stop(self) -> None:
        """Cancel what is in flight and wait until it is gone."""
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
                task.cancel()

    @property
    def is_idle(self) -> bool:
        """Whether nothing can happen without time moving on or an event coming in."""
        if any(self._is_wanted(job) for job in self._tasks.values()):
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

    def _is_wanted(self, job: Job) -> bool:
        # A request whose run has ended goes on in the app, but nobody waits for it.
        run = self._store.runs.get(job.run_id)
        return run is None or run.is_open

    async def _drive(self) -> None:
        try:
            while True:
                self._wake.clear()
                self._start_due()
                self._notify()
                await self._rest()
        except asyncio.CancelledError:
            raise
        except BaseException as error:
            self._break(error)

    def _start_due(self) -> None:
        now = self._clock.now()
        create_task = asyncio.get_running_loop().create_task
        while (job := self._store.queue.pop_due(now)) is not None:
            task: asyncio.Task[None] = create_task(self._do(job))
            self._tasks[task] = job
            task.add_done_callback(self._done)

    async def _do(self, job: Job) -> None:
        await self._work(job)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.pop(task, None)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._break(error)
        self.wake()

    def _break(self, error: BaseException) -> None:
        """The engine itself failed (not a run): tell everybody who waits."""
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
        busy = any(self._is_wanted(job) for job in self._tasks.values())
        if not busy and self._clock.jumps and self._jump_requests:
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
        # Not asyncio.wait_for: before Python 3.12 it loses a cancellation that comes together with
        # what it waits for, and the engine would never close.
        with anyio.move_on_after(seconds):
            await self._wake.wait()
        return self._wake.is_set()
