"""The plugin in real runs: the SDK over its HTTP protocol, driven by the embedded engine."""

import datetime
import logging
from typing import Any

import fastapi
import httpx
import inngest
import inngest.fast_api
import pytest
from pydantic import BaseModel, ConfigDict

from inngest_plugins.core import Call
from inngest_plugins.local import LocalEngine, Run
from inngest_plugins.validation import (
    EventType,
    SchemaRegistry,
    ValidationFailed,
    ValidationPlugin,
    dropped_events,
)

pytestmark = pytest.mark.anyio

SECRET = "canary-4111-1111"


class Line(BaseModel):
    sku: str
    quantity: int = 1


class Order(BaseModel):
    model_config = ConfigDict(extra="forbid")

    id: str
    lines: list[Line] = []


order_placed = EventType("shop/order.placed", Order)
BAD: dict[str, Any] = {"id": "o-1", "lines": [{"sku": "a"}, {"sku": 7, "quantity": SECRET}]}
GOOD: dict[str, Any] = {"id": "o-1", "lines": [{"sku": "a", "quantity": "2"}]}


def client_with(*plugins: Any) -> inngest.Inngest:
    return inngest.Inngest(app_id="shop", is_production=False, middleware=list(plugins))


def incoming(**options: Any) -> inngest.Inngest:
    """A client that lets anything out, so that bad events can come in."""
    return client_with(ValidationPlugin([order_placed], outgoing=False, **options))


def error_of(run: Run) -> str:
    assert run.error is not None
    assert run.error["name"] == "ValidationFailed"
    assert SECRET not in str(run.error)
    return str(run.error["message"])


def function_of(client: inngest.Inngest, body: Any, *, is_async: bool, **options: Any) -> Any:
    """A function whose body is an ordinary callable of ctx, in either colour."""
    options.setdefault("trigger", order_placed.trigger())
    create: Any = client.create_function(fn_id="fulfil", **options)
    if is_async:

        async def handler(ctx: inngest.Context) -> Any:
            return body(ctx)

        return create(handler)

    def handler_sync(ctx: inngest.ContextSync) -> Any:
        return body(ctx)

    return create(handler_sync)


