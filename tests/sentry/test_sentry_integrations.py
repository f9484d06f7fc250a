"""Beside Sentry's own integrations: each failure is still one event."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

import httpx
import inngest
import pytest
import sentry_sdk
from sentry_sdk.integrations.asyncio import AsyncioIntegration, patch_asyncio

from inngest_plugins.core import Hooks, Layer
from inngest_plugins.sentry import SentryPlugin

if TYPE_CHECKING:
    from tests.sentry.conftest import MakeShop, Post, Sentry

pytestmark = [
    pytest.mark.anyio,
    # With all of its integrations Sentry imports whatever is installed.
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]
RUN = "01M7Y89F7P1QJPPV3Z3PET4B7E"
logger = logging.getLogger("shop")


def init(sentry: Sentry, **options: Any) -> None:
    """Initialise Sentry as apps do: with its default and all fitting integrations."""
    sentry.init(
        default_integrations=True,
        auto_enabling_integrations=True,
        integrations=[AsyncioIntegration()],
        **options,
    )


async def run_all(post: Post, app: Any, body_of: Any, retries: int, **call: Any) -> None:
    """Post the request of each attempt."""
    for attempt in range(retries + 1):
        await post(app, body_of(RUN, attempt=attempt, max_attempts=retries + 1, **call))


async def test_logged_and_raised(sentry: Sentry, shop: MakeShop, post: Post, body_of: Any) -> None:
    """An exception that is logged before it fails the step is one event, on the last attempt."""

    async def charge() -> None:
        try:
            raise ValueError("boom")
        except ValueError:
            logger.exception("charging failed")
            raise

    async def body(ctx: Any, step: Any) -> None:
        await step.run("charge", charge)

    init(sentry)
    app = shop(SentryPlugin(step_errors="immediate"))
    app.function(body)
    await run_all(post, app.asgi(), body_of, 2)
    assert sentry.lines() == ["error ValueError(boom) step=charge attempt=2"]
    crumbs = sentry.errors[0]["breadcrumbs"]["values"]
    messages = [crumb["message"] for crumb in crumbs if "message" in crumb]
    assert messages == ["charging failed", "step 'charge' failed with ValueError"]


async def test_logged_and_handled(sentry: Sentry, shop: MakeShop, post: Post, body_of: Any) -> None:
    """An exception that user code logs and survives is reported as it would be anywhere."""

    async def body(ctx: Any, step: Any) -> str:
        try:
            raise ValueError("boom")
        except ValueError:
            logger.exception("never mind")
        logger.error("just a message")
        return "done"

    init(sentry)
    app = shop(SentryPlugin())
    app.function(body)
    await post(app.asgi(), body_of(RUN))
    kinds = sorted(error["logentry"]["message"] for error in sentry.errors)
    assert kinds == ["just a message", "never mind"]
    assert all(error["tags"]["inngest.run.id"] == RUN for error in sentry.errors)


async def test_captured_by_the_user(
    sentry: Sentry, shop: MakeShop, post: Post, body_of: Any
) -> None:
    """An exception that user code has captured itself is not captured again."""

    async def body(ctx: Any, step: Any) -> None:
        try:
            raise ValueError("boom")
        except ValueError as err:
            sentry_sdk.capture_exception(err)
            sentry_sdk.capture_message("something else")
            raise

    init(sentry)
    app = shop(SentryPlugin())
    app.function(body)
    await post(app.asgi(), body_of(RUN))
    assert [e.get("message") or e["exception"]["values"][0]["type"] for e in sentry.errors] == [
        "ValueError",
        "something else",
    ]


async def test_failed_task(sentry: Sentry, async_shop: MakeShop, post: Post, body_of: Any) -> None:
    """A task's exception, which the asyncio integration reports too, is one event."""

    async def work() -> None:
        raise ValueError("boom")

    async def charge() -> None:
        await asyncio.create_task(work())

    async def body(ctx: Any, step: Any) -> None:
        await step.run("charge", charge)

    init(sentry)
    patch_asyncio()
    app = async_shop(SentryPlugin(step_errors="immediate"))
    app.function(body)
    await run_all(post, app.asgi(), body_of, 1)
    assert sentry.lines() == ["error ValueError(boom) step=charge attempt=1"]


async def test_failed_task_that_is_handled(
    sentry: Sentry, async_shop: MakeShop, post: Post, body_of: Any
) -> None:
    """A task's exception that the function survives stays the asyncio integration's event."""

    async def work() -> None:
        raise ValueError("boom")

    async def body(ctx: Any, step: Any) -> str:
        await asyncio.gather(asyncio.create_task(work()), return_exceptions=True)
        return "done"

    init(sentry)
    patch_asyncio()
    app = async_shop(SentryPlugin())
    app.function(body)
    await post(app.asgi(), body_of(RUN))
    (error,) = sentry.errors
    assert error["exception"]["values"][0]["mechanism"]["type"] == "asyncio"
    assert error["tags"]["inngest.run.id"] == RUN


