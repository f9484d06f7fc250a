"""What is reported when: for each way to fail, the exact list of what Sentry receives."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import inngest
import pytest
import sentry_sdk

from inngest_plugins.core import Hooks, Layer
from inngest_plugins.local import LocalEngine, Run
from inngest_plugins.sentry import SentryPlugin
from inngest_plugins.sentry.events.step_failures import StepFailure, StepFailures

if TYPE_CHECKING:
    from tests.bodies import Body
    from tests.sentry.conftest import MakeShop, Sentry

pytestmark = pytest.mark.anyio
RETRIES = pytest.mark.parametrize("retries", [0, 1, 3])


async def boom(*_: Any) -> None:
    try:
        raise KeyError("root")
    except KeyError as root:
        raise ValueError("boom") from root


async def fine() -> str:
    return "fine"


def raising(error: Exception) -> Any:
    async def handler() -> None:
        raise error

    return handler


async def played(
    sentry: Sentry,
    shop: MakeShop,
    body: Body,
    *,
    retries: int,
    on_failure: Body | None = None,
    **options: Any,
) -> Run:
    """Run a function to its end under the plugin with these options."""
    sentry.init()
    app = shop(SentryPlugin(**options))
    app.function(body, retries=retries, on_failure=on_failure)
    return await app.run()


@RETRIES
async def test_function_error(sentry: Sentry, shop: MakeShop, retries: int) -> None:
    """A function's error is reported once, on its final attempt."""
    run = await played(sentry, shop, boom, retries=retries)
    assert run.status == "Failed"
    assert sentry.lines() == [f"error ValueError(boom) attempt={retries} unhandled"]


@RETRIES
async def test_step_error(sentry: Sentry, shop: MakeShop, retries: int) -> None:
    """A step's final failure is reported once, and not again when the function passes it on."""

    async def body(ctx: Any, step: Any) -> None:
        await step.run("fine", fine)
        await step.run("charge", boom)

    run = await played(sentry, shop, body, retries=retries)
    assert run.status == "Failed"
    assert sentry.lines() == [f"error ValueError(boom) step=charge attempt={retries} unhandled"]


async def test_step_error_keeps_exception_cause_and_traceback(
    sentry: Sentry, shop: MakeShop
) -> None:
    """The report holds the exception as it was raised, with its cause and its frames."""

    async def body(ctx: Any, step: Any) -> None:
        await step.run("charge", boom)

    await played(sentry, shop, body, retries=0)
    (event,) = sentry.errors
    cause, error = event["exception"]["values"]
    assert (cause["type"], cause["value"]) == ("KeyError", "'root'")
    assert (error["type"], error["value"]) == ("ValueError", "boom")
    assert error["stacktrace"]["frames"][-1]["function"] == "boom"
    assert error["mechanism"]["type"] == "inngest"


@RETRIES
async def test_caught_step_error(sentry: Sentry, shop: MakeShop, retries: int) -> None:
    """A step's failure that the function catches is reported once, as a warning."""

    async def body(ctx: Any, step: Any) -> str:
        try:
            await step.run("charge", boom)
        except inngest.StepError:
            await step.run("fine", fine)
        return "survived"

    run = await played(sentry, shop, body, retries=retries)
    assert run.output == "survived"
    assert sentry.lines() == [f"warning ValueError(boom) step=charge attempt={retries}"]


async def test_caught_step_error_ignored(sentry: Sentry, shop: MakeShop) -> None:
    """With caught_step_errors="ignore" a failure that the function catches is not reported."""

    async def body(ctx: Any, step: Any) -> str:
        try:
            await step.run("charge", boom)
        except Exception:
            return "survived"
        return "unreachable"

    run = await played(sentry, shop, body, retries=1, caught_step_errors="ignore")
    assert run.output == "survived"
    assert sentry.lines() == []


async def test_step_error_reraised_by_a_handler(sentry: Sentry, shop: MakeShop) -> None:
    """A handler that raises again, plainly or in its own words, does not make a second event."""

    async def plainly(ctx: Any, step: Any) -> None:
        try:
            await step.run("charge", boom)
        except inngest.StepError:
            await step.run("fine", fine)
            raise

    async def in_its_words(ctx: Any, step: Any) -> None:
        try:
            await step.run("charge", boom)
        except inngest.StepError as err:
            raise RuntimeError("order failed") from err

    sentry.init()
    for body in (plainly, in_its_words):
        app = shop(SentryPlugin())
        app.function(body, retries=0)
        run = await app.run()
        assert run.status == "Failed"
        assert sentry.lines() == ["error ValueError(boom) step=charge attempt=0 unhandled"]
        sentry.clear()


