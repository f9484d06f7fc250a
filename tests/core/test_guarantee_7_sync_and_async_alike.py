"""Guarantee 7: every plugin works in async functions, in the thread pool and under WSGI."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import contextvars
import threading
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from contextvars import ContextVar
from typing import Any, TypeVar

import anyio
import anyio.from_thread
import anyio.to_thread
import inngest
import pytest
from tests.core.core_protocol import (
    ASYNC_SETTINGS,
    SETTINGS,
    SYNC_SETTINGS,
    Engine,
    make_client,
    serve,
)
from tests.core.core_spies import AsyncSpy, Spy, of

from inngest_plugins.core import Call, Hooks, Layer, Outcome, Plugin, Send, Stack, Step
from inngest_plugins.core.base.sync_async import run_async
from inngest_plugins.core.request.dispatch import Dispatcher
from inngest_plugins.core.request.meeting import meet

T = TypeVar("T")
USER: ContextVar[str] = ContextVar("user", default="nobody")


async def everything(ctx: Any) -> Any:
    """A function with each kind of thing that has hooks."""
    await ctx.step.run("z", lambda: 1)
    await ctx.step.send_event("send", inngest.Event(name="shop/x"))


@pytest.mark.parametrize("setting", SETTINGS)
def test_sync_and_async_hooks_run_alike(setting: str) -> None:
    """A plugin of plain hooks and one of coroutine hooks have the same hooks in every setting."""
    log: list[str] = []
    app = serve(setting, everything, Spy("plain", log), AsyncSpy("coroutine", log))
    with Engine().serving(app.client) as engine:
        first = app.post()
        second = app.post(memos={"z": {"data": 1}})

    assert (first.op["displayName"], second.op["data"]) == ("z", ["id0"])
    assert len(engine.sent) == 1
    assert of(log, "plain") == of(log, "coroutine")
    assert len(of(log, "plain")) == 9 + 11


@pytest.mark.parametrize("setting", [name for name in SYNC_SETTINGS if name != "connect-pool"])
def test_an_async_hook_that_raises_no_exception_harms_no_other_call(setting: str) -> None:
    """Calls that overlap share a portal: a `BaseException` of one call's hook is that call's."""

    class Odd(BaseException):
        pass

    class Hook(Plugin):
        async def before_execution(self, call: Call) -> None:
            if call.run_id != "bad":
                waits.set()
                await anyio.to_thread.run_sync(has_raised.wait)
                return
            raise Odd

    waits, has_raised = threading.Event(), threading.Event()
    app = serve(setting, everything, Hook())
    with Engine().serving(app.client), concurrent.futures.ThreadPoolExecutor() as pool:
        innocent = pool.submit(app.post)
        assert waits.wait(10)
        with contextlib.suppress(Odd):
            app.post(run_id="bad")
        has_raised.set()
        assert innocent.result(10).op["displayName"] == "z"


@pytest.mark.parametrize("setting", SETTINGS)
def test_an_async_hook_runs_to_completion_before_what_follows(setting: str) -> None:
    """What a coroutine hook does after waiting is there for the function and the later hooks."""
    seen: list[Any] = []

    class Slow(Plugin):
        async def transform_input(self, call: Call) -> None:
            await asyncio.sleep(0.01)
            call.event.data = {**call.event.data, "from": "transform_input"}

        async def transform_output(self, call: Call, outcome: Outcome) -> None:
            await anyio.sleep(0.01)
            outcome.output = {"wrapped": outcome.output}

        async def before_response(self, call: Call) -> None:
            await asyncio.sleep(0.01)
            seen.append("before_response")

    async def body(ctx: Any) -> Any:
        return ctx.event.data["from"]

    assert serve(setting, body, Slow()).post().body == {"wrapped": "transform_input"}
    assert seen == ["before_response"]


@pytest.mark.parametrize("setting", SETTINGS)
def test_a_plain_hook_may_return_an_awaitable(setting: str) -> None:
    """A `def` hook that hands on a coroutine has it awaited."""
    seen: list[str] = []

    class Delegating(Plugin):
        async def _work(self, what: str) -> None:
            await asyncio.sleep(0)
            seen.append(what)

        def before_execution(self, call: Call) -> Any:
            return self._work("before_execution")

        def before_response(self, call: Call) -> Any:
            return self._work("before_response")

    async def body(ctx: Any) -> None:
        seen.append("function")

    serve(setting, body, Delegating()).post()
    assert seen == ["before_execution", "function", "before_response"]


@pytest.mark.parametrize("setting", SETTINGS)
def test_async_context_managers_around_steps(setting: str) -> None:
    """An `@asynccontextmanager` is held open around the handler, also of a sync function."""
    log: list[str] = []

    class Span(Plugin):
        @contextlib.asynccontextmanager
        async def around_step(self, call: Call, step: Step) -> AsyncIterator[None]:
            await asyncio.sleep(0)
            log.append(f"open {step.id}")
            try:
                yield
            except ValueError as err:
                log.append(f"saw {err}")
                raise
            finally:
                await asyncio.sleep(0)
                log.append(f"close {step.id}")

    def fail() -> None:
        log.append("handler")
        raise ValueError("user")

    async def body(ctx: Any) -> None:
        await ctx.group.parallel(
            (lambda: ctx.step.run("a", lambda: 1), lambda: ctx.step.run("b", fail))
        )

    app = serve(setting, body, Span(), Spy("", []))
    assert app.post(target="b", planning=True).op["op"] == "StepError"
    assert log == ["open b", "handler", "saw user", "close b"]


@pytest.mark.parametrize("setting", SETTINGS)
def test_async_on_register(setting: str) -> None:
    """`async def on_register` is awaited once, before anything else, whoever comes first."""
    log: list[str] = []

    class Registering(Plugin):
        async def on_register(self, client: inngest.Inngest) -> None:
            await asyncio.sleep(0.01)
            log.append(client.app_id)

        def transform_input(self, call: Call) -> None:
            log.append("transform_input")

        def before_send_events(self, send: Send) -> None:
            log.append("before_send_events")

    async def body(ctx: Any) -> None:
        return None

    app = serve(setting, body, Registering())
    app.post()
    app.post()
    with Engine().serving(app.client):
        app.client.send_sync(inngest.Event(name="shop/x"))
    assert log == ["shop", "transform_input", "transform_input", "before_send_events"]

    log.clear()
    client = make_client(Registering())
    with Engine().serving(client):
        client.send_sync(inngest.Event(name="shop/x"))
    assert log == ["shop", "before_send_events"]


@pytest.mark.parametrize("setting", SETTINGS)
def test_the_current_call_is_known_everywhere(setting: str) -> None:
    """`Call.current()` is the call in every hook, sync or async, in the function and its steps."""
    seen: list[Any] = []

    class Watch(Plugin):
        def transform_input(self, call: Call) -> None:
            seen.append(Call.current() is call)

        async def before_execution(self, call: Call) -> None:
            seen.append(Call.current() is call)
            await asyncio.sleep(0)
            seen.append(Call.current() is call)

        @contextlib.asynccontextmanager
        async def around_step(self, call: Call, step: Step) -> AsyncIterator[None]:
            seen.append(Call.current() is call and call.step is step)
            yield

        async def before_response(self, call: Call) -> None:
            seen.append(Call.current() is call)

    async def body(ctx: Any) -> None:
        seen.append(Call.current() is not None)
        await ctx.step.run("a", lambda: seen.append(Call.current() is not None))

    serve(setting, body, Watch()).post()
    assert seen == [True] * 7
    assert Call.current() is None


@pytest.mark.parametrize("setting", SYNC_SETTINGS)
def test_async_hooks_of_a_sync_function_see_its_context(setting: str) -> None:
    """A coroutine hook reads the context variables that the plain hooks of the run have set."""
    seen: list[str] = []

    class First(Plugin):
        layer = Layer.OBSERVE

        def transform_input(self, call: Call) -> None:
            call.set_context(USER, "ada")

    class Second(Plugin):
        async def transform_input(self, call: Call) -> None:
            seen.append(USER.get())

    async def body(ctx: Any) -> None:
        seen.append(USER.get())

    serve(setting, body, First(), Second()).post()
    assert seen == ["ada", "ada"]


@pytest.mark.parametrize("setting", SYNC_SETTINGS)
def test_sync_handlers_stay_in_their_thread(setting: str) -> None:
    """Coroutine hooks wait in a thread of their own; function, steps and plain hooks share one."""
    threads: dict[str, int] = {}

    class Watch(Plugin):
        def transform_input(self, call: Call) -> None:
            threads["plain hook"] = threading.get_ident()

        async def before_execution(self, call: Call) -> None:
            threads["coroutine hook"] = threading.get_ident()

        def before_response(self, call: Call) -> None:
            threads["last hook"] = threading.get_ident()

    async def body(ctx: Any) -> None:
        threads["function"] = threading.get_ident()
        await ctx.step.run("a", lambda: threads.update(step=threading.get_ident()))

    serve(setting, body, Watch()).post()
    assert threads["coroutine hook"] != threads["function"]
    del threads["coroutine hook"]
    assert len(threads) == 4
    assert len(set(threads.values())) == 1


def test_the_portals_thread_ends_with_the_call() -> None:
    """No event loop thread is left over when no call needs it."""
    before = set(threading.enumerate())

    async def body(ctx: Any) -> None:
        return None

    app = serve("flask", body, AsyncSpy("", []))
    for _ in range(3):
        assert app.post().status == 200
    left = [t.name for t in set(threading.enumerate()) - before]
    assert not [name for name in left if "portal" in name.lower()], left


@pytest.mark.parametrize("setting", SETTINGS)
def test_exceptions_of_async_hooks_are_the_same_objects(setting: str) -> None:
    """An exception that crosses the portal fails the run as itself."""
    error = inngest.NonRetriableError("no way")

    async def body(ctx: Any) -> None:
        return None

    app = serve(setting, body, AsyncSpy("p", [], raises={"before_execution": error}))
    reply = app.post()
    assert (reply.body["name"], reply.body["message"]) == ("NonRetriableError", "no way")
    assert reply.no_retry


@pytest.mark.parametrize("setting", SYNC_SETTINGS)
def test_many_sync_calls_at_once_share_a_portal(setting: str) -> None:
    """Overlapping sync calls with coroutine hooks do not wait for one another's hooks."""
    meeting = threading.Barrier(2, timeout=200)

    class Meet(Plugin):
        async def before_execution(self, call: Call) -> None:
            await anyio.to_thread.run_sync(meeting.wait)

    async def body(ctx: Any) -> int:
        return 1

    app = serve(setting, body, Meet())

    async def both() -> list[Any]:
        return list(await asyncio.gather(app.apost(), app.apost()))

    replies = asyncio.run(both())
    assert [reply.body for reply in replies] == [1, 1]


