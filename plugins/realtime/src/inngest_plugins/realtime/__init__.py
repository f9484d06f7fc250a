"""Typed realtime channels: publish from a run, subscribe from a browser or a worker."""

from inngest_plugins.core import MissedMessages, RealtimeError, RealtimeTiming

from ._channels import Channel, ChannelTopic, Topic
from ._errors import (
    ChannelDefinitionError,
    ChannelParameterError,
    MessageTypeError,
    PublishContextError,
    RealtimeUsageError,
    SecretMessageError,
)
from ._plugin import RealtimePlugin
from ._publishing import publish, publish_sync
from ._subscribing import Message, subscribe, subscribe_sync
from ._tokens import SubscriptionToken, subscription_token, subscription_token_sync

__all__ = [
    "Channel",
    "ChannelDefinitionError",
    "ChannelParameterError",
    "ChannelTopic",
    "Message",
    "MessageTypeError",
    "MissedMessages",
    "PublishContextError",
    "RealtimeError",
    "RealtimePlugin",
    "RealtimeTiming",
    "RealtimeUsageError",
    "SecretMessageError",
    "SubscriptionToken",
    "Topic",
    "publish",
    "publish_sync",
    "subscribe",
    "subscribe_sync",
    "subscription_token",
    "subscription_token_sync",
]
