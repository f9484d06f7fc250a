"""Metadata of whole runs: where it is written from, what is read back, what the engine shows."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import inngest
import pytest
from tests.core.core_protocol import synchronous

from inngest_plugins.core import Call, Hooks, Layer, Memo, Outcome, Plugin, SealedPlace, Step
from inngest_plugins.metadata import (
    MetadataClient,
    MetadataContextError,
    MetadataError,
    MetadataKeyError,
    MetadataLimitError,
    MetadataPlugin,
    MetadataValueError,
    metadata,
)

if TYPE_CHECKING:
    from tests.metadata.conftest import App

pytestmark = pytest.mark.anyio

DEFAULT = "userland.default"


def shown(run: Any, target: str = "run", kind: str = DEFAULT) -> Any:
    """Return what the engine holds for a target."""
    return run.metadata.get(target, {}).get(kind)


@pytest.mark.parametrize("sync", [False, True])
async def test_writes_belong_to_where_they_are_made(app: App, sync: bool) -> None:
    """In a step they belong to the step, in the body to the run, and both can be chosen."""

    def in_step() -> str:
        metadata.set("rows", 3).increment("$.totals.read", 2)
        metadata.run().set("phase", "importing")
        metadata.step("later").set("note", "from a")
        assert metadata.step().get("rows") == 3
        return "done"

    async def in_step_async() -> str:
        return in_step()

    if sync:

        @app.function()
        def fn_sync(ctx: inngest.ContextSync) -> Any:
            metadata.update({"started": True, "phase": "start"})
            ctx.step.run("a", in_step)
            metadata.append("log", "one", "two", kind="audit")
            return [metadata.current(), metadata.current(kind="audit")]

    else:

        @app.function()
        async def fn_async(ctx: inngest.Context) -> Any:
            metadata.update({"started": True, "phase": "start"})
            await ctx.step.run("a", in_step_async)
            metadata.append("log", "one", "two", kind="audit")
            return [metadata.current(), metadata.current(kind="audit")]

    run = await app.run()
    assert run.status == "Completed", run.error
    assert shown(run) == {"started": True, "phase": "importing"}
    assert shown(run, kind="userland.audit") == {"log": ["one", "two"]}
    assert shown(run, "a") == {"rows": 3, "totals": {"read": 2}}
    assert shown(run, "later") == {"note": "from a"}
    assert run.output == [
        {
            "started": True,
            "phase": "importing",
            "rows": 3,
            "totals": {"read": 2},
            "note": "from a",
        },
        {"log": ["one", "two"]},
    ]


@pytest.mark.parametrize("sync", [False, True])
async def test_reads_in_the_middle_of_a_replay_see_what_came_before(app: App, sync: bool) -> None:
    """At each point of the body a read gives what was recorded before it, on every replay."""
    seen: list[list[Any]] = []

    def note(value: str) -> None:
        metadata.set("last", value).append("all", value)

    def body(step_run: Any) -> Any:
        reads: list[Any] = [metadata.get("last")]
        metadata.set("last", "body")
        reads.append(metadata.get("last"))
        for name in ("a", "b"):
            yield step_run(name, lambda name=name: note(name))
            reads.append(metadata.get("last"))
            seen.append(reads)
        yield metadata.get("all")

    if sync:

        @app.function()
        def fn_sync(ctx: inngest.ContextSync) -> Any:
            return list(body(ctx.step.run))[-1]

    else:

        @app.function()
        async def fn_async(ctx: inngest.Context) -> Any:
            async def step_run(name: str) -> Any:
                async def handler() -> None:
                    note(name)

                return await ctx.step.run(name, handler)

            result = None
            for item in body(lambda name, _: step_run(name)):
                result = await item if asyncio.iscoroutine(item) else item
            return result

    run = await app.run()
    assert run.output == ["a", "b"]
    full = [None, "body", "a", "b"]
    assert seen
    assert all(reads == full[: len(reads)] for reads in seen)


async def test_a_hundred_replays_lose_and_repeat_nothing(app: App) -> None:
    """After a hundred replays on any worker each step's increment counts once."""
    totals: list[int] = []

    async def count() -> None:
        metadata.increment("steps").increment("tenths", 0.1)

    @app.function()
    async def fn(ctx: inngest.Context) -> Any:
        metadata.increment("body")
        for number in range(100):
            assert metadata.get("steps", 0) == number
            await ctx.step.run(f"step-{number}", count)
        totals.append(metadata.get("steps"))
        return metadata.current()

    run = await app.run()
    assert run.output == {"body": 1, "steps": 100, "tenths": 10}
    assert len(run.requests) == 101
    assert totals == [100]
    assert len(app.wire.sent) == 101
    assert [sent.entries for sent in app.wire.sent if not sent.target] == [
        [{"kind": DEFAULT, "op": "merge", "values": {"body": 1}}]
    ]


