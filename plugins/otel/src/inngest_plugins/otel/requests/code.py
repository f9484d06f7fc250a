"""Where a function is written: the `code.*` attributes of OpenTelemetry's conventions."""

from __future__ import annotations

import functools
import inspect
from typing import Any, Final

from inngest_plugins.core import Call

FUNCTION_NAME: Final = "code.function.name"
FILE_PATH: Final = "code.file.path"
LINE_NUMBER: Final = "code.line.number"
# The constants of opentelemetry-semantic-conventions have moved between its releases.


def code_of(call: Call) -> dict[str, str | int]:
    """Return the `code.*` attributes of the handler that a request runs.

    Returns:
        Its qualified name, file and first line; nothing for a handler not written in Python.
    """
    handler: Any = call.handler
    while isinstance(handler, functools.partial):
        handler = handler.func
    written = inspect.unwrap(handler) if callable(handler) else None
    code = getattr(written, "__code__", None)
    if code is None:
        # An object that can be called is described by its class.
        written = inspect.getattr_static(type(written), "__call__", None)
        code = getattr(written, "__code__", None)
    if code is None:
        return {}
    module, name = getattr(written, "__module__", ""), getattr(written, "__qualname__", "")
    return {
        FUNCTION_NAME: f"{module}.{name}",
        FILE_PATH: code.co_filename,
        LINE_NUMBER: code.co_firstlineno,
    }
