"""What is opened when, for whom, and that it is closed however the code ends."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import anyio
import inngest
import pytest
import svcs
from tests.bodies import parallel

from inngest_plugins.checkpoint import CheckpointPlugin
from inngest_plugins.core import Call, Hooks, Plugin
from inngest_plugins.injection import (
    AsyncServiceError,
    InjectionPlugin,
    ScopeEndedError,
    aget,
    get,
)

from .conftest import App, AsyncSession, Session, Settings

pytestmark = pytest.mark.anyio


class Stop(BaseException):
    """What is no `Exception`."""


async def test_a_step_s_service_is_closed_when_its_handler_ends(app: App) -> None:
    """It is opened when the handler asks, once, and closed before the result leaves."""
    order: list[str] = []
    watch = Hooks("watch")

    @watch.transform_output
    def leaves(call: Call, outcome: Any) -> None:
        if outcome.step is not None:
            order.append(f"leaves with {app.count.leaked} open")

    app.client.middleware = [*app.client.middleware, watch]

    @app.body()
    async def fn(ctx: Any, step: Any) -> Any:
        async def work() -> bool:
            before = len(app.count.opened)
            first, second = get(Session), get(Session)
            assert before == 0
            assert len(app.count.opened) == 1
            return first is second and first.is_open

        return await step.run("work", work)

    run = await app.run()
    assert run.output is True, run.reason
    assert order == ["leaves with 0 open"]
    assert app.count.log == ["open", "close"]


async def test_a_body_s_service_is_closed_with_the_request(app: App) -> None:
    """The body's service outlives the steps that run in the request, and is not theirs."""

    @app.body()
    async def fn(ctx: Any, step: Any) -> Any:
        mine = get(Session)

        async def work() -> list[bool]:
            return [get(Session) is mine, mine.is_open]

        return await step.run("work", work)

    run = await app.run()
    assert run.output == [False, True], run.reason
    # Two requests: the first opened the body's and the step's, the second the body's.
    assert app.count.log == ["open", "open", "close", "close", "open", "close"]


async def test_a_value_is_the_app_s(app: App) -> None:
    """A registered value is the same object everywhere."""
    seen: list[Settings] = []

    @app.body()
    async def fn(ctx: Any, step: Any) -> str:
        seen.append(get(Settings))

        async def work() -> None:
            seen.append(get(Settings))

        await step.run("work", work)
        return get(Settings).region

    run = await app.run()
    assert run.output == "eu"
    assert len(set(map(id, seen))) == 1


async def test_a_replay_of_100_memoized_steps_opens_nothing(app: App) -> None:
    """101 requests run 100 handlers: each opened one session, and no replay opened any."""

    @app.body()
    async def fn(ctx: Any, step: Any) -> None:
        async def work() -> None:
            get(Session)

        for number in range(100):
            await step.run(f"s{number}", work)

    run = await app.run()
    assert run.status == "Completed", run.reason
    assert len(run.requests) == 101
    assert len(app.count.opened) == len(app.count.closed) == 100


async def test_parallel_steps_never_share_a_service(app: App) -> None:
    """Each step of a group has a session of its own."""
    seen: list[Session] = []

    @app.body()
    async def fn(ctx: Any, step: Any) -> None:
        async def work() -> None:
            seen.append(get(Session))

        await parallel(ctx, *(lambda name=name: step.run(name, work) for name in ("a", "b", "c")))

    run = await app.run()
    assert run.status == "Completed", run.reason
    assert len(set(map(id, seen))) == 3
    assert app.count.leaked == 0


