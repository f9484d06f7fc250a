"""What stands around the handler of a step that really runs."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from types import FrameType
from typing import Any

import sentry_sdk

from inngest_plugins.core import Step

Raised = Callable[[Step, BaseException, FrameType], None]
"""Gets a step, what its handler raised, and the frame whose callers are the user's code."""


class AroundStep:
    """Notices what the handler raises. A class: a generator would add itself to the traceback.

    Args:
        step: the step.
        raised: told of an exception of the handler.
    """

    def __init__(self, step: Step, raised: Raised) -> None:
        self._step = step
        self._raised = raised

    def __enter__(self) -> None:
        """Nothing is to be done before the step."""

    def __exit__(self, exc_type: object, exc: BaseException | None, traceback: object) -> None:
        if isinstance(exc, Exception):
            # The frames further out are the code that called the step and may catch its error.
            self._raised(self._step, exc, sys._getframe(1))  # noqa: SLF001


class AroundTracedStep(AroundStep):
    """The same with the step's span, in a scope of its own: steps may run side by side.

    Args:
        step: the step.
        raised: told of an exception of the handler.
        make_span: makes the span; called in the scope that it is to be active in.
    """

    def __init__(
        self, step: Step, raised: Raised, make_span: Callable[[], AbstractContextManager[Any]]
    ) -> None:
        super().__init__(step, raised)
        self._make_span = make_span
        self._scope: AbstractContextManager[Any] | None = None
        self._span: AbstractContextManager[Any] | None = None

    def __enter__(self) -> None:
        scope = sentry_sdk.new_scope()
        scope.__enter__()
        self._scope = scope
        # Only now: a span is active in the scope in which it was made.
        span = self._make_span()
        span.__enter__()
        self._span = span

    def __exit__(self, *exception: Any) -> None:
        if self._span is not None:
            self._span.__exit__(*exception)
        if self._scope is not None:
            # Without the exception, which a generator would raise again.
            self._scope.__exit__(None, None, None)
        super().__exit__(*exception)