async def test_step_error_that_escapes_a_handler(sentry: Sentry, shop: MakeShop) -> None:
    """A failure that fails the function after all is reported as an error, whoever raised it."""

    def give_up(err: Exception) -> None:
        raise err

    async def body(ctx: Any, step: Any) -> None:
        try:
            await step.run("charge", boom)
        except inngest.StepError as err:
            give_up(err)

    run = await played(sentry, shop, body, retries=0, caught_step_errors="ignore")
    assert run.status == "Failed"
    assert sentry.lines() == ["error ValueError(boom) step=charge attempt=0 unhandled"]


@RETRIES
@pytest.mark.parametrize("catches", [True, False], ids=["caught", "passed on"])
async def test_step_errors_at_once(
    sentry: Sentry, shop: MakeShop, retries: int, catches: bool
) -> None:
    """With step_errors="immediate" a failure is reported where it happens, whoever catches it."""
    seen: list[int] = []

    async def body(ctx: Any, step: Any) -> None:
        try:
            await step.run("charge", boom)
        except inngest.StepError:
            seen.append(len(sentry.errors))
            if not catches:
                raise

    run = await played(sentry, shop, body, retries=retries, step_errors="immediate")
    assert run.status == ("Completed" if catches else "Failed")
    assert sentry.lines() == [f"error ValueError(boom) step=charge attempt={retries}"]
    assert seen == [1]


async def test_which_of_two_failures_was_caught(sentry: Sentry, shop: MakeShop) -> None:
    """Of two failed steps one is a warning, and the one that ends the run is the error."""

    async def worse() -> None:
        raise LookupError("worse")

    async def body(ctx: Any, step: Any) -> None:
        try:
            await step.run("charge", boom)
        except inngest.StepError:
            await step.run("refund", worse)

    await played(sentry, shop, body, retries=0)
    assert sentry.lines() == [
        "warning ValueError(boom) step=charge attempt=0",
        "error LookupError(worse) step=refund attempt=0 unhandled",
    ]


async def test_failures_that_read_the_same(sentry: Sentry, shop: MakeShop) -> None:
    """Which failure ends the run is known by the exception, not by its text."""

    async def body(ctx: Any, step: Any) -> None:
        first = Exception()
        try:
            await step.run("charge", boom)
        except inngest.StepError as err:
            first = err
        try:
            await step.run("refund", boom)
        except inngest.StepError:
            raise first from None

    await played(sentry, shop, body, retries=0)
    assert sorted(sentry.lines()) == [
        "error ValueError(boom) step=charge attempt=0 unhandled",
        "warning ValueError(boom) step=refund attempt=0",
    ]


async def test_a_step_error_of_the_functions_own(sentry: Sentry, shop: MakeShop) -> None:
    """A `StepError` that the function makes itself is a new error, whatever it says."""

    async def body(ctx: Any, step: Any) -> None:
        mine = Exception()
        try:
            await step.run("charge", boom)
        except inngest.StepError as err:
            mine = inngest.StepError(err.message, err.name, err.stack)
        raise mine

    await played(sentry, shop, body, retries=0)
    assert sentry.lines() == [
        "warning ValueError(boom) step=charge attempt=0",
        "error StepError(boom) attempt=0 unhandled",
    ]


async def test_what_the_failing_request_knew(sentry: Sentry, shop: MakeShop) -> None:
    """An event that waits for the run's end keeps tags and breadcrumbs of where it happened."""

    async def charge() -> None:
        sentry_sdk.set_tag("order", "42")
        sentry_sdk.add_breadcrumb(message="asked the bank")
        raise ValueError("boom")

    async def body(ctx: Any, step: Any) -> None:
        try:
            await step.run("charge", charge)
        except inngest.StepError:
            sentry_sdk.add_breadcrumb(message="later")

    await played(sentry, shop, body, retries=1)
    (event,) = sentry.errors
    assert event["level"] == "warning"
    assert event["tags"]["order"] == "42"
    assert event["tags"]["inngest.attempt"] == "1"
    assert event["contexts"]["inngest"]["step"]["id"] == "charge"
    messages = [crumb.get("message") for crumb in event["breadcrumbs"]["values"]]
    assert "asked the bank" in messages
    assert "later" not in messages