@pytest.mark.parametrize("is_async", [True, False])
class TestIncoming:
    async def test_a_good_event_reaches_the_handler_untouched(self, is_async: bool) -> None:
        """Without coerce, the handler gets the very data that was sent."""
        client = incoming()
        fn = function_of(client, lambda ctx: dict(ctx.event.data), is_async=is_async)
        async with LocalEngine(client, [fn]) as engine:
            run = await engine.run(inngest.Event(name="shop/order.placed", data=GOOD))
        assert run.status == "Completed"
        assert run.output == GOOD

    async def test_a_bad_event_fails_the_run_at_once(self, is_async: bool) -> None:
        """The handler is never entered, there is one request, and the message names the places."""
        ran: list[str] = []
        client = incoming()
        fn = function_of(client, lambda ctx: ran.append("ran"), is_async=is_async)
        async with LocalEngine(client, [fn]) as engine:
            run = await engine.run(inngest.Event(name="shop/order.placed", data=BAD))
        assert run.status == "Failed"
        assert len(run.requests) == 1
        assert ran == []
        message = error_of(run)
        assert message.startswith("event shop/order.placed (incoming) breaks its schema: 2 viol")
        assert "/lines/1/quantity: int_parsing: expected" in message
        assert "/lines/1/sku: string_type: expected" in message

    async def test_coerce_hands_on_the_parsed_value_as_json(self, is_async: bool) -> None:
        """With coerce, defaults are filled in and types converted in event and events alike."""
        client = incoming(coerce=True)
        fn = function_of(
            client,
            lambda ctx: [dict(ctx.event.data), *(dict(each.data) for each in ctx.events)],
            is_async=is_async,
        )
        async with LocalEngine(client, [fn]) as engine:
            run = await engine.run(
                inngest.Event(
                    name="shop/order.placed",
                    data={"id": "o", "lines": [{"sku": "a"}, {"sku": "b", "quantity": "3"}]},
                )
            )
        whole = {
            "id": "o",
            "lines": [{"sku": "a", "quantity": 1}, {"sku": "b", "quantity": 3}],
        }
        assert run.output == [whole, whole]

    async def test_incoming_false_lets_everything_in(self, is_async: bool) -> None:
        """With incoming=False a bad event reaches the handler."""
        client = incoming(incoming=False)
        fn = function_of(client, lambda ctx: "ran", is_async=is_async)
        async with LocalEngine(client, [fn]) as engine:
            run = await engine.run(inngest.Event(name="shop/order.placed", data=BAD))
        assert run.output == "ran"

    async def test_parse_returns_the_object_of_the_validation(self, is_async: bool) -> None:
        """EventType.parse in a run parses nothing again: it is the same object each time."""
        parses: list[int] = []

        class Counted(BaseModel):
            id: str

            def model_post_init(self, context: Any, /) -> None:
                parses.append(1)

        counted = EventType("shop/counted", Counted)
        client = client_with(ValidationPlugin([counted], outgoing=False))

        def body(ctx: Any) -> str:
            assert counted.parse(ctx.event) is counted.parse(ctx.events[0])
            return counted.parse(ctx.event).id

        fn = function_of(client, body, is_async=is_async, trigger=counted.trigger())
        async with LocalEngine(client, [fn]) as engine:
            run = await engine.run(inngest.Event(name="shop/counted", data={"id": "c"}))
        assert run.output == "c"
        assert parses == [1]

    async def test_require_schema_refuses_what_has_none(self, is_async: bool) -> None:
        """With require_schema an event that no schema knows fails the run; without, it passes."""
        for options, status in (({}, "Completed"), ({"require_schema": True}, "Failed")):
            client = incoming(**options)
            fn = function_of(
                client,
                lambda ctx: None,
                is_async=is_async,
                trigger=inngest.TriggerEvent(event="shop/unknown"),
            )
            async with LocalEngine(client, [fn]) as engine:
                run = await engine.run(inngest.Event(name="shop/unknown", data={"a": 1}))
            assert run.status == status
            if options:
                assert "schema: expected a registered schema" in error_of(run)

    async def test_cron_needs_no_schema(self, is_async: bool) -> None:
        """The engine's own events pass under require_schema."""
        client = incoming(require_schema=True)
        fn = function_of(
            client,
            lambda ctx: ctx.event.name,
            is_async=is_async,
            trigger=inngest.TriggerCron(cron="0 0 * * *"),
        )
        async with LocalEngine(client, [fn]) as engine:
            run = await engine.run(function=fn)
        assert run.output == "inngest/scheduled.timer"

    async def test_wait_for_event_results_are_checked(self, is_async: bool) -> None:
        """A bad awaited event fails the run without retry, even if the function catches it."""
        client = incoming()
        reached: list[str] = []
        options: dict[str, Any] = {
            "event": "shop/order.placed",
            "timeout": datetime.timedelta(minutes=5),
        }
        trigger = inngest.TriggerEvent(event="shop/start")
        if is_async:

            @client.create_function(fn_id="waits", trigger=trigger)
            async def waits(ctx: inngest.Context) -> str:
                try:
                    event = await ctx.step.wait_for_event("wait", **options)
                except ValidationFailed:
                    return "caught"
                assert event is not None
                reached.append(order_placed.parse(event).id)
                await ctx.step.run("after", lambda: _nothing())
                return "done"
        else:

            @client.create_function(fn_id="waits", trigger=trigger)
            def waits(ctx: inngest.ContextSync) -> str:
                try:
                    event = ctx.step.wait_for_event("wait", **options)
                except ValidationFailed:
                    return "caught"
                assert event is not None
                reached.append(order_placed.parse(event).id)
                ctx.step.run("after", lambda: None)
                return "done"

        for data, status in ((GOOD, "Completed"), (BAD, "Failed")):
            async with LocalEngine(client, [waits]) as engine:
                await engine.send(inngest.Event(name="shop/start", data={}))
                await engine.idle()
                await engine.send(inngest.Event(name="shop/order.placed", data=data))
                await engine.settle()
                run = engine.runs[0]
            assert run.status == status
        assert set(reached) == {"o-1"}
        assert "event shop/order.placed (awaited) (incoming)" in error_of(run)

    async def test_a_wait_that_times_out_passes(self, is_async: bool) -> None:
        """No event is not a bad event."""
        client = incoming()
        trigger = inngest.TriggerEvent(event="shop/start")
        timeout = datetime.timedelta(minutes=5)
        if is_async:

            @client.create_function(fn_id="waits", trigger=trigger)
            async def waits(ctx: inngest.Context) -> bool:
                got = await ctx.step.wait_for_event(
                    "wait", event="shop/order.placed", timeout=timeout
                )
                return got is None
        else:

            @client.create_function(fn_id="waits", trigger=trigger)
            def waits(ctx: inngest.ContextSync) -> bool:
                got = ctx.step.wait_for_event("wait", event="shop/order.placed", timeout=timeout)
                return got is None

        async with LocalEngine(client, [waits]) as engine:
            run = await engine.run(inngest.Event(name="shop/start", data={}))
        assert run.output is True

    async def test_a_step_may_return_what_looks_like_an_event(self, is_async: bool) -> None:
        """A step's output in the shape of a bad event is no event, and fails nothing."""
        client = incoming()
        lookalike = {"name": "shop/order.placed", "data": BAD, "id": "x", "ts": 1, "user": {}}
        if is_async:

            @client.create_function(fn_id="steps", trigger=inngest.TriggerEvent(event="shop/s"))
            async def steps(ctx: inngest.Context) -> object:
                async def make() -> Any:
                    return lookalike

                return await ctx.step.run("make", make)
        else:

            @client.create_function(fn_id="steps", trigger=inngest.TriggerEvent(event="shop/s"))
            def steps(ctx: inngest.ContextSync) -> object:
                return ctx.step.run("make", lambda: lookalike)

        async with LocalEngine(client, [steps]) as engine:
            run = await engine.run(inngest.Event(name="shop/s", data={}))
        assert run.status == "Completed"


