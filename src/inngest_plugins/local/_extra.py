"""Requires the extra `local` before its libraries are imported."""

from inngest_plugins.core import require_extra

require_extra("local", "fastapi")