@pytest.mark.parametrize("sync", [False, True])
async def test_a_failed_attempt_is_reported_and_does_not_count(app: App, sync: bool) -> None:
    """A retried attempt's metadata goes to that attempt; the view and the last attempt lack it."""
    attempts: list[int] = []

    def flaky() -> None:
        attempts.append(len(attempts))
        metadata.increment("n").set("attempt", len(attempts)).append("log", len(attempts))
        metadata.run().set("by-step", len(attempts))
        if len(attempts) < 3:
            raise ValueError("again")

    async def flaky_async() -> None:
        flaky()

    if sync:

        @app.function()
        def fn_sync(ctx: inngest.ContextSync) -> Any:
            ctx.step.run("a", flaky)
            return metadata.current()

    else:

        @app.function()
        async def fn_async(ctx: inngest.Context) -> Any:
            await ctx.step.run("a", flaky_async)
            return metadata.current()

    run = await app.run()
    assert shown(run, "a@0") == {"n": 1, "attempt": 1, "log": [1]}
    assert shown(run, "a@1") == {"n": 1, "attempt": 2, "log": [2]}
    assert shown(run, "a") == {"n": 1, "attempt": 3, "log": [3]}
    assert shown(run) == {"by-step": 3}
    assert run.output == {"n": 1, "attempt": 3, "log": [3], "by-step": 3}


async def test_a_step_that_failed_for_good_is_reported_and_does_not_count(app: App) -> None:
    """The last attempt of a failed step shows what it recorded; the run's view does not."""

    async def broken() -> None:
        metadata.set("row", 17)
        raise ValueError("bad row")

    @app.function(retries=0)
    async def fn(ctx: inngest.Context) -> Any:
        try:
            await ctx.step.run("a", broken)
        except inngest.StepError:
            metadata.set("failed", True)
        return metadata.current()

    run = await app.run()
    assert run.output == {"failed": True}
    assert shown(run, "a") == {"row": 17}


async def test_a_step_that_must_not_be_retried_is_reported(app: App) -> None:
    """What a step recorded before NonRetriableError ended the run is shown."""

    async def broken() -> None:
        metadata.set("row", 17)
        raise inngest.NonRetriableError("bad row")

    @app.function()
    async def fn(ctx: inngest.Context) -> None:
        await ctx.step.run("a", broken)

    run = await app.run()
    assert run.status == "Failed"
    assert shown(run, "a") == {"row": 17}


async def test_a_function_that_is_retried_records_again_and_counts_once(app: App) -> None:
    """The body's metadata after the last step is that of its last attempt."""

    @app.function()
    async def fn(ctx: inngest.Context) -> Any:
        metadata.increment("tries").set("attempt", ctx.attempt)
        if ctx.attempt < 2:
            raise ValueError("again")
        return metadata.current()

    run = await app.run()
    assert run.output == {"tries": 1, "attempt": 2}
    assert shown(run) == {"tries": 1, "attempt": 2}


async def test_parallel_steps_each_record_and_all_is_seen_afterwards(app: App) -> None:
    """Steps of a group do not see one another's metadata; the code behind the group sees all."""

    @app.function()
    async def fn(ctx: inngest.Context) -> Any:
        metadata.set("before", 1)

        def branch(number: int) -> Any:
            async def work() -> None:
                assert metadata.get("n") is None
                metadata.increment("n").set(f"done-{number}", True)
                metadata.run().increment("total")

            return lambda: ctx.step.run(f"s{number}", work)

        await ctx.group.parallel(tuple(branch(number) for number in range(4)))
        return metadata.current()

    run = await app.run()
    done = {f"done-{number}": True for number in range(4)}
    assert run.output == {"before": 1, "n": 4, "total": 4, **done}
    assert shown(run, "s2") == {"n": 1, "done-2": True}
    # Each branch only knew of its own increment; the end of the run put it right.
    assert shown(run) == {"before": 1, "total": 4}
    assert sum(sent.entries[0]["values"] == {"before": 1} for sent in app.wire.sent) == 1


