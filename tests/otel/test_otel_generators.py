"""Spans in generators, which are closed by whoever lets go of them: each span exactly once."""

from __future__ import annotations

import asyncio
import contextlib
import gc
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from typing import TYPE_CHECKING, Any

import inngest
import pytest

from inngest_plugins.local import LocalEngine

if TYPE_CHECKING:
    from collections.abc import Callable

    from opentelemetry.trace import Tracer
    from tests.otel.conftest import Telemetry

pytestmark = pytest.mark.anyio
ORDER = inngest.TriggerEvent(event="shop/order")
STEPS = 4


async def done(*_: object) -> str:
    """An async step's handler."""
    return "done"


def done_sync(*_: object) -> str:
    """A sync step's handler."""
    return "done"


@pytest.fixture(autouse=True)
def hook_errors(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Fail a test in which the plugin raised.

    OpenTelemetry itself logs of a span that is ended in another context than it began in, which is
    what closing an async generator comes to, with or without the plugin.
    """
    yield
    for record in (*caplog.get_records("setup"), *caplog.get_records("call")):
        assert "which was ignored" not in record.getMessage()


class Pages:
    """Generators with a span around what they yield, and one in what they do at their end."""

    def __init__(self, tracer: Tracer) -> None:
        self.tracer = tracer

    def plain(self) -> Iterator[int]:
        with self.tracer.start_as_current_span("pages"):
            yield from range(STEPS)

    def tidy(self) -> Iterator[int]:
        with self.tracer.start_as_current_span("pages"):
            try:
                yield from range(STEPS)
            finally:
                with self.tracer.start_as_current_span("tidy up"):
                    pass

    def nested(self) -> Iterator[int]:
        with self.tracer.start_as_current_span("outer"):
            yield from self.plain()

    def by_hand(self) -> Iterator[int]:
        span = self.tracer.start_span("pages")
        try:
            yield from range(STEPS)
        finally:
            span.end()

    async def slow(self) -> AsyncGenerator[int, None]:
        with self.tracer.start_as_current_span("pages"):
            for number in range(STEPS):
                yield number

    async def slow_and_tidy(self) -> AsyncIterator[int]:
        with self.tracer.start_as_current_span("pages"):
            try:
                for number in range(STEPS):
                    await asyncio.sleep(0)
                    yield number
            finally:
                await asyncio.sleep(0)
                with self.tracer.start_as_current_span("tidy up"):
                    pass


def cyclic(pages: Iterator[int]) -> Iterator[int]:
    """Have only the garbage collector close what is given, once it is let go of."""
    holder: list[Any] = [pages]
    holder.append(holder)
    yield from _through(holder)


def _through(holder: list[Any]) -> Iterator[int]:
    # The frame of this generator is part of the circle: nothing closes it by reference counts.
    holder.append(holder)
    iterator = holder[0]
    while True:
        try:
            yield next(iterator)
        except StopIteration:
            return


async def play(
    client: inngest.Inngest, function: inngest.Function[Any], *, collects: bool = False
) -> None:
    """Run a function, and let everything that is left be closed."""
    async with LocalEngine(client, [function]) as engine:
        run = await engine.run(inngest.Event(name="shop/order"))
        await engine.settle()
    assert run.status == "Completed", run.error
    del run, engine
    if collects:
        gc.collect()
    for _ in range(5):
        await asyncio.sleep(0)


def names(telemetry: Telemetry) -> list[str]:
    return sorted(span.name for span in telemetry.users())


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (Pages.plain, ["pages"]),
        (Pages.tidy, ["pages", "tidy up"]),
        (Pages.nested, ["outer", "pages"]),
        (Pages.by_hand, ["pages"]),
    ],
    ids=["plain", "tidy", "nested", "by hand"],
)
@pytest.mark.parametrize("last", [1, STEPS], ids=["left by break", "to the end"])
@pytest.mark.parametrize("is_async", [True, False], ids=["async", "sync"])
async def test_a_step_in_a_loop_over_a_generator(
    telemetry: Telemetry,
    make: Callable[[Pages], Iterator[int]],
    expected: list[str],
    last: int,
    is_async: bool,
) -> None:
    """Each request is interrupted within the loop, and its generator closed by nobody's wish."""
    client, pages = telemetry.client(), Pages(telemetry.tracer)

    @client.create_function(fn_id="f", trigger=ORDER)
    async def function(ctx: inngest.Context) -> None:
        for number in make(pages):
            await ctx.step.run(f"page {number}", done)
            if number == last:
                break
        await ctx.step.run("after", done)

    @client.create_function(fn_id="g", trigger=ORDER)
    def function_sync(ctx: inngest.ContextSync) -> None:
        for number in make(pages):
            ctx.step.run(f"page {number}", done_sync)
            if number == last:
                break
        ctx.step.run("after", done_sync)

    await play(client, function if is_async else function_sync)

    assert names(telemetry) == expected
    telemetry.check_exactly_once()
    assert telemetry.one("pages").parent_id in {s.id for s in telemetry.spans}
    requests = telemetry.named("run shop-f" if is_async else "run shop-g")
    assert {span.trace_id for span in telemetry.users()} == {requests[0].trace_id}


@pytest.mark.parametrize("last", [0, 2, STEPS], ids=["at once", "later", "to the end"])
@pytest.mark.parametrize(
    ("make", "expected"),
    [(Pages.slow, ["pages"]), (Pages.slow_and_tidy, ["pages", "tidy up"])],
    ids=["plain", "tidy"],
)
async def test_async_generators_are_closed_by_the_loop(
    telemetry: Telemetry,
    make: Callable[[Pages], AsyncIterator[int]],
    expected: list[str],
    last: int,
) -> None:
    """`break` leaves an async generator open; the loop's hooks close it whenever they can."""
    client, pages = telemetry.client(), Pages(telemetry.tracer)

    @client.create_function(fn_id="f", trigger=ORDER)
    async def function(ctx: inngest.Context) -> None:
        async for number in make(pages):
            await ctx.step.run(f"page {number}", done)
            if number == last:
                break
        await asyncio.sleep(0)
        await ctx.step.run("after", done)
        await asyncio.sleep(0)

    await play(client, function)

    assert names(telemetry) == expected
    telemetry.check_exactly_once()


async def test_async_generators_that_are_closed_in_the_body(telemetry: Telemetry) -> None:
    """`aclosing` ends the span where it stands: in the request in which that is new."""
    client, pages = telemetry.client(), Pages(telemetry.tracer)
    seen: list[int] = []

    @client.create_function(fn_id="f", trigger=ORDER)
    async def function(ctx: inngest.Context) -> None:
        async with contextlib.aclosing(pages.slow()) as opened:
            async for number in opened:
                await ctx.step.run(f"page {number}", done)
                break
        seen.append(len(telemetry.named("pages")))
        await ctx.step.run("after", done)

    await play(client, function)

    assert names(telemetry) == ["pages"]
    telemetry.check_exactly_once()
    assert seen == [0, 1]


async def test_break_ends_a_span_where_it_stands(telemetry: Telemetry) -> None:
    """A generator closed by `break` is exported by the request in which the `break` is new."""
    client, pages = telemetry.client(), Pages(telemetry.tracer)
    seen: list[int] = []

    @client.create_function(fn_id="f", trigger=ORDER)
    async def function(ctx: inngest.Context) -> None:
        for number in pages.plain():
            await ctx.step.run(f"page {number}", done)
            break
        seen.append(len(telemetry.named("pages")))
        await ctx.step.run("after", done)

    await play(client, function)

    telemetry.check_exactly_once()
    assert seen == [0, 1]


@pytest.mark.parametrize("collects", [True, False], ids=["in the body", "later"])
async def test_generators_closed_by_the_garbage_collector(
    telemetry: Telemetry, collects: bool
) -> None:
    """When the collector comes is nobody's choice, and differs between requests."""
    client, pages = telemetry.client(), Pages(telemetry.tracer)
    requests: list[int] = []

    @client.create_function(fn_id="f", trigger=ORDER)
    async def function(ctx: inngest.Context) -> None:
        requests.append(1)
        for number in cyclic(pages.nested()):
            await ctx.step.run(f"page {number}", done)
            if number == 1:
                break
        await ctx.step.run("between", done)
        if collects and len(requests) % 2:
            gc.collect()
        await ctx.step.run("after", done)

    await play(client, function, collects=True)

    assert names(telemetry) == ["outer", "pages"]
    telemetry.check_exactly_once()


@pytest.mark.parametrize("is_async", [True, False], ids=["async", "sync"])
async def test_spans_held_in_an_exit_stack(telemetry: Telemetry, is_async: bool) -> None:
    """A span that only an `ExitStack` holds ends with it, or when nobody holds the stack."""
    client, tracer = telemetry.client(), telemetry.tracer

    def opened() -> contextlib.ExitStack:
        with contextlib.ExitStack() as stack:
            stack.enter_context(tracer.start_as_current_span("held"))
            return stack.pop_all()

    @client.create_function(fn_id="f", trigger=ORDER)
    async def function(ctx: inngest.Context) -> None:
        with contextlib.ExitStack() as stack:
            stack.enter_context(tracer.start_as_current_span("closed"))
            await ctx.step.run("a", done)
        async with contextlib.AsyncExitStack() as later:
            later.enter_context(tracer.start_as_current_span("closed later"))
            await ctx.step.run("b", done)
        left = opened()
        await ctx.step.run("c", done)
        del left
        await ctx.step.run("d", done)

    @client.create_function(fn_id="g", trigger=ORDER)
    def function_sync(ctx: inngest.ContextSync) -> None:
        with contextlib.ExitStack() as stack:
            stack.enter_context(tracer.start_as_current_span("closed"))
            ctx.step.run("a", done_sync)
        with contextlib.ExitStack() as stack:
            stack.enter_context(tracer.start_as_current_span("closed later"))
            ctx.step.run("b", done_sync)
        left = opened()
        ctx.step.run("c", done_sync)
        del left
        ctx.step.run("d", done_sync)

    await play(client, function if is_async else function_sync)

    assert names(telemetry) == ["closed", "closed later", "held"]
    telemetry.check_exactly_once()


class Ends:
    """A span that ends when the object that holds it goes."""

    def __init__(self, tracer: Tracer) -> None:
        self.span = tracer.start_span("owned")

    def __del__(self) -> None:
        self.span.end()


async def test_spans_that_a_finalizer_ends(telemetry: Telemetry) -> None:
    """What ends because an interrupted request's objects go did not end in the run."""
    client, tracer = telemetry.client(), telemetry.tracer

    @client.create_function(fn_id="f", trigger=ORDER)
    async def function(ctx: inngest.Context) -> None:
        owner = Ends(tracer)
        await ctx.step.run("a", done)
        await ctx.step.run("b", done)
        del owner
        await ctx.step.run("c", done)

    await play(client, function)

    assert names(telemetry) == ["owned"]
    telemetry.check_exactly_once()


async def test_generators_in_parallel_branches(telemetry: Telemetry) -> None:
    """Each branch of a group leaves its generators behind in every request."""
    client, pages = telemetry.client(), Pages(telemetry.tracer)

    @client.create_function(fn_id="f", trigger=ORDER)
    async def function(ctx: inngest.Context) -> None:
        async def branch(name: str) -> None:
            for number in pages.nested():
                await ctx.step.run(f"{name} {number}", done)
                if number == 1:
                    break
            async for number in pages.slow():
                await ctx.step.run(f"{name} slowly {number}", done)
                break

        await ctx.group.parallel((lambda: branch("l"), lambda: branch("r")))
        await ctx.step.run("after", done)

    await play(client, function)

    assert names(telemetry) == ["outer", "outer", "pages", "pages", "pages", "pages"]
    telemetry.check_exactly_once()


@pytest.mark.parametrize("fails", [1, 2])
async def test_generators_of_failed_attempts(telemetry: Telemetry, fails: int) -> None:
    """A failed attempt of the function has its own copy, as it really ran."""
    client, pages = telemetry.client(), Pages(telemetry.tracer)
    attempts: list[int] = []

    @client.create_function(fn_id="f", trigger=ORDER, retries=3)
    async def function(ctx: inngest.Context) -> None:
        await ctx.step.run("a", done)
        for number in pages.plain():
            if number == 1:
                attempts.append(1)
                if len(attempts) <= fails:
                    raise ValueError("not yet")
        await ctx.step.run("b", done)

    await play(client, function)

    assert names(telemetry) == ["pages"] * (fails + 1)
    telemetry.check_exactly_once()
    tries = [span.attributes.get("inngest.attempt") for span in telemetry.named("pages")]
    assert tries == [*range(fails), None]


async def test_children_hang_from_a_generators_span(telemetry: Telemetry) -> None:
    """Steps and spans within the loop know the span's id long before it ends."""
    client, pages = telemetry.client(), Pages(telemetry.tracer)

    @client.create_function(fn_id="f", trigger=ORDER)
    async def function(ctx: inngest.Context) -> None:
        for number in pages.plain():
            await ctx.step.run(f"page {number}", done)

    await play(client, function)

    telemetry.check_exactly_once()
    assert telemetry.tree_of_code() == [
        "pages",
        *(f"  step page {number}" for number in range(STEPS)),
    ]
    span = telemetry.one("pages")
    assert span.start < telemetry.one("step page 0").start
    assert "inngest.start_estimated" not in span.attributes
