"""The user's hands: options, the hook before a capture, breadcrumbs, and Sentry being absent."""

from __future__ import annotations

import contextlib
import logging
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import inngest
import pytest
from sentry_sdk.scope import global_event_processors

from inngest_plugins.core import Call, Layer, MissingExtraError, Outcome, Stack
from inngest_plugins.local import LocalEngine
from inngest_plugins.sentry import SentryPlugin

if TYPE_CHECKING:
    from tests.sentry.conftest import MakeShop, Post, Sentry


async def boom(*_: Any) -> None:
    raise ValueError("boom")


async def fine() -> str:
    return "fine"


# ---------------------------------------------------------------- before_capture


@pytest.mark.anyio
async def test_before_capture_edits(sentry: Sentry, shop: MakeShop) -> None:
    """before_capture gets the call, the outcome and the event, and what it returns is sent."""
    seen: list[tuple[str, str | None, bool]] = []

    def edit(call: Call, outcome: Outcome | None, event: Any) -> Any:
        assert outcome is not None
        step = None if outcome.step is None else outcome.step.id
        seen.append((call.run_id, step, outcome.will_retry))
        event["fingerprint"] = ["payments"]
        event["level"] = "fatal"
        return event

    async def body(ctx: Any, step: Any) -> None:
        await step.run("charge", boom)

    sentry.init()
    app = shop(SentryPlugin(before_capture=edit))
    app.function(body, retries=1)
    run = await app.run()
    (event,) = sentry.errors
    assert seen == [(run.id, "charge", False)]
    assert event["fingerprint"] == ["payments"]
    assert event["level"] == "fatal"
    assert event["tags"]["inngest.run.id"] == run.id


@pytest.mark.anyio
async def test_before_capture_drops(sentry: Sentry, shop: MakeShop) -> None:
    """before_capture drops an event by returning None."""
    sentry.init()
    app = shop(SentryPlugin(before_capture=lambda call, outcome, event: None))
    app.function(boom, retries=0)
    run = await app.run()
    assert run.status == "Failed"
    assert sentry.lines() == []


@pytest.mark.anyio
async def test_before_capture_that_raises(
    sentry: Sentry, shop: MakeShop, caplog: pytest.LogCaptureFixture
) -> None:
    """An event that before_capture could not edit is dropped, and that is logged."""

    def broken(call: Call, outcome: Outcome | None, event: Any) -> Any:
        raise RuntimeError("broken")

    sentry.init()
    app = shop(SentryPlugin(before_capture=broken))
    app.function(boom, retries=0)
    run = await app.run()
    assert run.status == "Failed"
    assert sentry.lines() == []
    assert "before_capture raised, the event was dropped" in caplog.messages


@pytest.mark.anyio
async def test_before_capture_that_returns_no_event(
    sentry: Sentry, shop: MakeShop, caplog: pytest.LogCaptureFixture
) -> None:
    """What is no event is not sent in place of one, and that is logged."""
    sentry.init()
    wrong: Any = lambda call, outcome, event: True  # noqa: E731
    app = shop(SentryPlugin(before_capture=wrong))
    app.function(boom, retries=0)
    run = await app.run()
    assert run.status == "Failed"
    assert sentry.lines() == []
    assert any("before_capture returned bool" in message for message in caplog.messages)


# ---------------------------------------------------------------- breadcrumbs


def trail(event: dict[str, Any]) -> list[tuple[str, str]]:
    return [(crumb["level"], crumb["message"]) for crumb in event["breadcrumbs"]["values"]]


@pytest.mark.anyio
async def test_trail_of_steps(sentry: Sentry, shop: MakeShop) -> None:
    """A failure's breadcrumbs tell what the run has done before, in all of its requests."""
    child: list[inngest.Function[Any]] = []

    async def quick(ctx: Any, step: Any) -> str:
        return "done"

    async def body(ctx: Any, step: Any) -> None:
        for _ in range(2):
            await step.run("a", fine)
        await step.send_event("tell", inngest.Event(name="shop/paid"))
        await step.wait_for_event("wait", event="shop/never", timeout=1000)
        await step.invoke("call", function=child[0])
        with contextlib.suppress(inngest.StepError):
            await step.run("extra", boom)
        await step.run("charge", boom)

    sentry.init()
    app = shop(SentryPlugin(caught_step_errors="ignore"))
    child.append(app.function(quick, name="quick", event="shop/quick"))
    app.function(body, retries=0)
    await app.run()
    (event,) = sentry.errors
    assert trail(event) == [
        ("info", "step 'a' done before"),
        ("info", "step 'a' (2. use) done before"),
        ("info", "step 'tell' done before"),
        ("info", "step 'wait' done before"),
        ("info", "step 'call' done before"),
        ("error", "step 'extra' failed before"),
        ("error", "step 'charge' failed with ValueError"),
    ]


