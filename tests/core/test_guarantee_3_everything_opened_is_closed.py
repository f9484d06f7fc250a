"""Guarantee 3: if a plugin's inbound hook ran, its closing hooks and its contexts run too."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any

import inngest
import pytest
from tests.core.core_protocol import BOTH, SETTINGS, Engine, make_client, serve
from tests.core.core_spies import AsyncSpy, Spy, foreign, of

from inngest_plugins.core import Call, CallEndedError, Layer, Plugin, Send, Step

PAIRS = {
    "transform_input": "before_response",
    "before_memoization": "after_memoization",
    "before_execution": "after_execution",
    "around_step": "~around_step",
    "before_send_events": "after_send_events",
}
CALL_HOOKS = (
    "transform_input",
    "before_memoization",
    "after_memoization",
    "before_execution",
    "around_step",
    "after_execution",
    "transform_output",
    "before_response",
)
LAYERS = {"outer": Layer.OBSERVE, "middle": Layer.WIRE, "inner": Layer.CONTEXT}


class Stop(BaseException):
    """Ends everything, like KeyboardInterrupt, but lets the test's event loop live."""


def opened_is_closed(log: list[str], names: tuple[str, ...] = ("outer", "middle", "inner")) -> None:
    """Check that for each plugin what was opened was closed, once, and contexts in reverse."""
    for name in names:
        hooks = of(log, name)
        for opening, closing in PAIRS.items():
            assert hooks.count(opening) <= 1, (name, opening, log)
            if opening in hooks:
                assert hooks.count(closing) == 1, (name, closing, log)
    opened = [entry for entry in log if entry.startswith("open ")]
    closed = [entry for entry in log if entry.startswith("close ")]
    assert closed == [f"close {entry.removeprefix('open ')}" for entry in reversed(opened)], log
    if closed:
        hooks_after = [e for e in log[log.index(closed[0]) :] if not e.startswith("close ")]
        assert hooks_after == [], "contexts close after the last hook"


class Opening(Spy):
    """A spy that opens a context of the call in its inbound hooks."""

    @contextlib.contextmanager
    def _context(self, hook: str) -> Iterator[str]:
        self.log.append(f"open {self.name}.{hook}")
        try:
            yield hook
        finally:
            self.log.append(f"close {self.name}.{hook}")

    def transform_input(self, call: Call) -> None:
        assert call.enter(self._context("transform_input")) == "transform_input"
        super().transform_input(call)

    def before_execution(self, call: Call) -> None:
        call.enter(self._context("before_execution"))
        super().before_execution(call)


class AsyncOpening(AsyncSpy):
    """The same with async contexts, for async functions."""

    @contextlib.asynccontextmanager
    async def _context(self, hook: str) -> AsyncIterator[str]:
        await asyncio.sleep(0)
        self.log.append(f"open {self.name}.{hook}")
        try:
            yield hook
        finally:
            await asyncio.sleep(0)
            self.log.append(f"close {self.name}.{hook}")

    async def transform_input(self, call: Call) -> None:
        assert await call.enter_async(self._context("transform_input")) == "transform_input"
        await super().transform_input(call)

    async def before_execution(self, call: Call) -> None:
        await call.enter_async(self._context("before_execution"))
        await super().before_execution(call)


def spies(
    log: list[str],
    setting: str = "",
    kind: Any = Opening,
    raises: Mapping[str, Mapping[str, BaseException]] | None = None,
) -> list[Any]:
    """Three spies, in one list order that is not the stack's."""
    del setting
    return [
        kind(name, log, layer=layer, fail_open=False, raises=(raises or {}).get(name))
        for name, layer in reversed(LAYERS.items())
    ]


async def one_step(ctx: Any) -> int:
    """A function of one step."""
    await ctx.step.run("a", lambda: 1)
    return 2


def failing(error: BaseException) -> Any:
    """A handler that raises."""

    def handler() -> None:
        raise error

    return handler


MEMOS: list[Any] = [{}, {"z": {"data": 1}}]
"""Without memos, and with one that is replayed first."""


async def replay_then_step(ctx: Any) -> int:
    """A function that replays one step and then has another."""
    await ctx.step.run("z", lambda: 1)
    await ctx.step.run("a", lambda: 1)
    return 2