async def test_code_between_the_steps_of_a_branch_is_sent(app: App) -> None:
    """What the body records inside a branch of a group, between two of its steps, is shown."""

    @app.function()
    async def fn(ctx: inngest.Context) -> Any:
        async def step() -> None:
            metadata.increment("steps")

        async def branch(name: str) -> None:
            await ctx.step.run(f"{name}1", step)
            metadata.set(f"between-{name}", True)
            await ctx.step.run(f"{name}2", step)

        await ctx.group.parallel((lambda: branch("l"), lambda: branch("r")))
        return metadata.current()

    run = await app.run()
    assert run.output == {"steps": 4, "between-l": True, "between-r": True}
    assert shown(run) == {"between-l": True, "between-r": True}


async def test_repeated_step_ids_are_told_apart(app: App) -> None:
    """The second use of a step id has metadata of its own."""

    @app.function()
    async def fn(ctx: inngest.Context) -> Any:
        for number in range(2):

            async def step(number: int = number) -> None:
                metadata.set("number", number)

            await ctx.step.run("same", step)
        return [metadata.step("same", use).get("number") for use in (0, 1)]

    run = await app.run()
    assert run.output == [0, 1]
    assert shown(run, "same") == {"number": 0}
    assert shown(run, "same:1") == {"number": 1}


async def test_scopes_can_be_read_on_their_own(app: App) -> None:
    """`run()` and `step(id)` read what was recorded for just them; `metadata` reads everything."""

    @app.function()
    async def fn(ctx: inngest.Context) -> Any:
        async def step() -> Any:
            metadata.set("where", "step")
            return [metadata.run().get("where"), metadata.step().current(), metadata.get("where")]

        metadata.set("where", "run")
        inside = await ctx.step.run("a", step)
        return [
            inside,
            metadata.run().current(),
            metadata.step("a").get("where"),
            metadata.run().step("a").current(),
            metadata.step("unknown").get("where", "nowhere"),
            metadata.get("where"),
        ]

    run = await app.run()
    assert run.output == [
        ["run", {"where": "step"}, "step"],
        {"where": "run"},
        "step",
        {"where": "step"},
        "nowhere",
        "step",
    ]


async def test_values_are_copied_both_ways(app: App) -> None:
    """Changing what was recorded or read changes no metadata."""

    @app.function()
    async def fn(ctx: inngest.Context) -> Any:
        mine = {"list": [1]}
        metadata.set("a", mine)
        mine["list"].append(2)
        metadata.get("a")["list"].append(3)
        metadata.current()["a"]["list"].append(4)
        metadata.run().get("a")["list"].append(5)
        return metadata.get("a")

    assert (await app.run()).output == {"list": [1]}


async def test_delete_remove_decrement_and_replace_do_what_they_say(app: App) -> None:
    """Each operation has its effect in the view and at the engine."""

    @app.function()
    async def fn(ctx: inngest.Context) -> Any:
        metadata.update({"a": 1, "b": [1, 2, 1], "c": {"d": 1}, "e": 5}).replace({"x": 1, "y": [1]})
        metadata.update({"a": 1, "b": [1, 2, 1], "$.c.d": 1}).delete("x", "missing")
        metadata.remove("b", 1).decrement("a", 3).delete("$.c.d").remove("$.y", 7)

        async def step() -> None:
            metadata.replace({"only": 1})

        before = metadata.current()
        await ctx.step.run("s", step)
        metadata.delete("only")
        return [before, metadata.current()]

    run = await app.run()
    assert run.output == [{"a": -2, "b": [2], "c": {}, "y": [1]}, {}]
    assert shown(run) == {"a": -2, "b": [2], "c": {}, "y": [1]}
    assert shown(run, "s") == {"only": 1}