@pytest.mark.parametrize("catches", [True, False], ids=["caught", "passed on"])
async def test_run_that_ends_on_another_worker(
    sentry: Sentry, shop: MakeShop, monkeypatch: pytest.MonkeyPatch, catches: bool
) -> None:
    """A worker that has not seen a step fail reports what the engine keeps of its error."""
    monkeypatch.setattr(StepFailures, "keep", lambda *_: None)

    async def body(ctx: Any, step: Any) -> None:
        try:
            await step.run("charge", boom)
        except inngest.StepError:
            if not catches:
                raise

    await played(sentry, shop, body, retries=0)
    (event,) = sentry.errors
    assert event["tags"]["inngest.step.id"] == "charge"
    expected = (
        ["warning ValueError(boom) step=charge attempt=0"]
        if catches
        else ["error StepError(boom) step=charge attempt=0 unhandled"]
    )
    assert sentry.lines() == expected


def test_failures_are_bounded() -> None:
    """Failures of runs that never come back do not fill the memory."""
    failures = StepFailures()
    for number in range(1000):
        failures.keep(f"run-{number}", "step", StepFailure({}))
    assert len(failures) == 200
    assert failures.take("run-0", "step") is None
    assert failures.take("run-999", "step") is not None
    assert len(failures) == 199


async def test_nothing_is_kept_of_a_run_that_has_ended(sentry: Sentry, shop: MakeShop) -> None:
    """What was kept is given up when the run ends, reported or not."""

    async def body(ctx: Any, step: Any) -> None:
        try:
            await step.run("charge", boom)
        except inngest.StepError:
            await step.run("refund", boom)

    sentry.init()
    plugin = SentryPlugin(caught_step_errors="ignore")
    app = shop(plugin)
    app.function(body, retries=0)
    await app.run()
    assert len(sentry.errors) == 1
    assert len(plugin._step_failures) == 0


async def test_error_while_handling_a_step_error(sentry: Sentry, shop: MakeShop) -> None:
    """A new error in the handler of a step's failure is a failure of its own."""

    async def body(ctx: Any, step: Any) -> None:
        try:
            await step.run("charge", boom)
        except inngest.StepError:
            {}["missing"]  # type: ignore[index]

    await played(sentry, shop, body, retries=0)
    assert sentry.lines() == [
        "warning ValueError(boom) step=charge attempt=0",
        "error KeyError('missing') attempt=0 unhandled",
    ]


async def test_step_errors_as_breadcrumbs(sentry: Sentry, shop: MakeShop) -> None:
    """With step_errors="breadcrumb" only the function's own failure is reported."""

    async def body(ctx: Any, step: Any) -> None:
        await step.run("charge", boom)

    await played(sentry, shop, body, retries=1, step_errors="breadcrumb")
    assert sentry.lines() == ["error StepError(boom) attempt=0 unhandled"]


@RETRIES
async def test_step_that_recovers(sentry: Sentry, shop: MakeShop, retries: int) -> None:
    """Attempts that the engine repeats with success are not reported."""
    calls = []

    async def sometimes() -> str:
        calls.append(1)
        if len(calls) <= retries:
            raise ValueError("not yet")
        return "done"

    async def body(ctx: Any, step: Any) -> Any:
        return await step.run("charge", sometimes)

    run = await played(sentry, shop, body, retries=retries)
    assert run.output == "done"
    assert len(calls) == retries + 1
    assert sentry.lines() == []


async def test_every_attempt(sentry: Sentry, shop: MakeShop) -> None:
    """With capture="every" each attempt is reported, as a warning until the last."""

    async def body(ctx: Any, step: Any) -> None:
        await step.run("charge", boom)

    sentry.init()
    app = shop(SentryPlugin(capture="every"))
    app.function(body, retries=2)
    app.function(boom, name="direct", event="shop/direct", retries=1)
    await app.run()
    assert sentry.lines() == [
        "warning ValueError(boom) step=charge attempt=0",
        "warning ValueError(boom) step=charge attempt=1",
        "error ValueError(boom) step=charge attempt=2 unhandled",
    ]
    sentry.clear()
    await app.run(name="shop/direct")
    assert sentry.lines() == [
        "warning ValueError(boom) attempt=0",
        "error ValueError(boom) attempt=1 unhandled",
    ]


@RETRIES
@pytest.mark.parametrize("where", ["function", "step"])
async def test_non_retriable(sentry: Sentry, shop: MakeShop, retries: int, where: str) -> None:
    """A NonRetriableError is reported at once and once, also when it comes out of a step."""
    bad = raising(inngest.NonRetriableError("never"))

    async def body(ctx: Any, step: Any) -> None:
        await (step.run("charge", bad) if where == "step" else bad())

    run = await played(sentry, shop, body, retries=retries)
    assert run.status == "Failed"
    step = " step=charge" if where == "step" else ""
    assert sentry.lines() == [f"error NonRetriableError(never){step} attempt=0 unhandled"]


