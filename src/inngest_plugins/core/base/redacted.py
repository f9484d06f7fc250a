"""Errors that plugins raise too late for encryption to seal them."""

from __future__ import annotations

import inngest

from .safe_text import class_name

_BASES: tuple[type[Exception], ...] = (inngest.RetryAfterError, inngest.NonRetriableError)


def redacted(error: Exception, plugin_hook: str) -> Exception:
    """Return an error that is sent in place of one whose text may hold a payload.

    What the error *is* stays visible: its class name, and whether and when the engine may try
    again. Sentry and other observers have seen the original.

    Args:
        error: what a plugin raised after the outcome had been encrypted.
        plugin_hook: where it came from, for the message.
    """
    kind = type(error)
    base = next((base for base in _BASES if issubclass(kind, base)), Exception)
    name = class_name(error)
    made = type(name, (base,), {})
    message = (
        f"{plugin_hook} raised {name}. Its message is not sent, because plugins "
        "of this stack keep payloads secret and the outcome had been encrypted already"
    )
    if base is inngest.RetryAfterError:
        replaced: Exception = made(message, error.retry_after)  # type: ignore[attr-defined]
    else:
        replaced = made(message)
    replaced.__suppress_context__ = True
    return replaced
