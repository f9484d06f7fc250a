"""What went wrong with checkpointing elsewhere: each case is a test here."""

from __future__ import annotations

import asyncio
import itertools
import json
import threading
from collections import Counter
from typing import Any

import httpx
import inngest
import pytest
from tests.checkpoint.checkpoint_rig import play
from tests.core.core_protocol import (
    Engine,
    hashed,
    make_client,
    serve,
)

from inngest_plugins.checkpoint import CheckpointPlugin
from inngest_plugins.core import Call, Hooks, Layer, Memo, Outcome, Plugin, Step
from inngest_plugins.local.steps import checkpoints

pytestmark = pytest.mark.anyio
IDENTITY = {"fn_id": "f-1", "qi_id": "q-1", "generation_id": 4, "request_id": "r-1"}


async def test_steps_after_a_retry_have_all_their_attempts(setting: str) -> None:
    """In a request that is a retry the first success is answered, not checkpointed."""
    ran: Counter[str] = Counter()

    async def body(ctx: Any) -> Any:
        def failing(name: str, failures: int) -> Any:
            def handler() -> str:
                ran[name] += 1
                if ran[name] <= failures:
                    raise ValueError(name)
                return f"{name}@{ctx.attempt}"

            return handler

        return [
            await ctx.step.run("a", failing("a", 1)),
            await ctx.step.run("b", failing("b", 2)),
            await ctx.step.run("c", failing("c", 2)),
        ]

    played = await play(setting, body, CheckpointPlugin(), retries=2)
    assert played.run.output == ["a@1", "b@2", "c@2"]
    assert ran == {"a": 2, "b": 3, "c": 3}
    assert played.calls.sent == []


async def test_a_slow_function_without_steps_ends() -> None:
    """`max_runtime` is looked at where a step ends, never between steps."""
    ran: list[str] = []

    async def body(ctx: Any) -> str:
        ran.append("body")
        await asyncio.sleep(0.02)
        return "done"

    played = await play("fastapi-async", body, CheckpointPlugin(max_runtime=0.001))
    assert (played.requests, ran, played.run.output) == (1, ["body"], "done")


async def test_max_runtime_is_reached_many_times_in_one_run() -> None:
    """The answer that ends a request early is one that the engine follows every time."""

    async def body(ctx: Any) -> Any:
        async def slow(number: int) -> int:
            await asyncio.sleep(0.002)
            return number

        return [await ctx.step.run("same", slow, n) for n in range(12)]

    played = await play("fastapi-async", body, CheckpointPlugin(max_runtime=0.005))
    assert played.run.output == list(range(12))
    assert 2 <= played.requests <= 13
    assert sum(map(len, played.calls.sent)) < 12


async def test_buffered_steps_are_not_dropped_when_a_call_fails(setting: str) -> None:
    """Every operation that waits leaves as an ordinary answer."""

    async def body(ctx: Any) -> Any:
        return [await ctx.step.run(f"s{n}", lambda n=n: n) for n in range(3)]

    plugin = CheckpointPlugin(buffer=3, give_up_after=0.01)
    played = await play(setting, body, plugin, decide=lambda number: "refuse")
    assert [op["displayName"] for op in played.run.requests[0].response] == ["s0", "s1", "s2"]
    assert played.run.output == [0, 1, 2]


async def test_a_call_says_which_dispatch_it_belongs_to(setting: str) -> None:
    """Request, generation and time go along, so that the engine can refuse an old request's."""

    async def body(ctx: Any) -> Any:
        return [await ctx.step.run(f"s{n}", lambda n=n: n) for n in range(3)]

    sent: list[Any] = []

    def answer(request: httpx.Request) -> httpx.Response:
        sent.append(json.loads(request.content))
        return httpx.Response(409 if len(sent) == 2 else 200)

    client = make_client(CheckpointPlugin())
    app = serve(setting, body, client=client)
    with Engine(answer).serving(client):
        reply = await app.apost(identity=IDENTITY)
    assert len(sent) == 2
    assert {name: sent[1][name] for name in IDENTITY} == IDENTITY
    assert sent[0]["request_started_at"] == sent[1]["request_started_at"] <= sent[1]["ts"]
    assert (reply.status, reply.op["op"], reply.no_retry) == (206, "None", False)


