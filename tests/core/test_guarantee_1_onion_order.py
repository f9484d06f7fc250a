"""Guarantee 1: inbound hooks run outermost to innermost, outbound hooks innermost to outermost."""

from __future__ import annotations

from typing import Any

import inngest
import pytest
from tests.core.core_protocol import ASYNC_SETTINGS, BOTH, Engine, make_client, serve
from tests.core.core_spies import AsyncSpy, Spy, foreign, of, only

from inngest_plugins.core import Call, Layer, Outcome, Plugin, Send, Step

ONION = {
    "transform_input": "in",
    "before_memoization": "in",
    "after_memoization": "out",
    "before_execution": "in",
    "around_step": "in",
    "~around_step": "out",
    "after_execution": "out",
    "transform_output": "out",
    "before_response": "out",
}
INWARD = ["observe", "wire", "contract", "context"]


def stack(kind: type[Spy] | type[AsyncSpy], log: list[str], **options: Any) -> list[Any]:
    """One spy in each layer, outermost first."""
    return [kind(layer.name.lower(), log, layer=layer, **options) for layer in Layer]


@pytest.mark.parametrize("kind", [Spy, AsyncSpy])
@pytest.mark.parametrize("setting", BOTH)
def test_every_hook_runs_in_its_direction(setting: str, kind: type[Spy] | type[AsyncSpy]) -> None:
    """In a request that runs a step each hook goes through the stack in its own direction."""
    log: list[str] = []

    async def body(ctx: Any) -> None:
        await ctx.step.run("a", lambda: log.append("handler"))

    serve(setting, body, *stack(kind, log)).post()

    expected: list[str] = []
    for hook, direction in ONION.items():
        order = INWARD if direction == "in" else INWARD[::-1]
        expected += [f"{name}.{hook}" for name in order]
        if hook == "around_step":
            expected.append("handler")
    assert log == expected


@pytest.mark.parametrize("setting", BOTH)
def test_the_order_is_the_same_when_user_code_raises(setting: str) -> None:
    """An exception of the function does not change the direction of any hook."""
    log: list[str] = []

    async def body(ctx: Any) -> None:
        raise ValueError("user")

    reply = serve(setting, body, *stack(Spy, log)).post()

    assert reply.status == 500
    expected: list[str] = []
    for hook, direction in ONION.items():
        if "around" not in hook:
            expected += [f"{n}.{hook}" for n in (INWARD if direction == "in" else INWARD[::-1])]
    assert log == expected


@pytest.mark.parametrize("setting", BOTH)
def test_the_order_is_the_same_when_a_step_raises(setting: str) -> None:
    """An exception of a step's handler leaves through the contexts innermost first."""
    log: list[str] = []
    seen: list[str] = []

    class Watch(Plugin):
        def __init__(self, name: str, layer: Layer) -> None:
            self.name, self.layer = name, layer

        def transform_output(self, call: Call, outcome: Outcome) -> None:
            seen.append(f"{self.name} {type(outcome.raised).__name__}")

    def fail() -> None:
        raise ValueError("user")

    async def body(ctx: Any) -> None:
        await ctx.step.run("a", fail)

    watches = [Watch(layer.name.lower(), layer) for layer in Layer]
    reply = serve(setting, body, *stack(Spy, log), *watches).post()

    assert reply.op["op"] == "StepError"
    assert only(log, "around_step", "~around_step") == [
        *(f"{name}.around_step" for name in INWARD),
        *(f"{name}.~around_step" for name in INWARD[::-1]),
    ]
    assert seen == [f"{name} ValueError" for name in INWARD[::-1]]


@pytest.mark.parametrize("kind", [Spy, AsyncSpy])
@pytest.mark.parametrize("setting", BOTH)
def test_events_leave_innermost_first_through_step_send_event(
    setting: str, kind: type[Spy] | type[AsyncSpy]
) -> None:
    """`before_send_events` runs innermost first although the SDK runs it outermost first."""
    log: list[str] = []

    async def body(ctx: Any) -> None:
        await ctx.step.send_event("send", inngest.Event(name="shop/sent"))

    app = serve(setting, body, *stack(kind, log))
    with Engine().serving(app.client):
        app.post()

    assert only(log, "before_send_events", "after_send_events") == [
        *(f"{name}.before_send_events" for name in INWARD[::-1]),
        *(f"{name}.after_send_events" for name in INWARD[::-1]),
    ]


