"""Deferred functions beside the other plugins: what leaves, what arrives, who sees what."""

from __future__ import annotations

import json
from typing import Any

import inngest
import pydantic
import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from tests.defer.defer_rig import EVENT, App, Verdict

from inngest_plugins.checkpoint import CheckpointPlugin
from inngest_plugins.core import Call, Layer, Outcome, Plugin, Step
from inngest_plugins.defer import DeferUsageError, defer, deferred_function
from inngest_plugins.encryption import EncryptionPlugin, Key, KeyRing
from inngest_plugins.local import LocalEngine, VirtualClock
from inngest_plugins.metadata import MetadataPlugin, metadata
from inngest_plugins.otel import OpenTelemetryPlugin, make_replay_safe
from inngest_plugins.sentry import SentryPlugin
from inngest_plugins.validation import SchemaError, ValidationFailed, ValidationPlugin

pytestmark = pytest.mark.anyio

SECRET = "attack at dawn"
KEYS = KeyRing(Key("k1", bytes(32)))


class Watch(Plugin):
    """Notes what its layer sees of deferrals and of deferred runs."""

    def __init__(self, layer: Layer = Layer.CONTRACT) -> None:
        self.layer = layer
        self.left: list[tuple[str, Any]] = []
        self.calls: list[tuple[str, Any, Any]] = []
        self.reached: list[str] = []

    def step_reached(self, call: Call, step: Step) -> None:
        self.reached.append(step.op)

    def transform_step_input(self, call: Call, step: Step) -> None:
        self.left.append((step.op, step.input))

    def transform_input(self, call: Call) -> None:
        by = call.deferred_by
        self.calls.append(
            (call.handler_kind, dict(call.event.data), None if by is None else by.function_id)
        )


class Refusing(Plugin):
    """An async hook that refuses what is deferred."""

    layer = Layer.CONTRACT

    async def transform_step_input(self, call: Call, step: Step) -> None:
        raise DeferUsageError("refused by a contract")


class AsyncMark(Plugin):
    """An async hook that changes what is deferred."""

    layer = Layer.CONTRACT

    async def transform_step_input(self, call: Call, step: Step) -> None:
        assert step.input is not None
        step.input = {**step.input, "input": {**step.input["input"], "text": "marked"}}

    def transform_output(self, call: Call, outcome: Outcome) -> None: ...


async def _play(app: App, text: str = SECRET, **options: Any) -> Any:
    async def body(ctx: inngest.Context) -> None:
        defer("q", app.judge, Verdict(text=text))
        assert Call.current() is not None
        assert Call.current().in_body  # type: ignore[union-attr]

    def body_sync(ctx: inngest.ContextSync) -> None:
        defer("q", app.judge, Verdict(text=text))

    return await app.play(body, body_sync, **options)


async def test_an_async_hook_that_refuses_what_a_step_deferred() -> None:
    """With checkpoints too nothing of it leaves, neither beside the step nor with the answer."""
    app = App("async", (Refusing(), CheckpointPlugin()))

    async def step() -> str:
        defer("q", app.judge, Verdict(text="x"))
        return "done"

    async def body(ctx: inngest.Context) -> None:
        try:
            await ctx.step.run("one", step)
        except inngest.StepError:
            await ctx.step.run("two", step)

    played = await app.play(body, retries=1)
    assert played.run.status == "Failed"
    assert [name for names in played.calls.names for name in names if name == "DeferAdd"] == []
    assert played.deferred == []


