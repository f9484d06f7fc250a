"""Requires the extra `sentry` before its libraries are imported."""

from inngest_plugins.core import require_extra

require_extra("sentry", "sentry_sdk")