async def test_hooks_record_for_the_run(make_app: type[App]) -> None:
    """Metadata that hooks record, early and late, is shown with the run."""
    hooks = Hooks("recording")
    outer = Hooks("outer", layer=Layer.OBSERVE, fail_open=False)

    @hooks.before_execution
    def early(call: Call) -> None:
        metadata.set("attempt", call.attempt)

    @hooks.transform_output
    def late(call: Call, outcome: Outcome) -> None:
        metadata.set("ended", "function" if outcome.step is None else outcome.step.id)

    @outer.before_response
    def last(call: Call) -> None:
        metadata.set("saw", metadata.get("n"))

    app = make_app(hooks, outer)

    @app.function()
    async def fn(ctx: inngest.Context) -> None:
        async def step() -> None:
            metadata.increment("n")

        await ctx.step.run("a", step)

    run = await app.run()
    assert run.status == "Completed"
    assert shown(run) == {"attempt": 0, "ended": "function", "saw": 1}
    per_request = [sent for sent in app.wire.sent if not sent.target]
    assert len(per_request) == 2


async def test_a_failure_handler_records_for_its_own_run(app: App) -> None:
    """An on_failure handler is a run of its own, and can write to the run that failed."""

    async def on_failure(ctx: inngest.Context) -> None:
        metadata.set("handled", True)
        metadata.run(str(ctx.event.data["run_id"])).set("handled-by", ctx.run_id)

    @app.function(retries=0, on_failure=on_failure)
    async def fn(ctx: inngest.Context) -> None:
        metadata.set("before", 1)
        raise ValueError("no")

    async with app.engine() as engine:
        run = await engine.run(inngest.Event(name="fn"), function="fn")
        await engine.settle()
        handler = next(other for other in engine.runs if other.id != run.id)
        assert handler.status == "Completed", handler.error
        assert shown(handler) == {"handled": True}
        assert shown(run) == {"before": 1, "handled-by": handler.id}


async def test_outside_of_a_run_there_is_a_clear_error() -> None:
    """Without a run, writes and reads raise and say what to do."""
    keep = MetadataPlugin()
    for use in (
        lambda: metadata.set("a", 1),
        lambda: metadata.replace({}),
        lambda: metadata.get("a"),
        lambda: metadata.current(),
        lambda: metadata.run().get("a"),
        lambda: metadata.run().current(),
        lambda: metadata.run("01J00000000000000000000000").set("a", 1),
        lambda: metadata.parent,
        metadata.flush_sync,
    ):
        with pytest.raises(MetadataContextError, match="MetadataClient"):
            use()
    with pytest.raises(MetadataContextError, match="outside of a run"):
        await metadata.flush()
    assert keep.name == "metadata"


async def test_outside_of_a_run_it_can_be_ignored() -> None:
    """While a plugin with strict=False lives, metadata outside of runs does nothing."""
    plugin = MetadataPlugin(strict=False)
    metadata.set("a", 1).increment("b").append("c", 1).replace({})
    metadata.parent.set("a", 1).replace({"b": 1})
    metadata.root.step("s").increment("a")
    metadata.step().set("a", 1)
    metadata.run("01J00000000000000000000000").set("a", 1)
    assert metadata.get("a", "default") == "default"
    assert metadata.current() == metadata.run().current() == {}
    assert metadata.run().get("a", 2) == 2
    assert not metadata.has_parent
    await metadata.flush()
    metadata.flush_sync()
    with pytest.raises(MetadataValueError):
        metadata.set("a", object())
    del plugin
    with pytest.raises(MetadataContextError):
        metadata.set("a", 1)


async def test_a_function_without_the_plugin_is_named() -> None:
    """In a function whose stack has no MetadataPlugin the error names the function."""
    from inngest_plugins.local import LocalEngine

    client = inngest.Inngest(app_id="bare", is_production=False, middleware=[Hooks("other")])

    @client.create_function(fn_id="fn", trigger=inngest.TriggerEvent(event="fn"), retries=0)
    async def fn(ctx: inngest.Context) -> None:
        metadata.set("a", 1)

    async with LocalEngine(client, [fn]) as engine:
        run = await engine.run(inngest.Event(name="fn"))
    assert run.error is not None
    assert "'bare-fn', which has no MetadataPlugin" in run.error["message"]


