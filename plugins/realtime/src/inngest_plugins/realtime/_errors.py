"""The errors of this plugin: of channels, messages and subscriptions."""

from __future__ import annotations

import inngest

from inngest_plugins.core import PluginsError


class RealtimeUsageError(PluginsError, inngest.NonRetriableError):
    """Base of the errors that the engine does not retry."""


class ChannelDefinitionError(RealtimeUsageError, TypeError):
    """A channel or a topic is defined wrongly."""


class ChannelParameterError(RealtimeUsageError, ValueError):
    """A channel was made with parameters that it does not have, or not of their types."""


class MessageTypeError(RealtimeUsageError, ValueError):
    """A message does not fit the type of its topic, is not JSON, or is too large."""


class SecretMessageError(RealtimeUsageError):
    """A message would leave in the clear although the stack keeps payloads secret."""


class PublishContextError(RealtimeUsageError, RuntimeError):
    """Published where it cannot be: without a client, or as a step inside of a step."""