@pytest.mark.parametrize("fields", ["*", ("text",)])
async def test_encryption_seals_it(kind: str, fields: Any) -> None:
    """The engine holds no plaintext; contracts and the function see nothing else."""
    inner, outer = Watch(), Watch(Layer.OBSERVE)
    encryption = EncryptionPlugin(KEYS, event_fields=fields, require_encrypted=True)
    app = App(kind, (encryption, inner, outer))
    reply = app.make(
        (lambda ctx: _defer_sync(app)) if kind == "sync" else (lambda ctx: _defer_async(app))
    )
    async with LocalEngine(app.client, [reply, app.function], clock=VirtualClock()) as engine:
        event = inngest.Event(
            name=EVENT,
            data=encryption.encrypt({}) if fields == "*" else {"text": encryption.encrypt("x")},
        )
        run = await engine.run(event, function=reply)
        await engine.settle()
        assert run.status == "Completed", run.error
        (deferred,) = engine.deferred
        assert deferred.status == "Completed", deferred.error
        held = json.dumps([request.request for each in engine.runs for request in each.requests])
        assert SECRET not in held
    assert app.judged[0] == Verdict(text=SECRET)
    assert ("DeferAdd", {"fn_slug": "shop-judge", "input": {"text": SECRET, "score": 0}}) in (
        inner.left
    )
    assert SECRET not in str(outer.left)
    assert [kind for kind, _, _ in inner.calls] == ["main", "deferred", "deferred"]
    assert inner.calls[1] == ("deferred", {"text": SECRET, "score": 0}, "shop-reply")
    assert "_inngest" not in str(outer.calls)
    assert "DeferAdd" not in inner.reached


def _defer_sync(app: App) -> None:
    defer("q", app.judge, Verdict(text=SECRET))


async def _defer_async(app: App) -> None:
    _defer_sync(app)


async def test_a_contract_that_refuses_it_at_the_call() -> None:
    """A plain hook raises where it was deferred."""

    class Plain(Plugin):
        layer = Layer.CONTRACT

        def transform_step_input(self, call: Call, step: Step) -> None:
            raise DeferUsageError("refused by a contract")

    app = App("async", (Plain(),))

    async def body(ctx: inngest.Context) -> str:
        with pytest.raises(DeferUsageError, match="contract"):
            defer("q", app.judge, Verdict(text="x"))
        return "went on"

    played = await app.play(body)
    assert (played.run.output, played.deferred) == ("went on", [])


async def test_async_hooks(kind: str) -> None:
    """In an async function they are awaited before the request is answered."""
    app = App(kind, (AsyncMark(),))
    await _play(app)
    assert app.judged[0].text == "marked"
    refusing = App(kind, (Refusing(),), app_id="refusing")
    played = await _play(refusing, retries=0)
    assert played.run.status == "Failed"
    assert "refused by a contract" in played.message
    assert played.deferred == []


async def test_all_plugins_at_once(kind: str) -> None:
    """OTel continues or links the trace; metadata knows the parent; nothing of it is seen."""
    exporter = InMemorySpanExporter()
    provider = make_replay_safe(TracerProvider())
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    app = App(
        kind,
        (
            OpenTelemetryPlugin(tracer_provider=provider),
            SentryPlugin(),
            EncryptionPlugin(KEYS, event_fields="*"),
            ValidationPlugin(require_schema=False),
            MetadataPlugin(),
        ),
    )
    parents: list[Any] = []
    other = deferred_function(app.client, fn_id="other", schema=Verdict, retries=0)
    if kind == "async":

        @other
        async def look(ctx: inngest.Context, verdict: Verdict) -> None:
            parents.append((metadata.has_parent, dict(ctx.event.data)))

        made = look
    else:

        @other
        def look_sync(ctx: inngest.ContextSync, verdict: Verdict) -> None:
            parents.append((metadata.has_parent, dict(ctx.event.data)))

        made = look_sync

    def use(ctx: Any) -> None:
        defer("q", other, Verdict(text=SECRET))

    async def body(ctx: inngest.Context) -> None:
        use(ctx)

    reply = app.make(use if kind == "sync" else body)
    async with LocalEngine(app.client, [reply, made, app.function], clock=VirtualClock()) as engine:
        run = await engine.run(inngest.Event(name=EVENT), function=reply)
        await engine.settle()
        assert run.status == "Completed", run.error
        assert [each.status for each in engine.deferred] == ["Completed"], engine.deferred[0].error
    assert parents == [(True, {"text": SECRET, "score": 0})]
    spans = {span.name: span for span in exporter.get_finished_spans()}
    sent, received = spans["defer shop-other"], spans["run shop-other"]
    assert sent.context is not None
    assert received.context is not None
    assert received.parent is not None
    linked = [link.context.trace_id for link in received.links]
    assert sent.context.trace_id in [received.context.trace_id, *linked]


