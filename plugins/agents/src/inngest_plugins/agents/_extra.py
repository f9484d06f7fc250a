"""Requires the extra `agents` before its libraries are imported."""

from inngest_plugins.core import require_extra

require_extra("agents", "pydantic_ai.durable_exec")
