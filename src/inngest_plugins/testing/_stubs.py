"""Stubs for steps: a value, an exception, a callable, the real step, or several in turn."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Mapping

from inngest_plugins.core import ArgumentError

if typing.TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeGuard


@dataclasses.dataclass(frozen=True)
class Returns:
    """The step's result is this value."""

    value: object


@dataclasses.dataclass(frozen=True)
class Raises:
    """The step raises this exception."""

    error: BaseException | type[BaseException]


@dataclasses.dataclass(frozen=True)
class Calls:
    """This function is called in place of the step's handler."""

    function: Callable[..., object]


@dataclasses.dataclass(frozen=True)
class Passes:
    """The real step runs."""


@dataclasses.dataclass(frozen=True)
class InTurn:
    """One stub for each time that the step is executed; the last one stays."""

    stubs: tuple[Stub, ...]


Stub: typing.TypeAlias = "Returns | Raises | Calls | Passes | InTurn"
StubKey: typing.TypeAlias = str | tuple[str, str]
Stubs: typing.TypeAlias = (
    Mapping[StubKey, object] | Mapping[str, object] | Mapping[tuple[str, str], object]
)
"""Stubs by step id, or by ``(function id, step id)`` when only one function's step is meant.

A value may be a stub, an exception (object or class), a function, or any other value for the
step to return.
"""


def returns(value: object) -> Returns:
    """A stub whose result is a value, also one that is callable or an exception.

    Args:
        value: Any JSON value. For a ``wait_for_event``: the event (an `inngest.Event`, or just its
            data), or None for a timeout.
    """
    return Returns(value)


def raises(error: BaseException | type[BaseException]) -> Raises:
    """A stub that raises.

    A ``step.run`` is retried, as it would be for a real failure. An invoke fails at once with an
    `inngest.StepError`, as it does when the invoked function failed for good.

    Raises:
        ArgumentError: It is not an exception.
    """
    if not _is_error(error):
        raise ArgumentError(f"raises() takes an exception or its class, not {type(error).__name__}")
    return Raises(error)


def calls(function: Callable[..., object]) -> Calls:
    """A stub that calls a function (sync or async) and returns its result.

    Args:
        function: Gets what the handler would get (``step.run``), the event data (invoke), the
            event's name (``wait_for_event``), the list of events (``send_event``), the request
            body (``ai.infer``), or the time to sleep.

    Raises:
        ArgumentError: It cannot be called.
    """
    if not _is_callable(function):
        raise ArgumentError(f"calls() takes a function, not {type(function).__name__}")
    return Calls(function)


def passes() -> Passes:
    """A stub that lets the real step run: one turn of `in_turn`."""
    return Passes()


def in_turn(*stubs: object) -> InTurn:
    """One stub after the other, for each attempt and each use of the step; the last one stays.

    A step that the engine does itself (invoke, wait, sleep, inference) is either stubbed or real:
    what counts is whether the first turn is `passes`.

    Example::

        in_turn(raises(ConnectionError("lost")), passes())    # fails once, then really runs
    """
    if not stubs:
        raise ArgumentError("in_turn() needs at least one stub")
    return InTurn(tuple(as_stub(stub) for stub in stubs))


def as_stub(value: object) -> Stub:
    """Read the shorthand: an exception raises, a function is called, anything else is returned."""
    if isinstance(value, (Returns, Raises, Calls, Passes, InTurn)):
        return value
    if _is_error(value):
        return Raises(value)
    if _is_callable(value):
        return Calls(value)
    return Returns(value)


def _is_error(value: object) -> TypeGuard[BaseException | type[BaseException]]:
    return isinstance(value, BaseException) or (
        isinstance(value, type) and issubclass(value, BaseException)
    )


def _is_callable(value: object) -> TypeGuard[Callable[..., object]]:
    return callable(value)


def _is_key(key: object) -> bool:
    parts = typing.cast("tuple[object, ...]", key) if isinstance(key, tuple) else (key, "")
    return len(parts) == 2 and all(isinstance(part, str) for part in parts)


def _check(stubs: object) -> None:
    takes = "a dict from step ids, or (function id, step id), to the stub of the step"
    if not isinstance(stubs, Mapping):
        raise ArgumentError(f"stubs must be {takes}, not {type(stubs).__name__}")
    for key in typing.cast("Mapping[object, object]", stubs):
        if not _is_key(key):
            raise ArgumentError(f"stubs must be {takes}; it has the key {key!r}")


class StubBook:
    """The stubs of one harness, and how often each was used.

    Args:
        stubs: See `Stubs`.

    Raises:
        ArgumentError: They are not.
    """

    def __init__(self, stubs: Stubs) -> None:
        _check(stubs)
        self._stubs: dict[StubKey, Stub] = {key: as_stub(value) for key, value in stubs.items()}
        self._uses: dict[StubKey, int] = {}
        self._reached: set[StubKey] = set()

    def find(self, function: str, step: str) -> StubKey | None:
        """The key of the stub for a step, or None; marks the step as reached."""
        for key in ((function, step), step):
            if key in self._stubs:
                self._reached.add(key)
                return key
        return None

    def begins_with_passes(self, key: StubKey) -> bool:
        """Whether the first turn is the real step."""
        stub = self._stubs[key]
        while isinstance(stub, InTurn):
            stub = stub.stubs[0]
        return isinstance(stub, Passes)

    def take(self, key: StubKey) -> Returns | Raises | Calls | Passes:
        """The stub for the next execution."""
        stub = self._stubs[key]
        turn = self._uses.get(key, 0)
        while isinstance(stub, InTurn):
            stub = stub.stubs[min(turn, len(stub.stubs) - 1)]
        self._uses[key] = turn + 1
        return stub

    def unused(self) -> list[str]:
        """Stubs whose step no function reached."""
        return [
            key if isinstance(key, str) else "/".join(key)
            for key in self._stubs
            if key not in self._reached
        ]
