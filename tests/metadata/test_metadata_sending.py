"""Sending to the engine: when, how often, and what happens when it does not work."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import httpx
import inngest
import pytest
from tests.core.core_protocol import synchronous

from inngest_plugins.checkpoint import CheckpointPlugin
from inngest_plugins.core import Call, Hooks, Layer
from inngest_plugins.metadata import (
    Limits,
    MetadataClient,
    MetadataKeyError,
    MetadataSendError,
    MetadataTargetError,
    metadata,
)

if TYPE_CHECKING:
    from tests.metadata.conftest import App

pytestmark = pytest.mark.anyio

DEFAULT = "userland.default"
OTHER_RUN = "01J00000000000000000000000"


def merged(app: App) -> list[tuple[str, Any]]:
    """Return the merged values of each request, with the step or "run" they were for."""
    return [
        (sent.target.get("step_id", "run"), entry["values"])
        for sent in app.wire.sent
        for entry in sent.entries
        if entry["op"] == "merge"
    ]


def failing(error: Exception | httpx.Response) -> Any:
    """Return a fault that fails every metadata request."""

    def fault(request: httpx.Request) -> httpx.Response | None:
        if not request.url.path.endswith("/metadata"):
            return None
        if isinstance(error, Exception):
            raise error
        return error

    return fault


async def test_each_scope_is_one_request_with_what_is_new(app: App) -> None:
    """A request of the run sends each scope at most once, and nothing that a replay repeats."""

    @app.function()
    async def fn(ctx: inngest.Context) -> None:
        metadata.set("a", 1).set("b", 1)

        async def step() -> None:
            for number in range(100):
                metadata.set("n", number).set("m", number)
            metadata.run().set("b", 2).delete("gone")

        await ctx.step.run("s", step)
        metadata.set("c", 3)
        await ctx.step.sleep("nap", 1000)

    await app.run()
    assert [(sent.target, sent.entries) for sent in app.wire.sent] == [
        (
            {},
            [
                {"kind": DEFAULT, "op": "delete", "values": {"gone": None}},
                {"kind": DEFAULT, "op": "merge", "values": {"a": 1, "b": 2}},
            ],
        ),
        ({"step_id": "s"}, [{"kind": DEFAULT, "op": "merge", "values": {"n": 99, "m": 99}}]),
        ({}, [{"kind": DEFAULT, "op": "merge", "values": {"c": 3}}]),
    ]
    assert [sent.rode for sent in app.wire.sent] == [True, True, False]


@pytest.mark.parametrize("buffer", [1, 3])
@pytest.mark.parametrize("sync", [False, True])
async def test_a_delivered_step_makes_no_request_of_its_own(
    make_app: type[App], buffer: int, sync: bool
) -> None:
    """Under a delivery the operations carry what is new; what they cannot carry is sent."""
    app = make_app(CheckpointPlugin(buffer=buffer))

    def work(name: str) -> None:
        metadata.set("last", name).run().set("phase", name)
        metadata.run(OTHER_RUN).increment("done")
        if name == "c":
            metadata.step("a").set("seen by", "c")

    async def body(ctx: Any) -> Any:
        for name in "abcd":
            metadata.set("next", name)
            await ctx.step.run(name, work, name)
        metadata.set("next", None)
        return metadata.current()

    async def fn(ctx: inngest.Context) -> Any:
        return await body(ctx)

    app.function()(synchronous(body) if sync else fn)
    run = await app.run()
    assert run.status == "Completed", run.error
    assert len(run.requests) == 1
    assert run.output == {"next": None, "last": "d", "phase": "d", "seen by": "c"}
    assert run.metadata["run"][DEFAULT] == {"next": None, "phase": "d"}
    assert run.metadata["a"][DEFAULT] == {"last": "a", "seen by": "c"}
    own = [sent for sent in app.wire.sent if sent.run_id == run.id]
    assert [(sent.target, sent.entries[0]["values"]) for sent in own if not sent.rode] == [
        ({"step_id": "a"}, {"seen by": "c"}),
        ({}, {"next": None}),
    ]
    assert sum(
        entry["values"]["done"]
        for sent in app.wire.sent
        for entry in sent.entries
        if sent.run_id == OTHER_RUN
    ) == len("abcd")


async def test_an_operation_that_waits_brings_no_older_values(make_app: type[App]) -> None:
    """What is flushed while steps wait for their delivery is sent again with a later step."""
    app = make_app(CheckpointPlugin(buffer=2))

    @app.function()
    async def fn(ctx: inngest.Context) -> None:
        async def work(name: str) -> None:
            metadata.run().set("by", name)

        async def nothing() -> None:
            pass

        await ctx.step.run("a", work, "a")
        metadata.set("by", "the body")
        await metadata.flush()
        await ctx.step.run("b", nothing)

    run = await app.run()
    assert len(run.requests) == 1
    assert run.metadata["run"][DEFAULT] == {"by": "the body"}


async def test_a_hook_s_last_word_rides_too(make_app: type[App]) -> None:
    """What a hook records after the step's outcome wins over what the step recorded."""
    hooks = Hooks("late", layer=Layer.OBSERVE, fail_open=False)

    @hooks.before_response
    def last(call: Call) -> None:
        metadata.set("by", "hook")

    app = make_app(hooks)

    @app.function()
    async def fn(ctx: inngest.Context) -> None:
        async def work() -> None:
            metadata.run().set("by", "step")

        await ctx.step.run("a", work)
        await ctx.step.sleep("nap", 1000)

    async with app.engine() as engine:
        await engine.send(inngest.Event(name="fn"))
        await engine.settle()
    assert [sent.entries[0]["values"] for sent in app.wire.sent if sent.rode] == [{"by": "hook"}]