async def test_no_run_without_metadata_pays_a_request(app: App) -> None:
    """A run that records nothing sends nothing, and its results travel bare."""

    @app.function()
    async def fn(ctx: inngest.Context) -> Any:
        async def step() -> int:
            return 1

        return await ctx.step.run("a", step)

    run = await app.run()
    assert app.wire.sent == []
    assert run.steps["a"].memo == {"data": 1}


class Scrambler(Plugin):
    """Stands for encryption: what leaves is unreadable."""

    layer = Layer.WIRE
    fail_open = False
    secret_payloads = True

    def transform_input(self, call: Call) -> None:
        for hashed_id, memo in list(call.memos.items()):
            if isinstance(memo.data, str):
                call.memos[hashed_id] = Memo(data=json.loads(base64.b64decode(memo.data)))

    def transform_output(self, call: Call, outcome: Outcome) -> None:
        if outcome.has_output:
            outcome.output = base64.b64encode(json.dumps(outcome.output).encode()).decode()


def unscrambled(value: str) -> Any:
    """Return what `Scrambler` was given."""
    return json.loads(base64.b64decode(value))


class LazyScrambler(Scrambler):
    """The same, opening what the function reaches, when it does."""

    def transform_input(self, call: Call) -> None:
        return

    def transform_memo(self, call: Call, step: Step) -> None:
        if step.memo is not None and isinstance(step.memo.data, str):
            step.memo = Memo(data=unscrambled(step.memo.data))

    def open_sealed(self, value: Any, place: SealedPlace) -> Any:
        return unscrambled(value) if isinstance(value, str) else value


class Contract(Plugin):
    """Stands for validation: notes every value it is shown."""

    layer = Layer.CONTRACT
    fail_open = False

    def __init__(self) -> None:
        self.seen: list[Any] = []

    def transform_input(self, call: Call) -> None:
        self.seen += [memo.data for memo in call.memos.values()]

    def transform_output(self, call: Call, outcome: Outcome) -> None:
        self.seen.append(outcome.output)


async def test_it_travels_unseen_and_encrypted(make_app: type[App]) -> None:
    """Handler and validation see the bare result; what is stored is what encryption made of it."""
    contract = Contract()
    app = make_app(Scrambler(), contract)

    @app.function()
    async def fn(ctx: inngest.Context) -> Any:
        async def step() -> dict[str, int]:
            metadata.set("colour", "ultramarine")
            return {"value": 1}

        result = await ctx.step.run("a", step)
        return [result, metadata.get("colour")]

    run = await app.run()
    stored = run.steps["a"].memo["data"]
    assert "ultramarine" not in json.dumps(run.steps["a"].memo)
    assert "ultramarine" in base64.b64decode(stored).decode()
    assert contract.seen == [{"value": 1}, {"value": 1}, [{"value": 1}, "ultramarine"]]
    assert any("readable at the engine" in line for line in app.plugin.diagnose(_secret_stack(app)))


def _secret_stack(app: App) -> Any:
    from inngest_plugins.core import Stack

    return Stack.of(app.client)


async def test_a_step_that_validation_refuses_does_not_count(make_app: type[App]) -> None:
    """When an outer plugin turns a result into an error, the attempt is reported as failed."""
    refusals: list[int] = []

    class Refusing(Plugin):
        layer = Layer.CONTRACT
        fail_open = False

        def transform_output(self, call: Call, outcome: Outcome) -> None:
            if outcome.step is not None and not refusals:
                refusals.append(1)
                outcome.error = ValueError("refused")

    app = make_app(Refusing())

    @app.function()
    async def fn(ctx: inngest.Context) -> Any:
        async def step() -> None:
            metadata.increment("n")

        await ctx.step.run("a", step)
        return metadata.get("n")

    run = await app.run()
    assert run.output == 1
    assert shown(run, "a@0") == {"n": 1}
    assert shown(run, "a") == {"n": 1}


