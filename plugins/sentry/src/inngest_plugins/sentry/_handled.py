"""Will the function's own code catch the error that a step is about to raise?

When a step has finally failed, its exception is at hand, but whether the function survives it
shows only in the next request, perhaps on another worker, when the engine hands the error back as
an `inngest.StepError`. To report the failure once, at once, and at the right level, the code
around the step is read: a `try` whose handler takes the error and does not raise again, or
`contextlib.suppress`, makes it a caught one. The answer depends on nothing but the source, so
every worker gives the same.

What cannot be read (no source, a class that is computed) counts as not caught.
"""

from __future__ import annotations

import ast
import contextlib
import functools
import inspect
import textwrap
import tokenize
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import CodeType, FrameType, TracebackType
from typing import Any

import inngest

_LIBRARIES = ("inngest.", "inngest_plugins.", "contextlib", "asyncio.", "anyio.", "sentry_sdk.")
_MAX_FRAMES = 100


@dataclass(frozen=True, slots=True)
class Position:
    """A line of running code.

    Attributes:
        code: the function.
        line: the line in its file, from 1.
        names: the globals that the line sees.
    """

    code: CodeType
    line: int
    names: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class _Handler:
    """One `except` clause, or the arguments of `contextlib.suppress`."""

    classes: tuple[ast.expr, ...]
    takes_all: bool = False
    raises: bool = False


@dataclass(frozen=True, slots=True)
class _Guard:
    """Lines with handlers around them; `manager` is what a `with` calls."""

    first: int
    last: int
    handlers: tuple[_Handler, ...]
    manager: ast.expr | None = None


def is_caught(positions: Iterable[Position]) -> bool:
    """Tell whether an `inngest.StepError` raised below these lines is caught at one of them."""
    return any(
        guard.first <= position.line <= guard.last and _takes(guard, position.names)
        for position in positions
        for guard in _guards(position.code)
    )


def positions_of_stack(frame: FrameType | None) -> Iterator[Position]:
    """Yield the user's lines from a frame outwards, up to the function's own."""
    for _ in range(_MAX_FRAMES):
        if frame is None or _is_execution(frame):
            return
        if not _is_library(frame):
            yield Position(frame.f_code, frame.f_lineno, frame.f_globals)
        frame = frame.f_back


def positions_of_traceback(traceback: TracebackType | None) -> Iterator[Position]:
    """Yield the user's lines that an exception has passed through."""
    while traceback is not None:
        frame = traceback.tb_frame
        if not _is_library(frame):
            yield Position(frame.f_code, traceback.tb_lineno, frame.f_globals)
        traceback = traceback.tb_next


def _is_library(frame: FrameType) -> bool:
    return str(frame.f_globals.get("__name__", "")).startswith(_LIBRARIES)


def _is_execution(frame: FrameType) -> bool:
    return str(frame.f_globals.get("__name__", "")).startswith("inngest._internal.execution_lib")


@functools.lru_cache(maxsize=512)
def _guards(code: CodeType) -> tuple[_Guard, ...]:
    try:
        lines, start = inspect.getsourcelines(code)
        tree = ast.parse(textwrap.dedent("".join(lines)))
    except (OSError, TypeError, SyntaxError, ValueError, tokenize.TokenError):
        # TokenError: from Python 3.12 on, what is read there is not the source of this code.
        return ()
    shift = max(start, 1) - 1
    return tuple(guard for node in ast.walk(tree) for guard in _guards_of(node, shift))


def _guards_of(node: ast.AST, shift: int) -> Iterator[_Guard]:
    if isinstance(node, (ast.With, ast.AsyncWith)):
        for item in node.items:
            call = item.context_expr
            if isinstance(call, ast.Call) and call.args:
                handler = _Handler(tuple(call.args))
                yield _Guard(*_lines(node.body, shift), (handler,), call.func)
    elif isinstance(node, ast.Try):
        handlers = tuple(
            _Handler(
                _expressions(handler.type),
                takes_all=handler.type is None,
                raises=any(isinstance(inner, ast.Raise) for inner in ast.walk(handler)),
            )
            for handler in node.handlers
        )
        yield _Guard(*_lines(node.body, shift), handlers)


def _lines(body: list[ast.stmt], shift: int) -> tuple[int, int]:
    last = body[-1]
    return body[0].lineno + shift, (last.end_lineno or last.lineno) + shift


def _expressions(kind: ast.expr | None) -> tuple[ast.expr, ...]:
    if isinstance(kind, ast.Tuple):
        return tuple(kind.elts)
    return () if kind is None else (kind,)


def _takes(guard: _Guard, names: Mapping[str, Any]) -> bool:
    if guard.manager is not None and _resolve(guard.manager, names) is not contextlib.suppress:
        return False
    for handler in guard.handlers:
        kinds = (_resolve(expression, names) for expression in handler.classes)
        if handler.takes_all or any(
            isinstance(kind, type) and issubclass(inngest.StepError, kind) for kind in kinds
        ):
            return not handler.raises
    return False


def _resolve(expression: ast.expr, names: Mapping[str, Any]) -> object:
    if isinstance(expression, ast.Attribute):
        return getattr(_resolve(expression.value, names), expression.attr, None)
    if not isinstance(expression, ast.Name):
        return None
    if expression.id in names:
        return names[expression.id]
    builtins = names.get("__builtins__", {})
    table = builtins if isinstance(builtins, dict) else vars(builtins)
    return table.get(expression.id)
