"""The deferrals and aborts of one request, until the engine has acknowledged them."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Awaitable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from inngest_plugins.core import Call, CallKey, EngineError, Outcome, Step, served_functions

from ._errors import (
    DeferConflictError,
    DeferContextError,
    DeferLimitError,
    DeferSendError,
    UnknownFunctionError,
)
from ._function import DeferredFunction, DeferredTarget, target_of

MAX_DEFERRALS: Final = 20
MAX_BYTES: Final = 4 * 1024 * 1024

ATTACHMENT: Final = "defer"
"""Attached to the result of a step: what the step deferred, as hash -> [digest, bytes]."""

_SEALED_GROWTH: Final = 1.4
"""The factor by which encryption makes data larger: base64, and an envelope around it."""


@dataclass(slots=True)
class _Deferral:
    """One id of the run, as this request knows it.

    Attributes:
        digest: of the function and the data.
        size: bytes of the data as they left or will leave.
        step_id: hashed id of the step that deferred it in this request; None for the body.
        is_aborted: whether this request aborted it.
    """

    digest: str
    size: int
    step_id: str | None
    is_aborted: bool = False


@dataclass(slots=True)
class _Waiting:
    """An operation to be sent.

    Attributes:
        op: as on the wire.
        deferral: what it defers; None for an abort.
        step: the step as the hooks see it.
        rest: the hooks that have still to be awaited.
        error: why it must not be sent.
    """

    op: dict[str, Any]
    deferral: _Deferral | None = None
    step: Step | None = None
    rest: Awaitable[None] | None = None
    error: BaseException | None = None


class Deferrals:
    """The deferrals of one request.

    Args:
        call: the request.
    """

    __slots__ = ("_by_hash", "_call", "_is_closed", "_lock", "_looked_at", "_of_steps", "_waiting")

    def __init__(self, call: Call) -> None:
        self._call = call
        self._by_hash: dict[str, _Deferral] = {}
        self._waiting: list[_Waiting] = []
        self._of_steps: dict[str, tuple[str, int]] = {}
        self._looked_at = 0
        self._is_closed = False
        self._lock = threading.Lock()

    # ------------------------------------------------------------ at the call

    def add(self, defer_id: str, named: object, data: object) -> str:
        """Defer a function, unless the run has done so already.

        Returns:
            The hash by which the engine knows the deferral.

        Raises:
            DeferUsageError: the engine would drop it in silence.
        """
        call = self._call
        place = f"defer({defer_id!r}) in function {call.function_id!r}"
        target = self._target(named, place)
        written = target.schema.write(data, place=place, mask_keys=call.stack.secret_payloads)
        text = _compact(written)
        hashed_id = hashed(defer_id)
        digest = hashlib.sha256(f"{target.id}\0{text}".encode()).hexdigest()[:24]
        step = call.step
        deferral = _Deferral(digest, len(text.encode()), None if step is None else step.hashed_id)
        with self._lock:
            self._check_open(place)
            if self._is_known(hashed_id, digest, place):
                self._by_hash.setdefault(hashed_id, deferral)
                return hashed_id
            if hashed_id in call.engine.defers:
                if call.stack.secret_payloads:
                    deferral.size = int(deferral.size * _SEALED_GROWTH)
                self._by_hash[hashed_id] = deferral
                return hashed_id
            self._check_count(place)
            self._by_hash[hashed_id] = deferral
        try:
            self._leave(defer_id, hashed_id, target, written, deferral, place)
        except BaseException:
            self._by_hash.pop(hashed_id, None)
            raise
        return hashed_id

    def _leave(
        self,
        defer_id: str,
        hashed_id: str,
        target: DeferredTarget[Any],
        written: dict[str, Any],
        deferral: _Deferral,
        place: str,
    ) -> None:
        step = Step(
            id=defer_id,
            hashed_id=hashed_id,
            index=0,
            op="DeferAdd",
            name=defer_id,
            parallel=False,
            input={"fn_slug": target.id, "input": written},
            status="waiting",
        )
        rest = self._call.run_step_input_hooks(step)
        op = {"id": hashed_id, "op": "DeferAdd", "userland": {"id": defer_id}}
        waiting = _Waiting(op, deferral, step, rest)
        if rest is None:
            self._measure(waiting, place)
        with self._lock:
            self._waiting.append(waiting)

    def abort(self, defer_id: str, hashed_id: str) -> None:
        """Take a deferral back, unless the run has done so already."""
        place = f"abort of {defer_id!r} in function {self._call.function_id!r}"
        current = Call.current()
        if current is not None and current is not self._call:
            raise DeferContextError(f"{place}: the deferral belongs to another run or request")
        with self._lock:
            self._check_open(place)
            deferral = self._by_hash[hashed_id]
            known = self._call.engine.defers.get(hashed_id)
            if deferral.is_aborted or (known is not None and not known.get("abortable")):
                return
            deferral.is_aborted = True
            self._waiting.append(
                _Waiting(
                    {
                        "id": hashed(f"abort {defer_id}"),
                        "op": "DeferAbort",
                        "opts": {"target_hashed_id": hashed_id},
                    }
                )
            )

    # ------------------------------------------------------------ checks

    def _target(self, named: object, place: str) -> DeferredTarget[Any]:
        target = target_of(named)
        if target is None:
            raise UnknownFunctionError(
                f"{place}: defer takes what deferred_function(...) returned, or the "
                f"function that it decorated, not {_described(named)}"
            )
        if isinstance(target, DeferredFunction):
            if target.function is None:
                raise UnknownFunctionError(
                    f"{place}: deferred function {target.id!r} has no handler: decorate one with it"
                )
            served = served_functions(target.client)
            if served is not None and target.id not in served:
                raise UnknownFunctionError(
                    f"{place}: the app does not serve deferred function {target.id!r}: add the "
                    "decorated function to those that it serves"
                )
        return target

    def _check_open(self, place: str) -> None:
        if self._is_closed:
            raise DeferContextError(
                f"{place}: the request has been answered; a later deferral would be lost"
            )

    def _is_known(self, hashed_id: str, digest: str, place: str) -> bool:
        """Return whether the run has deferred the same function and data under the id.

        Raises:
            DeferConflictError: it has deferred something else under it.
        """
        before = self._by_hash.get(hashed_id)
        known = None if before is None else before.digest
        if known is None:
            stored = self._stored().get(hashed_id)
            known = None if stored is None else stored[0]
        if known is not None and known != digest:
            raise DeferConflictError(
                f"{place}: the run has used this id for another function or other data, and the "
                "engine keeps the first: take another id"
            )
        return known is not None

    def _stored(self) -> Mapping[str, tuple[str, int]]:
        """Return the deferrals of the memoized steps that the function has reached."""
        # Plugins open a stored result only when the function reaches its step.
        reached = self._call.consumed
        for memo_id in reached[self._looked_at :]:
            attached = self._call.attachment(memo_id, ATTACHMENT)
            if isinstance(attached, dict):
                for hashed_id, (digest, size) in attached.items():
                    self._of_steps[hashed_id] = (digest, size)
        self._looked_at = len(reached)
        return self._of_steps

    def _check_count(self, place: str) -> None:
        count = len({*self._call.engine.defers, *self._by_hash})
        if count >= MAX_DEFERRALS:
            raise DeferLimitError(f"{place}: a run defers at most {MAX_DEFERRALS} functions")

    def _measure(self, waiting: _Waiting, place: str) -> None:
        """Keep the input as the hooks left it, and check that it is not too large."""
        step, deferral = waiting.step, waiting.deferral
        if step is None or deferral is None or step.input is None:
            return
        waiting.op["opts"] = step.input
        deferral.size = len(_compact(step.input["input"]).encode())
        with self._lock:
            here = sum(each.size for each in self._by_hash.values())
            before = sum(
                size
                for hashed_id, (_, size) in self._stored().items()
                if hashed_id not in self._by_hash
            )
        if here + before > MAX_BYTES:
            raise DeferLimitError(
                f"{place}: the data of all deferrals of a run may have {MAX_BYTES} bytes as it "
                f"leaves, and with this one it has {here + before}"
            )

    # ------------------------------------------------------------ to the engine

    def attach_to(self, outcome: Outcome) -> None:
        """Keep what a step deferred with its result, for the requests in which it is replayed."""
        step = outcome.step
        if step is None or outcome.error is not None:
            return
        made = {
            hashed_id: [deferral.digest, deferral.size]
            for hashed_id, deferral in self._by_hash.items()
            if deferral.step_id == step.hashed_id
        }
        if made:
            outcome.attach(ATTACHMENT, made)

    def close(self) -> None:
        """Refuse further deferrals: the request is about to be answered."""
        with self._lock:
            self._is_closed = True

    def send(self) -> Awaitable[None] | None:
        """Send what waits. What is returned, if not None, ends with the acknowledgement.

        Raises:
            DeferSendError: it did not.
        """
        with self._lock:
            if not self._waiting:
                return None
        if self._call.is_async:
            return self._send_async()
        taken = self._take()
        try:
            self._call.engine.send_ops_sync([each.op for each in taken])
        except BaseException as err:
            self._give_back(taken)
            if isinstance(err, EngineError):
                raise self._not_sent(err) from err
            raise
        return None

    async def _send_async(self) -> None:
        taken = self._take()
        try:
            for waiting in taken:
                await self._finish(waiting)
            await self._call.engine.send_ops([each.op for each in taken])
        except BaseException as err:
            self._give_back(taken)
            if isinstance(err, EngineError):
                raise self._not_sent(err) from err
            raise

    async def _finish(self, waiting: _Waiting) -> None:
        """Await the rest of a deferral's hooks. After a failure the deferral never leaves."""
        if waiting.error is not None:
            raise waiting.error
        rest, waiting.rest = waiting.rest, None
        if rest is None:
            return
        place = f"a deferral in function {self._call.function_id!r}"
        waiting.error = DeferSendError(f"{place}: a hook was interrupted before it could be sent")
        try:
            await rest
            self._measure(waiting, place)
        except Exception as err:
            waiting.error = err
            raise
        waiting.error = None

    def _take(self) -> list[_Waiting]:
        with self._lock:
            taken, self._waiting = self._waiting, []
        return taken

    def _give_back(self, taken: list[_Waiting]) -> None:
        with self._lock:
            self._waiting = [*taken, *self._waiting]

    def _not_sent(self, err: EngineError) -> DeferSendError:
        return DeferSendError(
            f"function {self._call.function_id!r}: the engine did not take what run "
            f"{self._call.run_id} defers, so that this request fails and is tried again: {err}"
        )


DEFERRALS: Final = CallKey[Deferrals]("defer.deferrals")


def hashed(defer_id: str) -> str:
    """Return the hash by which the engine knows an id."""
    return hashlib.sha1(defer_id.encode(), usedforsecurity=False).hexdigest()


def _compact(data: object) -> str:
    return json.dumps(data, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def _described(named: object) -> str:
    return f"{named!r}" if type(named) is str else type(named).__name__
