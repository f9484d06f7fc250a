"""Errors of plugins that come too late for encryption to seal them."""

from __future__ import annotations

import inngest

_BASES: tuple[type[Exception], ...] = (inngest.RetryAfterError, inngest.NonRetriableError)


def untold(error: Exception, plugin_hook: str) -> Exception:
    """Return an error that is sent in place of one whose text may hold a payload.

    What the error *is* stays visible: its class name, and whether and when the engine may try
    again. Sentry and other observers have seen the original.

    Args:
        error: what a plugin raised after the outcome had been encrypted.
        plugin_hook: where it came from, for the message.
    """
    base = next((base for base in _BASES if isinstance(error, base)), Exception)
    made = type(type(error).__name__, (base,), {})
    message = (
        f"{plugin_hook} raised {type(error).__name__}. Its message is not sent, because plugins "
        "of this stack keep payloads secret and the outcome had been encrypted already"
    )
    if isinstance(error, inngest.RetryAfterError):
        replaced: Exception = made(message, error.retry_after)
    else:
        replaced = made(message)
    replaced.__suppress_context__ = True
    return replaced
