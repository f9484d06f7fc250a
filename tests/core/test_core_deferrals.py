"""What the core knows of deferred runs, and how an input leaves that belongs to no step."""

from __future__ import annotations

import asyncio
from typing import Any

import inngest
import pytest
from tests.core.core_protocol import make_client, make_function, serve

from inngest_plugins.core import (
    DEFERRED_EVENT,
    Call,
    CallEndedError,
    DeferredBy,
    Layer,
    Plugin,
    Step,
    served_functions,
)
from inngest_plugins.local import LocalEngine

pytestmark = pytest.mark.anyio

BOTH = pytest.mark.parametrize("setting", ["fastapi-async", "fastapi-pool"])


def deferral() -> Step:
    return Step(
        id="d",
        hashed_id="0" * 40,
        index=0,
        op="DeferAdd",
        name="d",
        parallel=False,
        input={"fn_slug": "shop-judge", "input": {}},
        status="waiting",
    )


class Mark(Plugin):
    def __init__(self, name: str, layer: Layer, *, is_async: bool = False) -> None:
        self.name = name
        self.layer = layer
        self._is_async = is_async
        self.calls: list[Call] = []

    def transform_input(self, call: Call) -> None:
        self.calls.append(call)

    def transform_step_input(self, call: Call, step: Step) -> Any:
        if self._is_async:
            return self._later(step)
        return self._mark(step)

    async def _later(self, step: Step) -> None:
        self._mark(step)

    def _mark(self, step: Step) -> None:
        assert step.input is not None
        step.input["input"].setdefault("seen", []).append(self.name)
        if self.layer is Layer.CONTEXT:
            step.attach(self.name, 1)


@BOTH
@pytest.mark.parametrize("is_async", [False, True])
async def test_the_hooks_run_outward_and_the_code_goes_on(setting: str, is_async: bool) -> None:
    """Innermost first, with attachments; in an async function async hooks are left to await."""
    observe = Mark("observe", Layer.OBSERVE)
    client = make_client(
        observe, Mark("wire", Layer.WIRE, is_async=is_async), Mark("context", Layer.CONTEXT)
    )
    steps: list[Step] = []
    rests: list[Any] = []

    def use() -> Any:
        call = Call.current()
        assert call is not None
        step = deferral()
        steps.append(step)
        rest = call.run_step_input_hooks(step)
        assert call.in_body
        rests.append(rest is not None)
        return rest

    async def body(ctx: inngest.Context) -> None:
        if (rest := use()) is not None:
            await rest

    function = make_function(setting, client, body)
    async with LocalEngine(client, [function]) as engine:
        run = await engine.run(inngest.Event(name="shop/test"))
    assert run.status == "Completed", run.error
    assert steps[0].input is not None
    assert steps[0].input["input"] == {
        "seen": ["context", "wire", "observe"],
        "_inngest_plugins": {"context": 1},
    }
    assert rests == [is_async and setting == "fastapi-async"]
    with pytest.raises(CallEndedError):
        observe.calls[0].run_step_input_hooks(deferral())


async def test_who_deferred_a_run() -> None:
    """The engine's part of the event is taken out before the first hook, and kept."""
    observe = Mark("observe", Layer.OBSERVE)
    client = make_client(observe)
    seen: list[Any] = []

    @client.create_function(
        fn_id="judge",
        trigger=inngest.TriggerEvent(
            event=DEFERRED_EVENT,
            expression=f"event.data._inngest.fn_slug == '{client.app_id}-judge'",
        ),
    )
    async def judge(ctx: inngest.Context) -> None:
        seen.append((dict(ctx.event.data), dict(ctx.events[0].data)))

    @client.create_function(fn_id="run", trigger=inngest.TriggerEvent(event="shop/test"))
    async def run(ctx: inngest.Context) -> None:
        call = Call.current()
        assert call is not None
        assert (call.handler_kind, call.deferred_by) == ("main", None)
        op = {"id": "1" * 40, "op": "DeferAdd", "userland": {"id": "d"}}
        opts = {"fn_slug": judge.id, "input": {"a": 1}}
        await call.engine.send_ops([{**op, "opts": opts}])

    assert served_functions(client) is None
    async with LocalEngine(client, [judge, run]) as engine:
        ended = await engine.run(inngest.Event(name="shop/test"))
        await engine.settle()
    assert seen == [({"a": 1}, {"a": 1})]
    call = observe.calls[-1]
    assert call.handler_kind == "deferred"
    by = call.deferred_by
    assert isinstance(by, DeferredBy)
    assert (by.run_id, by.function_id) == (ended.id, run.id)
    assert by.traceparent is not None
    assert served_functions(client) == frozenset((judge.id, run.id))


@pytest.mark.parametrize(
    "data", [{}, {"_inngest": "text"}, {"_inngest": {}}, {"_inngest": {"parent_defer_span": []}}]
)
async def test_events_made_by_hand(data: dict[str, Any]) -> None:
    """An event of this name that is not quite the engine's does not break the request."""
    observe = Mark("observe", Layer.OBSERVE)

    async def body(ctx: Any) -> str:
        return "done"

    event = {"name": DEFERRED_EVENT, "data": data, "id": "e1", "ts": 1}
    app = serve("fastapi-async", body, observe)
    reply = await asyncio.to_thread(app.post, events=[event])
    assert reply.body == "done"
    is_carrier = isinstance(data.get("_inngest"), dict)
    assert observe.calls[0].handler_kind == ("deferred" if is_carrier else "main")