async def test_non_retriable_caught(sentry: Sentry, shop: MakeShop) -> None:
    """A NonRetriableError of a step that the function catches is reported once a run.

    The SDK does not memoize such a step, so it fails anew in each of the run's requests.
    """
    bad = raising(inngest.NonRetriableError("never"))

    async def body(ctx: Any, step: Any) -> str:
        try:
            await step.run("charge", bad)
        except Exception:
            await step.run("fine", fine)
            await step.run("fine too", fine)
        return "survived"

    sentry.init()
    for option, expected in (
        ("warning", ["warning NonRetriableError(never) step=charge attempt=0"]),
        ("ignore", []),
    ):
        app = shop(SentryPlugin(caught_step_errors=option))  # type: ignore[arg-type]
        app.function(body, retries=1)
        run = await app.run()
        assert run.output == "survived"
        assert sentry.lines() == expected
        sentry.clear()


@RETRIES
@pytest.mark.parametrize("where", ["function", "step"])
@pytest.mark.parametrize("capture", ["final", "every"])
async def test_retry_after(
    sentry: Sentry, shop: MakeShop, retries: int, where: str, capture: Any
) -> None:
    """A RetryAfterError is a signal, reported only when no attempt is left."""
    bad = raising(inngest.RetryAfterError("later", 1000))

    async def body(ctx: Any, step: Any) -> None:
        await (step.run("charge", bad) if where == "step" else bad())

    run = await played(sentry, shop, body, retries=retries, capture=capture)
    assert run.status == "Failed"
    step = " step=charge" if where == "step" else ""
    assert sentry.lines() == [f"error RetryAfterError(later){step} attempt={retries} unhandled"]


@RETRIES
async def test_parallel_steps(sentry: Sentry, shop: MakeShop, group: Any, retries: int) -> None:
    """One of three parallel steps failing is one event; planning and siblings are none."""

    async def body(ctx: Any, step: Any) -> None:
        await group(
            ctx,
            lambda: step.run("a", fine),
            lambda: step.run("b", boom),
            lambda: step.run("c", fine),
        )

    run = await played(sentry, shop, body, retries=retries)
    assert run.status == "Failed"
    assert sentry.lines() == [f"error ValueError(boom) step=b attempt={retries} unhandled"]


async def test_parallel_non_retriable(sentry: Sentry, shop: MakeShop, group: Any) -> None:
    """A NonRetriableError in a parallel step is one event."""
    bad = raising(inngest.NonRetriableError("never"))

    async def body(ctx: Any, step: Any) -> None:
        await group(ctx, lambda: step.run("a", fine), lambda: step.run("b", bad))

    run = await played(sentry, shop, body, retries=2)
    assert run.status == "Failed"
    assert sentry.lines() == ["error NonRetriableError(never) step=b attempt=0 unhandled"]


@RETRIES
async def test_on_failure(sentry: Sentry, shop: MakeShop, retries: int) -> None:
    """The failure handler does not report the failure that it handles."""
    handled = []

    async def body(ctx: Any, step: Any) -> None:
        await step.run("charge", boom)

    async def on_failure(ctx: Any, step: Any) -> None:
        handled.append(await step.run("fine", fine))

    await played(sentry, shop, body, retries=retries, on_failure=on_failure)
    assert handled == ["fine"]
    assert sentry.lines() == [f"error ValueError(boom) step=charge attempt={retries} unhandled"]


async def test_on_failure_that_fails(sentry: Sentry, shop: MakeShop) -> None:
    """An error of the failure handler itself is an event of its own run."""

    async def on_failure(ctx: Any, step: Any) -> None:
        raise RuntimeError("handler")

    await played(sentry, shop, boom, retries=0, on_failure=on_failure)
    assert sentry.lines() == [
        "error ValueError(boom) attempt=0 unhandled",
        "error RuntimeError(handler) attempt=0 unhandled",
    ]
    main, handler = sentry.errors
    assert main["tags"]["inngest.run.id"] != handler["tags"]["inngest.run.id"]
    assert handler["transaction"] == "fulfil (failure)"
    assert handler["contexts"]["inngest"]["handler"] == "on_failure"


@RETRIES
async def test_failed_invoke(sentry: Sentry, shop: MakeShop, retries: int) -> None:
    """The failure of an invoked function is one event of its run, and one of the run it fails."""
    child: list[inngest.Function[Any]] = []

    async def parent(ctx: Any, step: Any) -> None:
        await step.invoke("call", function=child[0])

    sentry.init()
    app = shop(SentryPlugin())
    child.append(app.function(boom, name="child", event="shop/child", retries=retries))
    app.function(parent, retries=retries)
    run = await app.run()
    assert run.status == "Failed"
    assert sentry.lines() == [
        f"error ValueError(boom) attempt={retries} unhandled",
        "error StepError(boom) attempt=0 unhandled",
    ]


