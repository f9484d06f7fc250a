"""Realtime: what the app publishes to channels and topics, for subscribers in this process."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Iterable

from ._run import Json


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
    """Hands messages to the subscriptions that want them; a message nobody wants is gone."""

    def __init__(self) -> None:
        self._subscriptions: set[Subscription] = set()

    def publish(self, message: RealtimeMessage) -> None:
        """Deliver a message."""
        for subscription in self._subscriptions:
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
    """

    def __init__(self, channel: str, topics: frozenset[str] | None, broker: Broker) -> None:
        self._channel = channel
        self._topics = topics
        self._broker = broker
        self._messages: asyncio.Queue[RealtimeMessage | None] = asyncio.Queue()
        self._closed = False

    def offer(self, message: RealtimeMessage) -> None:
        """Collect the message if it is for this subscription."""
        wanted = self._topics is None or message.topic in self._topics
        if wanted and message.channel == self._channel:
            self._messages.put_nowait(message)

    def close(self) -> None:
        """Collect no more; iteration ends after what is there."""
        if not self._closed:
            self._closed = True
            self._broker.unsubscribe(self)
            self._messages.put_nowait(None)

    def __enter__(self) -> Subscription:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __aiter__(self) -> Subscription:
        return self

    async def __anext__(self) -> RealtimeMessage:
        message = await self._messages.get()
        if message is None:
            self._messages.put_nowait(None)
            raise StopAsyncIteration
        return message
