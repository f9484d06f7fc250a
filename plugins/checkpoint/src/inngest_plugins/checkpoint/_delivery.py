"""Sends checkpoint calls: when one is due, and how it is retried."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any, Final

import tenacity

from inngest_plugins.core import CallEngine, DeliveryRequest, EngineApiError

from ._options import Options

Ops = Sequence[Mapping[str, Any]]

_ATTEMPT_SECONDS: Final = 5.0
_SERVER_ERROR: Final = 500
_TOO_MANY_REQUESTS: Final = 429


class CheckpointDelivery:
    """Delivers the results of one request by checkpoint calls.

    Args:
        options: the plugin's.
        request: the request.
    """

    __slots__ = ("_ends_at", "_engine", "_options")

    def __init__(self, options: Options, request: DeliveryRequest) -> None:
        seconds = options.connect_seconds if request.is_connect else options.http_seconds
        self._options = options
        self._engine: CallEngine = request.engine
        self._ends_at = time.monotonic() + seconds

    def accepts(self) -> bool:
        """Return whether the request may go on after the step that has just succeeded.

        Only a step's end is looked at: a request that ended between steps would have made no
        progress, and the next one would reach the same place.
        """
        return time.monotonic() < self._ends_at

    def is_due(self, waiting: int, age: float) -> bool:
        """Return whether results that wait are to be sent now."""
        return waiting >= self._options.buffer or age >= self._options.interval

    async def send(self, ops: Ops) -> None:
        """Send operations from an async function, and again while the engine is away.

        A call whose reply was lost may have been stored. Sending it again is safe, as the engine
        keeps what came first; answering a stored step could leave the run hanging.
        """
        try:
            await self._engine.send_ops(ops, attempt_timeout=self._attempt_seconds, attempts=1)
        except EngineApiError as err:
            if not _may_pass(err):
                raise
            async for attempt in tenacity.AsyncRetrying(**self._retrying()):
                with attempt:
                    await self._engine.send_ops(
                        ops, attempt_timeout=self._attempt_seconds, attempts=1
                    )

    def send_sync(self, ops: Ops) -> None:
        """Send operations from a sync function; see `send`."""
        try:
            self._engine.send_ops_sync(ops, attempt_timeout=self._attempt_seconds, attempts=1)
        except EngineApiError as err:
            if not _may_pass(err):
                raise
            for attempt in tenacity.Retrying(**self._retrying()):
                with attempt:
                    self._engine.send_ops_sync(
                        ops, attempt_timeout=self._attempt_seconds, attempts=1
                    )

    @property
    def _attempt_seconds(self) -> float:
        return min(_ATTEMPT_SECONDS, self._options.give_up_after)

    def _retrying(self) -> dict[str, Any]:
        return {
            "stop": tenacity.stop_after_delay(self._options.give_up_after),
            "wait": tenacity.wait_random_exponential(multiplier=0.1, max=2.0),
            "retry": tenacity.retry_if_exception(_may_pass),
            "reraise": True,
        }


def _may_pass(error: BaseException) -> bool:
    """Return whether trying again may help: the engine is away or overloaded."""
    if not isinstance(error, EngineApiError):
        return False
    status = error.status
    return status is None or status >= _SERVER_ERROR or status == _TOO_MANY_REQUESTS