@RETRIES
@pytest.mark.parametrize("where", ["function", "step"])
async def test_unserialisable_output(
    sentry: Sentry, shop: MakeShop, retries: int, where: str
) -> None:
    """Output that is not JSON, which the SDK refuses after the last hook, is reported once."""

    async def odd() -> object:
        return {"fine": 1, "odd": {1, 2}}

    async def body(ctx: Any, step: Any) -> Any:
        return await (step.run("charge", odd) if where == "step" else odd())

    run = await played(sentry, shop, body, retries=retries)
    assert run.status == "Failed"
    step = " step=charge" if where == "step" else ""
    text = "Object of type set is not JSON serializable"
    assert sentry.lines() == [f"error TypeError({text}){step} attempt={retries} unhandled"]


async def test_cancelled(sentry: Sentry, async_shop: MakeShop) -> None:
    """A request that is cancelled reports nothing, and leaves no scope behind."""
    started = asyncio.Event()

    async def forever() -> None:
        started.set()
        await asyncio.sleep(60)

    async def body(ctx: Any, step: Any) -> None:
        await step.run("slow", forever)

    sentry.init()
    app = async_shop(SentryPlugin())
    app.function(body, retries=0)
    async with LocalEngine(app.client, app.functions) as engine:
        task = asyncio.create_task(engine.run(inngest.Event(name="shop/order.placed")))
        await started.wait()
        await engine.cancel(engine.runs[0])
        await task
    assert sentry.lines() == []


@pytest.mark.parametrize(
    "hook",
    ["transform_input", "before_execution", "after_execution", "transform_output"],
)
@pytest.mark.parametrize("layer", [Layer.WIRE, Layer.CONTEXT])
async def test_failure_of_another_plugin(
    sentry: Sentry, shop: MakeShop, hook: str, layer: Layer
) -> None:
    """What a data plugin raises in any hook is reported once, like the function's own error."""
    other = Hooks("other", layer=layer)

    def fail(*_: Any) -> None:
        raise RuntimeError("cannot decrypt")

    getattr(other, hook)((lambda call, outcome: fail()) if "output" in hook else fail_hook)
    sentry.init()
    app = shop(SentryPlugin(), other)

    async def body(ctx: Any, step: Any) -> str:
        return "done"

    app.function(body, retries=1)
    run = await app.run()
    assert run.status == "Failed"
    assert sentry.lines() == ["error RuntimeError(cannot decrypt) attempt=1 unhandled"]


def fail_hook(call: object) -> None:
    raise RuntimeError("cannot decrypt")


class Foreign(inngest.MiddlewareSync):
    """Middleware that is no plugin and raises in the hook named by its subclass."""


def foreign(hook: str) -> type[inngest.MiddlewareSync]:
    def fail(*_: Any) -> None:
        raise RuntimeError(hook)

    return type("Foreign", (Foreign,), {hook: fail})


@pytest.mark.parametrize(
    ("hook", "first"),
    [
        # What stands before the plugins' place in the list and raises at once leaves them out.
        ("transform_input", False),
        *(
            (hook, first)
            for hook in (
                "before_execution",
                "after_execution",
                "transform_output",
                "before_response",
            )
            for first in (True, False)
        ),
    ],
)
async def test_failure_of_other_middleware(
    sentry: Sentry, shop: MakeShop, hook: str, first: bool
) -> None:
    """What middleware of others raises is reported once, wherever in the list it stands."""
    plugin = SentryPlugin()
    sentry.init()
    app = shop(*((foreign(hook), plugin) if first else (plugin, foreign(hook))))

    async def body(ctx: Any, step: Any) -> str:
        return "done"

    app.function(body, retries=1)
    run = await app.run()
    assert run.status == "Failed"
    assert sentry.lines() == [f"error RuntimeError({hook}) attempt=1 unhandled"]


async def test_function_error_is_not_hidden_by_other_middleware(
    sentry: Sentry, shop: MakeShop
) -> None:
    """The function's error is reported although other middleware raises after it."""
    sentry.init()
    for order in (0, 1):
        entries = [SentryPlugin(), foreign("before_response")]
        app = shop(*(reversed(entries) if order else entries))
        app.function(boom, retries=0)
        await app.run()
        assert "error ValueError(boom) attempt=0 unhandled" in sentry.lines()
        sentry.clear()
