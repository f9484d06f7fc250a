"""Checkpointing for functions on Inngest: a run of n sequential steps is one request."""

from ._errors import CheckpointOptionError
from ._plugin import CheckpointPlugin

__all__ = ["CheckpointOptionError", "CheckpointPlugin"]
