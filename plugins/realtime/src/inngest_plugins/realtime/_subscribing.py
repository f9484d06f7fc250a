"""`subscribe`: typed messages of channels, over the core's realtime connection."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeAlias, TypedDict, TypeVar, overload

import inngest
from typing_extensions import Required, Unpack

from inngest_plugins.core import (
    MessageSource,
    MissedMessages,
    RealtimeConnection,
    RealtimeEvent,
    RealtimeMessage,
    RealtimeTiming,
    RealtimeTopic,
    TypedJsonError,
    check_function,
    embedded_engine,
)

from ._channels import ChannelTopic
from ._errors import MessageTypeError, PublishContextError

T = TypeVar("T")

_logger = logging.getLogger("inngest_plugins.realtime")

OnInvalid: TypeAlias = Literal["raise", "skip"]


@dataclass(frozen=True, slots=True)
class Message(Generic[T]):
    """One message.

    Attributes:
        data: of the topic's type.
        topic: where it was published.
        published_at: seconds since the epoch, by the engine's clock; None if it did not say.
        missed: where the connection was away since the message before: from when until when
            messages may be missing. None otherwise.
    """

    data: T
    topic: ChannelTopic[T]
    published_at: float | None
    missed: MissedMessages | None = None


class Options(TypedDict, total=False):
    """The options of `subscribe` and `subscribe_sync`."""

    client: Required[inngest.Inngest]
    run_id: str | None
    source: MessageSource | None
    on_missed: Callable[[MissedMessages], object] | None
    on_invalid: OnInvalid
    timing: RealtimeTiming | None


@overload
def subscribe(
    *topics: ChannelTopic[T], **options: Unpack[Options]
) -> AsyncGenerator[Message[T], None]: ...
@overload
def subscribe(
    *topics: ChannelTopic[Any], **options: Unpack[Options]
) -> AsyncGenerator[Message[Any], None]: ...
def subscribe(
    *topics: ChannelTopic[Any],
    client: inngest.Inngest,
    run_id: str | None = None,
    source: MessageSource | None = None,
    on_missed: Callable[[MissedMessages], object] | None = None,
    on_invalid: OnInvalid = "raise",
    timing: RealtimeTiming | None = None,
) -> AsyncGenerator[Message[Any], None]:
    """Listen to topics, of one channel or of several.

    Messages come once and in order, from the moment of the subscription on. The connection is
    renewed before its token expires, and opened again when it breaks. Leave the loop, or close
    the generator, to end the subscription.

    Args:
        *topics: topics of channels, such as `OrderChannel(order_id=42).progress`.
        client: whose engine.
        run_id: the run to end with. One that has ended already ends the subscription at once.
        source: a `LocalEngine` in this process; None to find the one that drives the client, if
            one does.
        on_missed: called when the connection is back after a break; the next message has the same
            in `message.missed`.
        on_invalid: what becomes of a message that does not fit its topic's type: "raise", or
            "skip" with a log line.
        timing: when the connection is renewed and retried.

    Yields:
        Messages.

    Raises:
        MessageTypeError: a message does not fit; names topic and place, and never the value.
        PublishContextError: a topic is none, or `on_invalid` or `on_missed` cannot be used.
        RealtimeError: the engine refused, or stayed away; `client`, `run_id` or `source` is none.
    """
    if not topics or not all(isinstance(topic, ChannelTopic) for topic in topics):
        raise PublishContextError(
            "subscribe(...) takes topics of channels, as in OrderChannel(order_id=42).progress"
        )
    if on_invalid not in ("raise", "skip"):
        raise PublishContextError('subscribe(on_invalid=...) is "raise" or "skip"')
    if on_missed is not None:
        check_function("subscribe(on_missed=...)", on_missed, error=PublishContextError)
    by_name: dict[RealtimeTopic, ChannelTopic[Any]] = {
        RealtimeTopic(topic.channel.name, topic.name): topic for topic in topics
    }
    connection = RealtimeConnection(client, timing=timing)
    events = connection.subscribe(
        by_name, run_id=run_id, source=embedded_engine(client) if source is None else source
    )
    return _typed(events, by_name, on_missed, skips=on_invalid == "skip")


@overload
def subscribe_sync(
    *topics: ChannelTopic[T], **options: Unpack[Options]
) -> Generator[Message[T], None, None]: ...
@overload
def subscribe_sync(
    *topics: ChannelTopic[Any], **options: Unpack[Options]
) -> Generator[Message[Any], None, None]: ...
def subscribe_sync(
    *topics: ChannelTopic[Any],
    client: inngest.Inngest,
    run_id: str | None = None,
    source: MessageSource | None = None,
    on_missed: Callable[[MissedMessages], object] | None = None,
    on_invalid: OnInvalid = "raise",
    timing: RealtimeTiming | None = None,
) -> Generator[Message[Any], None, None]:
    """Listen to topics from sync code; see `subscribe`.

    The connection lives in a thread of its own, from the request for the first message until
    the generator is closed or left.
    """
    messages = subscribe(
        *topics,
        client=client,
        run_id=run_id,
        source=source,
        on_missed=on_missed,
        on_invalid=on_invalid,
        timing=timing,
    )
    return _in_thread(messages)


def _in_thread(messages: AsyncGenerator[Message[T], None]) -> Generator[Message[T], None, None]:
    # Imported on first use: many programs never need it (see benchmarks/startup.py).
    from anyio.from_thread import start_blocking_portal

    with start_blocking_portal() as portal:
        try:
            while (message := portal.call(anext, messages, None)) is not None:
                yield message
        except GeneratorExit:
            # Only where the loop was left: what interrupts the wait for a message, as Ctrl-C does,
            # cancels it with the portal. A subscription that is running cannot be closed.
            portal.call(messages.aclose)
            raise


async def _typed(
    events: AsyncGenerator[RealtimeEvent, None],
    by_name: dict[RealtimeTopic, ChannelTopic[Any]],
    on_missed: Callable[[MissedMessages], object] | None,
    *,
    skips: bool,
) -> AsyncGenerator[Message[Any], None]:
    missed: MissedMessages | None = None
    async with aclosing(events):
        async for event in events:
            if isinstance(event, MissedMessages):
                missed = event
                if on_missed is not None:
                    on_missed(event)
            elif isinstance(event, RealtimeMessage):
                message = _read(event, by_name[event.topic], missed, skips=skips)
                if message is not None:
                    missed = None
                    yield message


def _read(
    event: RealtimeMessage, topic: ChannelTopic[Any], missed: MissedMessages | None, *, skips: bool
) -> Message[Any] | None:
    try:
        data = topic.topic.json.read(event.data)
    except TypedJsonError as err:
        text = f"a message of {topic!r} does not fit its type: {err}"
        if not skips:
            raise MessageTypeError(text) from None
        _logger.warning("%s; it is left out", text)
        return None
    return Message(data, topic, event.published_at, missed)