@pytest.mark.anyio
async def test_events_leave_innermost_first_through_client_send() -> None:
    """`client.send` and `client.send_sync` use the same order as steps."""
    for kind in (Spy, AsyncSpy):
        log: list[str] = []
        client = make_client(*stack(kind, log))
        expected = [
            *(f"{name}.before_send_events" for name in INWARD[::-1]),
            *(f"{name}.after_send_events" for name in INWARD[::-1]),
        ]
        with Engine().serving(client):
            await client.send(inngest.Event(name="shop/sent"))
            assert log == expected
            log.clear()
            client.send_sync(inngest.Event(name="shop/sent"))
            assert log == expected


def test_the_outermost_plugin_sees_events_as_the_inner_ones_left_them() -> None:
    """What an inner plugin made of the events is what the next outer one is given."""

    class Append(Plugin):
        def __init__(self, name: str, layer: Layer) -> None:
            self.name, self.layer = name, layer

        def before_send_events(self, send: Send) -> None:
            data: Any = send.events[0].data
            data["path"] = [*data.get("path", []), self.name]

    client = make_client(*(Append(layer.name.lower(), layer) for layer in Layer))
    with Engine().serving(client) as engine:
        client.send_sync(inngest.Event(name="shop/sent"))

    assert engine.sent[0][0]["data"] == {"path": INWARD[::-1]}


@pytest.mark.parametrize("setting", BOTH)
def test_step_arguments_leave_innermost_first(setting: str) -> None:
    """`transform_step_input` goes outward: what the outermost plugin leaves is what is sent."""

    class Append(Plugin):
        def __init__(self, name: str, layer: Layer) -> None:
            self.name, self.layer = name, layer

        def transform_step_input(self, call: Call, step: Step) -> None:
            assert step.input is not None
            step.input["payload"]["data"]["path"].append(self.name)

    async def body(ctx: Any) -> None:
        await ctx.step.invoke_by_id("child", function_id="other", data={"path": []})

    reply = serve(setting, body, *(Append(n.name.lower(), n) for n in Layer)).post()

    assert reply.op["opts"]["payload"]["data"] == {"path": INWARD[::-1]}


@pytest.mark.parametrize("setting", ASYNC_SETTINGS)
def test_before_response_is_outbound_for_plugins_and_unchanged_for_others(setting: str) -> None:
    """Plugins get `before_response` innermost first; ordinary middleware keeps the SDK's order."""
    log: list[str] = []

    async def body(ctx: Any) -> None:
        return None

    serve(setting, body, foreign("f1", log), *stack(Spy, log), foreign("f2", log)).post()

    assert only(log, "before_response") == [
        "f1.before_response",
        *(f"{name}.before_response" for name in INWARD[::-1]),
        "f2.before_response",
    ]


@pytest.mark.parametrize("setting", BOTH)
def test_a_raising_plugin_does_not_change_the_order_of_the_others(setting: str) -> None:
    """When the innermost plugin fails closing hooks, the outer ones still close in order."""
    for hook in ("before_execution", "after_execution", "transform_output", "before_response"):
        log: list[str] = []

        async def body(ctx: Any) -> None:
            return None

        spies = [
            Spy("outer", log, layer=Layer.OBSERVE),
            Spy("middle", log, layer=Layer.WIRE),
            Spy("inner", log, raises={hook: ValueError(hook)}),
        ]
        reply = serve(setting, body, *spies).post()

        assert reply.status == 500
        assert only(log, "before_response") == [
            "inner.before_response",
            "middle.before_response",
            "outer.before_response",
        ]
        assert of(log, "outer") == of(log, "inner"), hook


def test_transform_output_hands_the_value_outward() -> None:
    """OBSERVE gets what WIRE made of the output, and WIRE what CONTRACT left."""

    class Wrap(Plugin):
        def __init__(self, name: str, layer: Layer) -> None:
            self.name, self.layer = name, layer

        def transform_output(self, call: Call, outcome: Outcome) -> None:
            outcome.output = f"{self.name}({outcome.output})"

        def transform_input(self, call: Call) -> None:
            data: Any = call.event.data
            data["path"] = f"{data.get('path', '')}>{self.name}"

    async def body(ctx: Any) -> Any:
        return ctx.event.data["path"]

    reply = serve("fastapi-async", body, *(Wrap(n.name.lower(), n) for n in Layer)).post()

    assert reply.body == "observe(wire(contract(context(>observe>wire>contract>context))))"
