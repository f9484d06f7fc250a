"""One subscription, whatever happens to its connections.

All that happens goes through one queue: messages, connections that open or break, timers, the end
of the run. `Subscription` takes one event after the other and decides, so there is one place where
a connection is replaced:

- It *breaks*: a new one is opened with a new token, after a wait that grows. When it is open,
  for all topics, a `MissedMessages` is yielded.
- Its token *is about to expire*, or the server says that it is closing: a new one is opened with a
  new token while the old one still delivers. Both overlap for a moment, and what came over both is
  yielded once. Nothing is missed.
"""

from __future__ import annotations

import asyncio
import dataclasses
import time
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager
from typing import TypeAlias

from .errors import ConnectionLostError, RealtimeError
from .messages import (
    MissedMessages,
    RealtimeEvent,
    RealtimeMessage,
    RealtimeTopic,
    RunEnded,
)
from .runs import RunStatus
from .tokens import describe


@dataclasses.dataclass(frozen=True, slots=True)
class RealtimeTiming:
    """How a subscription looks after its connection, in seconds.

    Attributes:
        reconnect: waits before each try to connect again; after the last one it gives up.
        renew_before: how long before a token's expiry a new connection is opened, at most a fifth
            of the token's lifetime.
        overlap: how long the old connection is read together with the new one.
        run_poll: between two questions to the engine whether the run has ended.
        drain: how long messages are still awaited once the run has ended.
    """

    reconnect: tuple[float, ...] = (0.1, 0.5, 1.0, 2.0, 5.0)
    renew_before: float = 10.0
    overlap: float = 1.0
    run_poll: float = 2.0
    drain: float = 0.3

    def renew_after(self, lifetime: float | None) -> float | None:
        """Return when to renew a connection whose token lasts so long; None for never."""
        if lifetime is None:
            return None
        return lifetime - min(self.renew_before, lifetime / 5)


@dataclasses.dataclass(frozen=True, slots=True)
class OpenConnection:
    """A connection that has just been opened.

    Attributes:
        messages: what comes over it, each with a text by which the same message is known again
            on another connection. `"closing"` announces that it will be closed.
        lifetime: seconds that its token lasts, or None.
        only: whether it is the only one there will be: its end is the subscription's.
    """

    messages: AsyncIterator[tuple[str, RealtimeMessage | str]]
    lifetime: float | None = None
    only: bool = False


Connect: TypeAlias = Callable[[], AbstractAsyncContextManager[OpenConnection]]
"""Opens a connection."""


@dataclasses.dataclass(eq=False, slots=True)
class _Link:
    """A connection, from the attempt to open it on."""

    opened: bool = False
    last_seen: float = 0.0


@dataclasses.dataclass(frozen=True, slots=True)
class _Opened:
    link: _Link
    lifetime: float | None


@dataclasses.dataclass(frozen=True, slots=True)
class _Received:
    link: _Link
    text: str
    message: RealtimeMessage


@dataclasses.dataclass(frozen=True, slots=True)
class _Renew:
    link: _Link


@dataclasses.dataclass(frozen=True, slots=True)
class _Over:
    link: _Link
    reason: str
    only: bool = False


@dataclasses.dataclass(frozen=True, slots=True)
class _Reconnect:
    pass


@dataclasses.dataclass(frozen=True, slots=True)
class _Failed:
    error: Exception


_Event: TypeAlias = _Opened | _Received | _Renew | _Over | _Reconnect | _Failed | RunEnded


