"""Span trees of replayed functions: every span once, under the parent it had."""

from __future__ import annotations

import asyncio
import functools
from collections import Counter
from typing import TYPE_CHECKING, Any

import inngest
import pytest

if TYPE_CHECKING:
    from tests.otel.conftest import Exported, Telemetry

pytestmark = pytest.mark.anyio
ORDER = inngest.TriggerEvent(event="shop/order")


def with_status(span: Exported) -> str:
    """A span's name, and its status if it has one."""
    return span.name if span.status == "UNSET" else f"{span.name} {span.status}"


async def done() -> str:
    """A step's handler that makes no spans."""
    return "done"


async def test_sequential_steps_keep_their_spans_once(telemetry: Telemetry) -> None:
    """Spans before, between, around, inside and after sequential steps are exported once."""
    client, tracer = telemetry.client(), telemetry.tracer

    async def charge() -> int:
        with tracer.start_as_current_span("call bank"):
            return 1

    @client.create_function(fn_id="fulfil", trigger=ORDER)
    async def fulfil(ctx: inngest.Context) -> str:
        with tracer.start_as_current_span("before"):
            pass
        with tracer.start_as_current_span("around"):
            await ctx.step.run("charge", charge)
        with tracer.start_as_current_span("between"):
            pass
        await ctx.step.run("ship", done)
        with tracer.start_as_current_span("after"):
            return "ok"

    run = await telemetry.run(client, fulfil)

    assert run.output == "ok"
    telemetry.check_exactly_once()
    assert telemetry.tree() == [
        "run shop-fulfil",
        "  before",
        "run shop-fulfil",
        "  around",
        "    step charge",
        "      call bank",
        "  between",
        "  step ship",
        "run shop-fulfil",
        "  after",
    ]


async def test_a_span_around_all_steps_is_exported_by_the_request_that_ends_it(
    telemetry: Telemetry,
) -> None:
    """A straddling span keeps the id that children exported earlier hang from, and its start."""
    client, tracer = telemetry.client(), telemetry.tracer

    @client.create_function(fn_id="fulfil", trigger=ORDER)
    async def fulfil(ctx: inngest.Context) -> None:
        with tracer.start_as_current_span("whole"):
            with tracer.start_as_current_span("part"):
                await ctx.step.run("a", done)
                await ctx.step.sleep("nap", 60_000)
            await ctx.step.run("b", done)

    await telemetry.run(client, fulfil)

    telemetry.check_exactly_once()
    assert telemetry.tree_of_code() == [
        "whole",
        "  part",
        "    step a",
        "  step b",
    ]
    whole, first = telemetry.one("whole"), telemetry.one("step a")
    assert whole.start <= first.start
    assert "inngest.start_estimated" not in whole.attributes


async def test_a_loop_of_twenty_steps_exports_every_span_once(telemetry: Telemetry) -> None:
    """The function that the bare SDK gives 523 spans for 63 has 63 here."""
    client, tracer = telemetry.client(), telemetry.tracer

    async def work() -> None:
        with tracer.start_as_current_span("inside"):
            pass

    @client.create_function(fn_id="twenty", trigger=ORDER)
    async def twenty(ctx: inngest.Context) -> None:
        with tracer.start_as_current_span("whole"):
            with tracer.start_as_current_span("first"):
                pass
            for number in range(20):
                with tracer.start_as_current_span("around"):
                    await ctx.step.run(f"step-{number}", work)
                with tracer.start_as_current_span("between"):
                    pass
            with tracer.start_as_current_span("last"):
                pass

    run = await telemetry.run(client, twenty)

    assert len(run.requests) == 21
    telemetry.check_exactly_once()
    assert Counter(span.name for span in telemetry.users()) == {
        "whole": 1,
        "first": 1,
        "last": 1,
        "around": 20,
        "between": 20,
        "inside": 20,
    }
    assert len({span.trace_id for span in telemetry.users()}) == 1


