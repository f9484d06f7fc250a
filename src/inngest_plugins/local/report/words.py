"""Values, lengths of time and counts in words."""

from __future__ import annotations

import json
import pathlib
import re
import sysconfig
import typing

from inngest_plugins.core import printable
from inngest_plugins.local._envelopes import is_sealed_text, is_sealed_value

if typing.TYPE_CHECKING:
    from inngest_plugins.local.journal.records import DeferRecord, Json


def value_text(value: Json) -> str:
    """A JSON value on one line; an encrypted one as ``(encrypted)``, which says more."""
    if is_sealed_value(value):
        return "(encrypted)"
    return printable(json.dumps(value, ensure_ascii=False))


def message_text(message: str) -> str:
    """An error's message with its line breaks; an encrypted one as ``(encrypted)``."""
    if is_sealed_text(message):
        return "(encrypted)"
    lines = (line.rstrip() for line in message.strip().split("\n"))
    return printable("\n".join(line for line in lines if line), lines=True)


def reason_text(reason: str) -> str:
    """Why a run has its status; an encrypted message at its end as ``(encrypted)``."""
    head, brace, rest = reason.partition("{")
    return f"{head}(encrypted)" if is_sealed_text(brace + rest) else message_text(reason)


def duration_text(seconds: float) -> str:
    """A length of time for people: ``0.04 ms``, ``12 ms``, ``2.5 s``, ``30 min``, ``2.1 h``."""
    if seconds <= 0:
        return "0 ms"
    for limit, divisor, digits, unit in (
        (0.000995, 0.001, 2, "ms"),
        (0.00995, 0.001, 1, "ms"),
        (0.9995, 0.001, 0, "ms"),
        (119.95, 1, 1, "s"),
        (7197, 60, 0, "min"),
        (172620, 3600, 1, "h"),
    ):
        if seconds < limit:
            return f"{seconds / divisor:.{digits}f} {unit}"
    return f"{seconds / 86400:.1f} d"


_DEFERRED: typing.Final = {
    "AfterRun": "starts after the run",
    "Started": "started",
    "Aborted": "aborted",
    "Rejected": "dropped by the engine",
}


def deferred_text(deferred: DeferRecord) -> str:
    """What became of a deferred function."""
    if deferred.status == "Started" and not deferred.run_ids:
        return "no function of the app has that id"
    return _DEFERRED[deferred.status]


def plural(count: int, noun: str) -> str:
    """``1 request``, ``2 requests``, ``2 retries``."""
    if count == 1:
        return f"1 {noun}"
    return f"{count} {noun[:-1]}ies" if noun.endswith("y") else f"{count} {noun}s"


_INSTALLED: typing.Final = {"site-packages", "dist-packages", "inngest_plugins"}
_STANDARD_LIBRARY: typing.Final = sysconfig.get_path("stdlib")
_FRAME: typing.Final = re.compile(r'\s*File "(?P<path>[^"]*)", line \d+')


def app_traceback(stack: str) -> str:
    """A traceback without the frames of installed packages and the standard library.

    Args:
        stack: A traceback as Python formats it; it comes back whole where no frame would be left.
    """
    kept: list[str] = []
    is_own = True
    own_frames = 0
    for line in stack.splitlines():
        frame = _FRAME.match(line)
        if frame is not None:
            is_own = _is_own(frame["path"])
            own_frames += is_own
        elif not line.startswith("    "):
            is_own = True
        if is_own:
            kept.append(line)
    return "\n".join(kept) if own_frames else stack.rstrip()


def _is_own(path: str) -> bool:
    parts = pathlib.PurePath(path).parts
    if path.startswith("<frozen ") or _INSTALLED.intersection(parts):
        return False
    return not path.startswith(_STANDARD_LIBRARY)
