"""The plugin: contracts on everything that enters and leaves a function."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeVar, cast

import inngest

from inngest_plugins.core import Call, Layer, Outcome, Plugin, Send, Step, check_switch

from ._compilation import compile_schema
from ._compiled import CompiledSchema
from ._contracts import Contracts
from ._engine import EngineName, check_engine
from ._event_type import EventType
from ._incoming import Incoming, OnInvalid
from ._registry import SchemaRegistry
from ._violations import Rejection, SchemaError, failure_of

K = TypeVar("K")


class ValidationPlugin(Plugin):
    """Holds events and outputs to schemas: no bad event reaches a handler or leaves the app.

    It stands inside encryption, whatever the order in `middleware=[...]`, so it always sees
    plaintext; and it fails closed.

    Args:
        events: Event types, a `SchemaRegistry`, a mapping of event names (or patterns such as
            "shop/*") to schemas, or the path of a folder of schema files.
        registry: A registry to use, in place of `events`.
        incoming: Check the triggering events, the data of invokes, and what `wait_for_event`
            returns. A bad one fails the run without retries, before user code gets it.
        outgoing: Check what `client.send`, `step.send_event` and `step.invoke` send. A bad event
            raises `ValidationFailed` there, and nothing of the batch is sent.
        require_schema: Refuse events that have no schema. The engine's own events need none.
        coerce: Hand on the parsed value as JSON, with defaults filled in and types converted, in
            place of the original. A JSON Schema only checks, so it changes nothing there.
        on_invalid: What becomes of a bad event in a batch: "fail" fails the run; "drop" leaves it
            out, logs it and lists it in `dropped_events()`. A batch with no good event fails.
        outputs: Schemas of what functions return, by function id.
        steps: Schemas of what steps return, by (function id, step id).
        engine: The JSON Schema engine for schemas that are not compiled yet: "jsonschema",
            "jsonschema-rs", or "auto" for the second where it is installed.

    Raises:
        SchemaError: A schema is wrong; the message names the event and the place in the schema.
        TypeError: A switch is neither True nor False.
    """

    layer = Layer.CONTRACT

    def __init__(
        self,
        events: SchemaRegistry | Iterable[EventType[Any]] | Mapping[str, object] | Path | str = (),
        *,
        registry: SchemaRegistry | None = None,
        incoming: bool = True,
        outgoing: bool = True,
        require_schema: bool = False,
        coerce: bool = False,
        on_invalid: OnInvalid = "fail",
        outputs: Mapping[str, object] | None = None,
        steps: Mapping[tuple[str, str], object] | None = None,
        engine: EngineName = "auto",
    ) -> None:
        if on_invalid not in {"fail", "drop"}:
            msg = f'on_invalid is "fail" or "drop", not {on_invalid!r}'
            raise ValueError(msg)
        check_engine(engine)
        check_switch("incoming", incoming)
        check_switch("outgoing", outgoing)
        check_switch("require_schema", require_schema)
        check_switch("coerce", coerce)
        given: object = registry
        if not isinstance(given, SchemaRegistry | None):
            msg = f"registry is a SchemaRegistry, not {type(given).__name__}"
            raise SchemaError(msg)
        if registry is not None and events != ():
            msg = "give the events or a registry of them, not both"
            raise SchemaError(msg)
        if registry is not None:
            self.registry = registry
        elif isinstance(events, SchemaRegistry):
            self.registry = events
        else:
            self.registry = SchemaRegistry(events, engine=engine)
        self._checks_incoming = incoming
        self._checks_outgoing = outgoing
        self._contracts = Contracts(self.registry, require_schema=require_schema, coerce=coerce)
        self._functions: dict[str, inngest.Function[Any]] = {}
        self._incoming = Incoming(self._contracts, on_invalid, self._functions.get)
        outputs = _by_name("outputs", outputs, '{"function": Schema}')
        steps = _by_name("steps", steps, '{("function", "step"): Schema}')
        for function in outputs:
            given_id: object = function
            if not isinstance(given_id, str):
                msg = f'outputs: the key {function!r} must be the id of a function, as in "fulfil"'
                raise SchemaError(msg)
        for pair in steps:
            if not _is_pair(pair):
                msg = (
                    f"steps: the key {pair!r} must be the ids of a function and of a step, "
                    'such as ("fulfil", "charge")'
                )
                raise SchemaError(msg)
        self._outputs = {
            function: compile_schema(schema, where=f"output of function {function}", engine=engine)
            for function, schema in outputs.items()
        }
        self._steps = {
            key: compile_schema(
                schema, where=f"output of step {key[1]} of function {key[0]}", engine=engine
            )
            for key, schema in steps.items()
        }

    def diagnose_functions(self, functions: Sequence[inngest.Function[Any]]) -> Iterable[str]:
        """Tell `inngest-plugins doctor` which contracts no function of the app will ever meet.

        Args:
            functions: All functions of the app.
        """
        known = {name for function in functions for name in (function.local_id, function.id)}
        for option, named in (
            ("outputs", self._outputs),
            ("steps", [function for function, _ in self._steps]),
        ):
            for name in dict.fromkeys(named):
                if name not in known:
                    close = get_close_matches(name, known, n=1)
                    hint = f"; is it {close[0]!r}?" if close else ""
                    yield (
                        f"{option} names the function {name!r}, and the app has none of this id, "
                        f"so nothing is checked{hint}"
                    )

    def transform_input(self, call: Call) -> None:
        """Check the events, and have those looked at that steps will return."""
        self._functions[call.function.id] = call.function
        if self._checks_incoming:
            self._incoming.admit(call)
            self._watch_waits(call)
        if self._checks_outgoing:
            self._watch_invokes(call)

    def _watch_waits(self, call: Call) -> None:
        # A memo does not say which tool made it, and a step may return what looks like an event.
        # The tool itself knows, so its result is checked on the way to the function.
        step: Any = call.ctx.step
        wait = step.wait_for_event
        incoming = self._incoming
        if call.is_async:

            async def checked_async(*args: Any, **kwargs: Any) -> inngest.Event | None:
                return incoming.receive(call, await wait(*args, **kwargs))

            step.wait_for_event = checked_async
        else:

            def checked(*args: Any, **kwargs: Any) -> inngest.Event | None:
                return incoming.receive(call, wait(*args, **kwargs))

            step.wait_for_event = checked

    def _watch_invokes(self, call: Call) -> None:
        # The hook for a step's input knows the target by its id alone; this is where the function
        # itself is named. `invoke_by_id` stays with the functions met so far.
        step: Any = call.ctx.step
        invoke = step.invoke
        functions = self._functions

        def noted(step_id: str, *, function: inngest.Function[Any], **kwargs: Any) -> Any:
            functions[function.id] = function
            return invoke(step_id, function=function, **kwargs)

        step.invoke = noted

    def transform_step_input(self, call: Call, step: Step) -> None:
        """Check the data of an invoke by the schemas of the function it is for."""
        if not self._checks_outgoing or step.op != "InvokeFunction" or step.input is None:
            return
        target = str(step.input.get("function_id", ""))
        function = self._functions.get(target)
        if function is None:
            return
        payload = step.input["payload"]
        data = payload.get("data") or {}
        try:
            verdict = self._contracts.check_invoked(
                function, data, mask_keys=call.stack.secret_payloads
            )
        except Rejection as found:
            rejection = found
        else:
            if verdict.handed_on is not data:
                payload["data"] = verdict.handed_on
            return
        raise rejection.failure(f"invoke of function {target} (step {step.id})", "outgoing")

    def before_send_events(self, send: Send) -> None:
        """Check every event; nothing is sent when one is bad."""
        if not self._checks_outgoing:
            return
        mask_keys = send.stack.secret_payloads
        rejected: list[tuple[int | None, str, Rejection]] = []
        for index, event in enumerate(send.events):
            try:
                verdict = self._contracts.check_event(event.name, event.data, mask_keys=mask_keys)
            except Rejection as found:  # noqa: PERF203
                place = index if len(send.events) > 1 else None
                rejected.append((place, f"event {event.name}", found))
            else:
                if verdict.handed_on is not event.data:
                    event.data = verdict.handed_on
        if rejected:
            raise failure_of(rejected, "outgoing")

    def transform_output(self, call: Call, outcome: Outcome) -> None:
        """Check what a step or the function returned."""
        if outcome.error is not None or not outcome.has_output:
            return
        found = self._schema_of(call, outcome)
        if found is None:
            return
        subject, schema = found
        try:
            verdict = self._contracts.check(
                outcome.output, (schema,), mask_keys=call.stack.secret_payloads
            )
        except Rejection as rejected:
            rejection = rejected
        else:
            if verdict.handed_on is not outcome.output:
                outcome.output = verdict.handed_on
            return
        raise rejection.failure(subject, "output")

    def _schema_of(self, call: Call, outcome: Outcome) -> tuple[str, CompiledSchema[Any]] | None:
        if call.handler_kind != "main":
            return None
        for function in (call.local_id, call.function_id):
            if outcome.step is not None:
                schema = self._steps.get((function, outcome.step.id))
                subject = f"output of step {outcome.step.id} of function {function}"
            else:
                schema = self._outputs.get(function)
                subject = f"output of function {function}"
            if schema is not None:
                return subject, schema
        return None


def _by_name(option: str, schemas: Mapping[K, object] | None, shape: str) -> Mapping[K, object]:
    if schemas is None:
        return {}
    if not isinstance(schemas, Mapping):
        msg = f"{option} is a mapping such as {shape}, not {type(schemas).__name__}"
        raise SchemaError(msg)
    return schemas


def _is_pair(key: object) -> bool:
    if not isinstance(key, tuple):
        return False
    ids = cast("tuple[object, ...]", key)
    return len(ids) == 2 and all(isinstance(each, str) for each in ids)