async def test_kinds_of_one_scope_share_a_request(app: App) -> None:
    """Several kinds of one scope are entries of one request."""

    @app.function()
    async def fn(ctx: inngest.Context) -> None:
        metadata.set("a", 1).set("a", 2, kind="x").run(kind="y").set("a", 3)

    await app.run()
    (sent,) = app.wire.sent
    assert [entry["kind"] for entry in sent.entries] == [DEFAULT, "userland.x", "userland.y"]


@pytest.mark.parametrize(
    "error", [httpx.ConnectError("no route"), httpx.ReadTimeout("slow"), httpx.Response(503)]
)
async def test_an_unreachable_engine_does_not_fail_the_run(
    app: App, caplog: pytest.LogCaptureFixture, error: Any
) -> None:
    """What could not be sent is sent with the next flush, with the values of then; logged once."""
    app.wire.fault = failing(error)

    @app.function()
    async def fn(ctx: inngest.Context) -> Any:
        metadata.set("early", 1).set("changes", 1)

        async def step(number: int) -> None:
            metadata.set("number", number)
            if number == 1:
                app.wire.fault = None

        await ctx.step.sleep("nap", 1000)
        await ctx.step.run("s0", step, 0)
        metadata.set("changes", 2)
        await ctx.step.sleep("another nap", 1000)
        await ctx.step.run("s1", step, 1)
        metadata.set("changes", 3)
        return metadata.current()

    with caplog.at_level(logging.WARNING, "inngest_plugins.metadata"):
        run = await app.run()
    assert run.output == {"early": 1, "changes": 3, "number": 1}
    assert run.metadata["run"][DEFAULT] == {"early": 1, "changes": 3}
    assert run.metadata["s0"][DEFAULT] == {"number": 0}
    assert run.metadata["s1"][DEFAULT] == {"number": 1}
    warnings = [record for record in caplog.records if "was not sent" in record.message]
    assert len(warnings) == 1


async def test_the_next_run_sends_what_the_last_request_of_another_could_not(app: App) -> None:
    """What the end of a run could not send goes out with the next flush of any run."""
    app.wire.fault = failing(httpx.ConnectError("no route"))

    @app.function()
    async def fn(ctx: inngest.Context) -> None:
        metadata.set("who", ctx.event.data["who"])

    async with app.engine() as engine:
        first = await engine.run(inngest.Event(name="fn", data={"who": 1}))
        assert first.status == "Completed"
        assert first.metadata == {}
        app.wire.fault = None
        second = await engine.run(inngest.Event(name="fn", data={"who": 2}))
        assert first.metadata["run"][DEFAULT] == {"who": 1}
        assert second.metadata["run"][DEFAULT] == {"who": 2}


