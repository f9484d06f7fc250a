"""The items of a subscription: messages, a note that some are missing, the end of the run."""

from __future__ import annotations

import dataclasses
import json
from typing import Any, Final, NamedTuple, TypeAlias

from inngest_plugins.core.base.timestamps import parse_timestamp


class RealtimeTopic(NamedTuple):
    """What can be published to and subscribed to.

    Attributes:
        channel: a run id, or any text that publishers and subscribers agree on.
        name: the topic in that channel.
    """

    channel: str
    name: str


@dataclasses.dataclass(frozen=True, slots=True)
class RealtimeMessage:
    """One message.

    Attributes:
        topic: where it was published.
        data: the decoded JSON.
        published_at: seconds since the epoch, by the engine's clock; None if it did not say.
    """

    topic: RealtimeTopic
    data: Any
    published_at: float | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class MissedMessages:
    """The connection was away and is back, for all topics: messages may be missing.

    Attributes:
        topics: the topics of the subscription.
        since: when something last came over the old connection, in seconds since the epoch.
        until: when the new connection was open, likewise.
    """

    topics: tuple[RealtimeTopic, ...]
    since: float
    until: float


@dataclasses.dataclass(frozen=True, slots=True)
class RunEnded:
    """The run that the subscription follows has ended; nothing comes after this.

    Attributes:
        status: "Completed", "Failed", "Cancelled" or "Skipped", as the engine names it.
        before: whether it had ended when the subscription began.
    """

    status: str
    before: bool


RealtimeEvent: TypeAlias = RealtimeMessage | MissedMessages | RunEnded
"""What a subscription yields."""

CLOSING: Final = "closing"
"""The kind of message that announces that the server is about to close the connection."""

# Keepalives and the frames of byte streams, which have no data of their own.
_NO_DATA: Final = frozenset(
    {"ping", "sub", "unsub", CLOSING, "datastream-start", "datastream-end", "chunk"}
)


def parse_message(text: str) -> RealtimeMessage | str | None:
    """Read a message as the server sends it (`pkg/execution/realtime/streamingtypes`).

    Returns:
        The message; `CLOSING` when the server is about to close the connection; None for
        keepalives and whatever else carries no data.
    """
    try:
        message = json.loads(text)
        kind = message.get("kind")
        if kind in _NO_DATA:
            return CLOSING if kind == CLOSING else None
        topic = RealtimeTopic(message["channel"], message["topic"])
        return RealtimeMessage(topic, message["data"], _instant(message.get("created_at")))
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def _instant(text: object) -> float | None:
    if not isinstance(text, str):
        return None
    try:
        return parse_timestamp(text)
    except ValueError:
        return None
