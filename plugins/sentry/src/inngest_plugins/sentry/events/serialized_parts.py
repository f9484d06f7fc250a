"""Marks parts of events that are JSON already, so that Sentry's serializer skips them.

The serializer visits every value of an event on the thread that captures it, which is the event
loop's. At some 5 us each that is most of the time of a capture. Yet nearly all values of an
ordinary event are short texts and numbers: the list of installed packages, the lines of source
around each frame, contexts and tags. The serializer skips classes that have a `__sentry_repr__`,
its protocol since sentry-sdk 1.5.7. What is sent stays the same.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final

from sentry_sdk.utils import safe_repr

from inngest_plugins.sentry.base.privacy import stacks_of

_SCALARS: Final = frozenset({str, int, bool, type(None)})
_LINES: Final = ("pre_context", "post_context")
_CONTEXTS: Final = ("inngest", "runtime", "trace")
_SHORT = 100  # characters; longer texts are left to the serializer


class SerializedDict(dict[str, Any]):
    """A dictionary that can be sent as it is."""

    def __sentry_repr__(self) -> Any:
        return _json(dict(self))


class SerializedList(list[Any]):
    """A list that can be sent as it is."""

    def __sentry_repr__(self) -> Any:
        return _json(list(self))


def finish(event: dict[str, Any], *, longest: int | None) -> None:
    """Mark the parts of an event that can be sent as they are.

    Other parts stay unmarked, because Sentry still scrubs them: variables, breadcrumbs, spans'
    data, extra data and the request.

    Args:
        event: an event with all of its contexts, and already clean.
        longest: the number of characters to which Sentry shortens texts; None when it does not.
    """
    limit = _SHORT if longest is None else min(longest, _SHORT)
    packages = event.get("modules")
    if type(packages) is dict:
        event["modules"] = SerializedDict(packages)
    contexts = event["contexts"]
    for holder, key in ((event, "tags"), *((contexts, key) for key in _CONTEXTS)):
        if type(holder.get(key)) is dict and _is_short(holder[key], limit):
            holder[key] = SerializedDict(holder[key])
    for frames in stacks_of(event):
        for position, frame in enumerate(frames):
            if isinstance(frame, dict):
                frames[position] = _finished_frame(frame)


def _finished_frame(frame: dict[str, Any]) -> dict[str, Any]:
    # Sentry marks lines that it has shortened with a wrapper.
    lines = [key for key in _LINES if _is_text(frame.get(key))]
    if "vars" not in frame and all(
        type(value) in _SCALARS or key in lines for key, value in frame.items()
    ):
        return SerializedDict(frame)
    for key in lines:
        frame[key] = SerializedList(frame[key])
    return frame


def _is_text(lines: object) -> bool:
    return type(lines) is list and all(type(line) is str for line in lines)


def _is_short(value: object, limit: int) -> bool:
    kind = type(value)
    if kind is str:
        return len(value) <= limit  # type: ignore[arg-type]
    if isinstance(value, dict):
        return all(_is_short(item, limit) for item in value.values())
    if isinstance(value, list):
        return all(_is_short(item, limit) for item in value)
    return kind in _SCALARS or kind is float


def _json(value: Any) -> Any:
    """Return the value as plain JSON, whatever later event processors have put into it."""
    kind = type(value)
    if kind in _SCALARS or (kind is float and math.isfinite(value)):
        return value
    if kind.__name__ == "AnnotatedValue":
        return _json(value.value)
    if isinstance(value, Mapping):
        return {str(key): _json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_json(item) for item in value]
    return safe_repr(value)