async def _nothing() -> None:
    return None


class TestBatches:
    def batch_function(self, client: inngest.Inngest) -> inngest.Function[Any]:
        @client.create_function(
            fn_id="batch",
            trigger=order_placed.trigger(),
            batch_events=inngest.Batch(max_size=3, timeout=datetime.timedelta(seconds=2)),
        )
        async def batch(ctx: inngest.Context) -> Any:
            await ctx.step.run("step", _nothing)
            return {
                "ids": sorted(str(each.data["id"]) for each in ctx.events),
                "first": ctx.event.data["id"] == ctx.events[0].data["id"],
                "dropped": [(each.name, each.errors[0].pointer) for each in dropped_events()],
            }

        return batch

    def events(self, *ids: object) -> list[inngest.Event]:
        return [
            inngest.Event(name="shop/order.placed", data={"id": each})  # type: ignore[dict-item]
            for each in ids
        ]

    async def test_one_bad_event_fails_the_batch(self) -> None:
        """By default the whole batch is refused, and the message says which event was bad."""
        client = incoming()
        async with LocalEngine(client, [self.batch_function(client)]) as engine:
            run = await engine.run(self.events("a", 7, "c"))
        message = error_of(run)
        assert "1 violation\n" in message
        assert "] /id: string_type" in message

    @pytest.mark.parametrize("ids", [("a", 7, "c"), (7, "b", 8), ("a", "b", 7)])
    async def test_drop_goes_on_with_the_rest(
        self, ids: tuple[object, ...], caplog: pytest.LogCaptureFixture
    ) -> None:
        """With drop, good events go on (also when the first was bad); the dropped are reported."""
        client = incoming(on_invalid="drop")
        with caplog.at_level(logging.WARNING, logger="inngest_plugins.validation"):
            async with LocalEngine(client, [self.batch_function(client)]) as engine:
                run = await engine.run(self.events(*ids))
        good = [each for each in ids if isinstance(each, str)]
        bad = len(ids) - len(good)
        assert run.output == {
            "ids": good,
            "first": True,
            "dropped": [["shop/order.placed", "/id"]] * bad,
        }
        assert len(run.requests) > 1
        told = [each for each in caplog.records if each.name == "inngest_plugins.validation"]
        assert len(told) == bad, "once a run, not once a request"
        assert "string_type" in told[0].getMessage()

    async def test_drop_with_nothing_left_fails(self) -> None:
        """A batch of which nothing is left fails, as does a single bad event."""
        client = incoming(on_invalid="drop")
        async with LocalEngine(client, [self.batch_function(client)]) as engine:
            run = await engine.run(self.events(1, 2))
        assert "2 violations" in error_of(run)

    async def test_dropped_events_outside_a_run(self) -> None:
        """Outside of a run nothing was dropped."""
        assert dropped_events() == ()


