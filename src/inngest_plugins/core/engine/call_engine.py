"""The engine as one request knows it: `call.engine`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import inngest

from inngest_plugins.core.base.errors import ArgumentError
from inngest_plugins.core.base.sync_async import in_thread
from inngest_plugins.core.sdk import ops as sdk_ops
from inngest_plugins.core.sdk.door import AnyContext
from inngest_plugins.core.sdk.raw_body import raw_body_of

from .api import EngineApi
from .dispatch import Dispatch, Identity, make_dispatch, read_identity
from .ops import Op, body_of, check, path_of


class CallEngine:
    """The engine's view of the request, and the ways to reach the engine from it.

    Args:
        client: the client.
        ctx: the context of the request.
        request_id: from the request's headers, or None.
        started: when the request reached the core, in seconds since the epoch.
    """

    def __init__(
        self,
        client: inngest.Inngest,
        ctx: AnyContext,
        *,
        request_id: str | None,
        started: float,
    ) -> None:
        self._client = client
        self._ctx = ctx
        self._request_id = request_id
        self._started = started

    @cached_property
    def api(self) -> EngineApi:
        """The engine's REST API, with the client's origin, credentials and environment."""
        return EngineApi(self._client)

    @cached_property
    def _identity(self) -> Identity:
        return read_identity(raw_body_of(self._ctx))

    @cached_property
    def dispatch(self) -> Dispatch:
        """The identity of this request at the engine."""
        return make_dispatch(
            self._identity, self._ctx.run_id, self._request_id, started=self._started
        )

    @property
    def defers(self) -> Mapping[str, Mapping[str, bool]]:
        """The functions that the run has deferred so far, by hash: `{"abortable": ...}`."""
        return self._identity.defers

    @property
    def request_body(self) -> bytes | None:
        """The body of the request as the engine sent it, in every web framework and `connect`.

        None for a request that was not read from a text, as in tests that call the SDK by hand.
        """
        body = raw_body_of(self._ctx)
        return body.encode() if isinstance(body, str) else body

    async def send_ops(
        self, ops: Sequence[Op], *, attempt_timeout: float = 5.0, attempts: int = 3
    ) -> None:
        """Send operations to the engine while the request goes on; see `send_ops_sync`."""
        if attempts == 1:
            api = EngineApi(self._client, timeout=attempt_timeout, attempts=1)
            response = await api.post_once(path_of(self.dispatch), body_of(self.dispatch, ops))
            check(response, self.dispatch)
            return

        def send() -> None:
            self.send_ops_sync(ops, attempt_timeout=attempt_timeout, attempts=attempts)

        await in_thread(send)

    def send_ops_sync(
        self, ops: Sequence[Op], *, attempt_timeout: float = 5.0, attempts: int = 3
    ) -> None:
        """Send operations to the engine while the request goes on.

        The engine stores each operation once: sending it again changes nothing. It takes results
        of steps ("StepRun"), "StepPlanned", "DeferAdd" and "DeferAbort".

        Args:
            ops: the operations, as they stand in an answer.
            attempt_timeout: seconds that one attempt may take.
            attempts: how often to try when the engine cannot be reached or answers 5xx or 429.

        Raises:
            StaleDispatchError: the engine has given the job to another request.
            RunEndedError: the run has ended, or the engine does not know it.
            OpTooLargeError: an output is larger than the engine stores.
            EngineApiError: the engine could not be reached, or refused the operations.
        """
        api = EngineApi(self._client, timeout=attempt_timeout, attempts=attempts)
        response = api.request_sync(
            "POST", path_of(self.dispatch), json=body_of(self.dispatch, ops)
        )
        check(response, self.dispatch)

    async def run_op(
        self, step_id: str, *, op: str, opts: dict[str, Any] | None = None, name: str | None = None
    ) -> Any:
        """Have the engine do something as a step of this async function.

        The first request that comes here ends with the operation; later ones get what the engine
        stored. It is a step like any other: hooks see it, and it may stand in a `group.parallel`.

        Args:
            step_id: the step's id, unique in the function.
            op: the engine's opcode, such as "Gateway" or "WaitForSignal".
            opts: the operation's arguments, as on the wire.
            name: the operation's name where the engine reads one, such as the signal.

        Returns:
            The stored result, plain JSON.

        Raises:
            inngest.StepError: the engine stored an error.
            ArgumentError: the function is sync; use `run_op_sync`.
        """
        self._check_kind(is_async=True)
        info = sdk_ops.new_op(self._ctx, step_id, op=op, opts=opts, name=name)
        return await sdk_ops.run_op(self._ctx, info)

    def run_op_sync(
        self, step_id: str, *, op: str, opts: dict[str, Any] | None = None, name: str | None = None
    ) -> Any:
        """Have the engine do something as a step of this sync function; see `run_op`."""
        self._check_kind(is_async=False)
        info = sdk_ops.new_op(self._ctx, step_id, op=op, opts=opts, name=name)
        return sdk_ops.run_op_sync(self._ctx, info)

    def _check_kind(self, *, is_async: bool) -> None:
        if isinstance(self._ctx, inngest.Context) is not is_async:
            asked, fitting = ("run_op", "run_op_sync")[:: 1 if is_async else -1]
            raise ArgumentError(
                f"call.engine.{asked} was used in {'a sync' if is_async else 'an async'} function: "
                f"use call.engine.{fitting}"
            )

    def __repr__(self) -> str:
        return f"<CallEngine run={self._ctx.run_id}>"
