"""Sentry for Inngest functions: one event for one failure, on the right run, without payloads."""

from inngest_plugins.core import require_extra

require_extra("sentry", "sentry_sdk")

from ._plugin import SentryPlugin  # noqa: E402 - tells which extra is missing first

__all__ = ["SentryPlugin"]