class TestEngineEvents:
    async def test_on_failure_gets_checked_payloads(self) -> None:
        """on_failure runs for a good event that failed; parse reads the inner event."""
        client = incoming()

        async def failed(ctx: inngest.Context) -> str:
            inner: Any = ctx.event.data["event"]
            return order_placed.parse(inner).id

        @client.create_function(
            fn_id="fails", trigger=order_placed.trigger(), retries=0, on_failure=failed
        )
        async def fails(ctx: inngest.Context) -> None:
            raise inngest.NonRetriableError("no")

        async with LocalEngine(client, [fails]) as engine:
            await engine.send(inngest.Event(name="shop/order.placed", data=GOOD))
            await engine.settle()
            handled = next(r for r in engine.runs if r.function_id.endswith("-failure"))
        assert handled.output == "o-1"

    async def test_a_bad_payload_does_not_reach_on_failure(self) -> None:
        """The user's payload inside function.failed is held to its schema, with its pointer."""
        client = incoming()
        ran: list[str] = []

        async def failed(ctx: inngest.Context) -> None:
            ran.append("on_failure")

        @client.create_function(fn_id="fails", trigger=order_placed.trigger(), on_failure=failed)
        async def fails(ctx: inngest.Context) -> None:
            ran.append("main")

        async with LocalEngine(client, [fails]) as engine:
            await engine.send(inngest.Event(name="shop/order.placed", data=BAD))
            await engine.settle()
            handled = next(r for r in engine.runs if r.function_id.endswith("-failure"))
        assert ran == []
        assert handled.status == "Failed"
        message = error_of(handled)
        assert "event inngest/function.failed (incoming)" in message
        assert "/events/0/data/lines/1/sku: string_type" in message

    async def test_drop_leaves_bad_payloads_out_of_function_failed(self) -> None:
        """With drop, on_failure gets the good events of the batch that failed."""
        client = incoming(on_invalid="drop", coerce=True)

        async def failed(ctx: inngest.Context) -> Any:
            inner: Any = ctx.event.data
            return [inner["event"]["data"], [each["data"] for each in inner["events"]]]

        @client.create_function(
            fn_id="fails",
            trigger=order_placed.trigger(),
            retries=0,
            on_failure=failed,
            batch_events=inngest.Batch(max_size=2, timeout=datetime.timedelta(seconds=1)),
        )
        async def fails(ctx: inngest.Context) -> None:
            raise inngest.NonRetriableError("no")

        async with LocalEngine(client, [fails]) as engine:
            await engine.send(
                [
                    inngest.Event(name="shop/order.placed", data=BAD),
                    inngest.Event(name="shop/order.placed", data={"id": "good"}),
                ]
            )
            await engine.settle()
            handled = next(r for r in engine.runs if r.function_id.endswith("-failure"))
        good = {"id": "good", "lines": []}
        assert handled.output == [good, [good]]


class TestOddRequests:
    """Requests no server sends, posted to the app by hand."""

    async def post(self, plugin: ValidationPlugin, event: Any, events: list[Any]) -> Any:
        client = client_with(plugin)

        @client.create_function(fn_id="f", trigger=inngest.TriggerEvent(event="x"))
        async def f(ctx: inngest.Context) -> Any:
            return [dict(ctx.event.data), [dict(each.data) for each in ctx.events]]

        app = fastapi.FastAPI()
        inngest.fast_api.serve(app, client, [f])
        body = {
            "ctx": {
                "attempt": 0,
                "disable_immediate_execution": False,
                "run_id": "01JDVALIDATION000000000000",
                "stack": {"stack": []},
            },
            "event": event,
            "events": events,
            "steps": {},
            "use_api": False,
        }
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://app") as http:
            return await http.post("/api/inngest?fnId=shop-f&stepId=step", json=body)

    def order(self, order_id: object) -> dict[str, Any]:
        return {"name": "shop/order.placed", "data": {"id": order_id}, "id": "e", "ts": 1}

    async def test_an_event_that_is_not_among_the_events(self) -> None:
        """`event` is checked on its own where it is none of `events`."""
        plugin = ValidationPlugin([order_placed])
        good = await self.post(plugin, self.order("a"), [self.order("b")])
        assert good.json() == [{"id": "a"}, [{"id": "b"}]]
        bad = await self.post(plugin, self.order(7), [self.order("b")])
        assert bad.status_code == 500
        assert bad.json()["name"] == "ValidationFailed"
        assert bad.headers["x-inngest-no-retry"] == "true"
        dropping = ValidationPlugin([order_placed], on_invalid="drop")
        rest = await self.post(dropping, self.order(7), [self.order("b")])
        assert rest.json() == [{"id": "b"}, [{"id": "b"}]]

    @pytest.mark.parametrize(
        "data",
        [
            {"event": 1, "events": [2, {"name": 3}, {"name": "shop/order.placed", "data": 4}]},
            {"event": {"name": "inngest/function.invoked", "data": {"a": 1}}, "function_id": "y"},
            {},
        ],
    )
    async def test_odd_failures_pass(self, data: dict[str, Any]) -> None:
        """What in function.failed is no event, or belongs to an unknown function, is left alone."""
        failed = {"name": "inngest/function.failed", "data": data, "id": "e", "ts": 1}
        answer = await self.post(ValidationPlugin([order_placed], coerce=True), failed, [failed])
        assert answer.json()[0] == data

    async def test_a_bad_leading_event_is_dropped_alone(self) -> None:
        """In a failed batch with drop, a bad `event` is replaced by the first good of `events`."""
        data = {"event": self.order(7), "events": [self.order("b")]}
        failed = {"name": "inngest/function.failed", "data": data, "id": "e", "ts": 1}
        plugin = ValidationPlugin([order_placed], on_invalid="drop", coerce=True)
        inner = (await self.post(plugin, failed, [failed])).json()[0]["event"]
        assert inner["data"] == {"id": "b", "lines": []}
        strict = await self.post(ValidationPlugin([order_placed]), failed, [failed])
        assert "/event/data/id: string_type" in strict.json()["message"]


