"""The errors of this plugin."""

from __future__ import annotations

from inngest_plugins.core import PluginsError


class CheckpointOptionError(PluginsError, ValueError):
    """An option of `CheckpointPlugin` has a value that it cannot have."""
