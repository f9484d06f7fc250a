"""Requires the extra `validation` before its libraries are imported."""

from inngest_plugins.core import require_extra

require_extra("validation", "jsonschema", "pydantic", "referencing", "yaml")
