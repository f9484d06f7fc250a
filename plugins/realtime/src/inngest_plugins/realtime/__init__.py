"""Typed realtime channels: publish from a run, subscribe from a browser or a worker."""

import importlib
from typing import TYPE_CHECKING, Any, Final

from inngest_plugins.core import RealtimeError

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

if TYPE_CHECKING:
    from inngest_plugins.core import MissedMessages, RealtimeTiming

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

_LATE: Final = {
    "inngest_plugins.core": ("MissedMessages", "RealtimeTiming"),
    "inngest_plugins.realtime._subscribing": ("Message", "subscribe", "subscribe_sync"),
    "inngest_plugins.realtime._tokens": (
        "SubscriptionToken",
        "subscription_token",
        "subscription_token_sync",
    ),
}


def __getattr__(name: str) -> Any:
    # Apps that only publish, which most workers are, do without what listens.
    for module, names in _LATE.items():
        if name in names:
            return getattr(importlib.import_module(module), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
