"""The commands of this package, as the entry points name them."""

from inngest_plugins.core import require_extra

require_extra("local", "fastapi", "rich", "typer")

from ._doctor_command import doctor  # noqa: E402
from ._run_command import run  # noqa: E402 - what it imports is what was just asked for

__all__ = ["doctor", "run"]
