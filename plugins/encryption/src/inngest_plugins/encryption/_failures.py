"""Errors on their way to the engine, with message and stack encrypted.

What an error *is* stays visible: its class name, and whether and when the engine may try again.
The SDK reads those off the exception, so the replacement derives from the same SDK class.
"""

from __future__ import annotations

import traceback
from typing import Any, Final

import inngest

_UNKNOWN: Final = inngest.StepError.__mro__[1].__dict__["code"]
"""The code of errors that have none; the SDK's base class has it and is not public itself."""


class _ReplacementError(Exception):
    """What the SDK reads instead of the original's attributes."""

    def seal(self, original: Exception, message: str, stack: str | None) -> None:
        self._sealed = (message, _name(original), stack)
        self.code = getattr(original, "code", _UNKNOWN)
        if getattr(original, "quiet", None) is True:
            self.quiet = True

    @property
    def message(self) -> str:
        """The encrypted message."""
        return self._sealed[0]

    @property
    def name(self) -> str:
        """The class name of the original."""
        return self._sealed[1]

    @property
    def stack(self) -> str | None:
        """The encrypted stack."""
        return self._sealed[2]

    def __str__(self) -> str:
        return self._sealed[0]


class _SealedError(_ReplacementError, inngest.StepError):
    pass


class _SealedNonRetriableError(_ReplacementError, inngest.NonRetriableError):
    pass


class _SealedRetryAfterError(_ReplacementError, inngest.RetryAfterError):
    pass


def text_of(error: Exception) -> tuple[str, str | None]:
    """Return the message and the stack that the SDK would send for an error."""
    message: Any = getattr(error, "message", None) if _is_sdk_error(error) else None
    if _is_sdk_error(error):
        stack: Any = getattr(error, "stack", None)
    else:
        stack = "".join(traceback.format_exception(error))
    return message if isinstance(message, str) else str(error), stack


def replaced(error: Exception, message: str, stack: str | None, *, is_retriable: bool) -> Exception:
    """Return an error that is sent with another message and stack.

    Args:
        error: the original.
        message: what to send as its message.
        stack: what to send as its stack.
        is_retriable: whether the engine may try again after the original.
    """
    sealed: _ReplacementError
    if isinstance(error, inngest.RetryAfterError):
        sealed = _SealedRetryAfterError(message, error.retry_after)
    elif isinstance(error, inngest.NonRetriableError):
        sealed = _SealedNonRetriableError(message)
    else:
        sealed = _SealedError(message, _name(error), stack)
        sealed.is_retriable = is_retriable
    sealed.seal(error, message, stack)
    return sealed


def _is_sdk_error(error: Exception) -> bool:
    return isinstance(error, inngest.StepError.__mro__[1])


def _name(error: Exception) -> str:
    name: Any = getattr(error, "name", None) if _is_sdk_error(error) else None
    return name if isinstance(name, str) else type(error).__name__