async def test_steps_that_run_at_once_in_one_request_do_not_close_each_other_s(
    async_app: App,
) -> None:
    """The first of two concurrent uses to end closes its own service, not the other's."""
    first_ended = asyncio.Event()
    open_after: list[bool] = []

    @async_app.function()
    async def fn(ctx: inngest.Context) -> None:
        async def quick() -> None:
            get(Session)

        async def slow() -> None:
            session = get(Session)
            await first_ended.wait()
            open_after.append(session.is_open)

        async def one(name: str, work: Any, ended: asyncio.Event | None) -> None:
            try:
                await ctx.step.run(name, work)
            finally:
                if ended is not None:
                    ended.set()

        await asyncio.gather(
            one("slow", slow, None), one("quick", quick, first_ended), return_exceptions=False
        )

    await async_app.run()
    assert open_after[:1] == [True]
    assert async_app.count.leaked == 0


@pytest.mark.parametrize("failure", ["step", "body", "retry"])
async def test_closed_when_user_code_raises(app: App, failure: str) -> None:
    """Raises in a step, in the body, and in a step that succeeds when it is retried."""

    @app.body(retries=1)
    async def fn(ctx: Any, step: Any) -> None:
        get(Session)

        async def work() -> None:
            get(Session)
            if failure in ("step", "retry") and not (failure == "retry" and ctx.attempt):
                raise ValueError("no")

        await step.run("work", work)
        if failure == "body":
            raise ValueError("no")

    run = await app.run()
    assert run.status == ("Completed" if failure == "retry" else "Failed")
    assert app.count.opened
    assert app.count.leaked == 0


async def test_closed_when_user_code_raises_what_is_no_exception(app: App) -> None:
    """Whatever the engine makes of it, nothing is left open."""

    @app.body()
    async def fn(ctx: Any, step: Any) -> None:
        get(Session)

        async def work() -> None:
            get(Session)
            raise Stop

        await step.run("work", work)

    with contextlib.suppress(BaseException):
        await app.run()
    assert len(app.count.opened) == 2
    assert app.count.leaked == 0


async def test_closed_when_another_plugin_raises(make_app: type[App]) -> None:
    """Hooks of other plugins that fail the request do not keep a service open."""

    class Faulty(Plugin):
        def __init__(self, hook: str) -> None:
            self.hook = hook

        def around_step(self, call: Call, step: Any) -> Any:
            if self.hook == "around_step":
                raise ValueError("no")
            return super().around_step(call, step)

        def after_execution(self, call: Call) -> None:
            if self.hook == "after_execution":
                raise ValueError("no")

        def transform_output(self, call: Call, outcome: Any) -> None:
            if self.hook == "transform_output":
                raise ValueError("no")

        def before_response(self, call: Call) -> None:
            if self.hook == "before_response":
                raise ValueError("no")

    for hook in ("around_step", "after_execution", "transform_output", "before_response"):
        for is_async in (True, False):
            app = make_app(is_async=is_async)
            app.client.middleware = [*app.client.middleware, Faulty(hook)]

            @app.body()
            async def fn(ctx: Any, step: Any) -> None:
                get(Session)

                async def work() -> None:
                    get(Session)

                await step.run("work", work)

            run = await app.run()
            assert run.status == "Failed"
            assert app.count.opened
            assert app.count.leaked == 0


async def test_closed_when_the_request_is_cancelled(async_app: App) -> None:
    """A step that is cancelled while it runs, by a cancel scope, leaves nothing open."""
    started = asyncio.Event()

    async def closes_slowly() -> Any:
        session = AsyncSession()
        async_app.count.open(session)
        yield session
        await asyncio.sleep(0)
        async_app.count.close(session)

    async_app.registry.register_factory(AsyncSession, closes_slowly)

    @async_app.function()
    async def fn(ctx: inngest.Context) -> None:
        await aget(AsyncSession)

        async def work() -> None:
            await aget(AsyncSession, Session)
            started.set()
            await asyncio.Event().wait()

        await ctx.step.run("work", work)

    async with async_app.engine(request_timeout=3600) as engine:
        running = asyncio.create_task(engine.run(inngest.Event(name="fn"), timeout=None))
        await started.wait()
        assert async_app.count.leaked == 3
        await engine.cancel(engine.runs[0])
        running.cancel()
    assert async_app.count.leaked == 0


