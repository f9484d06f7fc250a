"""A run that cannot go on fails; the engine, the other runs and the journal go on."""

from __future__ import annotations

import asyncio
import builtins
import functools
import math
import typing
from collections.abc import Callable
from pathlib import Path

import anyio
import flask
import httpx
import inngest
import inngest.flask
import pytest

from inngest_plugins.core import Hooks
from inngest_plugins.local import InferenceRequest, InferenceResponse, LocalEngine

from .scripted import Answer, Scripted, hashed, op

Json = typing.Any
Ending = Callable[[], Json]


class Odd(BaseException):
    """No plain exception."""


class HostileError(Exception):
    """Raises when it is asked for its text."""

    def __str__(self) -> str:
        raise Odd

    __repr__ = __str__


class HostileOdd(Odd):
    """The same, and no plain exception."""

    def __str__(self) -> str:
        raise Odd

    __repr__ = __str__


def raising(error: BaseException) -> Ending:
    """Code that raises."""

    def code() -> Json:
        raise error

    return code


def deep() -> Json:
    """A value that is nested too deeply."""
    value: list[Json] = []
    for _ in range(200_000):
        value = [value]
    return value


ENDINGS: dict[str, Ending] = {
    "nan": lambda: math.nan,
    "infinity, nested": lambda: {"a": [1, {"b": math.inf}]},
    "deep": deep,
    "base exception": raising(Odd("odd")),
    "generator exit": raising(GeneratorExit()),
    "stop iteration": raising(StopIteration()),
    "cancelled": raising(asyncio.CancelledError()),
    "hostile": raising(HostileError()),
    "hostile base exception": raising(HostileOdd()),
}
GROUP: Json = getattr(builtins, "BaseExceptionGroup", None)
if GROUP is not None:
    ENDINGS["group"] = raising(GROUP("several", [Odd(), ValueError()]))

# What a function returns is kept as it came, as on the server; only steps refuse these.
OUTPUTS = {"nan", "infinity, nested"}


def make_functions(client: inngest.Inngest, ending: Ending, place: str) -> list[Json]:
    """A function that ends badly in a step or in its body, and an innocent one."""

    @client.create_function(fn_id="bad", retries=0, trigger=inngest.TriggerEvent(event="app/go"))
    async def bad(ctx: inngest.Context) -> Json:
        async def step() -> Json:
            return ending()

        return await ctx.step.run("one", step) if place == "step" else ending()

    @client.create_function(fn_id="innocent", trigger=inngest.TriggerEvent(event="app/go"))
    async def innocent(ctx: inngest.Context) -> Json:
        async def step() -> int:
            return 1

        return [await ctx.step.run(f"step-{number}", step) for number in range(3)]

    return [bad, innocent]


def make_sync_functions(client: inngest.Inngest, ending: Ending, place: str) -> list[Json]:
    """The same, without async."""

    @client.create_function(fn_id="bad", retries=0, trigger=inngest.TriggerEvent(event="app/go"))
    def bad(ctx: inngest.ContextSync) -> Json:
        return ctx.step.run("one", ending) if place == "step" else ending()

    @client.create_function(fn_id="innocent", trigger=inngest.TriggerEvent(event="app/go"))
    def innocent(ctx: inngest.ContextSync) -> Json:
        return [ctx.step.run(f"step-{number}", lambda: 1) for number in range(3)]

    return [bad, innocent]


def serve_flask(client: inngest.Inngest, functions: list[Json]) -> flask.Flask:
    """Serve on WSGI."""
    app = flask.Flask("isolation")
    inngest.flask.serve(app, client, functions)
    return app


async def both_end(
    make: Callable[[inngest.Inngest], list[Json]], journal: Path, **options: Json
) -> None:
    """The bad run fails, the innocent one completes, and so it stays after a restart."""
    client = inngest.Inngest(app_id="app", is_production=False)
    async with LocalEngine(client, make(client), journal=journal, **options) as engine:
        await engine.send(inngest.Event(name="app/go"))
        await engine.settle(timeout=200)
        statuses = {run.function_id: run.status for run in engine.runs}
        bad = next(run for run in engine.runs if run.function_id == "app-bad")
        assert statuses == {"app-bad": "Failed", "app-innocent": "Completed"}, bad.reason
        assert bad.reason
        after = await engine.run(inngest.Event(name="app/go"), "innocent", timeout=200)
        assert after.output == [1, 1, 1]
    client = inngest.Inngest(app_id="app", is_production=False)
    async with LocalEngine(client, make(client), journal=journal, **options) as engine:
        await engine.settle(timeout=200)
        assert all(run.status in ("Failed", "Completed") for run in engine.runs)
        assert len(engine.runs) == 4


CASES = [
    pytest.param(name, place, id=f"{name} in {place}")
    for name in ENDINGS
    for place in ("step", "body")
    if place == "step" or name not in OUTPUTS
]


