"""Runs with checkpointing: the same results, in fewer requests."""

from __future__ import annotations

import contextlib
import datetime
from collections import Counter
from collections.abc import Callable
from typing import Any

import inngest
import pytest
from tests.checkpoint.checkpoint_rig import play
from tests.compatibility.test_compatibility_hosting import HOSTS
from tests.core.core_protocol import make_client, make_function

from inngest_plugins.checkpoint import CheckpointPlugin
from inngest_plugins.local import LocalEngine

pytestmark = pytest.mark.anyio
HOUR = datetime.timedelta(hours=1)


def noting(ran: list[str], name: str, value: Any = None) -> Callable[[], Any]:
    def handler() -> Any:
        ran.append(name)
        return value

    return handler


async def test_twenty_steps_are_one_request(setting: str) -> None:
    """Each is stored by a call of its own, before the next begins."""

    async def body(ctx: Any) -> Any:
        return [await ctx.step.run(f"s{n}", lambda n=n: (n, 1.0)) for n in range(20)]

    bare = await play(setting, body)
    played = await play(setting, body, CheckpointPlugin())
    assert (bare.requests, played.requests) == (21, 1)
    assert played.run.output == bare.run.output == [[n, 1] for n in range(20)]
    assert played.calls.sent == [[f"s{n}"] for n in range(20)]
    assert played.recorder.delivered == [f"s{n}" for n in range(20)]
    assert played.recorder.outcomes == bare.recorder.outcomes
    assert list(played.run.steps) == list(bare.run.steps)


@pytest.mark.parametrize("buffer", [2, 3, 50])
async def test_a_buffer(setting: str, buffer: int) -> None:
    """Results go out in calls of `buffer`, and what is left at the end."""

    async def body(ctx: Any) -> Any:
        return [await ctx.step.run(f"s{n}", lambda n=n: n) for n in range(7)]

    played = await play(setting, body, CheckpointPlugin(buffer=buffer))
    sizes = [len(sent) for sent in played.calls.sent]
    assert (sum(sizes), max(sizes)) == (7, min(buffer, 7))
    assert played.requests == 1
    assert played.run.output == list(range(7))


async def test_max_interval(setting: str) -> None:
    """A result that has waited long enough is sent where the next step begins."""

    async def body(ctx: Any) -> Any:
        return [await ctx.step.run(f"s{n}", lambda n=n: n) for n in range(3)]

    plugin = CheckpointPlugin(buffer=50, max_interval=1e-9)
    played = await play(setting, body, plugin)
    assert [len(sent) for sent in played.calls.sent] == [1, 1, 1]
    assert played.run.output == [0, 1, 2]


async def everything(ctx: Any) -> Any:
    ran: list[str] = RAN
    first = await ctx.step.run("first", noting(ran, "first", {"b": 1, "a": (2.0,)}))
    await ctx.step.sleep("nap", HOUR)
    second = await ctx.step.run("second", noting(ran, "second", [first]))
    pair = await ctx.group.parallel(
        (
            lambda: ctx.step.run("left", noting(ran, "left", 1)),
            lambda: ctx.step.run("right", noting(ran, "right", 2)),
        )
    )
    third = await ctx.step.run("third", noting(ran, "third", list(pair)))
    waited = await ctx.step.wait_for_event("wait", event="shop/never", timeout=HOUR)
    ids = await ctx.step.send_event("send", inngest.Event(name="shop/told"))
    fourth = await ctx.step.run("fourth", noting(ran, "fourth", len(ids)))
    return [second, third, waited, fourth]


RAN: list[str] = []


@pytest.mark.parametrize("buffer", [1, 10])
async def test_a_run_of_all_kinds_of_steps(setting: str, buffer: int) -> None:
    """Sleeps, waits and groups end requests as usual; the steps between them do not."""
    RAN.clear()
    bare = await play(setting, everything)
    counted = Counter(RAN)
    RAN.clear()
    played = await play(setting, everything, CheckpointPlugin(buffer=buffer))
    assert played.run.status == bare.run.status == "Completed"
    assert played.run.output == bare.run.output
    assert Counter(RAN) == counted
    assert Counter(played.recorder.outcomes) == Counter(bare.recorder.outcomes)
    assert played.requests < bare.requests
    assert [e["name"] for e in played.run.events_sent] == [e["name"] for e in bare.run.events_sent]