async def test_what_the_engine_refuses_is_not_sent_again(
    app: App, caplog: pytest.LogCaptureFixture
) -> None:
    """A refusal is logged with the engine's reason, and the run is not affected."""
    app.wire.fault = failing(
        httpx.Response(403, json={"error": "Metadata is not enabled for this account"})
    )

    @app.function()
    async def fn(ctx: inngest.Context) -> Any:
        metadata.set("a", 1)
        await ctx.step.sleep("nap", 1000)
        app.wire.fault = None
        metadata.set("b", 1)

    run = await app.run()
    assert run.status == "Completed"
    assert run.metadata["run"][DEFAULT] == {"b": 1}
    assert "403: Metadata is not enabled" in caplog.text


async def test_a_refusal_without_a_reason_is_reported_too(
    app: App, caplog: pytest.LogCaptureFixture
) -> None:
    """An answer that is no JSON object does not hide the failure."""
    app.wire.fault = failing(httpx.Response(404, text="nothing here"))

    @app.function()
    async def fn(ctx: inngest.Context) -> None:
        metadata.set("a", 1)

    assert (await app.run()).status == "Completed"
    assert "answered 404" in caplog.text


async def test_flush_sends_at_once_and_says_when_it_could_not(app: App) -> None:
    """`flush` returns when the engine has the metadata, and raises when it does not."""
    shown: list[Any] = []

    @app.function()
    async def fn(ctx: inngest.Context) -> Any:
        async def step() -> None:
            metadata.set("half", True).run().set("phase", 1)
            await metadata.flush()
            shown.append(merged(app))
            metadata.set("whole", True)

        metadata.set("begun", True)
        await metadata.flush()
        await ctx.step.run("s", step)
        app.wire.fault = failing(httpx.ConnectError("no route"))
        metadata.set("end", True)
        try:
            await metadata.flush()
        except MetadataSendError as err:
            return str(err)
        finally:
            app.wire.fault = None
        return None

    run = await app.run()
    assert shown == [[("run", {"begun": True}), ("s", {"half": True}), ("run", {"phase": 1})]]
    assert merged(app)[3:] == [("s", {"whole": True}), ("run", {"end": True})]
    assert "ConnectError" in run.output
    assert run.id in run.output
    assert run.metadata["run"][DEFAULT] == {"begun": True, "phase": 1, "end": True}


async def test_sync_functions_flush_too(app: App) -> None:
    """`flush_sync` sends at once from a sync function and its steps."""

    @app.function()
    def fn(ctx: inngest.ContextSync) -> Any:
        def step() -> int:
            metadata.set("half", True)
            metadata.flush_sync()
            return len(app.wire.sent)

        return ctx.step.run("s", step)

    assert (await app.run()).output == 1


async def test_a_failed_attempt_takes_back_what_it_flushed(app: App) -> None:
    """What was flushed before the attempt failed ends up at that attempt, and nowhere else."""

    @app.function()
    async def fn(ctx: inngest.Context) -> Any:
        metadata.set("phase", "body")

        async def step() -> None:
            metadata.set(f"try-{ctx.attempt}", True).run().set("phase", f"try-{ctx.attempt}")
            await metadata.flush()
            if ctx.attempt == 0:
                raise ValueError("again")

        await ctx.step.run("s", step)
        return metadata.current()

    run = await app.run()
    assert run.output == {"phase": "try-1", "try-1": True}
    assert run.metadata["s@0"][DEFAULT] == {"try-0": True}
    assert run.metadata["s"][DEFAULT] == {"try-1": True}
    assert run.metadata["run"][DEFAULT] == {"phase": "try-1"}


