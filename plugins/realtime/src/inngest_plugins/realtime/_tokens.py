"""`subscription_token`: lets browsers, which have no key of the engine, subscribe."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import inngest
from typing_extensions import TypedDict  # FastAPI accepts no other on Python 3.10 and 3.11

from inngest_plugins.core import RealtimeConnection, RealtimeToken, RealtimeTopic, class_name

from ._channels import Channel, ChannelTopic
from ._errors import ChannelParameterError


class SubscriptionToken(TypedDict):
    """A token as the `@inngest/realtime` package of npm takes it, and as JSON.

    Attributes:
        channel: the channel's name.
        topics: the names of its topics.
        key: the token itself: whoever has it may listen until it expires.
        expires_in: seconds that it lasts, which matter when connecting only; None when the engine
            did not say. A page asks for a new one before it connects again.
    """

    channel: str
    topics: list[str]
    key: str
    expires_in: float | None


async def subscription_token(
    client: inngest.Inngest,
    channel: Channel,
    topics: Iterable[str | ChannelTopic[Any]] | None = None,
) -> SubscriptionToken:
    """Return a token that lets its holder listen to topics of a channel, and to nothing else.

    Check who asks before you give one away.

    Args:
        client: whose engine.
        channel: the channel.
        topics: which topics, by name; None for all of the channel.

    Raises:
        ChannelParameterError: it is no channel, or has no such topic.
        RealtimeError: `client` is none; the engine gave no token, or could not be reached.
    """
    names = _names(channel, topics)
    token = await RealtimeConnection(client).token(_of(channel, names))
    return _made(channel, names, token)


def subscription_token_sync(
    client: inngest.Inngest,
    channel: Channel,
    topics: Iterable[str | ChannelTopic[Any]] | None = None,
) -> SubscriptionToken:
    """Return a token that lets its holder listen; see `subscription_token`."""
    names = _names(channel, topics)
    return _made(channel, names, RealtimeConnection(client).token_sync(_of(channel, names)))


def _names(channel: Channel, topics: Iterable[str | ChannelTopic[Any]] | None) -> list[str]:
    given: object = channel
    if not isinstance(given, Channel):
        raise ChannelParameterError(
            "subscription_token(client, channel) takes a channel, as OrderChannel(order_id=42), "
            f"not {class_name(given)}"
        )
    return given.topics(topics)


def _of(channel: Channel, names: list[str]) -> list[RealtimeTopic]:
    return [RealtimeTopic(channel.name, name) for name in names]


def _made(channel: Channel, names: list[str], token: RealtimeToken) -> SubscriptionToken:
    return SubscriptionToken(
        channel=channel.name, topics=names, key=token.jwt, expires_in=token.lifetime
    )