async def test_a_step_id_used_again_has_spans_of_its_own(telemetry: Telemetry) -> None:
    """The second use of a step id is told apart by its index, and its spans by their ids."""
    client, tracer = telemetry.client(), telemetry.tracer

    async def work() -> None:
        with tracer.start_as_current_span("inside"):
            pass

    @client.create_function(fn_id="again", trigger=ORDER)
    async def again(ctx: inngest.Context) -> None:
        for _ in range(2):
            await ctx.step.run("same", work)

    await telemetry.run(client, again)

    telemetry.check_exactly_once()
    assert telemetry.tree_of_code() == ["step same", "  inside", "step same", "  inside"]
    indexes = [s.attributes.get("inngest.step.index") for s in telemetry.named("step same")]
    assert indexes == [None, 1]


@pytest.mark.parametrize(
    "mode", [inngest.ParallelMode.WAIT, inngest.ParallelMode.RACE], ids=["wait", "race"]
)
async def test_parallel_branches_keep_their_spans_once(
    telemetry: Telemetry, mode: inngest.ParallelMode
) -> None:
    """Code of branches, which runs again in every targeted request, is exported once."""
    client, tracer = telemetry.client(), telemetry.tracer
    order = ["1.0", "2.0", "3.0", "2.1", "3.1", "3.2"]

    async def work(name: str) -> None:
        # In a race, two steps that end at the same moment may both lead to the same new code.
        place = order.index(name)
        while mode is inngest.ParallelMode.RACE and place:
            if telemetry.named(f"after {order[place - 1]}"):
                return
            await asyncio.sleep(0.001)

    @client.create_function(fn_id="fan", trigger=ORDER)
    async def fan(ctx: inngest.Context) -> None:
        async def branch(size: int) -> None:
            with tracer.start_as_current_span(f"branch {size}"):
                with tracer.start_as_current_span(f"start {size}"):
                    pass
                for number in range(size):
                    await ctx.step.run(f"{size}.{number}", work, f"{size}.{number}")
                    with tracer.start_as_current_span(f"after {size}.{number}"):
                        pass

        await ctx.step.run("first", done)
        with tracer.start_as_current_span("group"):
            await ctx.group.parallel(
                (lambda: branch(1), lambda: branch(3), lambda: branch(2)), parallel_mode=mode
            )
        with tracer.start_as_current_span("joined"):
            pass
        await ctx.step.run("last", done)

    run = await telemetry.run(client, fan)

    assert run.status == "Completed"
    telemetry.check_exactly_once()
    tree = telemetry.tree_of_code()
    assert tree[:2] == ["step first", "group"]
    assert tree[-2:] == ["joined", "step last"]
    for size in (1, 2, 3):
        own = [line.strip() for line in tree if f" {size}" in line]
        expected = [f"branch {size}", f"start {size}"]
        for number in range(size):
            expected += [f"step {size}.{number}", f"after {size}.{number}"]
        assert own == expected
    assert len(tree) == 4 + 6 + 12


async def test_groups_inside_of_branches_keep_their_spans_once(telemetry: Telemetry) -> None:
    """A group within a branch advances in lockstep with the other branches."""
    client, tracer = telemetry.client(), telemetry.tracer

    @client.create_function(fn_id="nested", trigger=ORDER)
    async def nested(ctx: inngest.Context) -> None:
        async def inner(name: str) -> None:
            await ctx.step.run(name, done)
            with tracer.start_as_current_span(f"after {name}"):
                pass

        async def left() -> None:
            await ctx.group.parallel((lambda: inner("l1"), lambda: inner("l2")))
            with tracer.start_as_current_span("left joined"):
                pass
            await inner("l3")

        async def right() -> None:
            await inner("r1")
            await inner("r2")
            await inner("r3")

        await ctx.group.parallel((left, right))
        with tracer.start_as_current_span("joined"):
            pass

    await telemetry.run(client, nested)

    telemetry.check_exactly_once()
    assert Counter(span.name for span in telemetry.users()) == Counter(
        dict.fromkeys(("left joined", "joined"), 1)
        | {f"after {side}{n}": 1 for side in "lr" for n in (1, 2, 3)}
    )