async def test_hooks_ask_the_request(app: App) -> None:
    """A hook gets the request's services, also in a plugin that sees the request earlier."""
    early = Hooks("early")
    seen: list[Session] = []

    @early.transform_input
    def note(call: Call) -> None:
        seen.append(get(Session))

    @early.before_response
    def note_again(call: Call) -> None:
        seen.append(get(Session))

    app.client.middleware = [early, *app.client.middleware]

    @app.body()
    async def fn(ctx: Any, step: Any) -> bool:
        return get(Session) is seen[0]

    run = await app.run()
    assert run.output is True, run.reason
    assert seen[0] is seen[1]
    assert app.count.log == ["open", "close"]


async def test_async_factories_and_context_managers(async_app: App) -> None:
    """`aget` opens async and sync factories, several at once, and all are closed."""

    @async_app.function()
    async def fn(ctx: inngest.Context) -> list[str]:
        async def work() -> list[str]:
            a, s, v = await aget(AsyncSession, Session, Settings)
            assert a.is_open
            assert s.is_open
            return [type(each).__name__ for each in (a, s, v)]

        return await ctx.step.run("work", work)

    run = await async_app.run()
    assert run.output == ["AsyncSession", "Session", "Settings"]
    assert len(async_app.count.opened) == 2
    assert async_app.count.leaked == 0


async def test_a_service_is_opened_once_however_many_tasks_ask(async_app: App) -> None:
    """Tasks of one step that ask at once get one object, also through a factory that asks."""

    class Repository:
        def __init__(self, session: AsyncSession) -> None:
            self.session = session

    async def repository() -> Repository:
        await asyncio.sleep(0)
        return Repository(await aget(AsyncSession))

    async_app.registry.register_factory(Repository, repository)

    @async_app.function()
    async def fn(ctx: inngest.Context) -> int:
        async def work() -> int:
            found = await asyncio.gather(
                aget(Repository), aget(AsyncSession), aget(Repository), aget(AsyncSession)
            )
            return len({id(getattr(each, "session", each)) for each in found})

        return await ctx.step.run("work", work)

    run = await async_app.run()
    assert run.output == 1, run.reason
    assert len(async_app.count.opened) == 1


async def test_threads_ask_with_the_context(app: App) -> None:
    """Threads of a step that ask at once get one object."""

    @app.body()
    async def fn(ctx: Any, step: Any) -> int:
        async def work() -> int:
            barrier = threading.Barrier(4)

            def ask() -> int:
                barrier.wait()
                return id(get(Session))

            with ThreadPoolExecutor(4) as pool:
                asked = [pool.submit(contextvars.copy_context().run, ask) for _ in range(4)]
                found: set[int] = {each.result() for each in asked}
                return len(found)

        result: int = await step.run("work", work)
        return result

    run = await app.run()
    assert run.output == 1, run.reason
    assert len(app.count.opened) == 1
    assert app.count.leaked == 0


class Slow:
    """Takes until somebody lets it go on."""


async def test_a_thread_and_a_task_ask_at_once(async_app: App) -> None:
    """What a thread is opening is not opened again by a task that asks meanwhile."""
    begun, go_on = threading.Event(), threading.Event()
    opened: list[Slow] = []

    def open_slow() -> Slow:
        opened.append(Slow())
        if len(opened) == 1:
            begun.set()
            go_on.wait()
        return opened[-1]

    async_app.registry.register_factory(Slow, open_slow)

    @async_app.function()
    async def fn(ctx: inngest.Context) -> bool:
        in_thread = asyncio.create_task(asyncio.to_thread(get, Slow))
        await asyncio.to_thread(begun.wait)
        in_task = asyncio.create_task(aget(Slow))
        await asyncio.sleep(0)
        go_on.set()
        return await in_task is await in_thread

    run = await async_app.run()
    assert run.output is True, run.reason
    assert len(opened) == 1


