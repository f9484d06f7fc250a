"""Guarantee 5: nothing a plugin sets for one run is visible anywhere else."""

from __future__ import annotations

import asyncio
import contextlib
import random
import threading
import time
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any

import inngest
import pytest
from tests.core.core_protocol import (
    ASYNC_SETTINGS,
    SETTINGS,
    Engine,
    make_client,
    make_function,
    serve,
    serve_functions,
)

from inngest_plugins.core import Call, Outcome, Plugin, Send, Step
from inngest_plugins.core.entry import calls

LEAKING: ContextVar[str | None] = ContextVar("leaking", default=None)
SCOPED: ContextVar[str | None] = ContextVar("scoped", default=None)
RUNS = 200


class Sloppy(Plugin):
    """Sets a context variable in every hook and resets none; notes every foreign value it meets."""

    def __init__(self) -> None:
        self.foreign: list[tuple[str, str | None]] = []
        self.hooks: set[str] = set()

    def _set(self, hook: str, call: Call | None) -> None:
        value = "no run" if call is None else call.run_id
        if LEAKING.get() not in (None, value):
            self.foreign.append((hook, LEAKING.get()))
        LEAKING.set(value)
        self.hooks.add(hook)

    def on_register(self, client: inngest.Inngest) -> None:
        LEAKING.set(None)

    def transform_input(self, call: Call) -> None:
        self._set("transform_input", call)
        if SCOPED.get() is not None:
            self.foreign.append(("scoped", SCOPED.get()))
        call.set_context(SCOPED, call.run_id)

    def before_memoization(self, call: Call) -> None:
        self._set("before_memoization", call)

    def after_memoization(self, call: Call) -> None:
        self._set("after_memoization", call)

    def before_execution(self, call: Call) -> None:
        self._set("before_execution", call)

    def transform_step_input(self, call: Call, step: Step) -> None:
        self._set("transform_step_input", call)

    @contextlib.contextmanager
    def around_step(self, call: Call, step: Step) -> Iterator[None]:
        self._set("around_step", call)
        yield
        self._set("~around_step", call)

    def after_execution(self, call: Call) -> None:
        self._set("after_execution", call)

    def transform_output(self, call: Call, outcome: Outcome) -> None:
        self._set("transform_output", call)

    def before_response(self, call: Call) -> None:
        self._set("before_response", call)

    def before_send_events(self, send: Send) -> None:
        self._set("before_send_events", send.call)

    def after_send_events(self, send: Send) -> None:
        self._set("after_send_events", send.call)


class SloppyAsync(Sloppy):
    """The same in coroutines that wait in between."""

    async def before_memoization(self, call: Call) -> None:  # type: ignore[override]
        await asyncio.sleep(0)
        self._set("before_memoization", call)

    async def before_execution(self, call: Call) -> None:  # type: ignore[override]
        self._set("before_execution", call)
        await asyncio.sleep(0)
        self._set("before_execution", call)

    async def before_response(self, call: Call) -> None:  # type: ignore[override]
        await asyncio.sleep(0)
        self._set("before_response", call)


def mixed_up(run_id: str) -> list[str]:
    """What code of this run sees that is not its own."""
    call = Call.current()
    wrong: list[str] = []
    if call is None or call.run_id != run_id:
        wrong.append(f"Call.current() is {call}")
    if LEAKING.get() not in (None, run_id):
        wrong.append(f"LEAKING is {LEAKING.get()}")
    if SCOPED.get() != run_id:
        wrong.append(f"SCOPED is {SCOPED.get()}")
    return wrong


def make_body(setting: str, wrong: list[str]) -> Any:
    """A function with steps in a group that gives way to other runs wherever it can."""
    is_async = setting in ASYNC_SETTINGS

    async def give_way() -> None:
        if is_async:
            await asyncio.sleep(random.random() / 500)
        else:
            time.sleep(random.random() / 500)

    async def body(ctx: Any) -> str:
        run_id = str(ctx.run_id)

        async def handler() -> str:
            wrong.extend(mixed_up(run_id))
            await give_way()
            wrong.extend(mixed_up(run_id))
            LEAKING.set(run_id)
            return run_id

        wrong.extend(mixed_up(run_id))
        await give_way()
        await ctx.group.parallel(
            (lambda: ctx.step.run("a", handler), lambda: ctx.step.run("b", handler))
        )
        await ctx.step.run("c", handler)
        wrong.extend(mixed_up(run_id))
        return run_id

    return body


CALLS: list[dict[str, Any]] = [
    {},
    {"target": "a", "planning": True},
    {"target": "b", "planning": True},
    {"memos": {"a": {"data": 1}, "b": {"data": 1}}},
    {"memos": {"a": {"data": 1}, "b": {"data": 1}, "c": {"data": 1}}},
]


