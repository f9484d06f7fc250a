"""The scopes of one request, kept on its call."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from inngest_plugins.core import Call, CallKey, Step

if TYPE_CHECKING:
    from ._scope import MakeContainer, Scope


class CallScopes:
    """The request's scope, and one for each step whose handler runs or has run.

    Args:
        call: the request.
        make: makes a container.
    """

    __slots__ = ("_call", "_make", "_request", "_steps")

    def __init__(self, call: Call, make: MakeContainer) -> None:
        from ._scope import Scope

        self._call = call
        self._make = make
        self._request = Scope(call, make, f"this request of function {call.local_id!r}")
        self._steps: dict[str, Scope] = {}

    @property
    def request(self) -> Scope:
        """The scope of the function's body and of hooks."""
        return self._request

    def begin_step(self, step: Step) -> Scope:
        """Make the scope of a step whose handler is about to run, or return it."""
        from ._scope import Scope

        if (known := self._steps.get(step.hashed_id)) is not None:
            return known  # Two plugins of the stack hold it open.
        place = f"step {step.id!r} of function {self._call.local_id!r}"
        scope = self._steps[step.hashed_id] = Scope(self._call, self._make, place)
        return scope

    def of_step(self, step: Step | None) -> Scope | None:
        """Return the scope of a step, or None where it has none."""
        return None if step is None else self._steps.get(step.hashed_id)

    def current(self) -> Scope:
        """Return the scope of the current code."""
        return self.of_step(self._call.step) or self._request


SCOPES: Final = CallKey[CallScopes]("injection.scopes")