async def test_two_groups_in_a_row_keep_their_spans_once(telemetry: Telemetry) -> None:
    """What lies between two groups belongs to neither, also when nothing else does."""
    client, tracer = telemetry.client(), telemetry.tracer

    @client.create_function(fn_id="rows", trigger=ORDER)
    async def rows(ctx: inngest.Context) -> None:
        for row, mode in enumerate((inngest.ParallelMode.RACE, inngest.ParallelMode.WAIT)):

            async def cell(row: int, number: int) -> None:
                with tracer.start_as_current_span(f"start {row}.{number}"):
                    pass
                await ctx.step.run(f"{row}.{number}", done)
                with tracer.start_as_current_span(f"end {row}.{number}"):
                    pass

            cells = tuple(functools.partial(cell, row, number) for number in range(3))
            await ctx.group.parallel(cells, parallel_mode=mode)
            with tracer.start_as_current_span(f"row {row}"):
                pass

    await telemetry.run(client, rows)

    telemetry.check_exactly_once()
    names = [f"{what} {row}.{n}" for what in ("start", "end") for row in (0, 1) for n in range(3)]
    assert Counter(span.name for span in telemetry.users()) == Counter([*names, "row 0", "row 1"])


async def test_a_mixed_group_keeps_its_spans_once(telemetry: Telemetry) -> None:
    """Sleeps and waits in a group are one with its steps, and so is the planned step behind it."""
    client, tracer = telemetry.client(), telemetry.tracer

    @client.create_function(fn_id="mixed", trigger=ORDER)
    async def mixed(ctx: inngest.Context) -> None:
        async def nap() -> None:
            await ctx.step.sleep("nap", 60_000)
            with tracer.start_as_current_span("woke"):
                pass

        async def work() -> None:
            await ctx.step.run("work", done)
            with tracer.start_as_current_span("worked"):
                pass

        async def wait() -> None:
            await ctx.step.wait_for_event("wait", event="shop/never", timeout=1000)
            with tracer.start_as_current_span("waited"):
                pass

        await ctx.group.parallel((nap, work, wait))
        with tracer.start_as_current_span("joined"):
            pass
        await ctx.step.run("after", done)
        with tracer.start_as_current_span("end"):
            pass

    await telemetry.run(client, mixed)

    telemetry.check_exactly_once()
    assert Counter(span.name for span in telemetry.users()) == Counter(
        ["woke", "worked", "waited", "joined", "end"]
    )


async def test_a_failed_step_ends_the_branch_and_the_span_around_it(telemetry: Telemetry) -> None:
    """A step that failed for good marks the spans it went through, once."""
    client, tracer = telemetry.client(), telemetry.tracer

    async def broken() -> None:
        raise ValueError("broken")

    @client.create_function(fn_id="fails", trigger=ORDER, retries=1)
    async def fails(ctx: inngest.Context) -> str:
        async def bad() -> None:
            with tracer.start_as_current_span("around bad"):
                await ctx.step.run("bad", broken)

        async def good() -> None:
            await ctx.step.run("good", done)
            with tracer.start_as_current_span("after good"):
                pass

        try:
            await ctx.group.parallel((good, bad))
        except inngest.StepError:
            with tracer.start_as_current_span("mend"):
                await ctx.step.run("mend", done)
        return "mended"

    run = await telemetry.run(client, fails)

    assert run.output == "mended"
    telemetry.check_exactly_once()
    # The span around the step straddles requests, and is in this process as old as its first try.
    assert sorted(telemetry.tree(label=with_status, only=lambda s: "run " not in s.name)) == sorted(
        [
            "around bad ERROR",
            "  step bad ERROR",
            "  step bad ERROR",
            "step good",
            "after good",
            "mend",
            "  step mend",
        ]
    )