async def test_other_limits_can_be_set(make_app: type[App]) -> None:
    """A self-hosted server's limits replace the built-in ones."""
    app = make_app(limits=Limits(scope_bytes=10, key_bytes=3))

    @app.function(retries=0)
    async def fn(ctx: inngest.Context) -> None:
        with pytest.raises(MetadataKeyError):
            metadata.set("long", 1)
        metadata.set("a", "123456789")

    run = await app.run()
    assert run.error is not None
    assert run.error["name"] == "MetadataLimitError"


# ------------------------------------------------------------ other runs


async def test_children_increment_their_parent_and_lose_nothing(app: App) -> None:
    """Fifty parallel children, each with a failing first attempt, count exactly fifty."""

    @app.function("child")
    async def child(ctx: inngest.Context) -> None:
        async def work() -> None:
            metadata.parent.increment("done").set("last", ctx.run_id)
            metadata.root.increment("tenths", 0.1)
            if ctx.attempt == 0:
                raise ValueError("again")

        await ctx.step.run("work", work)

    @app.function("parent")
    async def parent(ctx: inngest.Context) -> Any:
        metadata.set("total", 50)

        def start(number: int) -> Any:
            return lambda: ctx.step.invoke(f"child-{number}", function=child, data={"n": number})

        await ctx.group.parallel(tuple(start(number) for number in range(50)))
        return metadata.current()

    run = await app.run("parent")
    assert run.output == {"total": 50}
    shown = run.metadata["run"][DEFAULT]
    assert (shown["total"], shown["done"]) == (50, 50)
    assert shown["tenths"] == pytest.approx(5)


async def test_the_link_to_the_parent_is_hidden_from_the_handler(app: App) -> None:
    """A child's event data is what the parent passed, and parent and root are told apart."""

    @app.function("grandchild")
    async def grandchild(ctx: inngest.Context) -> Any:
        metadata.parent.set("from", "grandchild")
        metadata.root.set("from", "grandchild").step("start").set("seen", True)
        return [dict(ctx.event.data), metadata.has_parent]

    @app.function("child")
    async def child(ctx: inngest.Context) -> Any:
        return await ctx.step.invoke("next", function=grandchild, data={"b": 2})

    @app.function("parent")
    async def parent(ctx: inngest.Context) -> Any:
        return await ctx.step.invoke("start", function=child, data={"a": 1})

    async with app.engine() as engine:
        run = await engine.run(inngest.Event(name="parent"), function="parent")
        child_run = next(other for other in engine.runs if other.function_id == "app-child")
    data, has_parent = run.output
    assert has_parent is True
    assert {key: value for key, value in data.items() if key != "_inngest"} == {"b": 2}
    assert child_run.metadata["run"][DEFAULT] == {"from": "grandchild"}
    assert run.metadata["run"][DEFAULT] == {"from": "grandchild"}
    assert run.metadata["start"][DEFAULT] == {"seen": True}


@pytest.mark.parametrize("link", [{}, {"parent": "../../x", "root": 7}, "x"])
async def test_a_forged_link_leads_nowhere(make_app: type[App], link: Any) -> None:
    """A link that holds no run ids is no link, so nothing unchecked reaches a URL."""
    app = make_app()

    @app.function()
    async def fn(ctx: inngest.Context) -> Any:
        return metadata.has_parent

    run = await app.run("fn", _inngest_plugins={"metadata": link})
    assert run.output is False


async def test_increments_of_the_body_are_sent_once(app: App) -> None:
    """Replays, failed attempts and targeted requests of a group repeat no increment."""

    @app.function()
    async def fn(ctx: inngest.Context) -> None:
        other = metadata.run(OTHER_RUN)
        other.increment("start")

        async def step() -> None:
            if ctx.attempt == 0:
                raise ValueError("again")

        await ctx.step.run("a", step)
        other.increment("middle")

        def branch(number: int) -> Any:
            return lambda: ctx.step.run(f"p{number}", step)

        await ctx.group.parallel(tuple(branch(number) for number in range(3)))
        other.increment("end")
        if ctx.attempt == 0:
            raise ValueError("once more")

    await app.run()
    adds = [
        entry["values"]
        for sent in app.wire.sent
        for entry in sent.entries
        if sent.run_id == OTHER_RUN and entry["op"] == "add"
    ]
    assert adds == [{"start": 1}, {"middle": 1}, {"end": 1}]