async def test_its_failure_handler_sees_what_was_deferred() -> None:
    """The failed event quotes the deferred one, sealed as a whole and opened."""
    seen: list[Any] = []

    async def failed(ctx: inngest.Context) -> None:
        seen.append(ctx.event.data["event"])

    app = App("async", (EncryptionPlugin(KEYS, event_fields="*"),))
    other = deferred_function(
        app.client, fn_id="other", schema=Verdict, retries=0, on_failure=failed
    )

    @other
    async def fail(ctx: inngest.Context, verdict: Verdict) -> None:
        raise ValueError

    async def body(ctx: inngest.Context) -> None:
        defer("q", other, Verdict(text=SECRET))

    reply = app.make(body)
    async with LocalEngine(app.client, [reply, fail], clock=VirtualClock()) as engine:
        await engine.run(inngest.Event(name=EVENT), function=reply)
        await engine.settle()
    assert seen[0]["data"]["text"] == SECRET


async def test_what_a_sealed_step_deferred_is_known_later() -> None:
    """The digest beside a step's result is opened with it, and compared."""
    app = App("async", (EncryptionPlugin(KEYS),))

    async def use(text: str) -> str:
        defer("q", app.judge, Verdict(text=text))
        return "used"

    async def body(ctx: inngest.Context) -> None:
        await ctx.step.run("one", use, "a")
        await ctx.step.run("same", use, "a")
        await ctx.step.run("other", use, "b")

    played = await app.play(body, retries=0)
    assert played.run.status == "Failed"
    assert [step.id for step in played.run.steps.values() if step.status == "Completed"] == [
        "one",
        "same",
    ]


STRICTER = {
    "type": "object",
    "properties": {"text": {"maxLength": 3}, "score": {"type": "integer"}},
    "required": ["text"],
}


@pytest.mark.parametrize("name", ["judge", "shop-judge"])
async def test_validation_checks_it_at_the_call(kind: str, name: str) -> None:
    """A contract of the app, beside the function's own schema; plaintext, with encryption too."""
    app = App(
        kind,
        (EncryptionPlugin(KEYS, event_fields="*"), ValidationPlugin(deferred={name: STRICTER})),
    )

    def use() -> str:
        defer("fits", app.judge, Verdict(text="abc"))
        with pytest.raises(ValidationFailed, match="deferred to function shop-judge") as caught:
            defer("does not", app.judge, Verdict(text=SECRET))
        assert SECRET not in str(caught.value)
        return "went on"

    async def body(ctx: inngest.Context) -> str:
        return use()

    played = await app.play(body, lambda ctx: use())
    assert played.run.status == "Completed", played.run.error
    assert [verdict.text for verdict in app.judged][:1] == ["abc"]
    assert len(played.deferred) == 1


async def test_validation_checks_what_arrives() -> None:
    """What another deployment deferred, that checks nothing, fails before the handler."""
    app = App("async", (ValidationPlugin(deferred={"judge": STRICTER}, outgoing=False),))

    async def body(ctx: inngest.Context) -> None:
        defer("does not", app.judge, Verdict(text=SECRET))

    played = await app.play(body)
    (deferred,) = played.deferred
    assert deferred.status == "Failed"
    assert SECRET not in str(deferred.error)
    assert app.judged == []


def test_validation_names_functions_that_are_not_there() -> None:
    """For the doctor; and a key that is no id is refused."""
    app = App("async")
    (finding,) = ValidationPlugin(deferred={"jugde": STRICTER}).diagnose_functions([app.function])
    assert "deferred names the function 'jugde'" in finding
    assert "is it 'judge'" in finding
    with pytest.raises(SchemaError, match="deferred"):
        ValidationPlugin(deferred={1: STRICTER})  # type: ignore[dict-item]


@pytest.mark.parametrize("coerce", [False, True])
async def test_validation_coerces(coerce: bool) -> None:
    """With `coerce` the deferred function gets what the contract's type made of the data."""

    class Coerced(pydantic.BaseModel):
        text: str
        score: int = 0

        @pydantic.field_validator("text")
        @classmethod
        def _lower(cls, value: str) -> str:
            return value.lower()

    app = App("async", (ValidationPlugin(deferred={"judge": Coerced}, coerce=coerce),))

    async def body(ctx: inngest.Context) -> None:
        defer("q", app.judge, Verdict(text="ABC"))

    await app.play(body)
    assert app.judged[0].text == ("abc" if coerce else "ABC")
