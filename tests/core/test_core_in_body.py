"""`call.in_body`, and calls in apps without plugins."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import inngest
import pytest
from tests.bodies import handler_of

from inngest_plugins.core import Call, Plugin, require_calls
from inngest_plugins.local import LocalEngine

pytestmark = pytest.mark.anyio

TRIGGER = inngest.TriggerEvent(event="go")


def asked() -> bool:
    call = Call.current()
    assert call is not None
    return call.in_body


@pytest.mark.parametrize("is_async", [True, False])
async def test_the_body_is_the_function_s_own_code(is_async: bool) -> None:
    """It is the body, and neither a step, nor a hook of either kind, nor what closes."""
    seen: dict[str, bool] = {}

    class Watch(Plugin):
        def transform_input(self, call: Call) -> None:
            seen["hook"] = asked()
            context = contextlib.ExitStack()
            context.callback(lambda: seen.update(closing=asked()))
            call.enter(context)

        async def before_execution(self, call: Call) -> None:
            await asyncio.sleep(0)
            seen["async hook"] = asked()

        @contextlib.asynccontextmanager
        async def around_step(self, call: Call, step: Any) -> AsyncIterator[None]:
            seen["around"] = asked()
            yield
            seen["after"] = asked()

    client = inngest.Inngest(app_id="app", is_production=False, middleware=[Watch()])

    async def body(ctx: Any, step: Any) -> None:
        async def work() -> None:
            seen["step"] = asked()

        seen["body"] = asked()
        await step.run("work", work)

    function = client.create_function(fn_id="fn", trigger=TRIGGER)(
        handler_of(body, is_async=is_async)
    )
    async with LocalEngine(client, [function]) as engine:
        run = await engine.run(inngest.Event(name="go"))
    assert run.status == "Completed", run.reason
    assert {where for where, is_body in seen.items() if is_body} == {"body"}
    assert len(seen) == 7


async def test_other_tasks_are_the_body_while_an_async_hook_waits() -> None:
    """A hook that waits in one task says nothing of the code of another."""
    waits, go = asyncio.Event(), asyncio.Event()
    seen: list[bool] = []

    class Waits(Plugin):
        @contextlib.asynccontextmanager
        async def around_step(self, call: Call, step: Any) -> AsyncIterator[None]:
            waits.set()
            await go.wait()
            seen.append(asked())
            yield

    client = inngest.Inngest(app_id="app", is_production=False, middleware=[Waits()])

    @client.create_function(fn_id="fn", trigger=TRIGGER)
    async def fn(ctx: inngest.Context) -> None:
        async def other() -> None:
            await waits.wait()
            seen.append(asked())
            go.set()

        task = asyncio.create_task(other())

        async def work() -> None:
            await task

        await ctx.step.run("work", work)

    async with LocalEngine(client, [fn]) as engine:
        await engine.run(inngest.Event(name="go"))
    assert seen[:2] == [True, False]


@pytest.mark.parametrize("is_async", [True, False])
async def test_calls_without_plugins(is_async: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """An app without plugins has calls when something needs them, and works as before."""
    from inngest_plugins.core.entry import calls

    monkeypatch.setattr(calls, "_every_request", set())
    client = inngest.Inngest(app_id="app", is_production=False)
    seen: list[bool] = []

    async def body(ctx: Any, step: Any) -> Any:
        async def work() -> bool:
            seen.append(Call.current() is not None)
            return True

        return [await step.run("a", work), await step.run("b", work)]

    function = client.create_function(fn_id="fn", trigger=TRIGGER)(
        handler_of(body, is_async=is_async)
    )
    async with LocalEngine(client, [function]) as engine:
        assert (await engine.run(inngest.Event(name="go"))).output == [True, True]
        require_calls("this test")
        assert (await engine.run(inngest.Event(name="go"))).output == [True, True]
    assert seen == [False, False, True, True]