@pytest.mark.anyio
@pytest.mark.parametrize("kind", [Sloppy, SloppyAsync])
@pytest.mark.parametrize("setting", SETTINGS)
async def test_concurrent_runs_do_not_see_each_other(
    setting: str, kind: type[Sloppy], monkeypatch: pytest.MonkeyPatch
) -> None:
    """200 runs at once, in tasks and threads that are used again, each see only their own."""
    # Some packages, once imported, give requests of apps without plugins a call as well.
    monkeypatch.setattr(calls, "_every_request", set[str]())
    wrong: list[str] = []
    probed: list[tuple[Any, ...]] = []
    plugin = kind()
    client = make_client()

    async def probe(ctx: Any) -> None:
        probed.append((LEAKING.get(), SCOPED.get(), Call.current()))

    # The plugin is the function's own, so that the core leaves the probe alone.
    bare = make_function(setting, client, probe, fn_id="probe")
    function = make_function(setting, client, make_body(setting, wrong), own=[plugin])
    app = serve_functions(setting, client, function, bare)

    async def run(number: int) -> None:
        reply = await app.apost(run_id=f"run-{number}", **CALLS[number % len(CALLS)])
        assert reply.status in (200, 206), reply.body
        if number % 10 == 0:
            assert (await app.apost(function=bare)).status == 200

    await asyncio.gather(*map(run, range(RUNS)))

    assert wrong == []
    assert plugin.foreign == []
    assert probed == [(None, None, None)] * (RUNS // 10)
    # The web framework's task: an ASGI app that is called in process runs in this one.
    assert (LEAKING.get(), SCOPED.get(), Call.current()) == (None, None, None)
    assert {"transform_input", "around_step", "transform_output", "before_response"} <= plugin.hooks


@pytest.mark.parametrize("setting", SETTINGS)
def test_one_thread_after_the_other(setting: str) -> None:
    """Runs that follow each other on the same worker thread start clean."""
    wrong: list[str] = []
    plugin = Sloppy()
    app = serve(setting, make_body(setting, wrong), plugin)
    for number in range(10):
        assert app.post(run_id=f"run-{number}", **CALLS[number % len(CALLS)]).status < 300

    assert wrong == []
    assert plugin.foreign == []


@pytest.mark.anyio
async def test_a_cancelled_run_leaves_nothing_behind() -> None:
    """After a cancellation in the middle of a step nothing of the run is visible."""
    started = asyncio.Event()

    async def body(ctx: Any) -> None:
        async def wait() -> None:
            started.set()
            await asyncio.sleep(60)

        await ctx.step.run("a", wait)

    plugin = Sloppy()
    task = asyncio.create_task(serve("fastapi-async", body, plugin).apost())
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert (LEAKING.get(), SCOPED.get(), Call.current()) == (None, None, None)


@pytest.mark.anyio
async def test_sends_leave_nothing_in_the_callers_context() -> None:
    """What a plugin sets around `client.send` is gone for the code that called it."""
    plugin = Sloppy()
    client = make_client(plugin)
    with Engine().serving(client):
        await client.send(inngest.Event(name="shop/x"))
        assert LEAKING.get() is None
        client.send_sync(inngest.Event(name="shop/x"))
        assert LEAKING.get() is None
        LEAKING.set("mine")
        await asyncio.gather(*(client.send(inngest.Event(name="shop/x")) for _ in range(20)))
        assert LEAKING.get() == "mine"
        LEAKING.set(None)
    assert {"before_send_events", "after_send_events"} <= plugin.hooks


def test_send_sync_leaves_nothing_in_the_thread() -> None:
    """A WSGI worker's thread is as it was after `client.send_sync`."""
    client = make_client(Sloppy())
    found: list[str | None] = []

    def work() -> None:
        client.send_sync(inngest.Event(name="shop/x"))
        found.append(LEAKING.get())

    with Engine().serving(client):
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    assert found == [None]


@pytest.mark.anyio
async def test_a_send_within_a_run_shares_the_runs_context() -> None:
    """Send hooks of a run may open contexts of the call, which the call closes."""
    seen: list[Any] = []

    class Scope(Plugin):
        def before_send_events(self, send: Send) -> None:
            assert send.call is not None
            send.call.set_context(SCOPED, "sending")

        def before_response(self, call: Call) -> None:
            seen.append(SCOPED.get())

    async def body(ctx: Any) -> None:
        await client.send(inngest.Event(name="shop/x"))

    client = make_client(Scope())
    with Engine().serving(client):
        assert (await serve("fastapi-async", body, client=client).apost()).status == 200
    assert seen == ["sending"]
    assert SCOPED.get() is None


@pytest.mark.parametrize("setting", SETTINGS)
def test_set_context_lasts_from_hook_to_hook(setting: str) -> None:
    """`call.set_context` is seen by the function, its steps and later hooks, and then undone."""
    seen: list[tuple[str, str | None]] = []

    class Scope(Plugin):
        def transform_input(self, call: Call) -> None:
            call.set_context(SCOPED, "outer")
            call.set_context(SCOPED, "inner")

        @contextlib.contextmanager
        def around_step(self, call: Call, step: Step) -> Iterator[None]:
            seen.append(("around_step", SCOPED.get()))
            yield

        def before_response(self, call: Call) -> None:
            seen.append(("before_response", SCOPED.get()))

    async def body(ctx: Any) -> None:
        seen.append(("function", SCOPED.get()))
        await ctx.step.run("a", lambda: seen.append(("step", SCOPED.get())))

    serve(setting, body, Scope()).post()

    names = ["function", "around_step", "step", "before_response"]
    assert seen == [(name, "inner") for name in names]
    assert SCOPED.get() is None


@pytest.mark.parametrize("setting", SETTINGS)
def test_the_running_step_is_seen_in_its_handler_only(setting: str) -> None:
    """`call.step` is the step whose handler runs, and None before and after it."""
    seen: list[tuple[str, str | None]] = []

    def note(where: str) -> None:
        call = Call.current()
        assert call is not None
        seen.append((where, None if call.step is None else call.step.id))

    async def body(ctx: Any) -> None:
        note("function")
        try:
            await ctx.step.run("a", lambda: note("handler"))
        finally:
            note("finally")

    serve(setting, body, Sloppy()).post()
    assert seen == [("function", None), ("handler", "a"), ("finally", None)]
