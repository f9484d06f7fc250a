"""The plugin's options, checked when it is built."""

from __future__ import annotations

import datetime
import math
from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

from inngest_plugins.core import check_seconds

from ._errors import CheckpointOptionError

HTTP_SECONDS: Final = 10.0
CONNECT_SECONDS: Final = 300.0

MAX_BUFFER: Final = 1000
"""The most steps that the engine keeps for a run."""

Duration = float | int | datetime.timedelta


class Default:
    """Marks an option that was not given, as None has a meaning."""

    def __repr__(self) -> str:
        return "the default"


DEFAULT: Final = Default()


@dataclass(frozen=True, slots=True)
class Options:
    """Checked options.

    Attributes:
        http_seconds: how long a request over HTTP may run; infinite for no limit.
        connect_seconds: how long one over a `connect` worker's connection may.
        buffer: how many results one call collects.
        interval: how long a result may wait for others, in seconds; infinite for no limit.
        give_up_after: how long a call is tried, in seconds.
        functions: ids of the functions that checkpoint; None for all.
        exclude: ids of those that do not.
    """

    http_seconds: float
    connect_seconds: float
    buffer: int
    interval: float
    give_up_after: float
    functions: frozenset[str] | None
    exclude: frozenset[str]

    def covers(self, *ids: str) -> bool:
        """Return whether the function with any of these ids checkpoints."""
        if not self.exclude.isdisjoint(ids):
            return False
        return self.functions is None or not self.functions.isdisjoint(ids)


def checked(
    max_runtime: Duration | Default | None,
    buffer: int,
    max_interval: Duration | None,
    give_up_after: Duration,
    functions: Collection[str] | None,
    exclude: Collection[str],
) -> Options:
    """Return the options.

    Raises:
        CheckpointOptionError: names the option, the allowed values and the given one.
    """
    if isinstance(max_runtime, Default):
        http, connect = HTTP_SECONDS, CONNECT_SECONDS
    else:
        http = connect = _seconds("max_runtime", max_runtime)
    if type(buffer) is not int or not 1 <= buffer <= MAX_BUFFER:
        raise _wrong("buffer", f"a whole number from 1 to {MAX_BUFFER}", buffer)
    return Options(
        http_seconds=http,
        connect_seconds=connect,
        buffer=buffer,
        interval=_seconds("max_interval", max_interval),
        give_up_after=_seconds("give_up_after", give_up_after, or_none=False),
        functions=None if functions is None else _ids("functions", functions),
        exclude=_ids("exclude", exclude),
    )


def _seconds(option: str, value: object, *, or_none: bool = True) -> float:
    if value is None and or_none:
        return math.inf
    if isinstance(value, datetime.timedelta):
        value = value.total_seconds()
    allowed = "more than 0 seconds (a number or a timedelta)" + (", or None" if or_none else "")
    return check_seconds(_named(option), value, allowed, error=CheckpointOptionError)


def _ids(option: str, value: object) -> frozenset[str]:
    if isinstance(value, (str, bytes)) or not isinstance(value, Collection):
        raise _wrong(option, "a list of function ids", value)
    for each in value:
        if not isinstance(each, str) or not each:
            raise _wrong(option, "a list of function ids", each)
    return frozenset(value)


def _wrong(option: str, allowed: str, value: object) -> CheckpointOptionError:
    shown = (
        repr(value) if type(value) in (int, float, bool, str, type(None)) else type(value).__name__
    )
    return CheckpointOptionError(f"{_named(option)} is {allowed}, not {shown}")


def _named(option: str) -> str:
    return f"CheckpointPlugin({option}=...)"