def send_everywhere(client: inngest.Inngest) -> None:
    """Send once in a plain thread."""
    assert client.send_sync(inngest.Event(name="shop/x")) == ["id0"]


@pytest.mark.parametrize("kind", [Spy, AsyncSpy])
def test_send_sync_outside_of_a_loop(kind: type[Spy] | type[AsyncSpy]) -> None:
    """Async send hooks run to completion under `client.send_sync` in a plain thread."""
    log: list[str] = []
    client = make_client(kind("", log))
    with Engine().serving(client) as engine:
        send_everywhere(client)
    assert log == ["before_send_events", "after_send_events"]
    assert len(engine.sent) == 1


@pytest.mark.anyio
@pytest.mark.parametrize("kind", [Spy, AsyncSpy])
async def test_send_sync_inside_of_a_loop(kind: type[Spy] | type[AsyncSpy]) -> None:
    """The same where an event loop runs in the calling thread already."""
    log: list[str] = []
    client = make_client(kind("", log))
    with Engine().serving(client):
        send_everywhere(client)
        assert log == ["before_send_events", "after_send_events"]
        await client.send(inngest.Event(name="shop/x"))
    assert log == ["before_send_events", "after_send_events"] * 2


@pytest.mark.parametrize("setting", SYNC_SETTINGS)
@pytest.mark.parametrize("kind", [Spy, AsyncSpy])
def test_send_sync_inside_of_a_run(setting: str, kind: type[Spy] | type[AsyncSpy]) -> None:
    """`client.send_sync` in a sync function's step has the send hooks, with the call."""
    log: list[str] = []
    sends: list[Any] = []
    hooks = Hooks("watch")

    @hooks.after_send_events
    def note(send: Send) -> None:
        assert send.call is not None
        sends.append((send.call.run_id, None if send.step is None else send.step.id, send.ids))

    async def body(ctx: Any) -> None:
        await ctx.step.run("a", lambda: app.client.send_sync(inngest.Event(name="shop/x")))

    app = serve(setting, body, kind("", log), hooks)
    with Engine().serving(app.client):
        assert app.post(run_id="run-s").op["data"] == ["id0"]
    assert sends == [("run-s", "a", ["id0"])]
    assert log.count("before_send_events") == log.count("after_send_events") == 1


