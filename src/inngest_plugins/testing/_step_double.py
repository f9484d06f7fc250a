"""Puts stubs in the place of steps, inside the real SDK.

A stubbed step goes through the whole machine: its request, its memo, its retries and every
plugin are real, only the handler is not. A step that has no handler in the app (invoke, wait,
inference, sleep) becomes one that has: the engine sees a ``StepRun`` with the same id.
"""

from __future__ import annotations

import dataclasses
import inspect
import typing

import inngest

from inngest_plugins.core import Call, CallKey, Layer, Outcome, Plugin, Send, Step

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

    def transform_input(self, call: Call) -> None:
        """Take the place of the step tools for this request."""
        _Doubles(call, self._book, self.calls).install()

    def transform_step_input(self, call: Call, step: Step) -> None:
        """Note a step that leaves for the engine."""
        given: dict[str, typing.Any] = step.input or {}
        if step.op == "InvokeFunction":
            args: tuple[object, ...] = ((given.get("payload") or {}).get("data"),)
        elif step.op == "WaitForEvent":
            args = (step.name,)
        else:
            args = (given.get("body"),)
        self.calls.append(_step_call(call, step.id, args, stubbed=False))

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


class _Doubles:
    """The doubles of the step tools of one request."""

    def __init__(self, call: Call, book: StubBook, calls: list[StepCall]) -> None:
        self._call = call
        self._book = book
        self._calls = calls
        self._tools: typing.Any = call.ctx.step
        self._run: typing.Any = self._tools.run
        self._sending: list[inngest.Event] | None = None

    def install(self) -> None:
        """Set the doubles on the step object, where user code and the SDK itself find them."""
        tools = self._tools
        doubles: dict[str, Callable[..., object]] = {
            "run": self._double_of_run,
            "send_event": self._double_of_send_event(tools.send_event),
            "invoke_by_id": self._replacing(
                tools.invoke_by_id, lambda **given: given.get("data"), final=True
            ),
            "wait_for_event": self._replacing(
                tools.wait_for_event,
                lambda **given: given["event"],
                store=_event_as_json,
                restore=_event_of_json,
            ),
            "sleep": self._replacing(tools.sleep, lambda duration: duration),
            "sleep_until": self._replacing(tools.sleep_until, lambda until: until),
        }
        for name, double in doubles.items():
            setattr(tools, name, double)
        tools.ai.infer = self._replacing(tools.ai.infer, lambda **given: given["body"])

    def _find(self, step_id: str) -> StubKey | None:
        return self._book.find(self._call.local_id, step_id)

    def _double_of_run(
        self,
        step_id: str,
        handler: Callable[..., object],
        *args: typing.Any,
        **options: typing.Any,
    ) -> object:
        # step.send_event is a step.run inside: what it was given stands in for the handler's.
        sending, self._sending = self._sending, None
        told = args if sending is None else (sending,)
        key = self._find(step_id)

        def run(*given: typing.Any) -> object:
            stub = Passes() if key is None else self._book.take(key)
            stubbed = not isinstance(stub, Passes)
            self._calls.append(_step_call(self._call, step_id, told, stubbed=stubbed))
            return handler(*given) if isinstance(stub, Passes) else self._answer(stub, told)

        return self._run(step_id, run, *args, **options)

    def _double_of_send_event(self, original: typing.Any) -> Callable[..., object]:
        def listed(events: inngest.Event | list[inngest.Event]) -> list[inngest.Event]:
            return events if isinstance(events, list) else [events]

        def send_event(step_id: str, events: inngest.Event | list[inngest.Event]) -> object:
            self._sending = listed(events)
            return original(step_id, events)

        async def send_event_async(
            step_id: str, events: inngest.Event | list[inngest.Event]
        ) -> object:
            self._sending = listed(events)
            return await original(step_id, events)

        return send_event_async if self._call.is_async else send_event

    def _replacing(
        self,
        original: typing.Any,
        told: Callable[..., object],
        *,
        store: Callable[..., object] = lambda value, **_: value,
        restore: Callable[[typing.Any], object] = lambda value: value,
        final: bool = False,
    ) -> Callable[..., object]:
        """A double for a tool whose work the engine does: a stub makes it a ``step.run``.

        Args:
            original: The tool.
            told: What to tell the stub, from the tool's arguments.
            store: Turns the stub's result into what the memo holds.
            restore: Turns what the memo holds into what the tool returns.
            final: Whether an exception of the stub fails the step at once.
        """

        def double(step_id: str, *args: typing.Any, **options: typing.Any) -> object:
            key = self._find(step_id)
            if key is None or self._book.begins_with_passes(key):
                return original(step_id, *args, **options)
            arguments = (told(*args, **options),)

            def answer() -> object:
                stub = self._book.take(key)
                self._calls.append(_step_call(self._call, step_id, arguments, stubbed=True))
                return self._answer(stub, arguments)

            def run() -> object:
                try:
                    return store(answer(), **options)
                except Exception as error:
                    self._fail(error, final=final)
                    return None

            async def run_async() -> object:
                try:
                    result = answer()
                    result = await result if inspect.isawaitable(result) else result
                    return store(result, **options)
                except Exception as error:
                    self._fail(error, final=final)
                    return None

            async def restored() -> object:
                return restore(await self._run(step_id, run_async))

            return restored() if self._call.is_async else restore(self._run(step_id, run))

        return double

    def _fail(self, error: Exception, *, final: bool) -> None:
        step = self._call.step
        if not final or step is None:
            raise error
        # Raising would have the step retried; the outcome is failed after the handler instead.
        step[_FAILURE] = error

    def _answer(
        self, stub: Returns | Raises | Calls | Passes, told: tuple[typing.Any, ...]
    ) -> object:
        if isinstance(stub, Returns):
            return stub.value
        if isinstance(stub, Raises):
            raise stub.error() if isinstance(stub.error, type) else stub.error
        if isinstance(stub, Passes):
            raise inngest.NonRetriableError(
                "in_turn(..., passes()) is only for steps that have a handler: the engine cannot "
                "take a stubbed step over"
            )
        result = stub.function(*told)
        if inspect.iscoroutine(result) and not self._call.is_async:
            result.close()
            raise TypeError(
                f"function {self._call.local_id!r} is sync, so its stubs must be: "
                f"{getattr(stub.function, '__qualname__', stub.function)} is async"
            )
        return result


def _event_as_json(value: object, **options: typing.Any) -> object:
    if isinstance(value, inngest.Event):
        return value.model_dump()
    return None if value is None else {"name": options["event"], "data": value}


def _event_of_json(value: object) -> inngest.Event | None:
    return None if value is None else inngest.Event.model_validate(value)