async def test_flushing_holds_back_increments_of_others(app: App) -> None:
    """An attempt that flushes and then fails has not counted at another run."""

    @app.function()
    async def fn(ctx: inngest.Context) -> None:
        metadata.run(OTHER_RUN).increment("body")

        async def step() -> None:
            metadata.run(OTHER_RUN).increment("n").set("state", "working")
            await metadata.flush()
            if ctx.attempt == 0:
                raise ValueError("again")

        await ctx.step.run("s", step)

    await app.run()
    adds = [
        entry["values"] for sent in app.wire.sent for entry in sent.entries if entry["op"] == "add"
    ]
    assert adds == [{"body": 1, "n": 1}]


async def test_an_increment_that_may_have_arrived_is_not_sent_again(app: App) -> None:
    """A lost answer loses at most that increment; a refused connection loses none."""

    @app.function()
    async def fn(ctx: inngest.Context) -> None:
        metadata.run(OTHER_RUN).increment("n").set("state", ctx.event.data["state"])

    def adds() -> list[Any]:
        return [e["values"] for sent in app.wire.sent for e in sent.entries if e["op"] == "add"]

    async with app.engine() as engine:
        app.wire.fault = failing(httpx.ReadTimeout("slow"))
        await engine.run(inngest.Event(name="fn", data={"state": 1}))
        app.wire.fault = None
        await engine.run(inngest.Event(name="fn", data={"state": 2}))
        assert adds() == [{"n": 1}]
        app.wire.fault = failing(httpx.ConnectError("no route"))
        await engine.run(inngest.Event(name="fn", data={"state": 3}))
        app.wire.fault = failing(httpx.Response(500))
        await engine.run(inngest.Event(name="fn", data={"state": 4}))
        app.wire.fault = None
        await engine.run(inngest.Event(name="fn", data={"state": 5}))
        assert adds() == [{"n": 1}, {"n": 3}]


async def test_the_own_run_by_its_id_is_the_own_run(app: App) -> None:
    """`run(run_id)` with the current id can do all that `run()` can."""

    @app.function()
    async def fn(ctx: inngest.Context) -> Any:
        metadata.run(ctx.run_id).append("list", 1)
        with pytest.raises(MetadataTargetError, match="race"):
            metadata.run(OTHER_RUN).append("list", 1)
        return metadata.get("list")

    assert (await app.run()).output == [1]


async def test_a_client_writes_to_any_run_from_outside(app: App) -> None:
    """`MetadataClient` sends chained writes to a run and its steps, async and sync."""

    @app.function()
    async def fn(ctx: inngest.Context) -> None:
        metadata.set("n", 1)

    async with app.engine() as engine:
        run = await engine.run(inngest.Event(name="fn"))
        runs = MetadataClient(app.client)
        pending = runs.run(run.id).set("reviewed", True).increment("n", 2)
        pending.step("s", 1, kind="review").update({"note": "ok"})
        await pending.send()
        assert run.metadata["run"][DEFAULT] == {"n": 3, "reviewed": True}
        assert run.metadata["s:1"]["userland.review"] == {"note": "ok"}
        await pending.send()
        assert run.metadata["run"][DEFAULT]["n"] == 3
        import anyio.to_thread

        await anyio.to_thread.run_sync(runs.run(run.id).replace({"x": 1}).send_sync)
        assert run.metadata["run"][DEFAULT] == {"x": 1}
        with pytest.raises(MetadataKeyError, match="ULID"):
            runs.run("nonsense")
        with pytest.raises(MetadataKeyError, match="bytes"):
            runs.run(run.id).replace({"k" * 300: 1})