@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("where", ["function", "step", "both", "nested step", "tail"])
@pytest.mark.parametrize("error", [ValueError("u"), inngest.NonRetriableError("u"), Stop()])
def test_user_code_raises(setting: str, where: str, error: BaseException) -> None:
    """Whatever user code raises, wherever, everything is closed."""
    log: list[str] = []

    async def body(ctx: Any) -> None:
        if where == "function":
            raise error
        if where == "nested step":

            async def outer() -> None:
                await ctx.step.run("b", failing(error))

            await ctx.step.run("a", outer)
        if where == "tail":
            await ctx.step.run("z", lambda: 1)
            raise error
        await ctx.step.run("a", failing(error))

    app = serve(setting, body, *spies(log))
    for memos in MEMOS:
        log.clear()
        if type(error) is Stop and setting.startswith("connect"):
            continue  # The worker's own task ends with it, and so does the test's.
        with contextlib.suppress(Stop):
            app.post(memos=memos)
        opened_is_closed(log)
        assert "outer.transform_input" in log


@pytest.mark.parametrize("memos", MEMOS)
@pytest.mark.parametrize("kind", [Opening, AsyncOpening])
@pytest.mark.parametrize("hook", CALL_HOOKS)
@pytest.mark.parametrize("culprit", LAYERS)
@pytest.mark.parametrize("setting", BOTH)
def test_another_plugin_raises(
    setting: str, culprit: str, hook: str, kind: Any, memos: Any
) -> None:
    """When a plugin raises in any hook, its neighbours on both sides are closed."""
    if kind is AsyncOpening and setting != "fastapi-async":
        kind = AsyncSpy
    log: list[str] = []
    error = ValueError(hook)
    app = serve(
        setting,
        replay_then_step if memos else one_step,
        *spies(log, kind=kind, raises={culprit: {hook: error}}),
    )
    reply = app.post(memos=memos)

    others = tuple(name for name in LAYERS if name != culprit)
    if hook == "around_step":
        # A context that failed to open has nothing to close.
        opened_is_closed(log, others)
    else:
        opened_is_closed(log)
    failed = reply.body if reply.status == 500 else reply.op["error"]
    assert failed["message"] == hook


@pytest.mark.parametrize("memos", MEMOS)
@pytest.mark.parametrize("hook", ["transform_input", "before_execution"])
@pytest.mark.parametrize("setting", BOTH)
def test_what_a_failing_entry_did_not_reach_is_left_alone(
    setting: str, hook: str, memos: Any
) -> None:
    """Plugins within the one that failed `transform_input` have no hook at all."""
    log: list[str] = []
    app = serve(setting, replay_then_step, *spies(log, raises={"middle": {hook: ValueError(hook)}}))
    app.post(memos=memos)

    if hook == "transform_input":
        assert of(log, "inner") == []
        assert of(log, "middle") == ["transform_input", "transform_output", "before_response"]
        assert of(log, "outer") == of(log, "middle")
    else:
        assert "around_step" not in of(log, "outer")


TOLD = ["transform_input", "transform_output", "before_response"]


@pytest.mark.parametrize("memos", MEMOS)
@pytest.mark.parametrize("position", ["before", "after", "own"])
@pytest.mark.parametrize(
    "hook",
    [
        "transform_input",
        "before_execution",
        "after_execution",
        "transform_output",
        "before_response",
    ],
)
@pytest.mark.parametrize("setting", BOTH)
def test_an_ordinary_middleware_raises(setting: str, hook: str, position: str, memos: Any) -> None:
    """When foreign middleware raises, before or behind ours in the list, ours is closed."""
    log: list[str] = []
    entry = foreign("f", log, raises={hook: ValueError(hook)})
    ours = spies(log)
    app = serve(
        setting,
        replay_then_step,
        *([entry] if position == "before" else []),
        *ours,
        *([entry] if position == "after" else []),
        own=[entry] if position == "own" else [],
    )
    reply = app.post(memos=memos)

    log[:] = [item for item in log if not item.startswith("f.")]
    opened_is_closed(log)
    if hook == "before_execution" and memos:
        # The SDK swallows this one when there are memos.
        assert reply.status == 206
    else:
        assert (reply.status, reply.body["message"]) == (500, hook)
    if hook == "transform_input":
        # The function never began: nothing is said to have been executed.
        assert not [item for item in log if "execution" in item]
        if position == "before":
            # Nobody of ours has let the request in; observers hear of it all the same.
            assert of(log, "outer") == TOLD
            assert of(log, "middle") == of(log, "inner") == []


