"""The errors of the command line."""

from __future__ import annotations

from inngest_plugins.core import PluginsError


class CliError(PluginsError):
    """A mistake that the user can correct.

    The command line prints the message on one line and exits; it shows a traceback only under
    ``--debug``.

    Args:
        message: What happened, where, and what to do, on one line.
        exit_code: 2 for bad input (the default), 1 for a negative result.
    """

    def __init__(self, message: str, *, exit_code: int = 2) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class AppLoadError(CliError):
    """The app could not be loaded, or has no client or no functions."""
