"""Checks of what users pass to the engine, so that an error names the wrong argument.

Everything here says what the argument takes, in a TypeError; in a ValueError for a number or a text
that cannot be meant.
"""

from __future__ import annotations

import os
import typing
from collections.abc import Iterable, Mapping

import httpx
import inngest

from inngest_plugins.core import ArgumentError

if typing.TYPE_CHECKING:
    from ._clock import Clock

    AnyFunction = inngest.Function[typing.Any]

_CENTURY: typing.Final = 100 * 365 * 86_400
"""Times of ids and journals end some thousand years from now; an infinity has no place there."""


def wrong(name: str, takes: str, value: object) -> ArgumentError:
    """The error for an argument of a wrong type."""
    what = f"the class {value.__name__}" if isinstance(value, type) else type(value).__name__
    return ArgumentError(f"{name} must be {takes}, not {what}")


def check_client(client: object) -> None:
    """Accept an Inngest client."""
    if not isinstance(client, inngest.Inngest):
        raise wrong("client", "an inngest.Inngest client", client)


def check_functions(functions: object) -> list[AnyFunction]:
    """Accept functions made with ``@client.create_function``, and list them."""
    if isinstance(functions, str) or not isinstance(functions, Iterable):
        raise wrong("functions", "a list of Inngest functions", functions)
    listed: list[AnyFunction] = []
    for function in typing.cast("Iterable[object]", functions):
        if not isinstance(function, inngest.Function):
            name = getattr(function, "__name__", None)
            named = f" ({name!r}: is its decorator missing?)" if name else ""
            raise ArgumentError(
                "functions must be a list of functions made with @client.create_function(...); "
                f"one of them is of type {type(function).__name__}{named}"
            )
        listed.append(function)
    return listed


def check_clock(clock: object) -> Clock | None:
    """Accept a clock, or None for the default."""
    if clock is None:
        return None
    if isinstance(clock, type) or not all(
        callable(getattr(clock, name, None)) for name in ("now", "from_wall", "jump_to")
    ):
        raise wrong("clock", "a clock such as VirtualClock() or RealClock()", clock)
    return typing.cast("Clock", clock)


def check_journal(journal: object) -> None:
    """Accept the path of a file, or None for none."""
    if journal is not None and not isinstance(journal, (str, os.PathLike)):
        raise wrong("journal", "the path of a file (a str or a pathlib.Path) or None", journal)


def check_gateway(gateway: object) -> None:
    """Accept an httpx transport, or None for none."""
    if gateway is not None and not isinstance(
        gateway, (httpx.BaseTransport, httpx.AsyncBaseTransport)
    ):
        raise wrong("gateway", "an httpx transport or None", gateway)


def check_called(name: str, takes: str, value: object) -> None:
    """Accept what the engine calls, or None for none."""
    if value is not None and not callable(value):
        raise wrong(name, f"{takes} or None", value)


def check_serve_path(path: object) -> None:
    """Accept the path of a URL, or None or "" for the default.

    Raises:
        ArgumentError: It does not begin with a slash, so that no app could serve there.
    """
    if path is not None and not isinstance(path, str):
        raise wrong("serve_path", "the path of a URL or None", path)
    if path and not path.startswith("/"):
        raise ArgumentError(
            f"serve_path must begin with a slash, as in '/api/inngest', not {path!r}"
        )


def check_request_timeout(seconds: object) -> None:
    """Accept how long a request may take; an infinity for no limit.

    Raises:
        ArgumentError: It is not above 0, so that every request would have failed.
    """
    check_seconds("request_timeout", seconds, optional=False)
    if typing.cast("float", seconds) <= 0:
        raise ArgumentError(f"request_timeout must be more than 0 seconds, not {seconds}")


def check_retry_interval(seconds: object) -> None:
    """Accept a fixed time between attempts, or None.

    Raises:
        ArgumentError: It is negative, or longer than the engine's calendar.
    """
    check_seconds("retry_interval", seconds)
    if seconds is not None and not 0 <= typing.cast("float", seconds) <= _CENTURY:
        raise ArgumentError(
            f"retry_interval must be from 0 to {_CENTURY} seconds (a century), not {seconds}"
        )


def check_max_requests(number: object) -> None:
    """Accept how many requests may be in flight.

    Raises:
        ArgumentError: It is below 1.
    """
    if isinstance(number, bool) or not isinstance(number, int):
        raise wrong("max_requests", "a whole number", number)
    if number < 1:
        raise ArgumentError(f"max_requests must be at least 1, not {number}")


def check_seconds(name: str, seconds: object, *, optional: bool = True) -> None:
    """Accept a length of time in seconds; None too if that is ``optional``."""
    if seconds is None and optional:
        return
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)):
        raise wrong(name, "a number of seconds" + (" or None" if optional else ""), seconds)
    if seconds != seconds:  # NaN alone differs from itself.
        raise ArgumentError(f"{name} must be a number of seconds, not NaN")


def check_events(events: object) -> list[inngest.Event]:
    """Accept one event or several, and list them."""
    if isinstance(events, inngest.Event):
        return [events]
    how = "pass inngest.Event(name=..., data=...)"
    if isinstance(events, (str, bytes, Mapping)) or not isinstance(events, Iterable):
        raise wrong("events", f"an inngest.Event or a list of them ({how})", events)
    listed: list[inngest.Event] = []
    for event in typing.cast("Iterable[object]", events):
        if not isinstance(event, inngest.Event):
            raise wrong("each of the events", f"an inngest.Event ({how})", event)
        listed.append(event)
    return listed


def check_function(function: object) -> None:
    """Accept what names a function: itself or its id; None too."""
    if function is not None and not isinstance(function, (str, inngest.Function)):
        raise wrong("function", "an Inngest function or its id", function)