@pytest.mark.parametrize("setting", SETTINGS)
def test_a_request_that_only_plans(setting: str) -> None:
    """Planning two or more steps, where the SDK calls no `transform_output`, closes everything."""
    log: list[str] = []

    async def body(ctx: Any) -> None:
        await ctx.group.parallel(
            (lambda: ctx.step.run("a", lambda: 1), lambda: ctx.step.run("b", lambda: 2))
        )

    reply = serve(setting, body, *spies(log)).post()

    assert [op["op"] for op in reply.ops] == ["StepPlanned", "StepPlanned"]
    opened_is_closed(log)
    assert "close outer.transform_input" in log


# ---------------------------------------------------------------- cancellation


class Cancelling(AsyncOpening):
    """Cancels the request's task in one hook."""

    async def _cancel(self, hook: str) -> None:
        if hook in self.raises:
            task = asyncio.current_task()
            assert task is not None
            task.cancel()
            await asyncio.sleep(0)

    def _note(self, hook: str) -> None:
        self.log.append(f"{self.name}.{hook}")

    async def transform_input(self, call: Call) -> None:
        await super().transform_input(call)
        await self._cancel("transform_input")

    async def before_memoization(self, call: Call) -> None:
        await super().before_memoization(call)
        await self._cancel("before_memoization")

    async def after_memoization(self, call: Call) -> None:
        await super().after_memoization(call)
        await self._cancel("after_memoization")

    async def before_execution(self, call: Call) -> None:
        await super().before_execution(call)
        await self._cancel("before_execution")

    @contextlib.asynccontextmanager
    async def around_step(self, call: Call, step: Step) -> AsyncIterator[None]:
        if "around_step" in self.raises:
            await self._cancel("around_step")
        self._note("around_step")
        try:
            yield
        finally:
            self._note("~around_step")
            await self._cancel("~around_step")

    async def after_execution(self, call: Call) -> None:
        await super().after_execution(call)
        await self._cancel("after_execution")

    async def transform_output(self, call: Call, outcome: Any) -> None:
        await super().transform_output(call, outcome)
        await self._cancel("transform_output")

    async def before_response(self, call: Call) -> None:
        await super().before_response(call)
        await self._cancel("before_response")


@pytest.mark.anyio
@pytest.mark.parametrize("memos", MEMOS)
@pytest.mark.parametrize("hook", [*CALL_HOOKS, "~around_step"])
@pytest.mark.parametrize("culprit", LAYERS)
async def test_cancelled_in_a_hook(culprit: str, hook: str, memos: Any) -> None:
    """Cancelled while any plugin waits in any hook, everything is closed and the task ends."""
    log: list[str] = []
    app = serve(
        "fastapi-async",
        replay_then_step if memos else one_step,
        *spies(log, kind=Cancelling, raises={culprit: {hook: Stop()}}),
    )
    with pytest.raises(asyncio.CancelledError):
        await app.apost(memos=memos)

    assert f"{culprit}.{hook}" in log or hook == "around_step"
    opened_is_closed(log)


@pytest.mark.anyio
@pytest.mark.parametrize("memos", MEMOS)
@pytest.mark.parametrize("where", ["function", "step", "between"])
async def test_cancelled_in_user_code(where: str, memos: Any) -> None:
    """Cancelled while user code waits: closing hooks run, `transform_output` does not."""
    log: list[str] = []
    calls: list[Call] = []
    waiting = asyncio.Event()

    class Watch(Plugin):
        layer = Layer.OBSERVE

        def before_response(self, call: Call) -> None:
            calls.append(call)

    async def wait() -> None:
        waiting.set()
        await asyncio.sleep(60)

    async def body(ctx: Any) -> None:
        if where == "function":
            await wait()
        await ctx.step.run("z", lambda: 1)
        if where == "between":
            await wait()
        await ctx.step.run("a", wait)

    app = serve("fastapi-async", body, Watch(), *spies(log, kind=AsyncOpening))
    task = asyncio.create_task(app.apost(memos={"z": {"data": 1}}))
    await waiting.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    opened_is_closed(log)
    assert not [entry for entry in log if "transform_output" in entry]
    (call,) = calls
    assert call.cancelled
    assert call.failure is None


