"""The plugin: checks everything that enters and leaves a function against its schema."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeVar, cast

import inngest

from inngest_plugins.core import (
    ArgumentError,
    Call,
    Layer,
    Memo,
    Outcome,
    Plugin,
    Send,
    Stack,
    Step,
    check_switch,
)
from inngest_plugins.validation.events.event_type import EventType, SecretEvent
from inngest_plugins.validation.events.registry import SchemaRegistry
from inngest_plugins.validation.schemas.compilation import compile_schema
from inngest_plugins.validation.schemas.schema import (
    CompiledSchema,
    EngineName,
    Rejection,
    SchemaError,
    Secrets,
    check_engine,
    check_secrets,
    failure_of,
    pointer_to,
)

from .contracts import Contracts, check_sealed
from .deferred import DeferredContracts
from .incoming import Incoming, OnInvalid

K = TypeVar("K")


class ValidationPlugin(Plugin):
    """Checks events and outputs against schemas: no bad event reaches a handler or leaves the app.

    It runs inside encryption for every order of `middleware=[...]`, so it always sees plaintext.
    It fails closed.

    Args:
        events: Event types, a `SchemaRegistry`, a mapping of event names (or patterns such as
            "shop/*") to schemas, or the path of a folder of schema files.
        registry: A registry to use, in place of `events`.
        incoming: Check the triggering events, the data of invokes, and what `wait_for_event`
            returns. A bad one fails the run without retries, before user code gets it.
        outgoing: Check what `client.send`, `step.send_event` and `step.invoke` send. A bad event
            raises `ValidationFailed` there, and nothing of the batch is sent.
        require_schema: Refuse events that have no schema. The engine's own events need none.
        coerce: Pass on the parsed value as JSON, with defaults filled in and types converted, in
            place of the original. A JSON Schema only checks, so it changes nothing there.
            It refuses a type whose JSON form loses part of a value.
        secrets: What `coerce` does with `SecretStr` and other secrets in schemas that are not
            event types yet: "refuse" them, or, with "encrypted", carry them in full where a
            plugin encrypts the field (or the output).
        on_invalid: What to do with a bad event of a batch: "fail" fails the run; "drop" leaves it
            out, logs it and lists it in `dropped_events()`. A batch with no good event fails.
        outputs: Schemas of what functions return, by function id.
        steps: Schemas of what steps return, by (function id, step id).
        deferred: Schemas of the data of deferred functions, by function id; checked where it is
            deferred (`outgoing`) and where it arrives (`incoming`).
        engine: The JSON Schema engine for schemas that are not compiled yet: "jsonschema",
            "jsonschema-rs", or "auto" for the second where it is installed.

    Raises:
        SchemaError: A schema is wrong; the message names the event and the place in the schema.
        ArgumentError: A switch is neither True nor False.
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
        secrets: Secrets = "refuse",
        on_invalid: OnInvalid = "fail",
        outputs: Mapping[str, object] | None = None,
        steps: Mapping[tuple[str, str], object] | None = None,
        deferred: Mapping[str, object] | None = None,
        engine: EngineName = "auto",
    ) -> None:
        if on_invalid not in ("fail", "drop"):
            msg = f'on_invalid is "fail" or "drop", not {on_invalid!r}'
            raise ArgumentError(msg)
        check_engine(engine)
        check_secrets(secrets)
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
            self.registry = SchemaRegistry(events, engine=engine, secrets=secrets)
        self._checks_incoming = incoming
        self._checks_outgoing = outgoing
        self._contracts = Contracts(self.registry, require_schema=require_schema, coerce=coerce)
        self._functions: dict[str, inngest.Function[Any]] = {}
        self._incoming = Incoming(self._contracts, on_invalid, self._functions.get)
        outputs = _by_name("outputs", outputs, '{"function": Schema}')
        steps = _by_name("steps", steps, '{("function", "step"): Schema}')
        _check_keys(outputs, steps)
        self._outputs = {
            function: compile_schema(
                schema, where=f"output of function {function}", engine=engine, secrets=secrets
            )
            for function, schema in outputs.items()
        }
        self._steps = {
            key: compile_schema(
                schema,
                where=f"output of step {key[1]} of function {key[0]}",
                engine=engine,
                secrets=secrets,
            )
            for key, schema in steps.items()
        }
        given_deferred = _by_name("deferred", deferred, '{"function": Schema}')
        _check_keys(given_deferred, (), option="deferred")
        self._deferred_schemas = {
            function: compile_schema(
                schema, where=f"data deferred to {function}", engine=engine, secrets=secrets
            )
            for function, schema in given_deferred.items()
        }
        self._deferred = DeferredContracts(self._contracts, self._deferred_schemas)
        if coerce:
            self._refuse_lossy_schemas()

    def _refuse_lossy_schemas(self) -> None:
        named = [(f"event {each.name}", each.compiled) for each in self.registry]
        named += [(f"output of function {name}", each) for name, each in self._outputs.items()]
        named += [
            (f"output of step {step} of function {function}", each)
            for (function, step), each in self._steps.items()
        ]
        named += [
            (f"data deferred to {name}", each) for name, each in self._deferred_schemas.items()
        ]
        for subject, schema in named:
            found = sorted(f"{pointer_to(path)}: {why}" for path, why in schema.lossy_fields())
            if found:
                msg = f"{subject}: coerce=True cannot pass on what is at {'; at '.join(found)}"
                raise SchemaError(msg)

    def diagnose(self, stack: Stack) -> Iterable[str]:
        """Report to `inngest-plugins doctor` which secrets will be refused: nothing encrypts them.

        Args:
            stack: The stack that the plugin is part of.
        """
        for each in self.registry:
            if each.compiled.secrets == "encrypted":
                fields = dict.fromkeys(str(path[0]) for path in each.compiled.secret_fields)
                for field in fields:
                    if not stack.seals_field(field):
                        yield (
                            f"event {each.name} carries a secret in {field!r}, a field that no "
                            "plugin encrypts, so it is refused where it is sent"
                        )

    def diagnose_functions(self, functions: Sequence[inngest.Function[Any]]) -> Iterable[str]:
        """Report to `inngest-plugins doctor` which contracts belong to no function of the app.

        Args:
            functions: All functions of the app.
        """
        known = {name for function in functions for name in (function.local_id, function.id)}
        for option, named in (
            ("outputs", self._outputs),
            ("steps", [function for function, _ in self._steps]),
            ("deferred", self._deferred),
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
        """Check the events."""
        self._functions[call.function.id] = call.function
        if self._checks_incoming:
            self._incoming.admit(call)
            if call.handler_kind == "deferred":
                self._deferred.check_arrived(call)

    def transform_memo(self, call: Call, step: Step) -> None:
        """Check the event that `wait_for_event` is about to return."""
        if not self._checks_incoming or step.op != "WaitForEvent" or step.memo is None:
            return
        received = step.memo.data
        event = inngest.Event.from_raw(received) if isinstance(received, dict) else None
        if not isinstance(event, inngest.Event):
            # A wait that timed out; or what the SDK itself will refuse.
            return
        data = event.data
        self._incoming.receive(call, event)
        if event.data is not data:
            step.memo = Memo({**cast("dict[str, Any]", received), "data": event.data})

    def transform_step_input(self, call: Call, step: Step) -> None:
        """Check the data of an invoke by the schemas of the function it is for; of a deferral."""
        if self._checks_outgoing and step.op == "DeferAdd":
            self._deferred.check_deferral(call, step)
            return
        if not self._checks_outgoing or step.op != "InvokeFunction" or step.input is None:
            return
        target = str(step.input.get("function_id", ""))
        if step.function is not None:
            self._functions[step.function.id] = step.function
        function = step.function or self._functions.get(target)
        if function is None:
            return
        payload = step.input["payload"]
        data = payload.get("data") or {}
        try:
            verdict = self._contracts.check_invoked(
                function, data, mask_keys=call.stack.secret_payloads
            )
            self._contracts.check_sealed(verdict.schema, verdict.passed_on, call.stack)
        except Rejection as found:
            rejection = found
        else:
            if verdict.passed_on is not data:
                payload["data"] = verdict.passed_on
            return
        raise rejection.failure(f"invoke of function {target} (step {step.id})", "outgoing")

    def before_send_events(self, send: Send) -> None:
        """Check every event; nothing is sent when one is bad."""
        rejected: list[tuple[int | None, str, Rejection]] = []
        for index, event in enumerate(send.events):
            try:
                if isinstance(event, SecretEvent):
                    check_sealed(event.secret_fields, event.data, send.stack)
                    send.events[index] = event.plain()
                if self._checks_outgoing:
                    self._check_outgoing(send.events[index], send.stack)
            except Rejection as found:  # noqa: PERF203 - each event has a verdict of its own
                place = index if len(send.events) > 1 else None
                rejected.append((place, f"event {event.name}", found))
        if rejected:
            raise failure_of(rejected, "outgoing")

    def _check_outgoing(self, event: inngest.Event, stack: Stack) -> None:
        verdict = self._contracts.check_event(
            event.name, event.data, mask_keys=stack.secret_payloads, sent=True
        )
        self._contracts.check_sealed(verdict.schema, verdict.passed_on, stack)
        if verdict.passed_on is not event.data:
            event.data = verdict.passed_on

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
            if schema.secrets == "encrypted" and schema.secret_fields:
                _check_sealed_output(call.stack)
        except Rejection as rejected:
            rejection = rejected
        else:
            if verdict.passed_on is not outcome.output:
                outcome.output = verdict.passed_on
            return
        raise rejection.failure(subject, "output")

    def _schema_of(self, call: Call, outcome: Outcome) -> tuple[str, CompiledSchema[Any]] | None:
        if call.handler_kind == "on_failure":
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


def _check_sealed_output(stack: Stack) -> None:
    if not stack.seals_outputs:
        raise Rejection.of("secret", "a plugin that encrypts outputs, since it holds a secret")


def _by_name(option: str, schemas: Mapping[K, object] | None, shape: str) -> Mapping[K, object]:
    if schemas is None:
        return {}
    if not isinstance(schemas, Mapping):
        msg = f"{option} is a mapping such as {shape}, not {type(schemas).__name__}"
        raise SchemaError(msg)
    return schemas


def _check_keys(
    outputs: Iterable[object], steps: Iterable[object], *, option: str = "outputs"
) -> None:
    for function in outputs:
        if not isinstance(function, str):
            msg = f'{option}: the key {function!r} must be the id of a function, as in "fulfil"'
            raise SchemaError(msg)
    for pair in steps:
        if not _is_pair(pair):
            msg = (
                f"steps: the key {pair!r} must be the ids of a function and of a step, "
                'such as ("fulfil", "charge")'
            )
            raise SchemaError(msg)


def _is_pair(key: object) -> bool:
    if not isinstance(key, tuple):
        return False
    ids = cast("tuple[object, ...]", key)
    return len(ids) == 2 and all(isinstance(each, str) for each in ids)