@pytest.mark.anyio
async def test_trail_within_a_request(sentry: Sentry, shop: MakeShop, group: Any) -> None:
    """Waits, invokes, sent events and steps leave a breadcrumb in the request that has them."""
    taken: list[tuple[str, str]] = []

    def before_breadcrumb(crumb: dict[str, Any], hint: Any) -> dict[str, Any]:
        taken.append((crumb["category"], crumb["message"]))
        return crumb

    async def quick(ctx: Any, step: Any) -> str:
        return "done"

    child: list[inngest.Function[Any]] = []

    async def body(ctx: Any, step: Any) -> None:
        await step.send_event("tell", [inngest.Event(name="b/b"), inngest.Event(name="a/a")])
        await step.wait_for_event("wait", event="shop/never", timeout=1000)
        await step.invoke("call", function=child[0])

    sentry.init(before_breadcrumb=before_breadcrumb)
    app = shop(SentryPlugin())
    child.append(app.function(quick, name="quick", event="shop/quick"))
    app.function(body)
    async with LocalEngine(app.client, app.functions) as engine:
        await engine.run(inngest.Event(name="shop/order.placed"))
    assert [one for one in taken if "order.placed" not in one[1]] == [
        ("inngest.send", "sent 2 event(s): a/a, b/b"),
        ("inngest.step", "step 'wait' waits for 'shop/never'"),
        ("inngest.step", "step 'call' invokes 'shop-quick'"),
    ]


@pytest.mark.anyio
async def test_trail_of_another_worker(
    sentry: Sentry, async_shop: MakeShop, post: Post, body_of: Any
) -> None:
    """A worker that has never run a step calls it by the id that the user gave it."""

    async def body(ctx: Any, step: Any) -> None:
        await step.run("a", fine)
        raise ValueError("boom")

    sentry.init()
    app = async_shop(SentryPlugin())
    app.function(body)
    hashed = "86f7e437faa5a7fce15d1ddcb9eaeaea377667b8"
    await post(app.asgi(), body_of("run-1", steps={hashed: {"data": 1}}))
    assert trail(sentry.errors[0]) == [("info", "step 'a' done before")]


# ---------------------------------------------------------------- Sentry is not there


@pytest.mark.anyio
async def test_not_initialised(
    sentry: Sentry, shop: MakeShop, caplog: pytest.LogCaptureFixture
) -> None:
    """Without sentry_sdk.init the plugin warns once, and runs go on as ever."""
    app = shop(SentryPlugin())
    app.client.logger = logging.getLogger("shop")

    async def body(ctx: Any, step: Any) -> str:
        await step.run("a", fine)
        await step.send_event("tell", inngest.Event(name="shop/paid"))
        await step.wait_for_event("wait", event="shop/never", timeout=1000)
        return "done"

    app.function(body)
    run = await app.run()
    assert run.output == "done"
    warnings = [r.getMessage() for r in caplog.records if "SentryPlugin" in r.getMessage()]
    assert warnings == [
        (
            "SentryPlugin does nothing: Sentry is not initialised. Call sentry_sdk.init(...) "
            "before the first request."
        )
    ]


@pytest.mark.anyio
async def test_initialised_late(sentry: Sentry, async_shop: MakeShop) -> None:
    """An app may initialise Sentry after it has made its client and plugin."""
    app = async_shop(SentryPlugin())
    app.function(boom, retries=0)
    sentry.init()
    await app.run()
    assert len(sentry.errors) == 1