async def test_factories_ask_from_threads_and_from_the_loop(async_app: App) -> None:
    """A factory may ask for what it needs in a thread, and one in a thread in the event loop."""
    loop = asyncio.get_running_loop()

    class ByThread:
        pass

    class ByLoop:
        pass

    async def by_thread() -> ByThread:
        await asyncio.to_thread(get, Session)
        return ByThread()

    def by_loop() -> ByLoop:
        asyncio.run_coroutine_threadsafe(aget(Session), loop).result()
        return ByLoop()

    async_app.registry.register_factory(ByThread, by_thread)
    async_app.registry.register_factory(ByLoop, by_loop)

    @async_app.function()
    async def fn(ctx: inngest.Context) -> None:
        await asyncio.gather(aget(ByThread), asyncio.to_thread(get, ByLoop))

    with anyio.fail_after(10):
        run = await async_app.run()
    assert run.status == "Completed", run.reason
    assert len(async_app.count.opened) == 1
    assert async_app.count.leaked == 0


async def test_a_task_that_outlives_its_step_is_refused(async_app: App) -> None:
    """What asks after the step's end gets an error, and opens nothing."""
    errors: list[str] = []

    @async_app.function()
    async def fn(ctx: inngest.Context) -> None:
        go = asyncio.Event()

        async def late() -> None:
            await go.wait()
            for ask in (lambda: get(Session), None):
                try:
                    _ = ask() if ask else await aget(AsyncSession)
                except ScopeEndedError as err:
                    errors.append(str(err))

        async def work() -> None:
            tasks.append(asyncio.create_task(late()))

        tasks: list[asyncio.Task[None]] = []
        try:
            await ctx.step.run("work", work)
        finally:
            go.set()
            if tasks:
                await tasks[0]

    await async_app.run()
    assert len(errors) == 2
    assert "step 'work' of function 'fn' had ended" in errors[0]
    assert "Session" in errors[0]
    assert async_app.count.opened == []


async def test_a_task_that_is_opening_when_the_step_ends_is_waited_for(async_app: App) -> None:
    """A service that a left task opens while the step ends is closed, too."""
    may_open = asyncio.Event()
    opening = asyncio.Event()

    class Slow(Session): ...

    async def slow() -> Any:
        opening.set()
        await may_open.wait()
        session = Slow()
        async_app.count.open(session)
        yield session
        async_app.count.close(session)

    async_app.registry.register_factory(Slow, slow)
    left: list[asyncio.Task[Any]] = []

    @async_app.function()
    async def fn(ctx: inngest.Context) -> None:
        async def work() -> None:
            left.append(asyncio.create_task(aget(Slow)))
            await opening.wait()
            asyncio.get_running_loop().call_soon(may_open.set)

        await ctx.step.run("work", work)

    run = await async_app.run()
    await asyncio.gather(*left)
    assert run.status == "Completed", run.reason
    assert len(async_app.count.opened) == 1
    assert async_app.count.leaked == 0


async def test_a_factory_asks_for_the_call(app: App) -> None:
    """A tenant's service is made from the event of the run that asks."""

    class Database:
        def __init__(self, tenant: str) -> None:
            self.tenant = tenant

    def database(container: svcs.Container) -> Database:
        return Database(str(container.get(Call).event.data["tenant"]))

    app.registry.register_factory(Database, database)

    @app.body()
    async def fn(ctx: Any, step: Any) -> list[str]:
        async def work() -> str:
            return get(Database).tenant

        return [get(Database).tenant, await step.run("work", work), get(Call).run_id]

    async with app.engine() as engine:
        for tenant in ("acme", "umbrella"):
            run = await engine.run(inngest.Event(name="fn", data={"tenant": tenant}))
            assert run.output == [tenant, tenant, run.id], run.reason


