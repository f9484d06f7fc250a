"""Publishes the events of an agent's run to a realtime topic, as they arrive."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Callable
from typing import Any, Final, Protocol, TypeAlias

from pydantic import TypeAdapter
from pydantic_ai import AgentStreamEvent, RunContext
from pydantic_ai.agent import EventStreamHandler
from pydantic_ai.messages import FinalResultEvent, PartDeltaEvent, PartEndEvent, PartStartEvent
from pydantic_ai.tools import AgentDepsT

from inngest_plugins.core import (
    Call,
    Phase,
    RealtimeConnection,
    RealtimeError,
    RealtimeTopic,
    class_name,
)

from ._errors import AgentConfigError

_logger = logging.getLogger("inngest_plugins.agents")

_EVENT: Final[TypeAdapter[Any]] = TypeAdapter(AgentStreamEvent)

_ANSWER_EVENTS: Final = (PartStartEvent, PartDeltaEvent, PartEndEvent, FinalResultEvent)
"""The events of a model's answer: they are published in the step that asks the model."""

_MESSAGE_BYTES: Final = 256 * 1024
"""About how large a message gets before the next one begins. The engine takes twice as much."""


class PublishTopic(Protocol):
    """A topic of a channel: the core's `RealtimeTopic`, or that of a `Channel` of your own."""

    @property
    def channel(self) -> Any:
        """The channel, or its name."""
        ...

    @property
    def name(self) -> str:
        """The topic's name."""
        ...


Publish: TypeAlias = str | PublishTopic | Callable[[RunContext[Any]], PublishTopic]
"""Where to publish: a topic, a function that returns one, or a name in the run's channel."""


class EventPublisher:
    """Publishes the events of an agent's run.

    A message is a list of events. Events that arrive while a message is on its way go with the next
    one, so the model's answer never waits. A message that cannot be published is logged once for
    each stream, and the run goes on.

    Args:
        publish: where to.
    """

    def __init__(self, publish: Publish) -> None:
        self._publish = publish

    def topic(self, call: Call, ctx: RunContext[Any]) -> RealtimeTopic:
        """Return the topic of a run.

        Raises:
            AgentConfigError: it is not a topic, or payloads are secret and it is not `plaintext`.
        """
        given: Any = self._publish
        if isinstance(given, str):
            given = RealtimeTopic(call.run_id, given)
        elif callable(given):
            given = given(ctx)
        channel, name = getattr(given, "channel", None), getattr(given, "name", None)
        channel = getattr(channel, "name", channel)
        if not isinstance(channel, str) or not isinstance(name, str):
            raise AgentConfigError(
                "InngestDurability(publish=...) takes a topic of a channel, such as "
                f"SupportChannel(user=7).events, and was given {class_name(given)}"
            )
        if call.stack.secret_payloads and not getattr(
            getattr(given, "topic", None), "plaintext", False
        ):
            raise AgentConfigError(
                "InngestDurability(publish=...): this stack keeps payloads secret, and the engine "
                f"and every subscriber of {name!r} would read what the agent says. "
                "Topic(..., plaintext=True) of a Channel allows it"
            )
        return RealtimeTopic(channel, name)

    def handler(self, own: EventStreamHandler[AgentDepsT] | None) -> EventStreamHandler[AgentDepsT]:
        """Return an event handler that publishes the events and passes them to the author's own.

        Args:
            own: the handler of the agent's author.
        """

        async def handle(
            ctx: RunContext[AgentDepsT], events: AsyncIterable[AgentStreamEvent]
        ) -> None:
            call = Call.current()
            if call is None:
                # Outside of a function there is nobody to publish for.
                await _handled(own, ctx, events)
                return
            async with _Outbox(call, self.topic(call, ctx)) as outbox:
                passing = outbox.passing(events)
                await _handled(own, ctx, passing)
                # The author's handler may stop early: read on, so that all events are published.
                async for _ in passing:
                    pass

        return handle

    async def from_body(self, call: Call, ctx: RunContext[Any], event: AgentStreamEvent) -> None:
        """Publish an event of the function's body once, and not on replay."""
        is_replay = call.phase is Phase.REPLAYING or call.target is not None
        if is_replay or isinstance(event, _ANSWER_EVENTS):
            return
        async with _Outbox(call, self.topic(call, ctx)) as outbox:
            outbox.add(event)


async def _handled(
    own: EventStreamHandler[AgentDepsT] | None,
    ctx: RunContext[AgentDepsT],
    events: AsyncIterable[AgentStreamEvent],
) -> None:
    if own is not None:
        await own(ctx, events)


class _Outbox:
    """The events to publish, in order. Closing it waits until all have left."""

    def __init__(self, call: Call, topic: RealtimeTopic) -> None:
        self._connection = RealtimeConnection(call.client)
        self._run_id = call.run_id
        self._topic = topic
        self._waiting: deque[tuple[Any, int]] = deque()
        self._sending: asyncio.Task[None] | None = None
        self._has_failed = False

    async def __aenter__(self) -> _Outbox:
        return self

    async def __aexit__(self, kind: object, error: object, traceback: object) -> None:
        if self._sending is None:
            return
        try:
            if isinstance(error, asyncio.CancelledError):
                # What was cancelled waits for no message.
                self._sending.cancel()
            await self._sending
        except asyncio.CancelledError:
            self._sending.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._sending
            raise

    async def passing(
        self, events: AsyncIterable[AgentStreamEvent]
    ) -> AsyncIterator[AgentStreamEvent]:
        """Pass events on, and publish each."""
        async for event in events:
            self.add(event)
            yield event

    def add(self, event: AgentStreamEvent) -> None:
        """Publish an event, with the next message."""
        data = _EVENT.dump_python(event, mode="json", fallback=class_name)
        self._waiting.append((data, len(json.dumps(data))))
        if self._sending is None or self._sending.done():
            self._sending = asyncio.create_task(self._send())

    async def _send(self) -> None:
        while self._waiting:
            await self._publish(self._next())

    async def _publish(self, events: list[Any]) -> None:
        try:
            await self._connection.publish(*self._topic, events, run_id=self._run_id)
        except RealtimeError as err:
            if not self._has_failed:
                _logger.warning(
                    "subscribers missed events of an agent: %s. Run %s is not affected; further "
                    "failures of this stream are not logged",
                    err,
                    self._run_id,
                )
            self._has_failed = True

    def _next(self) -> list[Any]:
        """Take as many events as fit into a message, at least one."""
        events: list[Any] = []
        size = 0
        while self._waiting and (not events or size + self._waiting[0][1] <= _MESSAGE_BYTES):
            data, length = self._waiting.popleft()
            events.append(data)
            size += length
        return events
