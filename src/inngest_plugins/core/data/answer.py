"""What a plugin gives in place of running a step's handler."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Answer:
    """The result that `answer_step` returns for a step whose handler is then not run.

    It takes the way of any result: outbound hooks see it, the engine stores it, later requests
    replay it.

    Attributes:
        value: what the handler would have returned.
        error: what the handler would have raised; `value` then means nothing.
        handler: what to run in the handler's place, called with `step.args`; sync or async. Then
            `around_step` is held around it as around the real one, and `value` and `error` mean
            nothing: it is what this returns or raises.
    """

    value: Any = None
    error: Exception | None = None
    handler: Callable[..., Any] | None = None