async def test_a_retried_step_does_not_repeat_the_spans_before_it(telemetry: Telemetry) -> None:
    """The body runs again with each attempt of a step, but only the attempts are new."""
    client, tracer = telemetry.client(), telemetry.tracer
    tries: list[int] = []

    async def flaky() -> None:
        with tracer.start_as_current_span("try"):
            tries.append(1)
            if len(tries) < 3:
                raise ValueError("not yet")

    @client.create_function(fn_id="flaky", trigger=ORDER, retries=3)
    async def function(ctx: inngest.Context) -> None:
        with tracer.start_as_current_span("before"):
            pass
        with tracer.start_as_current_span("around"):
            await ctx.step.run("flaky", flaky)

    await telemetry.run(client, function)

    telemetry.check_exactly_once()
    assert telemetry.tree(label=with_status) == [
        "run shop-flaky",
        "run shop-flaky",
        "run shop-flaky",
        "  before",
        "run shop-flaky",
        "  around",
        "    step flaky ERROR",
        "      try ERROR",
        "    step flaky ERROR",
        "      try ERROR",
        "    step flaky",
        "      try",
    ]
    # What is exported of the code before the step is one execution of it, with its own times.
    assert telemetry.one("before").start >= telemetry.named("step flaky")[1].start
    steps = [s.attributes for s in telemetry.named("step flaky")]
    assert [s["inngest.attempt"] for s in steps] == [0, 1, 2]
    assert [s["inngest.outcome"] for s in steps] == ["retrying", "retrying", "completed"]


async def test_each_attempt_of_the_function_has_the_spans_of_its_new_code(
    telemetry: Telemetry,
) -> None:
    """A function that fails really ran: what was new in the attempt is exported, with its own ids.

    A span from before the failed request is left to the attempt that counts.
    """
    client, tracer = telemetry.client(), telemetry.tracer
    tries: list[int] = []

    @client.create_function(fn_id="flaky", trigger=ORDER, retries=3)
    async def function(ctx: inngest.Context) -> None:
        with tracer.start_as_current_span("whole"):
            await ctx.step.run("first", done)
            with tracer.start_as_current_span("compute"):
                with tracer.start_as_current_span("part"):
                    tries.append(1)
                if len(tries) < 3:
                    raise ValueError("not yet")

    await telemetry.run(client, function)

    telemetry.check_exactly_once()
    assert telemetry.tree_of_code() == [
        "whole",
        "  step first",
        "  compute",
        "    part",
        "  compute",
        "    part",
        "  compute",
        "    part",
    ]
    computed = telemetry.named("compute")
    assert [s.status for s in computed] == ["ERROR", "ERROR", "UNSET"]
    assert [s.attributes.get("inngest.attempt") for s in computed] == [0, 1, None]


async def test_a_function_that_fails_for_good_exports_the_spans_it_went_through(
    telemetry: Telemetry,
) -> None:
    """The last attempt's copy of a straddling span carries the error."""
    client, tracer = telemetry.client(), telemetry.tracer

    @client.create_function(fn_id="fails", trigger=ORDER, retries=0)
    async def fails(ctx: inngest.Context) -> None:
        with tracer.start_as_current_span("whole"):
            await ctx.step.run("first", done)
            raise ValueError("for good")

    run = await telemetry.run(client, fails)

    assert run.status == "Failed"
    telemetry.check_exactly_once()
    assert telemetry.tree(label=with_status) == [
        "run shop-fails",
        "run shop-fails ERROR",
        "  whole ERROR",
        "    step first",
    ]


@pytest.mark.parametrize("parallel", [False, True], ids=["alone", "in a group"])
async def test_a_non_retriable_step_error_ends_the_spans_it_goes_through(
    telemetry: Telemetry, parallel: bool
) -> None:
    """`NonRetriableError` leaves a step through user code at once, also in a targeted request."""
    client, tracer = telemetry.client(), telemetry.tracer

    async def broken() -> None:
        raise inngest.NonRetriableError("never")

    @client.create_function(fn_id="fails", trigger=ORDER)
    async def fails(ctx: inngest.Context) -> None:
        async def branch() -> None:
            with tracer.start_as_current_span("around"):
                await ctx.step.run("broken", broken)

        async def other() -> None:
            with tracer.start_as_current_span("other"):
                await ctx.step.run("other", done)

        with tracer.start_as_current_span("whole"):
            if parallel:
                await ctx.group.parallel((branch, other))
            else:
                await branch()

    run = await telemetry.run(client, fails)

    assert run.status == "Failed"
    # The run is over, so that nobody comes to end the span around the other branch's step.
    telemetry.check_exactly_once(orphans=["step other"])
    lines = [
        line
        for line in telemetry.tree(label=with_status, only=lambda s: "run " not in s.name)
        if "other" not in line
    ]
    assert lines == ["whole ERROR", "  around ERROR", "    step broken ERROR"]