@pytest.mark.parametrize("buffer", [1, 10])
async def test_a_step_that_fails_has_all_its_attempts(setting: str, buffer: int) -> None:
    """It is tried as often as without, and so is each one after it."""

    def failing(counts: Counter[str]) -> Callable[[Any], Any]:
        async def body(ctx: Any) -> Any:
            def flaky(name: str, failures: int) -> Callable[[], str]:
                def handler() -> str:
                    counts[name] += 1
                    if counts[name] <= failures:
                        raise ValueError(name)
                    return name

                return handler

            done = [await ctx.step.run("calm", flaky("calm", 0))]
            done.append(await ctx.step.run("flaky", flaky("flaky", 2)))
            done.append(await ctx.step.run("again", flaky("again", 2)))
            with contextlib.suppress(inngest.StepError):
                await ctx.step.run("hopeless", flaky("hopeless", 99))
            return [*done, await ctx.step.run("last", flaky("last", 0))]

        return body

    bare_counts: Counter[str] = Counter()
    counts: Counter[str] = Counter()
    bare = await play(setting, failing(bare_counts), retries=2)
    played = await play(setting, failing(counts), CheckpointPlugin(buffer=buffer), retries=2)
    assert counts == bare_counts == {"calm": 1, "flaky": 3, "again": 3, "hopeless": 3, "last": 1}
    assert played.run.output == bare.run.output == ["calm", "flaky", "again", "last"]
    assert played.recorder.outcomes == bare.recorder.outcomes
    attempts = {name: step.attempts for name, step in played.run.steps.items()}
    assert attempts == {name: step.attempts for name, step in bare.run.steps.items()}


@pytest.mark.parametrize("buffer", [1, 10])
async def test_a_function_that_fails_between_steps(setting: str, buffer: int) -> None:
    """What ran before is stored; the function has as many attempts as without."""

    def failing(tries: list[int]) -> Callable[[Any], Any]:
        async def body(ctx: Any) -> None:
            await ctx.step.run("first", lambda: 1)
            tries.append(ctx.attempt)
            raise ValueError("between")

        return body

    bare_tries: list[int] = []
    tries: list[int] = []
    bare = await play(setting, failing(bare_tries), retries=2)
    played = await play(setting, failing(tries), CheckpointPlugin(buffer=buffer), retries=2)
    assert tries == bare_tries == [0, 1, 2]
    assert played.run.status == bare.run.status == "Failed"
    assert played.recorder.outcomes == bare.recorder.outcomes


@pytest.mark.parametrize("decimals", [False, True])
async def test_values_are_the_engines(setting: str, *, decimals: bool) -> None:
    """Keys in order, tuples as lists, numbers as the engine writes them: in this request too."""
    value: Any = {"z": (1.0, 1e21, -0.5), "a": {1: None, "k": 2**60 + 1}} if decimals else (1, "é")
    seen: list[str] = []

    async def body(ctx: Any) -> Any:
        got = await ctx.step.run("value", lambda: value)
        seen.append(repr(got))
        return got

    await play(setting, body)
    (replayed,) = seen
    seen.clear()
    await play(setting, body, CheckpointPlugin())
    assert seen == [replayed]


