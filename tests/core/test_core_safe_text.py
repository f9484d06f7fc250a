"""Texts of exceptions whose own code does what it likes."""

from __future__ import annotations

import asyncio
import builtins
import sys
from collections.abc import Callable
from typing import Any

import inngest
import pytest

from inngest_plugins.core import Outcome, class_name, safe_repr, safe_text, safe_traceback

SECRET = "card 4242"


def _raises(*_: Any) -> Any:
    raise ValueError(SECRET)


def _recurses(self: Any) -> str:
    return str(self)


def _no_text(self: Any) -> Any:
    return 4242


def _cancelled(self: Any) -> Any:
    raise asyncio.CancelledError(SECRET)


class _Odd(BaseException):
    pass


def _odd(self: Any) -> Any:
    raise _Odd(SECRET)


def _endless(self: Any) -> Any:
    return type(self)()


_Liar: Any = type(
    "_Liar",
    (type,),
    {name: property(_raises) for name in ("__name__", "__mro__", "__flags__", "__dict__")},
)


def make(name: str, kind: type = type, **members: Any) -> Exception:
    """Return an exception of a class with these members."""
    made: Exception = kind(name, (Exception,), members)()
    return made


@pytest.mark.parametrize("text", [_raises, _recurses, _no_text, _cancelled, _odd])
@pytest.mark.parametrize("ask", [safe_text, safe_repr, safe_traceback])
def test_a_text_that_cannot_be_had_is_a_text(
    ask: Callable[[Any], str], text: Callable[[Any], Any]
) -> None:
    """Nothing that `__str__` or `__repr__` raises comes out, in no part of the text."""
    found = ask(make("E", __str__=text, __repr__=text))
    assert type(found) is str
    assert SECRET not in found


@pytest.mark.parametrize("fatal", [KeyboardInterrupt, SystemExit])
def test_what_ends_the_process_ends_it(fatal: type[BaseException]) -> None:
    """Ctrl-C and sys.exit are not taken for a text that is missing."""

    def leave(self: Any) -> str:
        raise fatal

    with pytest.raises(fatal):
        safe_text(make("E", __str__=leave))


def test_text_runs_once_and_is_a_plain_str() -> None:
    """A text of a str subclass is copied, so that its methods are never called."""
    kind: Any = type("Text", (str,), {"encode": _raises})
    asked: list[int] = []

    def text(self: Any) -> Any:
        asked.append(1)
        return str.__new__(kind, "fine")

    found = safe_text(make("E", __str__=text))
    assert (type(found), found, asked) == (str, "fine", [1])


def test_the_class_name_is_that_of_the_class() -> None:
    """Neither a metaclass nor `__class__` changes it."""
    assert class_name(make("Declined", _Liar)) == "Declined"
    assert class_name(make("Declined", __class__=property(_raises))) == "Declined"
    assert class_name(make("Declined", __class__=KeyError)) == "Declined"


@pytest.mark.timeout(200)
@pytest.mark.parametrize("read", [_raises, _endless])
@pytest.mark.parametrize(
    "name",
    ["__cause__", "__context__", "__class__", "__notes__", "__traceback__", "__getattribute__"],
)
def test_a_traceback_always_ends(name: str, read: Callable[[Any], Any]) -> None:
    """What a class redefines of what `traceback` reads is never asked, in a cause neither."""
    member: Any = (lambda self, _: read(self)) if name == "__getattribute__" else property(read)
    odd = make("Odd", **{name: member})
    outer = LookupError("outer")
    outer.__cause__ = odd
    for error, kind in ((odd, "Odd"), (outer, "LookupError: outer")):
        found = safe_traceback(error)
        assert kind in found
        assert SECRET not in found


def test_an_ordinary_traceback_is_python_s_own() -> None:
    """Causes, notes and frames are there, as `traceback` writes them."""
    try:
        try:
            raise KeyError("inner")
        except KeyError as cause:
            raise ValueError("outer") from cause
    except ValueError as error:
        if sys.version_info >= (3, 11):
            error.add_note("a note")
        found = safe_traceback(error)
    assert "KeyError: 'inner'" in found
    assert "direct cause" in found
    assert found.rstrip().endswith("a note" if sys.version_info >= (3, 11) else "ValueError: outer")


@pytest.mark.skipif(sys.version_info < (3, 11), reason="exception groups came with Python 3.11")
def test_members_of_a_group_are_looked_at() -> None:
    """A member that redefines what `traceback` reads costs the detail, not the text."""
    odd = make("Odd", __context__=property(_endless))
    found = safe_traceback(vars(builtins)["ExceptionGroup"]("several", [odd]))
    assert "ExceptionGroup: several (1 sub-exception)" in found


@pytest.mark.parametrize("answer", [_raises, _cancelled, _odd])
@pytest.mark.parametrize("name", ["is_retriable", "__class__"])
def test_an_error_that_does_not_say_whether_to_retry_is_retried(
    name: str, answer: Callable[[Any], Any]
) -> None:
    """Asking an outcome whether the engine may try again raises nothing of the error's."""
    kind: Any = type("Declined", (inngest.NonRetriableError,), {name: property(answer)})
    error: Exception = kind.__new__(kind)
    call: Any = None
    outcome = Outcome(call, step=None, output=None, has_output=False, error=error)
    assert outcome.is_retriable is (name == "is_retriable")