def test_sync_functions_keep_their_spans_once(telemetry: Telemetry) -> None:
    """Sync functions, in the SDK's thread pool, have the same trees as async ones."""
    import anyio

    client, tracer = telemetry.client(), telemetry.tracer

    def work() -> None:
        with tracer.start_as_current_span("inside"):
            pass

    @client.create_function(fn_id="sync", trigger=ORDER)
    def function(ctx: inngest.ContextSync) -> None:
        with tracer.start_as_current_span("whole"):
            ctx.step.run("a", work)

            def branch(name: str) -> None:
                with tracer.start_as_current_span(f"branch {name}"):
                    ctx.step.run(name, work)

            ctx.group.parallel((lambda: branch("b"), lambda: branch("c")))
            with tracer.start_as_current_span("joined"):
                pass

    async def main() -> Any:
        return await telemetry.run(client, function)

    run = anyio.run(main)

    assert run.status == "Completed"
    telemetry.check_exactly_once()
    assert telemetry.tree_of_code() == [
        "whole",
        "  step a",
        "    inside",
        "  branch b",
        "    step b",
        "      inside",
        "  branch c",
        "    step c",
        "      inside",
        "  joined",
    ]


async def test_cleanup_that_runs_because_a_step_takes_over_is_not_exported(
    telemetry: Telemetry,
) -> None:
    """A `finally` block runs at every interrupt; its spans count once, when it really is left."""
    client, tracer = telemetry.client(), telemetry.tracer

    @client.create_function(fn_id="tidy", trigger=ORDER)
    async def tidy(ctx: inngest.Context) -> None:
        try:
            await ctx.step.run("a", done)
            await ctx.step.run("b", done)
        finally:
            with tracer.start_as_current_span("tidy up"):
                pass

    await telemetry.run(client, tidy)

    assert len(telemetry.named("tidy up")) == 1


async def test_siblings_of_a_skipped_span_keep_their_ids(telemetry: Telemetry) -> None:
    """Ids go by name: a span that is made in one request only does not shift its siblings' ids."""
    client, tracer = telemetry.client(), telemetry.tracer
    first: list[int] = []

    @client.create_function(fn_id="odd", trigger=ORDER)
    async def odd(ctx: inngest.Context) -> None:
        if not first:
            first.append(1)
            with tracer.start_as_current_span("cold cache"):
                pass
        with tracer.start_as_current_span("whole"):
            await ctx.step.run("a", done)

    await telemetry.run(client, odd)

    telemetry.check_exactly_once()
    assert telemetry.tree_of_code() == ["cold cache", "whole", "  step a"]


async def test_batches_and_detached_spans_are_exported_once(telemetry: Telemetry) -> None:
    """A span that starts a trace of its own does so in every replay alike."""
    from opentelemetry.context import Context

    client, tracer = telemetry.client(), telemetry.tracer

    @client.create_function(
        fn_id="batch", trigger=ORDER, batch_events=inngest.Batch(max_size=2, timeout=1000)
    )
    async def batch(ctx: inngest.Context) -> int:
        with tracer.start_as_current_span("detached", context=Context()):
            await ctx.step.run("a", done)
        return len(ctx.events)

    events = [inngest.Event(name="shop/order", data={"n": n}) for n in range(2)]
    run = await telemetry.run(client, batch, events=events)

    assert run.output == 2
    telemetry.check_exactly_once()
    detached, step = telemetry.one("detached"), telemetry.one("step a")
    assert detached.parent is None
    assert step.trace_id == detached.trace_id
    request = telemetry.named("run shop-batch")[0]
    assert request.attributes["messaging.batch.message_count"] == 2
    assert len(request.raw.links) == 1  # both events were sent in one go