async def test_a_request_that_crashes_after_the_step_counts_once(make_app: type[App]) -> None:
    """When the answer never reaches the engine the step runs again, and counts once."""
    crashes: list[int] = []
    hooks = Hooks("crashing", fail_open=False)

    @hooks.before_response
    def crash(call: Call) -> None:
        if not crashes and call.memo_count == 0:
            crashes.append(1)
            raise RuntimeError("the worker died")

    app = make_app(hooks)

    @app.function()
    async def fn(ctx: inngest.Context) -> Any:
        metadata.increment("body")

        async def step() -> None:
            metadata.increment("n")

        await ctx.step.run("a", step)
        return metadata.current()

    run = await app.run()
    assert crashes
    assert run.output == {"body": 1, "n": 1}
    assert shown(run) == {"body": 1}
    assert shown(run, "a") == {"n": 1}


async def test_errors_name_the_key_and_record_nothing(app: App) -> None:
    """What is wrong with a key, kind, value or size raises where it is recorded."""

    @app.function()
    async def fn(ctx: inngest.Context) -> Any:
        metadata.set("text", "a")
        for error, part, use in (
            (MetadataKeyError, "not a path", lambda: metadata.set("$..a", 1)),
            (MetadataKeyError, "300 bytes, the limit is 256", lambda: metadata.set("k" * 300, 1)),
            (MetadataKeyError, "300 bytes", lambda: metadata.replace({"k" * 300: 1})),
            (MetadataKeyError, "must not be empty", lambda: metadata.replace({"": 1})),
            (MetadataKeyError, "Inngest's own", lambda: metadata.set("a", 1, kind="inngest.ai")),
            (MetadataKeyError, "must not be empty", lambda: metadata.set("a", 1, kind="")),
            (MetadataKeyError, "the limit is 128", lambda: metadata.set("a", 1, kind="k" * 120)),
            (MetadataKeyError, "ULID", lambda: metadata.run("../../etc")),
            (MetadataValueError, "a: NaN", lambda: metadata.set("a", float("nan"))),
            (MetadataValueError, "a mapping", lambda: metadata.update([1])),  # type: ignore[arg-type]
            (MetadataValueError, "keys must be str", lambda: metadata.update({1: 1})),  # type: ignore[dict-item]
            (MetadataValueError, "text: cannot increment", lambda: metadata.increment("text")),
            (MetadataLimitError, "big: ", lambda: metadata.set("big", "x" * 70_000)),
            (MetadataContextError, "no parent", lambda: metadata.parent),
            (MetadataContextError, "no parent", lambda: metadata.root),
            (MetadataContextError, "running step", lambda: metadata.step()),
        ):
            with pytest.raises(error, match=part):
                use()
        return metadata.current()

    run = await app.run()
    assert run.status == "Completed", run.error
    assert run.output == {"text": "a"}


async def test_what_is_recorded_too_late_is_refused(app: App) -> None:
    """A background task that outlives its step or request gets an error, not silence."""
    tasks: list[asyncio.Task[None]] = []
    errors: list[str] = []

    async def later(event: asyncio.Event) -> None:
        await event.wait()
        try:
            metadata.set("late", True)
        except MetadataContextError as err:
            errors.append(str(err))

    step_over, call_over = asyncio.Event(), asyncio.Event()

    @app.function()
    async def fn(ctx: inngest.Context) -> None:
        async def step() -> None:
            tasks.append(asyncio.create_task(later(step_over)))

        tasks.append(asyncio.create_task(later(call_over)))
        await ctx.step.run("a", step)

    await app.run()
    step_over.set()
    call_over.set()
    await asyncio.gather(*tasks)
    assert len(errors) == len(tasks)
    assert all("over" in error or "ended" in error for error in errors)


async def test_threads_of_a_step_record_together(app: App) -> None:
    """Threads that carry the step's context record for it, and no increment is lost."""

    @app.function()
    async def fn(ctx: inngest.Context) -> Any:
        async def step() -> None:
            def work() -> None:
                for _ in range(500):
                    metadata.increment("n").append("list", 1)

            await asyncio.gather(*(asyncio.to_thread(work) for _ in range(4)))

        await ctx.step.run("a", step)
        return [metadata.get("n"), len(metadata.get("list"))]

    assert (await app.run()).output == [2000, 2000]