@pytest.mark.parametrize("setting", ASYNC_SETTINGS)
def test_contexts_of_the_call_in_async_functions(setting: str) -> None:
    """Sync and async contexts may be mixed; they close in reverse order of opening."""
    log: list[str] = []

    @contextlib.asynccontextmanager
    async def asynchronous(name: str) -> AsyncIterator[str]:
        yield name
        await asyncio.sleep(0)
        log.append(name)

    @contextlib.contextmanager
    def synchronous(name: str) -> Iterator[str]:
        yield name
        log.append(name)

    class Opening(Plugin):
        async def transform_input(self, call: Call) -> None:
            assert call.enter(synchronous("first")) == "first"
            assert await call.enter_async(asynchronous("second")) == "second"
            assert call.enter(synchronous("third")) == "third"

    async def body(ctx: Any) -> None:
        return None

    assert serve(setting, body, Opening()).post().status == 200
    assert log == ["third", "second", "first"]


@pytest.mark.parametrize("setting", SETTINGS)
def test_an_async_hook_may_enter_contexts_of_the_call(setting: str) -> None:
    """What a coroutine hook opens is there for the function, and closed in the same thread."""
    log: list[str] = []
    threads: set[int] = set()

    @contextlib.contextmanager
    def context(name: str) -> Iterator[str]:
        threads.add(threading.get_ident())
        yield name
        threads.add(threading.get_ident())
        log.append(name)

    class Opening(Plugin):
        async def transform_input(self, call: Call) -> None:
            assert call.enter(context("first")) == "first"
            await asyncio.sleep(0)
            call.set_context(USER, "ada")

        async def before_execution(self, call: Call) -> None:
            log.append(USER.get())
            with pytest.raises(LookupError, match="broken"):
                call.enter(broken())
            assert call.enter(context("second")) == "second"

    @contextlib.contextmanager
    def broken() -> Iterator[None]:
        raise LookupError("broken")
        yield

    async def body(ctx: Any) -> None:
        threads.add(threading.get_ident())
        log.append(USER.get())

    assert serve(setting, body, Opening()).post().status == 200
    assert log == ["ada", "ada", "second", "first"]
    assert len(threads) == 1
    assert USER.get() == "nobody"