async def test_a_client_says_what_it_could_not_send_and_keeps_it(app: App) -> None:
    """`send` raises, and sends the same again when it is called again."""

    @app.function()
    async def fn(ctx: inngest.Context) -> None:
        pass

    async with app.engine() as engine:
        run = await engine.run(inngest.Event(name="fn"))
        pending = MetadataClient(app.client).run(run.id).set("a", 1).increment("n")
        app.wire.fault = failing(httpx.ConnectError("no route"))
        with pytest.raises(MetadataSendError, match="ConnectError"):
            await pending.send()
        assert run.metadata == {}
        app.wire.fault = None
        await pending.send()
        assert run.metadata["run"][DEFAULT] == {"a": 1, "n": 1}


async def test_a_cancelled_request_sends_nothing(app: App) -> None:
    """When the request is cancelled the engine asks again, so nothing is sent for it."""
    import anyio

    started = anyio.Event()

    @app.function()
    async def fn(ctx: inngest.Context) -> None:
        metadata.set("a", 1)
        started.set()
        await anyio.sleep(60)

    async with app.engine() as engine:
        await engine.send(inngest.Event(name="fn"))
        await started.wait()
    assert app.wire.sent == []


async def test_a_plugin_that_breaks_the_request_lets_no_increment_count(
    make_app: type[App],
) -> None:
    """When another plugin fails the answer, the run's code runs again, and counts then."""
    broken: list[int] = []
    hooks = Hooks("breaking", fail_open=False)

    @hooks.before_response
    def break_once(call: Call) -> None:
        if not broken:
            broken.append(1)
            raise RuntimeError("no answer")

    app = make_app(hooks)

    @app.function()
    async def fn(ctx: inngest.Context) -> None:
        metadata.run(OTHER_RUN).increment("n")

    await app.run()
    adds = [e["values"] for sent in app.wire.sent for e in sent.entries if e["op"] == "add"]
    assert adds == [{"n": 1}]


async def test_a_flush_waits_for_subscribers_messages_too(make_app: type[App]) -> None:
    """After `flush` everything recorded so far has been published."""
    app = make_app(realtime=True)

    @app.function()
    async def fn(ctx: inngest.Context) -> Any:
        metadata.set("n", 1)
        await metadata.flush()
        return [data["kinds"]["default"] for _, _, data in app.wire.published][-1]

    assert (await app.run()).output == {"n": 1}


async def test_another_run_s_metadata_can_be_replaced(app: App) -> None:
    """`replace` and `delete` reach another run as the engine's set and delete."""

    @app.function()
    async def fn(ctx: inngest.Context) -> None:
        metadata.run(OTHER_RUN).set("a", 1).replace({"b": 1}).increment("b").delete("c")
        metadata.run(OTHER_RUN, kind="x").delete("d")

    await app.run()
    (sent,) = app.wire.sent
    assert sent.entries == [
        {"kind": DEFAULT, "op": "set", "values": {"b": 2}},
        {"kind": "userland.x", "op": "delete", "values": {"d": None}},
    ]


async def test_a_step_without_an_id_is_shown_with_the_run(
    app: App, caplog: pytest.LogCaptureFixture
) -> None:
    """The engine has no address for a step whose id is empty; nothing of it is lost or refused."""
    left = 1

    @app.function(retries=1)
    async def fn(ctx: inngest.Context) -> Any:
        metadata.set("of", "the run")

        async def first() -> None:
            nonlocal left
            metadata.set("number", 1).increment("tries")
            if left:
                left -= 1
                raise ValueError("again")

        async def second() -> None:
            metadata.set("number", 2)

        await ctx.step.run("", first)
        await ctx.step.run("", second)
        return [metadata.get("number"), metadata.step("").get("number")]

    run = await app.run()
    assert run.output == [2, 1]
    found = dict(run.metadata)
    # Older releases of the SDK call the second one ":1", which is an address.
    addressed = found.pop(":1", None)
    assert addressed in (None, {DEFAULT: {"number": 2}})
    assert found == {
        "run": {
            DEFAULT: {"of": "the run"},
            f"{DEFAULT}.unnamed-step@0": {"number": 1, "tries": 1},
            f"{DEFAULT}.unnamed-step": {"number": 1, "tries": 1},
            **({f"{DEFAULT}.unnamed-step:1": {"number": 2}} if addressed is None else {}),
        }
    }
    assert [record for record in caplog.records if record.levelname != "INFO"] == []