async def test_runs_at_the_same_time_do_not_mix(app: App) -> None:
    """Runs that interleave in one process each have their own metadata."""

    @app.function()
    async def fn(ctx: inngest.Context) -> Any:
        async def step() -> None:
            metadata.set("who", ctx.event.data["who"])
            await asyncio.sleep(0.01)
            metadata.increment("n")

        await ctx.step.run("a", step)
        return metadata.current()

    async with app.engine() as engine:
        await engine.send([inngest.Event(name="fn", data={"who": who}) for who in range(20)])
        await engine.settle()
        outputs = [run.output for run in engine.runs]
    assert sorted(output["who"] for output in outputs) == list(range(20))
    assert all(output["n"] == 1 for output in outputs)


async def test_sleeping_and_waiting_lose_nothing(app: App) -> None:
    """Requests that only plan, sleep or wait send what the body recorded before."""

    @app.function()
    async def fn(ctx: inngest.Context) -> Any:
        metadata.set("state", "sleeping")
        await ctx.step.sleep("nap", 1000)
        metadata.set("state", "waiting")
        await ctx.step.wait_for_event("wait", event="never", timeout=2000)
        metadata.set("state", "done")
        return metadata.current()

    run = await app.run()
    assert run.output == {"state": "done"}
    states = [sent.entries[0]["values"]["state"] for sent in app.wire.sent]
    assert states == ["sleeping", "waiting", "done"]


async def test_an_unreadable_attachment_is_left_out(
    make_app: type[App], caplog: pytest.LogCaptureFixture
) -> None:
    """A step's metadata that cannot be read is logged and left out; the run goes on."""

    class Spoiling(Plugin):
        layer = Layer.CONTEXT

        def transform_output(self, call: Call, outcome: Outcome) -> None:
            if outcome.step is not None:
                outcome.attach("metadata", {"v": 99})

    app = make_app(Spoiling())

    @app.function()
    async def fn(ctx: inngest.Context) -> Any:
        async def step() -> int:
            return 1

        return [await ctx.step.run("a", step), metadata.current()]

    run = await app.run()
    assert run.output == [1, {}]
    assert "left out" in caplog.text


async def test_it_works_under_a_sync_framework(make_app: type[App]) -> None:
    """Under Flask, where everything runs in one thread, nothing differs."""
    import flask
    import inngest.flask

    app = make_app(realtime=True)

    @app.function()
    def fn(ctx: inngest.ContextSync) -> Any:
        def step() -> None:
            metadata.increment("n")
            if ctx.attempt == 0:
                raise ValueError("again")

        metadata.set("a", 1)
        ctx.step.run("s", step)
        return metadata.current()

    def serve(client: inngest.Inngest, functions: list[inngest.Function[Any]]) -> Any:
        served = flask.Flask("served")
        inngest.flask.serve(served, client, functions)
        return served

    async with app.engine(serve=serve) as engine:
        run = await engine.run(inngest.Event(name="fn"))
    assert run.output == {"a": 1, "n": 1}
    assert shown(run) == {"a": 1}
    assert shown(run, "s@0") == shown(run, "s") == {"n": 1}


async def test_a_run_inside_of_another_run_s_step_is_its_own(app: App) -> None:
    """A step that runs another function in process does not lend it its metadata."""
    inner_engine: list[Any] = []

    @app.function("inner")
    async def inner(ctx: inngest.Context) -> Any:
        metadata.set("who", "inner")
        return metadata.current()

    @app.function("outer")
    async def outer(ctx: inngest.Context) -> Any:
        async def step() -> Any:
            metadata.set("who", "outer")
            run = await inner_engine[0].run(inngest.Event(name="inner"), function="inner")
            return [run.output, metadata.current()]

        return await ctx.step.run("s", step)

    async with app.engine() as engine:
        inner_engine.append(engine)
        run = await engine.run(inngest.Event(name="outer"), function="outer")
    assert run.output == [{"who": "inner"}, {"who": "outer"}]