@pytest.mark.parametrize("setting", SYNC_SETTINGS)
def test_a_context_that_an_async_hook_enters_may_send(setting: str) -> None:
    """The hooks of that send do not wait for the loop that waits for the context."""
    seen: list[str] = []

    class Sending(Plugin):
        async def transform_input(self, call: Call) -> None:
            call.enter(announced(call))

        async def before_send_events(self, send: Send) -> None:
            await asyncio.sleep(0)
            seen.extend(event.name for event in send.events)

    @contextlib.contextmanager
    def announced(call: Call) -> Iterator[None]:
        call.client.send_sync(inngest.Event(name="shop/begun"))
        yield
        call.client.send_sync(inngest.Event(name="shop/ended"))

    async def body(ctx: Any) -> None:
        return None

    app = serve(setting, body, Sending())
    with Engine().serving(app.client), anyio.from_thread.start_blocking_portal() as portal:
        reply = portal.call(_within, 20.0, app.post)
    assert reply.status == 200
    assert seen == ["shop/begun", "shop/ended"]


@pytest.mark.parametrize("setting", SYNC_SETTINGS)
def test_a_task_that_a_hook_leaves_behind_enters_nothing(setting: str) -> None:
    """The function's thread is back in the function: an error says so, and nothing hangs."""
    refused = threading.Event()
    tasks: list[asyncio.Task[None]] = []

    class Leaving(Plugin):
        async def before_execution(self, call: Call) -> None:
            async def late() -> None:
                await asyncio.sleep(0.02)
                with pytest.raises(TypeError, match="another thread than that of the sync"):
                    call.enter(contextlib.nullcontext())
                refused.set()

            tasks.append(asyncio.create_task(late()))

    async def body(ctx: Any) -> None:
        assert refused.wait(200)

    assert serve(setting, body, Leaving()).post().status == 200