@pytest.mark.parametrize("buffer", [1, 10])
@pytest.mark.parametrize(
    "value", ["\ud800", {"text": "a\ud800b"}, {"\udfff": 1}], ids=["text", "below", "name"]
)
async def test_a_text_that_utf8_cannot_hold_ends_as_without_the_plugin(
    setting: str, buffer: int, value: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """A lone surrogate goes into an answer and not into a call: its step is answered, alone."""

    async def body(ctx: Any) -> Any:
        await ctx.step.run("before", lambda: 1)
        text = await ctx.step.run("text", lambda: value)
        after = await ctx.step.run("after", lambda: len(text))
        return [text, after]

    bare = await play(setting, body)
    played = await play(setting, body, CheckpointPlugin(buffer=buffer))
    assert bare.run.status == played.run.status == "Completed"
    assert played.run.output == bare.run.output
    assert played.recorder.outcomes == bare.recorder.outcomes
    assert (bare.requests, played.requests) == (4, 2)
    assert played.calls.sent == [["before"], ["after"]]
    assert "could not be delivered" not in caplog.text


async def test_pairs_of_surrogates_are_delivered(setting: str) -> None:
    """An emoji is one character in UTF-8, and no reason to end the request."""

    async def body(ctx: Any) -> Any:
        return await ctx.step.run("text", lambda: {"\U0001f600": ["\U0001f600", "\ud000"]})

    played = await play(setting, body, CheckpointPlugin())
    assert played.run.output == {"\U0001f600": ["\U0001f600", "\ud000"]}
    assert played.requests == 1


async def test_max_runtime_ends_a_request_with_the_step_it_is_at(setting: str) -> None:
    """Each request makes progress; a function without steps is not begun anew."""

    async def body(ctx: Any) -> Any:
        return [await ctx.step.run(f"s{n}", lambda n=n: n) for n in range(4)]

    plugin = CheckpointPlugin(max_runtime=1e-9)
    played = await play(setting, body, plugin)
    assert (played.requests, played.calls.sent) == (5, [])
    assert played.run.output == [0, 1, 2, 3]

    async def stepless(ctx: Any) -> str:
        return "done"

    assert (await play(setting, stepless, plugin)).requests == 1


@pytest.mark.parametrize(
    ("options", "covered"),
    [
        ({"functions": ["fn"]}, True),
        ({"functions": ["shop-fn"]}, True),
        ({"functions": ["other"]}, False),
        ({"functions": []}, False),
        ({"exclude": ["fn"]}, False),
        ({"exclude": ["shop-fn"]}, False),
        ({"exclude": ["other"]}, True),
        ({"functions": ["fn"], "exclude": ["fn"]}, False),
    ],
)
async def test_which_functions(setting: str, options: dict[str, Any], *, covered: bool) -> None:
    """By the id that the app gave, or the engine's."""

    async def body(ctx: Any) -> int:
        return int(await ctx.step.run("a", lambda: 1))

    played = await play(setting, body, CheckpointPlugin(**options))
    assert played.requests == (1 if covered else 2)


async def test_a_functions_own_plugin_takes_the_clients_place(setting: str) -> None:
    """It is the only one that is asked."""

    async def body(ctx: Any) -> Any:
        return [await ctx.step.run(f"s{n}", lambda n=n: n) for n in range(4)]

    off = CheckpointPlugin(functions=[])
    played = await play(setting, body, CheckpointPlugin(), own=[off])
    assert played.requests == 5
    played = await play(setting, body, off, own=[CheckpointPlugin(buffer=4)])
    assert [len(sent) for sent in played.calls.sent] == [4]


async def test_a_failure_handler_checkpoints_too(setting: str) -> None:
    """It is a run of its own."""

    async def body(ctx: Any) -> None:
        raise inngest.NonRetriableError("no")

    ran: list[str] = []

    async def handler(ctx: Any) -> None:
        await ctx.step.run("a", noting(ran, "a"))
        await ctx.step.run("b", noting(ran, "b"))

    client = make_client(CheckpointPlugin())
    function = make_function(setting, client, body, on_failure=handler)
    async with LocalEngine(client, [function]) as engine:
        await engine.send(inngest.Event(name="shop/test"))
        await engine.settle()
        failed, handled = engine.runs
    assert (failed.status, handled.status, len(handled.requests)) == ("Failed", "Completed", 1)
    assert ran == ["a", "b"]


@pytest.mark.parametrize(
    ("host", "is_async"),
    HOSTS,
    ids=[f"{host.__name__}-{'async' if is_async else 'sync'}" for host, is_async in HOSTS],
)
async def test_every_way_of_hosting(*, host: Callable[..., Any], is_async: bool) -> None:
    """One request, wherever the app is hosted."""

    async def body(ctx: Any) -> Any:
        return [await ctx.step.run(f"s{n}", lambda n=n: n) for n in range(3)]

    close: list[Callable[[], None]] = []
    try:
        played = await play(
            "fastapi-async" if is_async else "fastapi-pool",
            body,
            CheckpointPlugin(),
            engine_options={
                "serve": lambda client, functions: host(client, functions, close),
            },
        )
    finally:
        for stop in close:
            stop()
    assert (played.requests, played.run.output) == (1, [0, 1, 2])
    assert len(played.calls.sent) == 3


async def test_the_timeline_shows_checkpointed_steps(setting: str) -> None:
    """`inngest-plugins run` and `Run.timeline` say which steps were stored on the way."""

    async def body(ctx: Any) -> None:
        await ctx.step.run("first", lambda: 1)
        await ctx.step.sleep("nap", HOUR)
        await ctx.step.run("second", lambda: 2)
        await ctx.step.run("third", lambda: 1 / 0)

    played = await play(setting, body, CheckpointPlugin(), retries=0)
    text = str(played.run.timeline())
    lines = [line.split() for line in text.splitlines() if "checkpointed" in line]
    assert [("first" in line, "second" in line) for line in lines] == [(True, False), (False, True)]
    assert "third" in text