class Subscription:
    """Yields what is published to some topics.

    Args:
        topics: which ones.
        connect: opens a connection.
        timing: see `RealtimeTiming`.
        run_id: the run to end with; None to go on for ever.
        status: knows whether that run has ended.
    """

    def __init__(
        self,
        topics: Sequence[RealtimeTopic],
        connect: Connect,
        timing: RealtimeTiming,
        *,
        run_id: str | None,
        status: RunStatus,
    ) -> None:
        self._topics = tuple(topics)
        self._connect = connect
        self._timing = timing
        self._run_id = run_id
        self._status = status
        self._queue: asyncio.Queue[_Event] = asyncio.Queue()
        self._tasks: dict[_Link | None, asyncio.Task[None]] = {}
        self._timers: list[asyncio.TimerHandle] = []
        self._current: _Link | None = None
        self._next: _Link | None = None
        # What came over the old connection since the new one is open, and the new one's part.
        self._seen: Counter[str] = Counter()
        self._held: list[_Received] = []
        self._failures = 0
        self._gap_since: float | None = None
        self._got_messages = False
        self._over = False

    async def events(self) -> AsyncGenerator[RealtimeEvent, None]:
        """Yield messages until the run or the source ends, or for ever.

        Raises:
            RealtimeError: the engine refused, or stayed away for all of `timing.reconnect`.
        """
        try:
            self._open_next()
            while not self._over:
                for event in self._handle(await self._queue.get()):
                    yield event
        finally:
            for timer in self._timers:
                timer.cancel()
            for task in self._tasks.values():
                task.cancel()
            await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    def _handle(self, event: _Event) -> Iterator[RealtimeEvent]:
        if isinstance(event, _Received):
            yield from self._received(event)
        elif isinstance(event, _Opened):
            yield from self._opened(event)
        elif isinstance(event, _Over):
            yield from self._lost(event)
        elif isinstance(event, RunEnded):
            self._over = True
            yield event
        elif isinstance(event, _Failed):
            raise event.error
        elif isinstance(event, _Reconnect) or event.link is self._current:
            self._open_next()

    def _received(self, event: _Received) -> Iterator[RealtimeMessage]:
        self._failures = 0
        if event.link is self._next:
            self._held.append(event)
        elif event.link is self._current:
            if self._next is not None and self._next.opened:
                self._seen[event.text] += 1
            elif self._seen[event.text] > 0:
                self._seen[event.text] -= 1
                return
            event.link.last_seen = time.time()
            self._got_messages = True
            yield event.message

    def _opened(self, event: _Opened) -> Iterator[RealtimeEvent]:
        link = event.link
        link.opened, link.last_seen = True, time.time()
        after = self._timing.renew_after(event.lifetime)
        if after is not None:
            self._later(after, _Renew(link))
        if self._current is None:
            self._current, self._next = link, None
            if self._gap_since is not None:
                yield MissedMessages(self._topics, self._gap_since, link.last_seen)
                self._gap_since = None
        else:
            self._seen.clear()
            self._later(self._timing.overlap, _Over(self._current, "renewed"))
        if self._run_id is not None and None not in self._tasks:
            self._tasks[None] = asyncio.create_task(self._watch_run(self._run_id))

    def _lost(self, event: _Over) -> Iterator[RealtimeEvent]:
        task = self._tasks.pop(event.link, None)
        if task is None:
            return  # a timer's word on a connection that broke before
        task.cancel()
        if event.only:
            self._over = True
        elif event.link is self._current and self._next is not None and self._next.opened:
            self._current, self._next = self._next, None
            held, self._held = self._held, []
            for received in held:
                yield from self._received(received)
        else:
            if event.link is self._current:
                self._current, self._gap_since = None, event.link.last_seen
            else:
                self._next = None
                self._held.clear()
            if self._next is None:
                self._try_again(event.reason)

    def _try_again(self, reason: str) -> None:
        waits = self._timing.reconnect
        if self._failures < len(waits):
            wait = waits[self._failures]
        elif self._current is None:
            raise RealtimeError(f"the subscription to {describe(self._topics)} was lost: {reason}")
        else:
            wait = waits[-1] if waits else self._timing.renew_before
        self._later(wait, _Reconnect())
        self._failures += 1

    def _later(self, seconds: float, event: _Event) -> None:
        loop = asyncio.get_running_loop()
        self._timers = [timer for timer in self._timers if timer.when() > loop.time()]
        self._timers.append(loop.call_later(seconds, self._queue.put_nowait, event))

    def _open_next(self) -> None:
        if self._next is None:
            self._next = _Link()
            self._tasks[self._next] = asyncio.create_task(self._read(self._next))

    async def _read(self, link: _Link) -> None:
        put = self._queue.put_nowait
        try:
            async with self._connect() as connection:
                put(_Opened(link, connection.lifetime))
                async for text, message in connection.messages:
                    put(
                        _Renew(link) if isinstance(message, str) else _Received(link, text, message)
                    )
            put(_Over(link, "the engine closed it", connection.only))
        except ConnectionLostError as err:
            put(_Over(link, str(err)))
        except Exception as err:
            put(_Failed(err))

    async def _watch_run(self, run_id: str) -> None:
        # Begins when the subscription is open: a run that ends later publishes to it, so nothing
        # is lost between the question and the answer.
        first = True
        while (status := await self._status(run_id)) is None:
            first = False
            await asyncio.sleep(self._timing.run_poll)
        before = first and not self._got_messages
        await asyncio.sleep(self._timing.drain)
        self._queue.put_nowait(RunEnded(status, before))
