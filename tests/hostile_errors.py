"""Exceptions whose own code raises, recurses or lies when it is asked for something."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


class Odd(BaseException):
    """What no `except Exception` catches."""


def _raising(kind: type[BaseException]) -> Callable[..., Any]:
    def answer(*_: Any, **__: Any) -> Any:
        raise kind("asked")

    return answer


def _made(**members: Any) -> Exception:
    kind: Any = type("Declined", (Exception,), members)
    made: Exception = kind("declined")
    return made


def _with_cause() -> Exception:
    error = _made()
    error.__cause__ = _made(__str__=_raising(Odd))
    error.__context__ = _made(__class__=property(_raising(ValueError)))
    return error


def _circular() -> Exception:
    error, other = _made(), _made()
    error.__cause__, other.__cause__ = other, error
    return error


def _with_notes() -> Exception:
    error = _made()
    notes: Any = [_made(__str__=_raising(ValueError)), 42]
    vars(error)["__notes__"] = notes
    return error


def _metaclass() -> Exception:
    meta: Any = type("Meta", (type,), {"__name__": property(_raising(ValueError))})
    made: Exception = meta("Declined", (Exception,), {})("declined")
    return made


HOSTILE: dict[str, Callable[[], Exception]] = {
    "__str__": lambda: _made(__str__=_raising(ValueError)),
    "__str__ gives no text": lambda: _made(__str__=lambda self: 42),
    "__str__ recurses": lambda: _made(__str__=lambda self: str(self)),
    "__str__ raises BaseException": lambda: _made(__str__=_raising(Odd)),
    "__repr__": lambda: _made(__repr__=_raising(ValueError)),
    "__eq__": lambda: _made(__eq__=_raising(ValueError), __hash__=_raising(ValueError)),
    "__getattr__": lambda: _made(__getattr__=_raising(ValueError)),
    "metaclass": _metaclass,
    "a cause": _with_cause,
    "a circle": _circular,
    "notes": _with_notes,
    **{
        name: lambda name=name: _made(**{name: property(_raising(ValueError))})  # type: ignore[misc]
        for name in (
            "__cause__", "__class__", "__context__", "__notes__", "__suppress_context__",
            "args", "detail", "errno", "exceptions", "message",
        )
    },
}  # fmt: skip
"""Makers of an exception of a class `Declined`, by what is hostile about it.

Not `__traceback__`: the SDK reads it first, and goes on with what that raises.
"""