@pytest.mark.anyio
@pytest.mark.parametrize("which", ["first", "last"])
async def test_cancelled_while_contexts_close(which: str) -> None:
    """A cancellation that arrives in a closing context closes the rest and is not lost."""
    log: list[str] = []

    class Slow(Plugin):
        @contextlib.asynccontextmanager
        async def _context(self, name: str) -> AsyncIterator[None]:
            try:
                yield
            finally:
                log.append(name)
                if name == which:
                    task = asyncio.current_task()
                    assert task is not None
                    task.cancel()
                await asyncio.sleep(0)

        async def transform_input(self, call: Call) -> None:
            for name in ("last", "middle", "first"):
                await call.enter_async(self._context(name))

    app = serve("fastapi-async", one_step, Slow())
    with pytest.raises(asyncio.CancelledError):
        await app.apost()

    assert log == ["first", "middle", "last"]


@pytest.mark.anyio
async def test_a_closing_hook_that_hangs_does_not_hold_a_cancelled_request(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Closing after a cancellation has a deadline."""
    from inngest_plugins.core.entry import calls

    monkeypatch.setattr(calls, "_CLOSING_SECONDS", 0.05)
    waiting = asyncio.Event()
    hooks: list[str] = []

    class Hanging(Plugin):
        async def before_response(self, call: Call) -> None:
            hooks.append("before_response")
            await asyncio.sleep(60)

    async def body(ctx: Any) -> None:
        waiting.set()
        await asyncio.sleep(60)

    task = asyncio.create_task(serve("fastapi-async", body, Hanging()).apost())
    await waiting.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(task, 100)
    assert hooks == ["before_response"]


# ---------------------------------------------------------------- contexts of the call


@pytest.mark.parametrize("setting", BOTH)
@pytest.mark.parametrize("raised", [None, ValueError("user")])
def test_contexts_see_the_exception_and_cannot_swallow_it(
    setting: str, raised: ValueError | None
) -> None:
    """A context of the call is closed with what the function raised, in the function's thread."""
    seen: list[Any] = []

    class Swallow:
        def __enter__(self) -> None:
            return None

        def __exit__(self, kind: object, error: object, traceback: object) -> bool:
            seen.append(error)
            return True

    class Opens(Plugin):
        def transform_input(self, call: Call) -> None:
            call.enter(Swallow())

    async def body(ctx: Any) -> int:
        if raised is not None:
            raise raised
        return 1

    reply = serve(setting, body, Opens()).post()

    assert seen == [raised]
    assert reply.status == (200 if raised is None else 500)


@pytest.mark.parametrize("setting", BOTH)
def test_a_context_that_raises_leaves_the_others_to_close(setting: str) -> None:
    """An exception of a closing context fails the run and keeps no other context open."""
    log: list[str] = []

    class Breaks(Plugin):
        @contextlib.contextmanager
        def _context(self, name: str) -> Iterator[None]:
            yield
            log.append(name)
            if name == "second":
                raise LookupError("broken context")

        def transform_input(self, call: Call) -> None:
            for name in ("first", "second", "third"):
                call.enter(self._context(name))

    reply = serve(setting, one_step, Breaks()).post(memos={"a": {"data": 1}})

    assert log == ["third", "second", "first"]
    assert (reply.status, reply.body["message"]) == (500, "broken context")


@pytest.mark.parametrize("setting", BOTH)
def test_user_code_may_enter_contexts_of_the_call(setting: str) -> None:
    """A context that user code opens on the call is closed with the others."""
    log: list[str] = []

    @contextlib.contextmanager
    def context() -> Iterator[None]:
        log.append("open")
        yield
        log.append("close")

    async def body(ctx: Any) -> None:
        call = Call.current()
        assert call is not None
        call.enter(context())
        log.append("body")

    serve(setting, body, Spy("", log)).post()

    assert log[-2:] == ["before_response", "close"]


@pytest.mark.anyio
async def test_misuse_of_enter() -> None:
    """Each wrong way to enter a context says what to do instead."""
    errors: list[str] = []
    calls: list[Call] = []

    @contextlib.asynccontextmanager
    async def acm() -> AsyncIterator[None]:
        yield

    class Misuse(Plugin):
        def transform_input(self, call: Call) -> None:
            calls.append(call)
            wrongs: list[Any] = [acm(), 3]
            for wrong in wrongs:
                with pytest.raises(TypeError) as caught:
                    call.enter(wrong)
                errors.append(str(caught.value))

        async def before_execution(self, call: Call) -> None:
            if not call.is_async:
                with pytest.raises(TypeError) as caught:
                    await call.enter_async(acm())
                errors.append(str(caught.value))

    async def body(ctx: Any) -> None:
        call = Call.current()
        assert call is not None
        if not call.is_async:
            with (
                concurrent.futures.ThreadPoolExecutor(1) as pool,
                pytest.raises(TypeError) as caught,
            ):
                pool.submit(call.enter, contextlib.nullcontext()).result()
            errors.append(str(caught.value))

    for setting in BOTH:
        assert (await serve(setting, body, Misuse()).apost()).status == 200
    assert errors == [
        (
            "_AsyncGeneratorContextManager is an async context manager: "
            "use `await call.enter_async(...)`"
        ),
        "int is not a context manager",
        (
            "_AsyncGeneratorContextManager is an async context manager: "
            "a sync function can only enter a sync one"
        ),
        "int is not a context manager",
        (
            "call.enter_async needs an async function, and 'shop-fn' is sync: use call.enter with "
            "a sync context manager"
        ),
        (
            "call.enter was used from another thread than that of the sync function 'shop-fn': "
            "use it in the function or in a hook"
        ),
    ]
    with pytest.raises(CallEndedError, match=r"call\.enter was used after the request"):
        calls[0].enter(contextlib.nullcontext())
    with pytest.raises(CallEndedError, match=r"call\.enter_async was used after the request"):
        await calls[0].enter_async(acm())


# ---------------------------------------------------------------- sends


def sdk_raises_from_send() -> bool:
    """Whether the bare SDK heeds an exception of ordinary middleware in `client.send`."""
    client = make_client(foreign("f", [], raises={"before_send_events": ValueError("no")}))
    with Engine().serving(client):
        try:
            asyncio.run(client.send(inngest.Event(name="shop/x")))
        except ValueError:
            return True
    return False


@pytest.mark.parametrize("how", ["step", "client.send", "client.send_sync"])
@pytest.mark.parametrize("culprit", ["outer", "middle", "inner", "foreign"])
@pytest.mark.parametrize("setting", BOTH)
def test_sends_are_closed_when_a_neighbour_raises(setting: str, culprit: str, how: str) -> None:
    """A plugin whose `before_send_events` ran has `after_send_events`, with the error."""
    if culprit == "foreign" and how == "client.send" and not sdk_raises_from_send():
        return  # The oldest supported SDK sends in spite of ordinary middleware.
    log: list[str] = []
    errors: list[str | None] = []
    error = ValueError("no")

    class Watch(Plugin):
        def after_send_events(self, send: Send) -> None:
            errors.append(send.error)

        def before_send_events(self, send: Send) -> None:
            return None

    raising = {"before_send_events": error}
    middleware = spies(log, kind=Spy, raises={culprit: raising})
    # The innermost plugin: its `before_send_events` runs before any other fails.
    middleware.append(Watch())
    if culprit == "foreign":
        middleware.append(foreign("f", log, raises=raising))
    client = make_client(*middleware)
    with Engine().serving(client) as engine:
        if how == "step":

            async def body(ctx: Any) -> None:
                await ctx.step.send_event("a", inngest.Event(name="shop/x"))

            reply = serve(setting, body, client=client).post()
            assert reply.op["error"]["message"] == "no"
        elif how == "client.send":
            with pytest.raises(ValueError, match="no"):
                asyncio.run(client.send(inngest.Event(name="shop/x")))
        else:
            with pytest.raises(ValueError, match="no"):
                client.send_sync(inngest.Event(name="shop/x"))

    assert engine.sent == []
    opened_is_closed(log)
    assert errors == ["ValueError: no"]
