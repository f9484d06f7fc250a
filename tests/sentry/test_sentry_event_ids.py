"""One failure has one event id, however often a worker that dies makes the code run again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import httpx
import inngest
import pytest

from inngest_plugins.sentry import SentryPlugin
from inngest_plugins.sentry.events.step_failures import StepFailures

if TYPE_CHECKING:
    from tests.sentry.conftest import MakeShop, Sentry, Shop

    from inngest_plugins.local import Run

pytestmark = pytest.mark.anyio


async def fine() -> str:
    return "fine"


async def boom() -> None:
    raise ValueError("boom")


async def post_again(app: Shop, run: Run, number: int = -1) -> None:
    """Send one of a run's requests once more, as the engine does after a worker has died."""
    request = run.requests[number]
    if app.is_async:
        transport = httpx.ASGITransport(app.asgi())
        async with httpx.AsyncClient(transport=transport, base_url="http://shop.test") as http:
            await http.post(
                "/api/inngest", params=dict(request.query), content=request.request_bytes
            )
        return
    app.wsgi().test_client().post(
        "/api/inngest", query_string=dict(request.query), data=request.request_bytes
    )


def ids(sentry: Sentry) -> list[str]:
    return [event["event_id"] for event in sentry.errors]


async def test_a_function_that_fails_twice_for_one_request(sentry: Sentry, shop: MakeShop) -> None:
    """The event of the second time has the id of the first, that of another run has not."""
    sentry.init()
    app = shop(SentryPlugin())

    async def body(ctx: Any, step: Any) -> None:
        await step.run("fine", fine)
        raise inngest.NonRetriableError("boom")

    app.function(body)
    run = await app.run()
    await post_again(app, run)
    await app.run()
    first, again, other = ids(sentry)
    assert first == again != other


@pytest.mark.parametrize("ends_here", [True, False], ids=["this worker", "another worker"])
@pytest.mark.parametrize("catches", [True, False], ids=["caught", "passed on"])
async def test_a_step_that_failed(
    sentry: Sentry,
    shop: MakeShop,
    monkeypatch: pytest.MonkeyPatch,
    ends_here: bool,
    catches: bool,
) -> None:
    """Whoever reports it, before and after the run has moved on to another worker."""
    sentry.init()
    app = shop(SentryPlugin())

    async def body(ctx: Any, step: Any) -> None:
        try:
            await step.run("charge", boom)
        except inngest.StepError:
            if not catches:
                raise

    app.function(body, retries=0)
    run = await app.run()
    if not ends_here:
        monkeypatch.setattr(StepFailures, "keep", lambda *_: None)
    await post_again(app, run, 0)
    await post_again(app, run)
    first, again = ids(sentry)
    assert first == again


async def test_failures_that_differ(sentry: Sentry, shop: MakeShop) -> None:
    """Each step, each attempt that is reported, and the function behind them have their own."""
    sentry.init()
    app = shop(SentryPlugin(capture="every", step_errors="immediate"))

    async def body(ctx: Any, step: Any) -> None:
        for name in ("one", "two"):
            try:
                await step.run(name, boom)
            except inngest.StepError:
                continue
        await step.run("fine", fine)
        raise LookupError("none")

    app.function(body, retries=1)
    await app.run()
    assert len(ids(sentry)) == 6
    assert len(set(ids(sentry))) == 6


async def test_before_capture_has_the_last_word(sentry: Sentry, shop: MakeShop) -> None:
    """An id that the user's function sets is kept."""
    sentry.init()

    def edit(call: Any, outcome: Any, event: Any) -> Any:
        return {**event, "event_id": "0" * 31 + "1"}

    app = shop(SentryPlugin(before_capture=edit))

    async def body(ctx: Any, step: Any) -> None:
        await boom()

    app.function(body, retries=0)
    await app.run()
    assert ids(sentry) == ["0" * 31 + "1"]
