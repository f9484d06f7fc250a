"""Answers steps with stubs, inside the real SDK.

A stubbed step goes through the whole machine: its request, its memo, its retries and every
plugin are real, only the handler is not. A step that has no handler in the app (invoke, wait,
inference, sleep) becomes one that has: the engine sees a ``StepRun`` with the same id.
"""

from __future__ import annotations

import dataclasses
import inspect
import typing

import inngest

from inngest_plugins.core import (
    Answer,
    ArgumentError,
    Call,
    CallKey,
    Layer,
    Outcome,
    Plugin,
    Send,
    Step,
    class_name,
)

from ._stubs import Calls, Passes, Raises, Returns, StubBook, StubKey

if typing.TYPE_CHECKING:
    from collections.abc import Callable

_FAILURE: typing.Final = CallKey[BaseException]("testing.failure")
_PENDING: typing.Final = CallKey[list[inngest.Event]]("testing.pending")


@dataclasses.dataclass(frozen=True)
class StepCall:
    """One execution of a step: not a replay, but its handler or its stub, or its departure.

    Attributes:
        function_id: Local id of the function.
        step_id: The id of the step.
        run_id: The run.
        attempt: Attempt of the job, from 0.
        args: What the handler got; for an invoke its data, for a wait the event's name, for
            ``send_event`` the list of events, for an inference the request body.
        stubbed: Whether a stub answered.
    """

    function_id: str
    step_id: str
    run_id: str
    attempt: int
    args: tuple[typing.Any, ...]
    stubbed: bool


class StepDoubles(Plugin):
    """The plugin that the harness adds to the client.

    Args:
        book: The stubs.
    """

    name = "testing"
    layer = Layer.CONTEXT
    fail_open = False

    def __init__(self, book: StubBook) -> None:
        self._book = book
        self.calls: list[StepCall] = []
        self.sent: list[inngest.Event] = []

    def answer_step(self, call: Call, step: Step) -> Answer | None:
        """Have a stub run in the place of a handler, or of what the engine would do."""
        key = self._book.find(call.local_id, step.id)
        if step.op != "StepRun":
            if key is None or self._book.begins_with_passes(key):
                return None
            return Answer(handler=self._of_engine_step(call, step, key))
        stub = Passes() if key is None else self._book.take(key)
        is_stubbed = not isinstance(stub, Passes)
        self.calls.append(_step_call(call, step.id, step.args, stubbed=is_stubbed))
        if isinstance(stub, Passes):
            return None
        given = step.args
        return Answer(handler=lambda *_: _result(call, stub, given))

    def _of_engine_step(self, call: Call, step: Step, key: StubKey) -> Callable[..., object]:
        """The handler of a step that the engine would do: runs the stub, and stores as it would."""
        is_wait, is_invoke, name = step.op == "WaitForEvent", step.op == "InvokeFunction", step.name
        given = _given(step)

        def begin() -> object:
            stub = self._book.take(key)
            self.calls.append(_step_call(call, step.id, given, stubbed=True))
            if isinstance(stub, Passes):
                raise inngest.NonRetriableError(
                    "in_turn(..., passes()) is only for steps that have a handler: the engine "
                    "cannot take a stubbed step over"
                )
            return _result(call, stub, given)

        def fail(error: Exception) -> None:
            if not is_invoke:
                raise error
            # Raising would have the step retried; the outcome is failed after the handler instead.
            step[_FAILURE] = error

        def stored(value: object) -> object:
            return _event_as_json(value, name) if is_wait else value

        def run(*_: object) -> object:
            try:
                return stored(begin())
            except Exception as error:
                fail(error)
                return None

        async def run_async(*_: object) -> object:
            try:
                value = begin()
                return stored(await value if inspect.isawaitable(value) else value)
            except Exception as error:
                fail(error)
                return None

        return run_async if call.is_async else run

    def transform_step_input(self, call: Call, step: Step) -> None:
        """Note a step that leaves for the engine."""
        self.calls.append(_step_call(call, step.id, _given(step), stubbed=False))

    def transform_output(self, call: Call, outcome: Outcome) -> None:
        """Fail a stubbed invoke the way that a failed function fails it."""
        del call
        failure = None if outcome.step is None else outcome.step.get(_FAILURE)
        if failure is not None:
            outcome.error = inngest.StepError(str(failure), type(failure).__name__, None)

    def before_send_events(self, send: Send) -> None:
        """Keep the events as user code sent them, before encryption and the like."""
        if send.call is not None:
            send[_PENDING] = [event.model_copy(deep=True) for event in send.events]

    def after_send_events(self, send: Send) -> None:
        """Count them once they have left."""
        if send.error is None:
            for event, event_id in zip(send.get(_PENDING) or (), send.ids, strict=False):
                event.id = event.id or event_id
                self.sent.append(event)


def _step_call(
    call: Call, step_id: str, args: tuple[typing.Any, ...], *, stubbed: bool
) -> StepCall:
    return StepCall(call.local_id, step_id, call.run_id, call.attempt, args, stubbed)


def _given(step: Step) -> tuple[typing.Any, ...]:
    """The arguments of a stub for a step that the engine would do."""
    asked: dict[str, typing.Any] = step.input or {}
    if step.op == "InvokeFunction":
        return ((asked.get("payload") or {}).get("data"),)
    if step.op == "DeferAdd":
        return (asked.get("input"),)
    if step.op == "WaitForEvent":
        return (step.name,)
    return step.args or (asked.get("body"),)


def _result(call: Call, stub: Returns | Raises | Calls, given: tuple[typing.Any, ...]) -> object:
    if isinstance(stub, Returns):
        return stub.value
    if isinstance(stub, Raises):
        raise stub.error() if isinstance(stub.error, type) else stub.error
    result = stub.function(*given)
    if inspect.iscoroutine(result) and not call.is_async:
        result.close()
        raise ArgumentError(
            f"function {call.local_id!r} is sync, so its stubs must be: "
            f"{getattr(stub.function, '__qualname__', stub.function)} is async"
        )
    return result


def _event_as_json(value: object, name: str) -> object:
    if isinstance(value, inngest.Event):
        return value.model_dump()
    if value is not None and not isinstance(value, dict):
        raise inngest.NonRetriableError(
            "the stub of a wait gives an inngest.Event, its data as a dict, or None for a timeout, "
            f"not {class_name(value)}"
        )
    return None if value is None else {"name": name, "data": value}
