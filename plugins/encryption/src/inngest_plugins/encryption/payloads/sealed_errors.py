"""Replaces an error by one whose message and stack are encrypted.

What an error *is* stays visible: its class name, and whether and when the engine may try again.
The SDK reads those from the exception, so the replacement derives from the same SDK class.

The original is user code. Its attributes and methods may raise, recurse, or return objects of
their own. So this module reads it without calling its methods, or keeps text, which it encrypts.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from datetime import datetime, timezone
from typing import Any, Final, TypeVar

import inngest

from inngest_plugins.core import class_name, safe_text, safe_traceback

T = TypeVar("T")

_SDK_ERROR: Final = inngest.StepError.__mro__[1]
"""The SDK's base class, which is not public itself."""

_UNKNOWN: Final = _SDK_ERROR.__dict__["code"]
"""The code of errors that have none."""

_FORMATS_TRACEBACK: Final = _SDK_ERROR.__dict__["stack"]
_ATTRIBUTES: Final = BaseException.__dict__["__dict__"]


class _SealedParts(Exception):  # noqa: N818 - a part of the classes below
    """What the SDK reads instead of the original's attributes."""

    sealed: tuple[str, str, str | None]

    @property
    def message(self) -> str:
        """The encrypted message."""
        return self.sealed[0]

    @property
    def name(self) -> str:
        """The class name of the original."""
        return self.sealed[1]

    @property
    def stack(self) -> str | None:
        """The encrypted stack."""
        return self.sealed[2]

    def __str__(self) -> str:
        return self.sealed[0]


class _SealedError(_SealedParts, inngest.StepError):
    pass


class _SealedNonRetriableError(_SealedParts, inngest.NonRetriableError):
    pass


class _SealedRetryAfterError(_SealedParts, inngest.RetryAfterError):
    pass


def text_of(error: Exception) -> tuple[str, str | None]:
    """Return the message and the stack that the SDK would send for an error, as plain `str`."""
    if not issubclass(type(error), _SDK_ERROR):
        return safe_text(error), safe_traceback(error)
    message = _text_or_none(_answer_of(lambda: _any(error).message))
    if inspect.getattr_static(type(error), "stack", None) is _FORMATS_TRACEBACK:
        has_stack = _static(error, "include_stack") is not False
        stack = safe_traceback(error) if has_stack else None
    else:
        stack = _text_or_none(_answer_of(lambda: _any(error).stack))
    return safe_text(error) if message is None else message, stack


def replaced(error: Exception, message: str, stack: str | None, *, is_retriable: bool) -> Exception:
    """Return an error that is sent with another message and stack.

    Args:
        error: the original.
        message: what to send as its message.
        stack: what to send as its stack.
        is_retriable: whether the engine may try again after the original.
    """
    kind = type(error)
    name = _name(error)
    retry_after = _retry_time(error) if issubclass(kind, inngest.RetryAfterError) else None
    sealed: Any
    if retry_after is not None:
        sealed = _named(name, _SealedRetryAfterError)(message, retry_after)
    elif issubclass(kind, inngest.NonRetriableError):
        sealed = _named(name, _SealedNonRetriableError)(message)
    else:
        sealed = _named(name, _SealedError)(message, name, stack)
        sealed.is_retriable = is_retriable
    sealed.sealed = (message, name, stack)
    code = _static(error, "code")
    sealed.code = code if type(code) is type(_UNKNOWN) else _UNKNOWN
    if _static(error, "quiet") is True:
        sealed.quiet = True
    result: Exception = sealed
    return result


@functools.lru_cache(maxsize=256)
def _named(name: str, base: type[Exception]) -> type[Exception]:
    """Make a class of this name: where middleware fails late, the SDK sends the class's name."""
    return type(name, (base,), {})


def _name(error: Exception) -> str:
    """Return the class name of an error, or what a memoized `StepError` says that it was."""
    if issubclass(type(error), inngest.StepError):
        name = _ATTRIBUTES.__get__(error).get("_name")
        # Only what can be the name of a class: user code may have put any text there.
        if type(name) is str and all(part.isidentifier() for part in name.split(".")):
            return name
    return class_name(error)


def _retry_time(error: Exception) -> datetime | None:
    """Return when the engine may try again, as a plain `datetime`; None if it has no time."""

    def read() -> datetime:
        given = _any(error).retry_after.astimezone(timezone.utc)
        return datetime.fromtimestamp(given.timestamp(), timezone.utc)

    return _answer_of(read)


def _static(error: Exception, name: str) -> Any:
    """Return an attribute that is data, without running code of the error's class."""
    return inspect.getattr_static(error, name, None)


def _answer_of(ask: Callable[[], T]) -> T | None:
    """Call code of the user and return its answer; None if it raises."""
    try:
        return ask()
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException:
        return None


def _text_or_none(value: Any) -> str | None:
    return str.__str__(value) if issubclass(type(value), str) else None


def _any(error: Exception) -> Any:
    return error
