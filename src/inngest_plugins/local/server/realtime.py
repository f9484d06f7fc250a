"""Realtime: what the app publishes to channels and topics, for subscribers in this process."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import threading
from collections import deque
from collections.abc import Iterable

from inngest_plugins.local.journal.records import Json


@dataclasses.dataclass(frozen=True)
class RealtimeMessage:
    """One published message.

    Attributes:
        channel: Where it was published.
        topic: Under which topic.
        data: The decoded JSON.
        published_at: Seconds since the epoch.
    """

    channel: str
    topic: str
    data: Json
    published_at: float


class Broker:
    """Delivers messages to their subscriptions; a message without one is dropped."""

    def __init__(self) -> None:
        self._subscriptions: set[Subscription] = set()

    def publish(self, message: RealtimeMessage) -> None:
        """Deliver a message."""
        for subscription in list(self._subscriptions):
            subscription.offer(message)

    def subscribe(self, channel: str, topics: Iterable[str] | None) -> Subscription:
        """Start collecting messages of a channel at once."""
        subscription = Subscription(channel, None if topics is None else frozenset(topics), self)
        self._subscriptions.add(subscription)
        return subscription

    def unsubscribe(self, subscription: Subscription) -> None:
        """Stop collecting."""
        self._subscriptions.discard(subscription)

    def close(self) -> None:
        """End every subscription: their iteration stops after what was already collected."""
        for subscription in list(self._subscriptions):
            subscription.close()


class Subscription:
    """An async iterator over messages, which also counts as its own context manager.

    Messages are collected from the moment of `LocalEngine.subscribe`, not of the first ``await``.
    They may be awaited on another event loop than the engine's.
    """

    def __init__(self, channel: str, topics: frozenset[str] | None, broker: Broker) -> None:
        self._channel = channel
        self._topics = topics
        self._broker = broker
        self._messages: deque[RealtimeMessage] = deque()
        self._waiting: list[tuple[asyncio.AbstractEventLoop, asyncio.Future[None]]] = []
        self._lock = threading.Lock()
        self._closed = False

    def offer(self, message: RealtimeMessage) -> None:
        """Collect the message if it is for this subscription."""
        wanted = self._topics is None or message.topic in self._topics
        if wanted and message.channel == self._channel:
            with self._lock:
                self._messages.append(message)
                self._wake()

    def close(self) -> None:
        """Collect no more; iteration ends after what is there."""
        self._broker.unsubscribe(self)
        with self._lock:
            self._closed = True
            self._wake()

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting, []
        for loop, future in waiting:
            # The loop of a subscriber that is gone may be closed.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(_finish, future)

    def __enter__(self) -> Subscription:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __aiter__(self) -> Subscription:
        return self

    async def __anext__(self) -> RealtimeMessage:
        loop = asyncio.get_running_loop()
        while True:
            with self._lock:
                if self._messages:
                    return self._messages.popleft()
                if self._closed:
                    raise StopAsyncIteration
                future: asyncio.Future[None] = loop.create_future()
                self._waiting.append((loop, future))
            await future


def _finish(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