async def test_a_request_that_timed_out_stops_at_its_next_step(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The engine has given the job to another request: no step runs in both."""
    # The engine looks up requests only that are older than ten seconds.
    monkeypatch.setattr(checkpoints, "_GRACE", 0.0)
    ran: Counter[str] = Counter()
    retried, first_is_over = threading.Event(), threading.Event()
    ends = Hooks("ends")

    @ends.before_response
    def note(call: Call) -> None:
        first_is_over.set()

    async def body(ctx: Any) -> Any:
        def one() -> int:
            ran["one"] += 1
            attempt = ran["one"]
            if attempt == 1:
                # Longer than the engine waits for an answer.
                assert retried.wait(200)
            else:
                retried.set()
                assert first_is_over.wait(200)
            return attempt

        def two() -> int:
            ran["two"] += 1
            return 2

        return [await ctx.step.run("one", one), await ctx.step.run("two", two)]

    played = await play(
        "fastapi-pool",
        body,
        CheckpointPlugin(),
        ends,
        engine_options={"request_timeout": 0.2, "retry_interval": 60},
        retries=2,
    )
    # The second request is a retry, whose first success is answered.
    assert list(zip(played.calls.sent, played.calls.answered, strict=True)) == [
        (["one"], 409),
        (["two"], 200),
    ]
    assert played.run.output == [2, 2]
    assert ran == {"one": 2, "two": 1}


async def test_a_stored_step_whose_reply_was_lost_is_not_answered(setting: str) -> None:
    """The call is made again first: a duplicate is ignored there, and hangs a run elsewhere."""

    async def body(ctx: Any) -> Any:
        return [await ctx.step.run(f"s{n}", lambda n=n: n) for n in range(3)]

    lost = {1, 2}
    played = await play(
        setting, body, CheckpointPlugin(), decide=lambda n: "lose" if n in lost else None
    )
    assert (played.requests, played.run.output) == (1, [0, 1, 2])
    assert played.calls.sent == [["s0"], ["s1"], ["s1"], ["s1"], ["s2"]]


async def test_retry_after_keeps_its_delay(setting: str) -> None:
    """Errors of steps take the same way as without checkpointing."""

    def body_of(ran: Counter[str]) -> Any:
        async def body(ctx: Any) -> Any:
            def later() -> int:
                ran["later"] += 1
                if ran["later"] == 1:
                    raise inngest.RetryAfterError("later", 3_600_000)
                return 1

            await ctx.step.run("first", lambda: 0)
            return await ctx.step.run("later", later)

        return body

    async def waited(*plugins: Any) -> float:
        played = await play(setting, body_of(Counter()), *plugins)
        assert played.run.output == 1
        starts = [request.started_at for request in played.run.requests]
        return max(b - a for a, b in itertools.pairwise(starts))

    assert await waited(CheckpointPlugin()) == pytest.approx(await waited(), abs=60)


async def test_what_is_stored_went_out_through_the_plugins(setting: str) -> None:
    """Nothing leaves before every plugin has seen it."""

    class Sealing(Plugin):
        layer = Layer.WIRE

        def transform_output(self, call: Call, outcome: Outcome) -> None:
            if outcome.step is not None:
                outcome.output = {"sealed": outcome.output}

        def transform_memo(self, call: Call, step: Step) -> None:
            assert step.memo is not None
            step.memo = Memo(step.memo.data["sealed"])

    async def body(ctx: Any) -> Any:
        return [await ctx.step.run(f"s{n}", lambda n=n: n) for n in range(2)]

    played = await play(setting, body, CheckpointPlugin(), Sealing())
    assert played.run.output == [0, 1]
    assert [step.memo for step in played.run.steps.values()] == [
        {"data": {"sealed": 0}},
        {"data": {"sealed": 1}},
    ]


async def test_a_race_runs_each_step_once(setting: str) -> None:
    """No checkpoint while a group is open, nor until one of the requests that it left goes on."""

    def racing(ran: Counter[str]) -> Any:
        async def body(ctx: Any) -> Any:
            def step(name: str) -> Any:
                return lambda: (ran.update([name]), name)[1]

            async def branch(name: str) -> Any:
                first = await ctx.step.run(f"{name}1", step(f"{name}1"))
                return [first, await ctx.step.run(f"{name}2", step(f"{name}2"))]

            await ctx.step.run("before", step("before"))
            sides = await ctx.group.parallel(
                (lambda: branch("l"), lambda: branch("r")),
                parallel_mode=inngest.ParallelMode.RACE,
            )
            after = [await ctx.step.run(f"after{n}", step(f"after{n}")) for n in range(3)]
            return [list(sides), after]

        return body

    ran: Counter[str] = Counter()
    played = await play(setting, racing(ran), CheckpointPlugin())
    after = ["after0", "after1", "after2"]
    assert played.run.output == [[["l1", "l2"], ["r1", "r2"]], after]
    # The engine asks once as each member ends: two requests can come to the first step after it,
    # as without checkpointing. One of them goes on.
    assert 1 <= ran.pop("after0") <= 2
    assert set(ran.values()) == {1}
    # A request that the group left and that comes late can still answer `after1`.
    checkpointed = [step for call in played.calls.sent for step in call]
    assert checkpointed in (["before", "after1", "after2"], ["before", "after2"])


async def test_an_engine_without_checkpointing_is_named_once(
    setting: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A request without the function's id is answered step by step, and one warning says why."""

    async def body(ctx: Any) -> Any:
        return await ctx.step.run("a", lambda: 1)

    app = serve(setting, body, CheckpointPlugin())
    for _ in range(2):
        reply = await app.apost()
        assert (reply.op["id"], reply.op["op"]) == (hashed("a"), "StepRun")
    assert [record.name for record in caplog.records].count("inngest_plugins.checkpoint") == 1


async def test_steps_started_at_once_are_each_stored() -> None:
    """`asyncio.gather` of steps, which the SDK itself runs twice."""
    ran: Counter[str] = Counter()

    async def body(ctx: Any) -> Any:
        async def step(name: str) -> str:
            ran[name] += 1
            await asyncio.sleep(0)
            return name

        return list(
            await asyncio.gather(*(ctx.step.run(name, step, name) for name in ("a", "b", "c")))
        )

    played = await play("fastapi-async", body, CheckpointPlugin())
    assert played.run.output == ["a", "b", "c"]
    assert set(ran.values()) == {1}
    assert played.requests == 1


async def test_a_nested_step_is_refused_as_before(setting: str) -> None:
    """It fails as without checkpointing."""

    async def body(ctx: Any) -> Any:
        await ctx.step.run("first", lambda: 1)

        async def outer() -> Any:
            return await ctx.step.run("inner", lambda: 1)

        try:
            await ctx.step.run("outer", outer)
        except inngest.StepError as err:
            return err.message
        return None

    bare = await play(setting, body)
    played = await play(setting, body, CheckpointPlugin())
    assert played.run.output == bare.run.output
    assert "Nested" in played.run.output


async def test_a_thousand_steps(setting: str) -> None:
    """One request, and the last step costs what the first did."""

    async def body(ctx: Any) -> int:
        total = 0
        for number in range(1000):
            total += await ctx.step.run("same", lambda n=number: n)
        return total

    played = await play(setting, body, CheckpointPlugin(buffer=50))
    assert (played.requests, played.run.output) == (1, 499_500)
