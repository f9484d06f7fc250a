"""The delivery of step results without ending the request, as a plugin provides it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from inngest_plugins.core.engine.call_engine import CallEngine


@dataclass(frozen=True, slots=True)
class DeliveryRequest:
    """The facts about a request that a delivery gets when the request begins.

    Attributes:
        function_id: the engine's id of the function, `"<app>-<function>"`.
        local_id: the id given to `create_function`.
        attempt: number of the attempt of the current job, from 0.
        is_connect: whether the request came over a `connect` worker's connection, not HTTP.
        engine: the engine; `engine.send_ops` is the usual way to deliver.
    """

    function_id: str
    local_id: str
    attempt: int
    is_connect: bool
    engine: CallEngine


class RequestDelivery(Protocol):
    """Delivers the results of one request's steps."""

    def accepts(self) -> bool:
        """Return whether a step that has just succeeded may be delivered.

        If not, it is answered: the request ends with it.
        """
        ...

    def is_due(self, waiting: int, age: float) -> bool:
        """Return whether results that wait are to be sent now.

        Args:
            waiting: how many wait.
            age: seconds since the first of them was given.
        """
        ...

    async def send(self, ops: Sequence[Mapping[str, Any]]) -> None:
        """Send operations to the engine; returns when it has acknowledged all of them.

        Raises:
            StaleDispatchError, RunEndedError: the function is stopped where it is.
            Exception: they were not delivered: the request ends, and they are its answer.
        """
        ...

    def send_sync(self, ops: Sequence[Mapping[str, Any]]) -> None:
        """Do what `send` does, for a sync function."""
        ...


class Delivery(Protocol):
    """Makes the delivery of each request; the `delivery` of a plugin."""

    def begin(self, request: DeliveryRequest) -> RequestDelivery | None:
        """Return the delivery of a request, or None to answer each step as usual."""
        ...
