"""What the engine would drop in silence is an error at the call, and never shows a value."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import inngest
import pydantic
import pytest
from tests.defer.defer_rig import EVENT, App, Verdict
from typing_extensions import TypedDict

from inngest_plugins.core import Hooks, PluginsError
from inngest_plugins.defer import (
    DeferConflictError,
    DeferContextError,
    DeferDataError,
    DeferDefinitionError,
    DeferLimitError,
    DeferPlugin,
    UnknownFunctionError,
    defer,
    deferred_function,
    deferred_function_by_id,
)
from inngest_plugins.local import LocalEngine, VirtualClock

pytestmark = pytest.mark.anyio

SECRET = "s3cr3t"


async def refused(
    kind: str, use: Callable[[App], object], app: App | None = None, **options: Any
) -> Exception:
    """Return what `use` raised in the body of a function, which then goes on."""
    app = app or App(kind)
    raised: list[Exception] = []

    def once() -> None:
        try:
            use(app)
        except PluginsError as err:
            raised.append(err)

    async def body(ctx: inngest.Context) -> None:
        once()

    def body_sync(ctx: inngest.ContextSync) -> None:
        once()

    played = await app.play(body, body_sync, **options)
    assert played.run.status == "Completed", played.run.error
    (error,) = raised
    assert SECRET not in str(error)
    return error


async def test_the_21st(kind: str) -> None:
    """Twenty of a run start; the next is refused where it stands, and they still start."""
    app = App(kind)

    def use(app: App) -> None:
        for number in range(21):
            defer(f"n{number}", app.judge, Verdict(text=str(number)))

    error = await refused(kind, use, app)
    assert isinstance(error, DeferLimitError)
    assert "at most 20" in str(error)
    assert len({verdict.text for verdict in app.judged}) == 20


async def test_the_21st_of_a_later_request(kind: str) -> None:
    """The engine says what the run has deferred in earlier requests, in steps too."""
    app = App(kind)

    def many(start: int) -> str:
        for number in range(start, start + 11):
            defer(f"n{number}", app.judge, Verdict(text=str(number)))
        return "done"

    async def many_async(start: int) -> str:
        return many(start)

    async def body(ctx: inngest.Context) -> None:
        await ctx.step.run("one", many_async, 0)
        await ctx.step.run("two", many_async, 11)

    def body_sync(ctx: inngest.ContextSync) -> None:
        ctx.step.run("one", many, 0)
        ctx.step.run("two", many, 11)

    played = await app.play(body, body_sync)
    assert played.run.status == "Failed"
    assert "at most 20" in played.message
    assert len(played.deferred) == 20


@pytest.mark.parametrize("over", [False, True])
async def test_four_megabytes(kind: str, over: bool) -> None:
    """The sum counts, over all requests of the run, in bytes as they leave."""
    app = App(kind)
    half = 2 * 1024 * 1024 - 100

    def big(name: str, size: int) -> str:
        defer(name, app.judge, Verdict(text="ä" * (size // 2)))
        return "done"

    async def big_async(name: str, size: int) -> str:
        return big(name, size)

    async def body(ctx: inngest.Context) -> None:
        await ctx.step.run("one", big_async, "a", half)
        big("b", half + (200 if over else 0))

    def body_sync(ctx: inngest.ContextSync) -> None:
        ctx.step.run("one", big, "a", half)
        big("b", half + (200 if over else 0))

    played = await app.play(body, body_sync)
    assert played.run.status == ("Failed" if over else "Completed")
    assert len(played.deferred) == (1 if over else 2)
    if over:
        assert "4194304 bytes" in played.message


class Untitled(pydantic.BaseModel):
    """Not the schema."""

    other: int = 1


@pytest.mark.parametrize(
    ("data", "place"),
    [
        ({"text": SECRET, "score": -1}, "$.score"),
        ({"score": 1}, "$.text"),
        ({"text": [SECRET]}, "$.text"),
        (Untitled(), "$"),
        (SECRET, "$"),
        (Verdict.model_construct(text=SECRET, score=-4), "$.score"),
        (Verdict.model_construct(text=object()), "not JSON"),
    ],
)
async def test_data_that_does_not_fit(kind: str, data: Any, place: str) -> None:
    """Names the place, and not the value."""
    error = await refused(kind, lambda app: defer("q", app.judge, data))
    assert isinstance(error, DeferDataError)
    assert place in str(error)


@dataclass
class Point:
    x: int


class Named(TypedDict):
    name: str


@pytest.mark.parametrize(
    ("schema", "good", "bad"),
    [
        (Point, Point(1), {"x": SECRET}),
        (Named, {"name": "a"}, {"name": 1}),
        (dict[str, int], {"a": 1}, {"a": SECRET}),
        (list[int], None, [1]),
        (None, {"a": 1}, {"a": float("nan"), "b": object()}),
        (None, {"a": 1}, {"_inngest": {"fn_slug": "x"}}),
        (None, {"a": 1}, {1: 2}),
        (None, {"a": 1}, "text"),
    ],
)
async def test_schemas(schema: Any, good: Any, bad: Any) -> None:
    """Any type that Pydantic writes as a JSON object."""
    app = App("async")
    other = deferred_function(app.client, fn_id="other", schema=schema)
    seen: list[Any] = []

    @other
    async def run(ctx: inngest.Context, data: Any) -> None:
        seen.append(data)

    @app.client.create_function(fn_id="reply", trigger=inngest.TriggerEvent(event=EVENT))
    async def reply(ctx: inngest.Context) -> None:
        if good is not None:
            defer("good", other, good)
        with pytest.raises(DeferDataError) as caught:
            defer("bad", other, bad)
        assert SECRET not in str(caught.value)

    async with LocalEngine(app.client, [reply, run], clock=VirtualClock()) as engine:
        assert (await engine.run(inngest.Event(name=EVENT))).status == "Completed"
        await engine.settle()
    assert seen == ([] if good is None else [good])


def _undecorated(app: App) -> object:
    return deferred_function(app.client, fn_id="undecorated")


def _ordinary(app: App) -> object:
    @app.client.create_function(fn_id="plain", trigger=inngest.TriggerEvent(event="x"))
    async def plain(ctx: inngest.Context) -> None: ...

    return plain


@pytest.mark.parametrize(
    "named", [lambda app: "judge", _undecorated, _ordinary, lambda app: None, lambda app: Verdict]
)
async def test_what_is_no_deferred_function(kind: str, named: Callable[[App], Any]) -> None:
    """Ids, ordinary functions, and definitions without a handler."""
    error = await refused(kind, lambda app: defer("q", named(app), {}))
    assert isinstance(error, UnknownFunctionError)


async def test_a_function_that_is_not_served(kind: str) -> None:
    """The engine would start nothing, and say so nowhere."""
    error = await refused(kind, lambda app: defer("q", app.judge, Verdict(text="x")), serve=False)
    assert isinstance(error, UnknownFunctionError)
    assert "does not serve" in str(error)


@pytest.mark.parametrize("first", ["body", "step"])
@pytest.mark.parametrize("second", ["body", "step"])
@pytest.mark.parametrize("same", [True, False])
async def test_an_id_used_twice(kind: str, first: str, second: str, same: bool) -> None:
    """With the same data it is the same deferral; with other data an error, also across steps."""
    app = App(kind)

    def use(text: str) -> str:
        defer("q", app.judge, Verdict(text=text))
        return "used"

    async def use_async(text: str) -> str:
        return use(text)

    texts = ("a", "a" if same else "b")

    async def body(ctx: inngest.Context) -> None:
        for number, place in enumerate((first, second)):
            if place == "step":
                await ctx.step.run(f"s{number}", use_async, texts[number])
            else:
                use(texts[number])

    def body_sync(ctx: inngest.ContextSync) -> None:
        for number, place in enumerate((first, second)):
            if place == "step":
                ctx.step.run(f"s{number}", use, texts[number])
            else:
                use(texts[number])

    played = await app.play(body, body_sync)
    assert played.run.status == ("Completed" if same else "Failed")
    if not same:
        assert "take another id" in played.message
    assert [verdict.text for verdict in app.judged][:1] == ["a"]
    assert len(played.deferred) == 1


async def test_an_id_for_two_functions(kind: str) -> None:
    """The same data for another function is another deferral."""
    app = App(kind)
    other = deferred_function(app.client, fn_id="other", schema=Verdict)
    other(lambda ctx, data: None)

    def use(app: App) -> None:
        defer("q", app.judge, Verdict(text="a"))
        defer("q", app.function, Verdict(text="a"))
        defer("q", other, Verdict(text="a"))

    error = await refused(kind, use, app)
    assert isinstance(error, (DeferConflictError, UnknownFunctionError))


def test_outside_of_a_run() -> None:
    """There is nothing that would end."""
    app = App("async")
    with pytest.raises(DeferContextError, match="outside of a run"):
        defer("q", app.judge, Verdict(text="x"))


@pytest.mark.parametrize("defer_id", ["", None, 3, b"q", "\ud800"])
def test_ids(defer_id: Any) -> None:
    """An id is a text."""
    app = App("async")
    with pytest.raises(DeferDataError, match="the id of a deferral"):
        defer(defer_id, app.judge, Verdict(text="x"))


@pytest.mark.parametrize("others", [[], [Hooks("other")]])
async def test_without_the_plugin(others: list[Any]) -> None:
    """Nobody would send it: the message says what to add."""
    client = inngest.Inngest(app_id="bare", is_production=False, middleware=others)
    judge = deferred_function(client, fn_id="judge", schema=Verdict)

    @judge
    async def run(ctx: inngest.Context, verdict: Verdict) -> None: ...

    @client.create_function(fn_id="reply", trigger=inngest.TriggerEvent(event=EVENT))
    async def reply(ctx: inngest.Context) -> None:
        with pytest.raises(DeferContextError, match=r"[aA]dd DeferPlugin\(\)"):
            defer("q", judge, Verdict(text="x"))

    async with LocalEngine(client, [reply, run]) as engine:
        assert (await engine.run(inngest.Event(name=EVENT))).status == "Completed"


async def test_when_the_request_has_been_answered() -> None:
    """A task that outlives its request cannot defer what nobody would send, nor abort."""
    app = App("async")
    raised: list[BaseException] = []
    handles: list[Any] = []
    answered = threading.Event()
    tasks: list[asyncio.Task[None]] = []

    async def later() -> None:
        await asyncio.to_thread(answered.wait, 20)
        for use in (lambda: defer("q", app.judge, Verdict(text="x")), handles[0].abort):
            try:
                use()
            except DeferContextError as err:
                raised.append(err)

    async def body(ctx: inngest.Context) -> None:
        handles.append(defer("first", app.judge, Verdict(text="x")))
        tasks.append(asyncio.create_task(later()))

    await app.play(body)
    answered.set()
    await asyncio.gather(*tasks)
    assert len(raised) == 2
    assert all("has been answered" in str(err) for err in raised)


def test_definitions() -> None:
    """What a deferred function cannot be is refused where it is defined."""
    client = inngest.Inngest(app_id="shop", is_production=False)
    made = deferred_function(client, fn_id="judge", schema=Verdict)
    with pytest.raises(DeferDefinitionError, match="already"):
        deferred_function(client, fn_id="judge")
    with pytest.raises(DeferDefinitionError, match="no trigger"):
        deferred_function(client, fn_id="a", trigger=inngest.TriggerEvent(event="x"))
    with pytest.raises(DeferDefinitionError, match="no batch_events"):
        deferred_function(client, fn_id="b", batch_events=inngest.Batch(max_size=2))
    with pytest.raises(DeferDefinitionError, match="Pydantic"):
        deferred_function(client, fn_id="c", schema=threading.Lock)
    with pytest.raises(DeferDefinitionError, match="Pydantic"):
        deferred_function_by_id(app_id="web", fn_id="c", schema=threading.Lock)
    with pytest.raises(DeferDefinitionError, match="context and the data"):
        made(lambda ctx: None)  # type: ignore[arg-type, misc]
    made(lambda ctx, verdict: None)
    with pytest.raises(DeferDefinitionError, match="a handler already"):
        made(lambda ctx, verdict: None)


def test_quotes_in_ids() -> None:
    """An app's id may hold what ends a text in the engine's expressions."""
    client = inngest.Inngest(
        app_id="Ada's \\ shop", is_production=False, middleware=[DeferPlugin()]
    )
    judge = deferred_function(client, fn_id="ju'dge")

    @judge
    async def judge_it(ctx: inngest.Context, data: dict[str, Any]) -> int:
        return int(data["n"])

    @client.create_function(fn_id="go", trigger=inngest.TriggerEvent(event="go"))
    async def go(ctx: inngest.Context) -> None:
        defer("one", judge, {"n": 1})

    engine = LocalEngine(client, [judge_it, go])
    engine.run_sync(inngest.Event(name="go"))
    assert [run.output for run in engine.deferred] == [1]


def test_the_doctor_names_what_cannot_start() -> None:
    """A definition without a handler, and a function that is not served."""
    app = App("async", app_id="doctored")
    forgotten = deferred_function(app.client, fn_id="forgotten")
    other = app.make(lambda ctx: None)
    found = list(DeferPlugin().diagnose_functions([other]))
    assert len(found) == 2
    assert "'doctored-judge' is not served" in found[0]
    assert "'doctored-forgotten' has no handler" in found[1]
    assert forgotten.function is None
    assert list(DeferPlugin().diagnose_functions([other, app.function])) == found[1:]