@pytest.mark.parametrize("where", ["function", "step"])
async def test_unserialisable_output(
    sentry: Sentry, shop: MakeShop, post: Post, body_of: Any, where: str
) -> None:
    """What the SDK logs of an output that it cannot send makes no second event."""

    async def odd() -> object:
        return {1, 2}

    async def body(ctx: Any, step: Any) -> Any:
        return await (step.run("charge", odd) if where == "step" else odd())

    init(sentry)
    app = shop(SentryPlugin())
    app.function(body)
    await run_all(post, app.asgi(), body_of, 1)
    step = " step=charge" if where == "step" else ""
    assert sentry.lines() == [
        f"error TypeError(Object of type set is not JSON serializable){step} attempt=1 unhandled"
    ]


async def test_other_logs_of_the_sdk_stay(
    sentry: Sentry, async_shop: MakeShop, post: Post, body_of: Any
) -> None:
    """Errors that the SDK logs outside of any run are reported as before."""
    init(sentry)
    app = async_shop(SentryPlugin())

    async def body(ctx: Any, step: Any) -> str:
        return "done"

    app.function(body, name="other")
    await post(app.asgi(), body_of(RUN))
    (error,) = sentry.errors
    assert "function_not_found" in error["logentry"]["message"]


async def test_failing_observer(
    sentry: Sentry, async_shop: MakeShop, post: Post, body_of: Any
) -> None:
    """An observing plugin's exception, which is only logged, is reported once."""
    other = Hooks("other", layer=Layer.OBSERVE)

    @other.before_execution
    def fail(call: object) -> None:
        raise RuntimeError("observer")

    init(sentry)
    app = async_shop(SentryPlugin(), other)

    async def body(ctx: Any, step: Any) -> str:
        return "done"

    app.function(body)
    response = await post(app.asgi(), body_of(RUN))
    assert response.status_code == 200
    (error,) = sentry.errors
    assert error["exception"]["values"][0]["value"] == "observer"


async def test_one_transaction_a_request(
    sentry: Sentry, shop: MakeShop, post: Post, body_of: Any
) -> None:
    """The web framework's transaction, named after the endpoint, does not stand beside ours."""

    async def body(ctx: Any, step: Any) -> str:
        return "done"

    init(sentry, traces_sample_rate=1.0)
    app = shop(SentryPlugin())
    app.function(body)
    await post(app.asgi(), body_of(RUN), traceparent=f"00-{'a' * 32}-{'b' * 16}-01")
    assert [line.split(" [")[0] for line in sentry.lines()] == [
        "transaction fulfil queue.process ok"
    ]


async def test_other_routes_are_untouched(
    sentry: Sentry, async_shop: MakeShop, post: Post, body_of: Any
) -> None:
    """Routes of the same app that are no Inngest endpoint keep their transactions and scopes."""
    init(sentry, traces_sample_rate=1.0)
    app = async_shop(SentryPlugin())

    async def body(ctx: Any, step: Any) -> None:
        sentry_sdk.set_tag("mine", "yes")
        raise ValueError("boom")

    app.function(body)
    served = app.asgi()

    @served.get("/health")
    async def health() -> str:
        sentry_sdk.capture_message("healthy")
        return "ok"

    await post(served, body_of(RUN))
    sentry.clear()
    async with httpx.AsyncClient(transport=httpx.ASGITransport(served)) as client:
        await client.get("http://shop.test/health")
    (message,) = sentry.errors
    assert not [
        tag for tag in message.get("tags", {}) if tag.startswith("inngest") or tag == "mine"
    ]
    assert "inngest" not in message["contexts"]
    assert [transaction["transaction"] for transaction in sentry.transactions] == ["/health"]


async def test_outgoing_requests_continue_the_trace(
    sentry: Sentry, async_shop: MakeShop, post: Post, body_of: Any
) -> None:
    """HTTP requests of a step carry the run's trace, and are spans below the step."""
    seen: list[httpx.Headers] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request.headers)
        return httpx.Response(200)

    async def charge() -> None:
        async with httpx.AsyncClient(transport=httpx.MockTransport(answer)) as client:
            await client.get("http://bank.test/charge")

    async def body(ctx: Any, step: Any) -> None:
        await step.run("charge", charge)

    init(sentry, traces_sample_rate=1.0)
    app = async_shop(SentryPlugin())
    app.function(body)
    await post(app.asgi(), body_of(RUN))
    (transaction,) = sentry.transactions
    step, request = transaction["spans"]
    assert (step["op"], request["op"]) == ("inngest.step", "http.client")
    assert request["parent_span_id"] == step["span_id"]
    trace_id = transaction["contexts"]["trace"]["trace_id"]
    assert seen[0]["sentry-trace"].startswith(f"{trace_id}-{request['span_id']}")


async def test_sent_events_through_http(sentry: Sentry, async_shop: MakeShop) -> None:
    """A send inside of a run is a publish span, with nothing doubled by the httpx integration."""

    async def body(ctx: Any, step: Any) -> None:
        await step.send_event("tell", inngest.Event(name="shop/paid", data={}))

    init(sentry, traces_sample_rate=1.0)
    app = async_shop(SentryPlugin())
    app.function(body)
    await app.run()
    spans = [span for transaction in sentry.transactions for span in transaction["spans"]]
    assert [s["description"] for s in spans if s["op"] == "queue.publish"] == ["shop/paid"]
