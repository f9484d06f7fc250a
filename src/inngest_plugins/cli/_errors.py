"""What the command line says when it cannot go on."""

from __future__ import annotations

import json


class CliError(Exception):
    """A mistake that the person at the keyboard can mend.

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
    """The app that was named could not be loaded, or has no client or no functions."""


def not_json(source: str, error: json.JSONDecodeError, hint: str = "") -> CliError:
    """Make the error for text that is not JSON: it names the place and repeats nothing of it."""
    return CliError(
        f"{source} is not JSON: {error.msg} at line {error.lineno}, column {error.colno}{hint}"
    )