@pytest.mark.parametrize("is_async", [True, False])
class TestInvokes:
    def pair(
        self, client: inngest.Inngest, data: dict[str, Any], *, is_async: bool, by_id: bool = False
    ) -> list[inngest.Function[Any]]:
        if is_async:

            @client.create_function(fn_id="child", trigger=order_placed.trigger())
            async def child(ctx: inngest.Context) -> str:
                return order_placed.parse(ctx.event).lines[0].sku

            @client.create_function(fn_id="parent", trigger=inngest.TriggerEvent(event="shop/go"))
            async def parent(ctx: inngest.Context) -> str:
                try:
                    if by_id:
                        return str(
                            await ctx.step.invoke_by_id("call", function_id="child", data=data)
                        )
                    return await ctx.step.invoke("call", function=child, data=data)
                except ValidationFailed as error:
                    return f"{error.direction}: {error.errors[0].pointer}"

            return [child, parent]

        @client.create_function(fn_id="child", trigger=order_placed.trigger())
        def child_sync(ctx: inngest.ContextSync) -> str:
            return order_placed.parse(ctx.event).lines[0].sku

        @client.create_function(fn_id="parent", trigger=inngest.TriggerEvent(event="shop/go"))
        def parent_sync(ctx: inngest.ContextSync) -> str:
            try:
                if by_id:
                    return str(ctx.step.invoke_by_id("call", function_id="child", data=data))
                return ctx.step.invoke("call", function=child_sync, data=data)
            except ValidationFailed as error:
                return f"{error.direction}: {error.errors[0].pointer}"

        return [child_sync, parent_sync]

    async def test_bad_data_is_refused_at_the_call_site(self, is_async: bool) -> None:
        """step.invoke raises ValidationFailed where it stands, and the child does not run."""
        client = client_with(ValidationPlugin([order_placed]))
        async with LocalEngine(client, self.pair(client, BAD, is_async=is_async)) as engine:
            run = await engine.run(inngest.Event(name="shop/go", data={}))
            assert len(engine.runs) == 1
        assert run.output == "outgoing: /lines/1/quantity"

    async def test_good_data_arrives_parsed(self, is_async: bool) -> None:
        """Good data reaches the child, whose EventType.parse reads it without the engine's key."""
        client = client_with(ValidationPlugin([order_placed], coerce=True))
        async with LocalEngine(client, self.pair(client, GOOD, is_async=is_async)) as engine:
            run = await engine.run(inngest.Event(name="shop/go", data={}))
        assert run.output == "a"

    async def test_the_child_checks_what_arrives(self, is_async: bool) -> None:
        """Invoked data is held to the schemas of the function's triggers on arrival."""
        client = incoming()
        functions = self.pair(client, BAD, is_async=is_async, by_id=True)
        async with LocalEngine(client, functions) as engine:
            parent = await engine.run(inngest.Event(name="shop/go", data={}))
            child = next(run for run in engine.runs if run.function_id == "shop-child")
        assert "event inngest/function.invoked (incoming)" in error_of(child)
        assert parent.status == "Failed"

    async def test_invoke_by_id_of_a_function_met_before(self, is_async: bool) -> None:
        """invoke_by_id is checked once this process has served the target."""
        client = client_with(ValidationPlugin([order_placed]))
        functions = self.pair(client, BAD, is_async=is_async, by_id=True)
        async with LocalEngine(client, functions) as engine:
            await engine.run(order_placed.new(Order(id="x", lines=[Line(sku="s")])))
            run = await engine.run(inngest.Event(name="shop/go", data={}))
        assert run.output == "outgoing: /lines/1/quantity"