async def _within(seconds: float, work: Callable[[], T]) -> T:
    with anyio.fail_after(seconds):
        return await anyio.to_thread.run_sync(work, abandon_on_cancel=True)


@pytest.mark.anyio
async def test_nobody_goes_ahead_of_an_async_on_register() -> None:
    """What comes while a plugin is being registered waits; one that is interrupted begins anew."""
    begun: list[asyncio.Event] = []
    go_on = asyncio.Event()
    log: list[str] = []

    class Registering(Plugin):
        async def on_register(self, client: inngest.Inngest) -> None:
            begun[-1].set()
            # Sends that belong to it do not wait for it.
            await client.send(inngest.Event(name="shop/first"))
            await go_on.wait()
            log.append("registered")

        def before_send_events(self, send: Send) -> None:
            log.append(send.events[0].name)

    client = make_client(Registering())
    with Engine().serving(client), anyio.fail_after(10):
        begun.append(asyncio.Event())
        first = asyncio.create_task(client.send(inngest.Event(name="shop/a")))
        await begun[-1].wait()
        others = [asyncio.create_task(client.send(inngest.Event(name="shop/b"))) for _ in range(2)]
        begun.append(asyncio.Event())
        first.cancel()
        await begun[-1].wait()
        go_on.set()
        await asyncio.gather(*others)
    assert first.cancelled()
    assert log[-3:] == ["registered", "shop/b", "shop/b"]
    assert set(log[:-3]) <= {"shop/first"}


def test_nobody_goes_ahead_of_an_on_register_in_another_thread() -> None:
    """A sync send waits for the thread that registers the plugin."""
    has_begun, go_on = threading.Event(), threading.Event()
    log: list[str] = []

    class Registering(Plugin):
        def on_register(self, client: inngest.Inngest) -> None:
            has_begun.set()
            go_on.wait()
            log.append("registered")

        def before_send_events(self, send: Send) -> None:
            log.append(send.events[0].name)

    client = make_client(Registering())
    with Engine().serving(client), concurrent.futures.ThreadPoolExecutor(2) as threads:
        first = threads.submit(client.send_sync, inngest.Event(name="shop/a"))
        has_begun.wait()
        second = threads.submit(client.send_sync, inngest.Event(name="shop/a"))
        # Without the wait for the first one it would be done by now.
        concurrent.futures.wait([second], timeout=0.1)
        go_on.set()
        first.result()
        second.result()
    assert log == ["registered", "shop/a", "shop/a"]


def test_an_on_register_that_an_event_loop_left_behind_holds_nobody_up() -> None:
    """The collector closes it, in a context of its own; who comes next registers the plugin."""
    begun: list[str] = []

    class Ready:
        def __await__(self) -> Iterator[None]:
            return iter(())

    class Registering(Plugin):
        def on_register(self, client: inngest.Inngest) -> Any:
            begun.append(client.app_id)
            return Ready()

    client = make_client(Registering())

    def fail(_: object, error: Exception) -> None:
        raise error

    def meeting() -> Generator[Any, Any, None]:
        return meet(client, Stack.of(client), Dispatcher(None, None), fail, is_async=True)

    left = meeting()
    contextvars.copy_context().run(next, left).close()
    with contextlib.suppress(ValueError):
        left.close()
    asyncio.run(asyncio.wait_for(run_async(meeting()), 30))
    assert begun == ["shop", "shop"]
