"""Says that the extra is missing before anything of it is imported."""

from inngest_plugins.core import require_extra

require_extra("agents", "pydantic_ai.durable_exec")