@pytest.mark.parametrize("sync", [False, True])
@pytest.mark.parametrize("kind", ["step", "code", "invoke", "nested"])
async def test_the_other_steps_of_a_failed_group_count(
    make_app: type[App], kind: str, sync: bool
) -> None:
    """A group's error that is caught loses nothing of the steps behind the one that failed.

    The function never reaches them, yet they have run: program and dashboard agree on all that
    succeeded, in the order of the program, on every replay and behind encryption.
    """
    app = make_app(LazyScrambler())
    seen: list[Any] = []

    def work(name: str) -> Any:
        def handler() -> None:
            metadata.run().increment("done").set("last", name)
            metadata.set("mine", name)
            if name == "failing":
                raise ValueError("no")

        return handler

    def read() -> Any:
        return [metadata.run().get("done"), metadata.get("done"), metadata.get("last")]

    @app.function("failing-fn", retries=0)
    async def invoked(ctx: inngest.Context) -> None:
        raise ValueError("no")

    async def body(ctx: Any) -> Any:
        async def step(name: str) -> None:
            await ctx.step.run(name, work(name))

        async def failing() -> None:
            if kind == "invoke":
                await ctx.step.invoke("call", function=invoked, timeout=5000)
            elif kind == "code":
                await ctx.step.run("fine", lambda: None)
                raise ValueError("in the branch")
            elif kind == "nested":
                await ctx.group.parallel((lambda: step("failing"), lambda: step("inner")))
            else:
                await step("failing")

        await ctx.step.run("before", work("before"))
        try:
            await ctx.group.parallel(
                (lambda: step("first"), failing, lambda: step("second"), lambda: step("third"))
            )
        except (inngest.StepError, ValueError):
            metadata.increment("caught")
        seen.append(read())
        await ctx.step.run("after", work("after"))
        await ctx.group.parallel((lambda: step("x"), lambda: step("y")))
        return read()

    async def fn(ctx: inngest.Context) -> Any:
        return await body(ctx)

    app.function(retries=0)(synchronous(body) if sync else fn)
    run = await app.run()
    assert run.status == "Completed", run.error
    before = 4 + (kind == "nested")
    assert seen == [[before, before, "third"]] * len(seen)
    assert len(seen) >= 3
    assert unscrambled(run.output) == [before + 3, before + 3, "y"]
    assert shown(run) == {"done": before + 3, "last": "y", "caught": 1}
    assert shown(run, "second") == {"mine": "second"}


@pytest.mark.parametrize("where", ["body", "step", "elsewhere"])
async def test_a_refused_write_of_several_keys_records_none(app: App, where: str) -> None:
    """Nothing of it: neither the keys before the refused one nor those behind it."""
    attempts: list[Callable[[Any], Any]] = [
        lambda at: at.update({"a": 1, "$.n.c": 2}),
        lambda at: at.update({"a": 1, "big": "x" * 70_000, "b": 2}),
        lambda at: at.delete("n", "$.m.c"),
    ]

    def write(at: Any) -> None:
        for attempt in attempts:
            with pytest.raises(MetadataError):
                attempt(at)

    @app.function()
    async def fn(ctx: inngest.Context) -> Any:
        async def handler() -> Any:
            write(metadata)
            return metadata.current()

        metadata.update({"n": 1, "m": 2})
        if where == "elsewhere":
            write(metadata.run("01HZZZZZZZZZZZZZZZZZZZZZZZ"))
        if where == "body":
            write(metadata)
        elif where == "step":
            metadata.step("s").update({"n": 1, "m": 2})
            assert await ctx.step.run("s", handler) == {"n": 1, "m": 2}
        return metadata.current()

    run = await app.run()
    assert run.output == {"n": 1, "m": 2}, run.reason
    assert all("a" not in entry["values"] for one in app.wire.sent for entry in one.entries)


def test_several_keys_fit_together_or_not_at_all() -> None:
    """Each of them alone would fit; the limit is that of the server."""
    client = inngest.Inngest(app_id="shop", is_production=False)
    writer = MetadataClient(client).run("01HZZZZZZZZZZZZZZZZZZZZZZZ")
    with pytest.raises(MetadataLimitError, match="metadata big: "):
        writer.update({"a": "x" * 30_000, "big": "x" * 40_000})
    writer.update({"a": "x" * 60_000})