@pytest.mark.anyio
@pytest.mark.parametrize(("name", "place"), CASES)
async def test_async_functions(name: str, place: str, tmp_path: Path) -> None:
    """However an async function ends, only its run fails."""
    await both_end(
        lambda client: make_functions(client, ENDINGS[name], place), tmp_path / "runs.db"
    )


@pytest.mark.anyio
@pytest.mark.parametrize(("name", "place"), CASES)
@pytest.mark.parametrize("serve", [None, serve_flask], ids=["asgi", "wsgi"])
async def test_sync_functions(name: str, place: str, serve: Json, tmp_path: Path) -> None:
    """So with sync functions, under ASGI and under WSGI."""
    await both_end(
        lambda client: make_sync_functions(client, ENDINGS[name], place),
        tmp_path / "runs.db",
        serve=serve,
    )


def cancel_itself() -> None:
    """Cancel the running task."""
    task = asyncio.current_task()
    assert task is not None
    task.cancel()


@pytest.mark.anyio
async def test_code_that_cancels_its_task(tmp_path: Path) -> None:
    """The request is answered as one of a crashed app."""

    def make(client: inngest.Inngest) -> list[Json]:
        functions = make_functions(client, lambda: 1, "step")

        @client.create_function(
            fn_id="bad", retries=0, trigger=inngest.TriggerEvent(event="app/go")
        )
        async def bad(ctx: inngest.Context) -> None:
            cancel_itself()
            await asyncio.sleep(0)

        return [bad, functions[1]]

    await both_end(make, tmp_path / "runs.db")


@pytest.mark.anyio
async def test_code_that_cancels_the_engines_tasks() -> None:
    """Runs whose tasks were cancelled by somebody else end; the engine goes on."""
    client = inngest.Inngest(app_id="app", is_production=False)

    @client.create_function(fn_id="bad", retries=0, trigger=inngest.TriggerEvent(event="app/bad"))
    async def bad(ctx: inngest.Context) -> None:
        mine = asyncio.current_task()
        for task in asyncio.all_tasks():
            running = task.get_coro()
            name = getattr(running, "__qualname__", "")
            if task is not mine and name.startswith(("Driver.", "_Exchange.")):
                task.cancel()
        await asyncio.sleep(0)

    async with LocalEngine(client, [bad]) as engine:
        for _ in range(2):
            run = await engine.run(inngest.Event(name="app/bad"), timeout=200)
            assert run.status == "Failed"
            assert "CancelledError" in run.reason


@pytest.mark.anyio
@pytest.mark.parametrize("error", [Odd(), GeneratorExit(), asyncio.CancelledError()], ids=repr)
async def test_callbacks_of_the_engine(error: BaseException) -> None:
    """An inference or gateway callback that ends in any way is a failed step."""

    def infer(request: InferenceRequest) -> InferenceResponse:
        raise error

    def fetch(request: httpx.Request) -> httpx.Response:
        raise error

    ops = {
        "infer": op("AIGateway", "call", opts={"url": "http://x", "body": {}}),
        "fetch": op("Gateway", "call", opts={"url": "http://x"}),
    }

    def script(name: str) -> Callable[[Json], Answer]:
        def answer(body: Json) -> Answer:
            if body["steps"]:
                return 200, body["steps"][hashed("call")]
            return 206, [ops[name]]

        return answer

    app = Scripted({name: script(name) for name in ops}, retries=0)
    engine = LocalEngine(
        app.client,
        app.functions,
        serve=app.serve,
        infer=infer,
        gateway=httpx.MockTransport(fetch),
    )
    async with engine:
        for name in ops:
            run = await engine.run(inngest.Event(name=f"app/{name}"))
            assert type(error).__name__ in run.output["error"]["message"]


@pytest.mark.anyio
async def test_hooks() -> None:
    """A hook that raises no plain exception ends its own run."""
    hooks = Hooks("odd")

    @hooks.before_response
    def raise_odd(call: object) -> None:
        if "bad" in str(getattr(call, "function_id", "")):
            raise Odd

    client = inngest.Inngest(app_id="app", is_production=False, middleware=[hooks])
    functions = make_functions(client, lambda: 1, "step")
    async with LocalEngine(client, functions) as engine:
        await engine.send(inngest.Event(name="app/go"))
        await engine.settle(timeout=200)
        innocent = next(run for run in engine.runs if run.function_id == "app-innocent")
        assert innocent.status == "Completed"
        assert all(run.is_ended for run in engine.runs)


@pytest.mark.anyio
async def test_the_outcomes_of_pytest_end_the_test() -> None:
    """``pytest.fail()`` and ``pytest.skip()`` in a function are the test's."""
    for outcome in (pytest.fail, pytest.skip):
        client = inngest.Inngest(app_id="app", is_production=False)
        functions = make_functions(client, functools.partial(outcome, "told"), "step")
        async with LocalEngine(client, functions) as engine:
            with pytest.raises(outcome.Exception, match="told"):
                await engine.run(inngest.Event(name="app/go"), "bad")


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt()], ids=repr)
def test_what_ends_the_process(error: BaseException) -> None:
    """``SystemExit`` and ``KeyboardInterrupt`` leave the engine, which gives the client back."""
    client = inngest.Inngest(app_id="app", is_production=False)

    @client.create_function(fn_id="sync", trigger=inngest.TriggerEvent(event="app/sync"))
    def in_a_thread(ctx: inngest.ContextSync) -> None:
        raise error

    engine = LocalEngine(client, [*make_functions(client, raising(error), "body"), in_a_thread])
    for event, function in (("app/go", "bad"), ("app/sync", "sync")) * 2:
        with pytest.raises(type(error)):
            engine.run_sync(inngest.Event(name=event), function)