class TestInvokedTriggers:
    async def invoked(
        self, triggers: list[Any], data: dict[str, Any], plugin: ValidationPlugin
    ) -> Run:
        client = client_with(plugin)

        @client.create_function(fn_id="child", trigger=triggers)
        async def child(ctx: inngest.Context) -> Any:
            return sorted(key for key in ctx.event.data if key != "_inngest")

        @client.create_function(fn_id="parent", trigger=inngest.TriggerEvent(event="a/start"))
        async def parent(ctx: inngest.Context) -> None:
            await ctx.step.invoke_by_id("call", function_id="child", data=data)

        async with LocalEngine(client, [child, parent]) as engine:
            await engine.run(inngest.Event(name="a/start", data={}), function=parent)
            return next(run for run in engine.runs if run.function_id == "shop-child")

    async def test_any_trigger_may_be_meant(self) -> None:
        """Data that satisfies the schema of any trigger passes; else the closest one is told."""
        events: dict[str, object] = {
            "a/one": {"required": ["one", "uno", "un"]},
            "a/two": {"required": ["two"]},
        }
        triggers = [inngest.TriggerEvent(event=name) for name in events]
        good = await self.invoked(triggers, {"two": 1}, ValidationPlugin(events, outgoing=False))
        assert good.output == ["two"]
        bad = await self.invoked(triggers, {"x": 1}, ValidationPlugin(events, outgoing=False))
        assert "/two: required" in error_of(bad)
        assert "/one" not in error_of(bad)

    async def test_a_trigger_without_schema_promises_nothing(self) -> None:
        """With one trigger that has no schema, anything passes, unless schemas are required."""
        events: dict[str, object] = {"a/one": {"required": ["one"]}}
        triggers = [inngest.TriggerEvent(event="a/one"), inngest.TriggerEvent(event="a/free")]
        free = await self.invoked(triggers, {"x": 1}, ValidationPlugin(events, outgoing=False))
        assert free.output == ["x"]
        start: dict[str, object] = {"a/start": True}
        strict = ValidationPlugin({**events, **start}, outgoing=False, require_schema=True)
        assert "/one: required" in error_of(await self.invoked(triggers, {"x": 1}, strict))

    async def test_a_wildcard_trigger_means_all_its_events(self) -> None:
        """A trigger such as a/* stands for every registered event that it matches."""
        events: dict[str, object] = {"a/one": {"required": ["one"]}, "b/two": {"required": ["t"]}}
        triggers = [inngest.TriggerEvent(event="a/o*")]
        bad = await self.invoked(triggers, {"x": 1}, ValidationPlugin(events, outgoing=False))
        assert "/one: required" in error_of(bad)


class TestOutgoing:
    async def test_send_refuses_the_whole_batch(self) -> None:
        """client.send raises and nothing of the batch is sent; the bad events are numbered."""
        client = client_with(ValidationPlugin([order_placed]))

        @client.create_function(fn_id="fulfil", trigger=order_placed.trigger())
        async def fulfil(ctx: inngest.Context) -> None:
            return None

        good = inngest.Event(name="shop/order.placed", data=GOOD)
        bad = inngest.Event(name="shop/order.placed", data=BAD)
        async with LocalEngine(client, [fulfil]) as engine:
            with pytest.raises(ValidationFailed) as caught:
                await client.send([good, bad])
            with pytest.raises(ValidationFailed):
                client.send_sync(bad)
            assert engine.events == []
            await client.send(good)
            assert len(engine.events) == 1
        assert {error.index for error in caught.value.errors} == {1}
        assert caught.value.direction == "outgoing"
        assert SECRET not in str(caught.value)
        assert bad.data == BAD

    async def test_send_coerces_a_copy(self) -> None:
        """With coerce the completed event goes out, and the caller's object stays as it was."""
        client = client_with(ValidationPlugin([order_placed], coerce=True))

        @client.create_function(fn_id="fulfil", trigger=order_placed.trigger())
        async def fulfil(ctx: inngest.Context) -> None:
            return None

        event = inngest.Event(name="shop/order.placed", data={"id": "x"})
        async with LocalEngine(client, [fulfil]) as engine:
            await client.send(event)
            assert engine.events[0]["data"] == {"id": "x", "lines": []}
        assert event.data == {"id": "x"}

    @pytest.mark.parametrize("is_async", [True, False])
    async def test_step_send_event_fails_as_a_step(self, is_async: bool) -> None:
        """step.send_event raises at its place, without retries, and sends nothing."""
        client = client_with(ValidationPlugin([order_placed]))
        bad = inngest.Event(name="shop/order.placed", data=BAD)
        if is_async:

            @client.create_function(fn_id="sends", trigger=inngest.TriggerEvent(event="shop/go"))
            async def sends(ctx: inngest.Context) -> str:
                try:
                    await ctx.step.send_event("send", bad)
                except Exception as error:
                    return str(error)
                return "sent"
        else:

            @client.create_function(fn_id="sends", trigger=inngest.TriggerEvent(event="shop/go"))
            def sends(ctx: inngest.ContextSync) -> str:
                try:
                    ctx.step.send_event("send", bad)
                except Exception as error:
                    return str(error)
                return "sent"

        async with LocalEngine(client, [sends]) as engine:
            run = await engine.run(inngest.Event(name="shop/go", data={}))
            assert [event["name"] for event in engine.events][:1] == ["shop/go"]
            assert "shop/order.placed" not in [event["name"] for event in engine.events]
        text = str(run.output) if run.status == "Completed" else error_of(run)
        assert "/lines/1/sku: string_type" in text
        assert SECRET not in text

    async def test_require_schema_refuses_unknown_events(self) -> None:
        """With require_schema an event without schema is not sent."""
        client = client_with(ValidationPlugin([order_placed], require_schema=True))
        with pytest.raises(ValidationFailed, match="require_schema"):
            await client.send(inngest.Event(name="shop/unknown", data={}))

    async def test_a_plugin_without_events_checks_nothing(self) -> None:
        """Without schemas and require_schema everything passes."""
        client = client_with(ValidationPlugin())

        @client.create_function(fn_id="any", trigger=inngest.TriggerEvent(event="any/thing"))
        async def anything(ctx: inngest.Context) -> str:
            return "ran"

        async with LocalEngine(client, [anything]) as engine:
            run = await engine.run(inngest.Event(name="any/thing", data={"x": 1}))
        assert run.output == "ran"