def test_missing_extra() -> None:
    """Without sentry-sdk the import says which extra to install."""
    code = (
        "import sys; sys.modules['sentry_sdk'] = None\n"
        "try:\n    import inngest_plugins.sentry\n"
        "except ImportError as err:\n    print(err)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert 'pip install "inngest-plugins[sentry]"' in done.stdout


def test_missing_extra_at_construction(monkeypatch: pytest.MonkeyPatch) -> None:
    """The plugin checks for its extra when it is made, too."""
    monkeypatch.setitem(sys.modules, "sentry_sdk", None)
    with pytest.raises(MissingExtraError, match=r"inngest-plugins\[sentry\]"):
        SentryPlugin()


# ---------------------------------------------------------------- options


async def asynchronous(call: Call, outcome: Outcome | None, event: Any) -> Any:
    return event


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"capture": "all"}, ValueError, "capture='all'"),
        ({"step_errors": "ignore"}, ValueError, "step_errors='ignore'"),
        ({"caught_step_errors": "error"}, ValueError, "use one of 'warning', 'ignore'"),
        ({"send_decrypted": ("everything",)}, ValueError, "'exception_values'"),
        ({"send_decrypted": "payloads"}, TypeError, r"\('payloads',\)"),
        ({"send_decrypted": None}, TypeError, r"send_decrypted=.*\('payloads',\)"),
        (
            {"send_payloads": "false"},
            TypeError,
            r"send_payloads=.* is True or False, not str",
        ),
        ({"propagate": "false"}, TypeError, r"propagate=\.\.\.\) is True or False, not str"),
        ({"propagate": None}, TypeError, r"propagate=\.\.\.\) is True or False, not NoneType"),
        ({"crons": "off"}, TypeError, r"crons=\.\.\.\) is True or False, not str"),
        ({"crons": 1}, TypeError, r"crons=\.\.\.\) is True or False, not int"),
        ({"flush": "false"}, TypeError, r"flush=\.\.\.\) is True, False or None, not str"),
        ({"before_capture": "drop"}, TypeError, "takes a function .* not str"),
        ({"before_capture": asynchronous}, TypeError, "make it a plain def"),
        ({"before_capture": lambda event: event}, TypeError, "and this one: too many positional"),
        ({"flush_timeout": "2"}, ValueError, "a number of seconds above 0"),
        ({"flush_timeout": 0}, ValueError, "seconds above 0"),
        (
            {"flush_timeout": float("nan")},
            ValueError,
            r"flush_timeout=\.\.\..*seconds above 0, not nan",
        ),
        (
            {"flush_timeout": float("inf")},
            ValueError,
            r"flush_timeout=\.\.\..*seconds above 0, not inf",
        ),
        ({"flush_timeout": True}, ValueError, "seconds above 0"),
    ],
)
def test_unknown_options(options: dict[str, Any], error: type[Exception], message: str) -> None:
    """An option with a value that it cannot have is refused, with what it may be."""
    with pytest.raises(error, match=message):
        SentryPlugin(**options)


def test_place_in_the_stack(sentry: Sentry) -> None:
    """The plugin observes: it stands outermost, and its own failures leave the run alone."""
    plugin = SentryPlugin()
    assert plugin.layer is Layer.OBSERVE
    assert plugin.fails_open()
    assert plugin.name == "sentry"
    assert Stack(plugin).plugins == (plugin,)


@pytest.mark.anyio
async def test_one_plugin_for_several_clients(sentry: Sentry, async_shop: MakeShop) -> None:
    """One plugin object serves several clients, and listens to the SDK's logs only once."""
    sentry.init()
    before = len(global_event_processors)
    plugin = SentryPlugin()
    for _ in range(2):
        app = async_shop(plugin)
        app.function(boom, retries=0)
        await app.run()
    assert len(sentry.errors) == 2
    assert len(global_event_processors) == before + 1


# ---------------------------------------------------------------- two plugin objects


@pytest.mark.anyio
@pytest.mark.parametrize("where", ["function", "step"])
async def test_a_functions_plugin_replaces_the_clients(
    sentry: Sentry, shop: MakeShop, where: str
) -> None:
    """A default on the client and another one on a function: one event, by the function's."""

    def named(name: str) -> SentryPlugin:
        def edit(call: Call, outcome: Outcome | None, event: Any) -> Any:
            event["fingerprint"] = [name]
            return event

        return SentryPlugin(before_capture=edit)

    async def body(ctx: Any, step: Any) -> None:
        await (step.run("charge", boom) if where == "step" else boom())

    sentry.init(traces_sample_rate=1.0)
    app = shop(named("client"))
    app.function(body, retries=1, middleware=[named("function")])
    app.function(body, name="other", event="shop/other", retries=1)
    run = await app.run()
    (event,) = sentry.errors
    assert event["fingerprint"] == ["function"]
    assert len(sentry.transactions) == len(run.requests)
    sentry.clear()
    await app.run(name="shop/other")
    (event,) = sentry.errors
    assert event["fingerprint"] == ["client"]