@pytest.mark.anyio
async def test_closing_while_being_cancelled() -> None:
    """Whoever closes the engine may be being cancelled: the client is given back all the same."""
    client = inngest.Inngest(app_id="app", is_production=False)
    has_begun, has_ended = anyio.Event(), anyio.Event()

    @client.create_function(fn_id="slow", trigger=inngest.TriggerEvent(event="app/slow"))
    async def slow(ctx: inngest.Context) -> None:
        has_begun.set()
        try:
            await anyio.sleep_forever()
        finally:
            with anyio.CancelScope(shield=True):
                for _ in range(20):
                    await anyio.sleep(0)
            has_ended.set()

    with anyio.CancelScope() as scope:
        async with LocalEngine(client, [slow]) as engine:
            await engine.send(inngest.Event(name="app/slow"))
            await has_begun.wait()
            scope.cancel()
            await anyio.sleep_forever()
    assert has_ended.is_set()
    async with LocalEngine(client, [slow]):
        pass


@pytest.mark.anyio
async def test_a_fault_of_the_engine_ends_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the engine did not think of: the run says so, the others go on."""
    client = inngest.Inngest(app_id="app", is_production=False)
    async with LocalEngine(client, make_functions(client, lambda: 1, "step")) as engine:
        executor = engine._opened().executor
        original = executor._take

        async def broken(run: Json, *arguments: Json, **options: Json) -> None:
            if run.function_id == "app-bad":
                raise LookupError("a value of the payload")
            await original(run, *arguments, **options)

        monkeypatch.setattr(executor, "_take", broken)
        await engine.send(inngest.Event(name="app/go"))
        await engine.settle(timeout=200)
        assert [(run.status, run.reason) for run in engine.runs] == [
            (
                "Failed",
                "the engine could not go on with the run: LookupError: a value of the payload",
            ),
            ("Completed", ""),
        ]
        assert "payload" not in str(engine.runs[0].error)


@pytest.mark.anyio
@pytest.mark.parametrize("limit", [1, 4])
async def test_no_more_results_are_under_way_than_requests_may_be(limit: int) -> None:
    """A kill repeats what was executed and is not stored: no more than ``max_requests``."""
    client = inngest.Inngest(app_id="app", is_production=False)
    executed = 0
    under_way: list[int] = []

    @client.create_function(fn_id="work", trigger=inngest.TriggerEvent(event="app/work"))
    async def work(ctx: inngest.Context) -> None:
        async def step() -> None:
            nonlocal executed
            executed += 1
            stored = sum(
                step.ended_at is not None for run in engine.runs for step in run.steps.values()
            )
            under_way.append(executed - stored)
            await asyncio.sleep(0)

        await ctx.step.run("one", step)
        await ctx.group.parallel(
            tuple(functools.partial(ctx.step.run, f"side-{n}", step) for n in range(3))
        )

    async with LocalEngine(client, [work], max_requests=limit) as engine:
        await engine.send([inngest.Event(name="app/work") for _ in range(12)])
        await engine.settle(timeout=200)
        assert {run.status for run in engine.runs} == {"Completed"}
    assert executed == 12 * 4
    assert max(under_way) == limit


@pytest.mark.anyio
async def test_a_cancellation_does_not_wait_for_a_place() -> None:
    """``timeouts.finish`` strikes although requests that hang hold every place."""
    client = inngest.Inngest(app_id="app", is_production=False)
    release = asyncio.Event()

    @client.create_function(
        fn_id="hangs",
        trigger=inngest.TriggerEvent(event="app/hangs"),
        timeouts=inngest.Timeouts(finish=1000),
    )
    async def hangs(ctx: inngest.Context) -> None:
        await release.wait()

    async with LocalEngine(client, [hangs], max_requests=1) as engine:
        await engine.send([inngest.Event(name="app/hangs") for _ in range(2)])
        await engine.settle(timeout=200)
        assert {run.status for run in engine.runs} == {"Cancelled"}
        release.set()


def test_max_requests_is_checked() -> None:
    """A wrong limit is told by its name."""
    client = inngest.Inngest(app_id="app", is_production=False)
    functions = make_functions(client, lambda: 1, "step")
    with pytest.raises(ValueError, match="max_requests must be at least 1, not 0"):
        LocalEngine(client, functions, max_requests=0)
    wrong: Json = 1.5
    with pytest.raises(TypeError, match="max_requests must be a whole number, not float"):
        LocalEngine(client, functions, max_requests=wrong)