async def test_a_function_s_own_plugin_stands_for_the_client_s(app: App) -> None:
    """Another registry in a function's own list is the one that this function asks."""
    other = svcs.Registry()
    other.register_value(str, "other")
    app.registry.register_value(str, "client's")

    @app.body("own", middleware=[InjectionPlugin(other)])
    async def own(ctx: Any, step: Any) -> str:
        return get(str)

    @app.body()
    async def fn(ctx: Any, step: Any) -> str:
        return get(str)

    assert (await app.run("own")).output == "other"
    assert (await app.run("fn")).output == "client's"


async def test_a_subclass_is_an_injection_plugin(make_app: type[App]) -> None:
    """A subclass with a hook of its own works as the plugin does."""
    seen: list[str] = []

    class Logged(InjectionPlugin):
        def transform_input(self, call: Call) -> None:
            super().transform_input(call)
            seen.append(get(Settings).region)

    app = make_app()
    app.client.middleware = [Logged(app.registry)]

    @app.body()
    async def fn(ctx: Any, step: Any) -> str:
        return get(Settings).region

    assert (await app.run()).output == "eu"
    assert seen == ["eu"]


async def test_on_failure_handlers_ask_too(app: App) -> None:
    """A failure handler is a function as any other."""
    seen: list[bool] = []

    def failed(ctx: inngest.ContextSync) -> None:
        seen.append(get(Session).is_open)

    async def failed_async(ctx: inngest.Context) -> None:
        seen.append((await aget(Session)).is_open)

    @app.body(on_failure=failed_async if app.is_async else failed)
    async def fn(ctx: Any, step: Any) -> None:
        raise ValueError("no")

    await app.run()
    assert seen == [True]
    assert app.count.leaked == 0


async def test_an_async_hook_of_a_sync_function_gets_sync_services_only(
    make_app: type[App],
) -> None:
    """`aget` in it opens what the sync function can close, and refuses what it cannot."""
    hook = Hooks("hook")
    refused: list[str] = []

    @hook.before_execution
    async def ask(call: Call) -> None:
        assert (await aget(Session)).is_open
        with pytest.raises(AsyncServiceError) as caught:
            await aget(AsyncSession)
        refused.append(str(caught.value))

    app = make_app(hook, is_async=False)

    @app.body()
    async def fn(ctx: Any, step: Any) -> None: ...

    run = await app.run()
    assert run.status == "Completed", run.reason
    assert "AsyncSession" in refused[0]
    assert app.count.log == ["open", "close"]


async def test_a_factory_that_fails_leaves_nothing_open(app: App) -> None:
    """Its error reaches the code that asked; what it had opened is closed."""

    class Repository: ...

    def repository(container: svcs.Container) -> Repository:
        container.get(Session)
        raise ConnectionError("refused")

    app.registry.register_factory(Repository, repository)

    @app.body()
    async def fn(ctx: Any, step: Any) -> None:
        async def work() -> None:
            get(Repository)

        await step.run("work", work)

    run = await app.run()
    assert run.status == "Failed"
    assert run.error is not None
    assert run.error["name"] == "ConnectionError"
    assert app.count.log == ["open", "close"]


@pytest.mark.parametrize("is_async", [True, False])
async def test_checkpointed_steps_have_services_of_their_own(
    make_app: type[App], is_async: bool
) -> None:
    """In one request each step opens and closes its own; the body's stays open over all."""
    app = make_app(CheckpointPlugin(), is_async=is_async)

    @app.body()
    async def fn(ctx: Any, step: Any) -> list[int]:
        mine = get(Session)

        async def work() -> int:
            assert mine.is_open
            get(Session)
            return app.count.leaked

        return [await step.run(f"s{n}", work) for n in range(3)]

    run = await app.run()
    assert run.output == [2, 2, 2], run.reason
    assert len(run.requests) == 1
    assert app.count.log == ["open", *["open", "close"] * 3, "close"]
