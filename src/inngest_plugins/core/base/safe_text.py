"""Text of exceptions and values whose own code may do anything when asked for it.

An exception is user code: its `__str__` may raise, recurse, return no text or quote a payload, its
class may override `__class__`, `__context__` or `__getattribute__`. Whoever reports one must end
up with a text, and must not end up with a second exception that carries what the first one hid.
"""

from __future__ import annotations

import builtins
import re
import traceback
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any, Final

import inngest

_GROUP: type[BaseException] | None = getattr(builtins, "BaseExceptionGroup", None)
"""None on Python 3.10, which has no exception groups."""

UNAVAILABLE: Final = "<text unavailable>"
"""The text that is shown for an exception without one."""

_TYPE_NAME: Final = type.__dict__["__name__"]
_TYPE_BASES: Final = type.__dict__["__mro__"]
_TYPE_ATTRIBUTES: Final = type.__dict__["__dict__"]
_TYPE_FLAGS: Final = type.__dict__["__flags__"]
_MADE_IN_PYTHON: Final = 1 << 9
"""Py_TPFLAGS_HEAPTYPE: set on classes of a class statement, not on built-in exceptions."""

_ATTRIBUTES: Final = BaseException.__dict__["__dict__"]
_CAUSE: Final = BaseException.__dict__["__cause__"]
_CONTEXT: Final = BaseException.__dict__["__context__"]
_TRACEBACK: Final = BaseException.__dict__["__traceback__"]
_READ_BY_TRACEBACKS: Final = (
    "__cause__",
    "__class__",
    "__context__",
    "__getattr__",
    "__getattribute__",
    "__notes__",
    "__suppress_context__",
    "__traceback__",
    "exceptions",
)
"""What `traceback` reads of an exception. A class that redefines one can make that endless."""


def class_name(exception: object) -> str:
    """Return the name of an object's real class, whatever its metaclass or `__class__` says."""
    name: str = _TYPE_NAME.__get__(type(exception))
    return name


def safe_text(exception: object) -> str:
    """Return what `str` makes of an exception; `<text unavailable>` if it raises or gives no text.

    The exception's `__str__` runs once. Only `KeyboardInterrupt` and `SystemExit` pass.
    """
    return _asked(str, exception)


def safe_repr(value: object) -> str:
    """Return what `repr` makes of a value; `<text unavailable>` if it raises or gives no text."""
    return _asked(repr, value)


def safe_traceback(exception: BaseException) -> str:
    """Return the traceback of an exception with its causes, as `traceback` formats it.

    It never raises and always ends. Of an exception whose class, or that of one in its chain,
    redefines what `traceback` reads, it holds the frames, the class name and the text.
    """
    frames: TracebackType | None = _TRACEBACK.__get__(exception)
    if all(map(_is_ordinary, exception_chain(exception))):
        text = _asked(
            lambda error: "".join(traceback.format_exception(type(error), error, frames)), exception
        )
        if text != UNAVAILABLE:
            return text
    lines = _asked(lambda tb: "".join(traceback.format_tb(tb)), frames)
    return (
        f"Traceback (most recent call last):\n{lines.rstrip()}\n"
        f"{class_name(exception)}: {safe_text(exception)}\n"
    )


def _asked(ask: Callable[[Any], str], of: object) -> str:
    try:
        # `str` may return an instance of a subclass, with methods of its own.
        return str.__str__(ask(of))
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException:
        return UNAVAILABLE


def exception_chain(exception: BaseException) -> Iterator[BaseException]:
    """Go through an exception, its causes, contexts and group members, as they really are.

    Yields each exception once, the given one first. No code of their classes runs.
    """
    pending: list[BaseException | None] = [exception]
    seen: set[int] = set()
    while pending:
        current = pending.pop()
        if current is None or id(current) in seen:
            continue
        seen.add(id(current))
        yield current
        pending += [_CAUSE.__get__(current), _CONTEXT.__get__(current)]
        if _GROUP is not None and issubclass(type(current), _GROUP):
            pending += _GROUP.__dict__["exceptions"].__get__(current)


def _is_ordinary(exception: BaseException) -> bool:
    """Return whether what `traceback` reads of an exception is data and no code of the user."""
    kind = type(exception)
    for base in _TYPE_BASES.__get__(kind):
        if _TYPE_FLAGS.__get__(base) & _MADE_IN_PYTHON:
            attributes = _TYPE_ATTRIBUTES.__get__(base)
            if any(name in attributes for name in _READ_BY_TRACEBACKS):
                return False
    return type(_ATTRIBUTES.__get__(exception).get("__notes__", [])) is list


_UNSAFE: Final = "[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
"""Control characters (C0, C1), line separators, bidirectional controls, lone surrogates.

A terminal obeys the first (colours, titles, cursor, clipboard), the others make text read as what
it is not, and a lone surrogate cannot be written at all.
"""


def printable(text: str, *, lines: bool = False) -> str:
    r"""Escape what a terminal would obey instead of show.

    Step ids, event names and error texts come from payloads and from other people's code. Whatever
    of them goes to a terminal or a log goes through here. Escapes are written ``\u001b``, which
    keeps JSON text valid JSON.

    Args:
        text: The text.
        lines: Whether line breaks and tabs stay as they are: for text that may have several lines.
    """

    def escaped(match: re.Match[str]) -> str:
        character = match.group()
        return character if lines and character in "\n\t" else f"\\u{ord(character):04x}"

    return re.sub(_UNSAFE, escaped, text)


_BASES: tuple[type[Exception], ...] = (inngest.RetryAfterError, inngest.NonRetriableError)


def redacted(error: Exception, plugin_hook: str) -> Exception:
    """Return an error that is sent in place of one whose text may hold a payload.

    What the error *is* stays visible: its class name, and whether and when the engine may try
    again. Sentry and other observers have seen the original.

    Args:
        error: what a plugin raised after the outcome had been encrypted.
        plugin_hook: where it came from, for the message.
    """
    kind = type(error)
    base = next((base for base in _BASES if issubclass(kind, base)), Exception)
    name = class_name(error)
    made = type(name, (base,), {})
    message = (
        f"{plugin_hook} raised {name}. Its message is not sent, because plugins "
        "of this stack keep payloads secret and the outcome had been encrypted already"
    )
    if base is inngest.RetryAfterError:
        replaced: Exception = made(message, error.retry_after)  # type: ignore[attr-defined]
    else:
        replaced = made(message)
    replaced.__suppress_context__ = True
    return replaced