@pytest.mark.parametrize("is_async", [True, False])
class TestOutputs:
    def run_of(self, client: inngest.Inngest, value: Any, *, is_async: bool) -> Any:
        if is_async:

            @client.create_function(fn_id="makes", trigger=inngest.TriggerEvent(event="shop/go"))
            async def makes(ctx: inngest.Context) -> Any:
                async def make() -> Any:
                    return value

                try:
                    made = await ctx.step.run("make", make)
                except Exception as error:
                    return {"id": type(error).__name__, "lines": []}
                return made
        else:

            @client.create_function(fn_id="makes", trigger=inngest.TriggerEvent(event="shop/go"))
            def makes(ctx: inngest.ContextSync) -> Any:
                try:
                    made: Any = ctx.step.run("make", lambda: value)
                except Exception as error:
                    return {"id": type(error).__name__, "lines": []}
                return made

        return makes

    async def test_a_bad_step_output_is_the_steps_error(self, is_async: bool) -> None:
        """The step fails at once, the function can catch it, the value is nowhere."""
        client = client_with(ValidationPlugin(steps={("makes", "make"): Order}))
        makes = self.run_of(client, BAD, is_async=is_async)
        async with LocalEngine(client, [makes]) as engine:
            run = await engine.run(inngest.Event(name="shop/go", data={}))
        assert run.output == {"id": "StepError", "lines": []}
        assert "output of step make of function makes (output)" in str(run.requests[0].response)
        assert SECRET not in str([request.response for request in run.requests])

    async def test_a_bad_function_output_fails_the_run(self, is_async: bool) -> None:
        """The run fails without retries."""
        client = client_with(ValidationPlugin(outputs={"shop-makes": Order}))
        makes = self.run_of(client, {"no": "order"}, is_async=is_async)
        async with LocalEngine(client, [makes]) as engine:
            run = await engine.run(inngest.Event(name="shop/go", data={}))
        assert "output of function shop-makes (output)" in error_of(run)
        assert len(run.requests) == 2

    async def test_good_outputs_pass_and_are_coerced(self, is_async: bool) -> None:
        """Good outputs pass as they are; with coerce they are completed."""
        for coerce, expected in ((False, {"id": "x"}), (True, {"id": "x", "lines": []})):
            client = client_with(
                ValidationPlugin(
                    steps={("makes", "make"): Order}, outputs={"makes": Order}, coerce=coerce
                )
            )
            makes = self.run_of(client, {"id": "x"}, is_async=is_async)
            async with LocalEngine(client, [makes]) as engine:
                run = await engine.run(inngest.Event(name="shop/go", data={}))
            assert run.output == expected

    async def test_parallel_steps_are_checked_each(self, is_async: bool) -> None:
        """Steps of a parallel group are held to their schemas too."""
        client = client_with(ValidationPlugin(steps={("par", "bad"): {"type": "integer"}}))
        trigger = inngest.TriggerEvent(event="shop/go")
        if is_async:

            @client.create_function(fn_id="par", trigger=trigger)
            async def par(ctx: inngest.Context) -> object:
                async def text() -> str:
                    return "x"

                return await ctx.group.parallel(
                    (lambda: ctx.step.run("good", text), lambda: ctx.step.run("bad", text))
                )
        else:

            @client.create_function(fn_id="par", trigger=trigger)
            def par(ctx: inngest.ContextSync) -> object:
                return ctx.group.parallel(
                    (
                        lambda: ctx.step.run("good", lambda: "x"),
                        lambda: ctx.step.run("bad", lambda: "x"),
                    )
                )

        async with LocalEngine(client, [par]) as engine:
            run = await engine.run(inngest.Event(name="shop/go", data={}))
        assert run.status == "Failed"
        assert run.steps["bad"].status == "Failed"
        assert run.steps["good"].status == "Completed"


