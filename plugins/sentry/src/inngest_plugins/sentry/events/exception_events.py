"""Makes the event of an exception, even if the exception's own code fails or lies."""

from __future__ import annotations

import traceback
from typing import TYPE_CHECKING, Any

from sentry_sdk.utils import event_from_exception

from inngest_plugins.core import class_name, safe_text

if TYPE_CHECKING:
    from sentry_sdk.types import Event

_TRACEBACK: Any = BaseException.__dict__["__traceback__"]
"""Reads the real traceback: a class may define the name anew."""


def event_of_exception(
    error: BaseException, options: dict[str, Any], mechanism: dict[str, Any]
) -> tuple[Event, dict[str, Any]]:
    """Make the event of an exception. If Sentry cannot, it has class, text and frames only.

    Sentry reads attributes of exceptions (`message`, `detail`, `errno`, notes, causes). Any of them
    may be a property that runs the user's code.
    """
    kind = type(error)
    frames = _TRACEBACK.__get__(error)
    try:
        return event_from_exception(
            (kind, error, frames), client_options=options, mechanism=mechanism
        )
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException:
        value: Any = {
            "type": class_name(error),
            "value": safe_text(error),
            "mechanism": mechanism,
            "stacktrace": {
                "frames": [
                    {
                        "filename": frame.filename,
                        "function": frame.name,
                        "lineno": frame.lineno,
                        "context_line": frame.line,
                    }
                    for frame in traceback.extract_tb(frames)
                ]
            },
        }
        event: Event = {"exception": {"values": [value]}}
        return event, {"exc_info": (kind, error, frames)}