class TestPluginOptions:
    def test_events_may_be_many_things(self) -> None:
        """The argument takes event types, a mapping, a registry; registry= is the same by name."""
        registry = SchemaRegistry([order_placed])
        assert ValidationPlugin(registry).registry is registry
        assert ValidationPlugin(registry=registry).registry is registry
        assert "shop/order.placed" in ValidationPlugin({"shop/order.placed": Order}).registry
        assert "shop/x" in ValidationPlugin({"shop/*": True}).registry

    @pytest.mark.parametrize("given", [[], {}, "skip"])
    def test_on_invalid_is_one_of_two(self, given: Any) -> None:
        """Also what has no hash is named."""
        with pytest.raises(ValueError, match="on_invalid is"):
            ValidationPlugin(on_invalid=given)

    def test_an_empty_path_is_no_folder(self) -> None:
        """An empty setting does not read the working directory."""
        with pytest.raises(ValueError, match="the path of no folder"):
            ValidationPlugin("")

    def test_contradictions_are_refused(self) -> None:
        """Both events and a registry, or an unknown on_invalid, are errors of the constructor."""
        with pytest.raises(ValueError, match="not both"):
            ValidationPlugin([order_placed], registry=SchemaRegistry())
        with pytest.raises(ValueError, match="on_invalid"):
            ValidationPlugin(on_invalid="ignore")  # type: ignore[arg-type]

    def test_wrong_output_schemas_fail_when_built(self) -> None:
        """A wrong schema of an output or step is refused by the constructor, naming it."""
        with pytest.raises(ValueError, match="output of function makes: at /type"):
            ValidationPlugin(outputs={"makes": {"type": "nonsense"}})
        with pytest.raises(ValueError, match="output of step make of function makes"):
            ValidationPlugin(steps={("makes", "make"): {"type": 1}})

    def test_no_call_outside_a_run(self) -> None:
        """Outside of a run parse has no call to ask, and parses."""
        assert Call.current() is None
        assert order_placed.parse(inngest.Event(name="shop/order.placed", data=GOOD)).id == "o-1"


@pytest.mark.parametrize("is_async", [True, False])
async def test_coerce_completes_an_awaited_event(is_async: bool) -> None:
    """What `wait_for_event` returns is coerced on every replay, and parsed once a request."""
    client = client_with(ValidationPlugin([order_placed], outgoing=False, coerce=True))
    seen: list[Any] = []
    options: dict[str, Any] = {
        "event": "shop/order.placed",
        "timeout": datetime.timedelta(minutes=5),
    }
    create: Any = client.create_function(
        fn_id="waits", trigger=inngest.TriggerEvent(event="shop/start")
    )

    def look(event: inngest.Event | None) -> None:
        assert event is not None
        assert order_placed.parse(event) is order_placed.parse(event)
        seen.append(event.data)

    async def waits(ctx: inngest.Context) -> None:
        look(await ctx.step.wait_for_event("wait", **options))
        await ctx.step.run("after", _nothing)

    def waits_sync(ctx: inngest.ContextSync) -> None:
        look(ctx.step.wait_for_event("wait", **options))
        ctx.step.run("after", lambda: None)

    async with LocalEngine(client, [create(waits if is_async else waits_sync)]) as engine:
        await engine.send(inngest.Event(name="shop/start", data={}))
        await engine.idle()
        await engine.send(inngest.Event(name="shop/order.placed", data=GOOD))
        await engine.settle()
        run = engine.runs[0]
    assert run.status == "Completed", run.error
    assert seen == [{"id": "o-1", "lines": [{"sku": "a", "quantity": 2}]}] * len(seen)
    assert len(seen) >= 2
