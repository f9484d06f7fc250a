"""Many runs at once: nothing of one is on the events of another, or on the app's own."""

from __future__ import annotations

import asyncio
import random
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import httpx
import pytest
import sentry_sdk
from sentry_sdk.integrations.asyncio import AsyncioIntegration

from inngest_plugins.sentry import SentryPlugin

if TYPE_CHECKING:
    from tests.sentry.conftest import MakeShop, Post, Sentry

pytestmark = [
    pytest.mark.anyio,
    # With all of its integrations Sentry imports whatever is installed.
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]
RUNS = 200
INTEGRATIONS = pytest.mark.parametrize(
    "options",
    [
        {"default_integrations": True, "auto_enabling_integrations": True},
        {"default_integrations": True, "integrations": [AsyncioIntegration()]},
        {"default_integrations": False},
    ],
    ids=["all", "default", "none"],
)


async def work(run_id: str) -> None:
    """A step that waits, and leaves its mark wherever Sentry lets it."""
    with sentry_sdk.start_span(op="work", name=run_id):
        sentry_sdk.add_breadcrumb(message=run_id)
        await asyncio.sleep(random.random() / 50)
        sentry_sdk.set_tag("user.run", run_id)
        sentry_sdk.capture_message(run_id)
        await asyncio.sleep(random.random() / 50)
    raise ValueError(run_id)


async def work_in_a_thread(run_id: str) -> None:
    """The same for sync functions, where nothing can be awaited."""
    with sentry_sdk.start_span(op="work", name=run_id):
        sentry_sdk.add_breadcrumb(message=run_id)
        time.sleep(random.random() / 50)
        sentry_sdk.set_tag("user.run", run_id)
        sentry_sdk.capture_message(run_id)
        time.sleep(random.random() / 50)
    raise ValueError(run_id)


def body_with(handler: Any) -> Any:
    async def body(ctx: Any, step: Any) -> None:
        await step.run("work", handler, ctx.run_id)

    return body


def check(sentry: Sentry, runs: int) -> None:
    """Check that every event, breadcrumb and span belongs to the run whose tags it has."""
    assert len(sentry.errors) == 2 * runs
    for event in sentry.errors:
        said = event.get("message") or event["exception"]["values"][-1]["value"]
        assert event["tags"]["inngest.run.id"] == said
        assert event["tags"]["user.run"] == said
        assert event["contexts"]["inngest"]["run_id"] == said
        crumbs = {crumb.get("message") for crumb in event["breadcrumbs"]["values"]}
        assert {c for c in crumbs if c and c.startswith("run-")} == {said}
    assert len(sentry.transactions) == runs
    for transaction in sentry.transactions:
        run_id = transaction["tags"]["inngest.run.id"]
        names = [span["description"] for span in transaction["spans"] if span["op"] == "work"]
        assert names == [run_id]
    assert len({t["contexts"]["trace"]["trace_id"] for t in sentry.transactions}) == runs


def check_outside(sentry: Sentry) -> None:
    """Check that nothing is left on the scopes around the runs."""
    sentry.clear()
    sentry_sdk.capture_message("outside")
    (event,) = sentry.errors
    assert event.get("tags", {}) == {"app": "shop"}
    assert "inngest" not in event["contexts"]
    assert not [c for c in event["breadcrumbs"]["values"] if "run-" in str(c.get("message"))]
    assert sentry_sdk.get_current_scope().span is None


@INTEGRATIONS
async def test_fastapi(
    sentry: Sentry, shop: MakeShop, post: Post, body_of: Any, options: dict[str, Any]
) -> None:
    """200 runs at once under FastAPI, async and in the SDK's threads."""
    sentry.init(traces_sample_rate=1.0, **options)
    sentry_sdk.set_tag("app", "shop")
    app = shop(SentryPlugin(step_errors="immediate"))
    app.function(body_with(work if app.is_async else work_in_a_thread))
    served = app.asgi()
    await asyncio.gather(*(post(served, body_of(f"run-{n}")) for n in range(RUNS)))
    check(sentry, RUNS)
    check_outside(sentry)


@INTEGRATIONS
async def test_outside_at_the_same_time(
    sentry: Sentry, async_shop: MakeShop, post: Post, body_of: Any, options: dict[str, Any]
) -> None:
    """Requests to other routes of the app, between the runs, have nothing of a run."""
    sentry.init(**options)
    app = async_shop(SentryPlugin())
    app.function(body_with(work))
    served = app.asgi()

    @served.get("/health")
    async def health() -> None:
        await asyncio.sleep(random.random() / 50)
        sentry_sdk.capture_message("outside")

    async with httpx.AsyncClient(transport=httpx.ASGITransport(served)) as client:
        await asyncio.gather(
            *(post(served, body_of(f"run-{n}")) for n in range(50)),
            *(client.get("http://shop.test/health") for _ in range(50)),
        )
    outside = [event for event in sentry.errors if event.get("message") == "outside"]
    assert len(outside) == 50
    assert not [event for event in outside if "inngest.run.id" in event.get("tags", {})]


@pytest.mark.parametrize("is_async", [True, False], ids=["async", "sync"])
@INTEGRATIONS
async def test_flask(
    sentry: Sentry, body_of: Any, async_shop: MakeShop, options: dict[str, Any], is_async: bool
) -> None:
    """200 runs under Flask, in the threads of a WSGI server that are used again and again."""
    sentry.init(traces_sample_rate=1.0, **options)
    sentry_sdk.set_tag("app", "shop")
    app = async_shop(SentryPlugin(step_errors="immediate"), is_async=is_async)
    app.function(body_with(work if is_async else work_in_a_thread))
    served = app.wsgi()

    def request(n: int) -> int:
        url = "/api/inngest?fnId=shop-fulfil&stepId=step"
        return served.test_client().post(url, json=body_of(f"run-{n}")).status_code

    def threads() -> set[int]:
        with ThreadPoolExecutor(30) as pool:
            return set(pool.map(request, range(RUNS)))

    assert await asyncio.to_thread(threads) == {206}
    check(sentry, RUNS)
    check_outside(sentry)


async def test_parallel_branches(
    sentry: Sentry, async_shop: MakeShop, post: Post, body_of: Any
) -> None:
    """What one of two steps running side by side sets in its scope is not on the other's."""
    sentry.init(traces_sample_rate=1.0)
    app = async_shop(SentryPlugin())

    async def branch(name: str) -> None:
        sentry_sdk.get_current_scope().set_tag("branch", name)
        await asyncio.sleep(0.01)
        with sentry_sdk.start_span(op="work", name=name):
            await asyncio.sleep(0.01)
        sentry_sdk.capture_message(name)

    async def body(ctx: Any, step: Any) -> None:
        await asyncio.gather(step.run("a", branch, "a"), step.run("b", branch, "b"))

    app.function(body)
    await post(app.asgi(), body_of("run-1"))
    seen = sorted(
        (e["message"], e["tags"]["branch"], e["tags"]["inngest.step.id"]) for e in sentry.errors
    )
    assert seen == [("a", "a", "a"), ("b", "b", "b")]
    spans = sentry.transactions[0]["spans"]
    steps = {span["span_id"]: span["description"] for span in spans if span["op"] == "inngest.step"}
    below = {s["description"]: steps[s["parent_span_id"]] for s in spans if s["op"] == "work"}
    assert below == {"a": "a", "b": "b"} or below == {"a": "a"}


async def test_tags_and_context(sentry: Sentry, shop: MakeShop, post: Post, body_of: Any) -> None:
    """An event says which run, request and step it is about."""
    sentry.init()
    app = shop(SentryPlugin(step_errors="immediate"))

    async def charge() -> None:
        sentry_sdk.capture_message("in the step")
        raise ValueError("boom")

    async def body(ctx: Any, step: Any) -> None:
        sentry_sdk.capture_message("in the function")
        await step.run("charge", charge)

    app.function(body)
    call = body_of("run-1", attempt=2, max_attempts=3)
    await post(app.asgi(), call, **{"x-request-id": "req-1", "x-inngest-job-id": "job-1"})
    in_function, in_step, error = sentry.errors
    tags = {
        "inngest.app.id": "shop",
        "inngest.function.id": "shop-fulfil",
        "inngest.function.name": "fulfil",
        "inngest.run.id": "run-1",
        "inngest.event.name": "shop/order.placed",
        "inngest.event.id": "e-run-1",
        "inngest.attempt": "2",
    }
    assert in_function["tags"] == tags
    assert in_step["tags"] == error["tags"] == {**tags, "inngest.step.id": "charge"}
    context = error["contexts"]["inngest"]
    assert context == {
        "type": "inngest",
        "app_id": "shop",
        "function_id": "shop-fulfil",
        "function_name": "fulfil",
        "handler": "main",
        "run_id": "run-1",
        "attempt": 2,
        "max_attempts": 3,
        "event_names": ["shop/order.placed"],
        "event_ids": ["e-run-1"],
        "event_count": 1,
        "memoized_steps": 0,
        "request_id": "req-1",
        "job_id": "job-1",
        "step": {
            "id": "charge",
            "index": 0,
            "op": "StepRun",
            "hashed_id": context["step"]["hashed_id"],
            "parallel": False,
        },
    }
    assert "step" not in in_function["contexts"]["inngest"]
    assert in_step["contexts"]["inngest"]["step"]["id"] == "charge"


async def test_a_failure_to_open_leaves_nothing_behind(
    sentry: Sentry,
    async_shop: MakeShop,
    monkeypatch: pytest.MonkeyPatch,
    post: Post,
    body_of: Any,
) -> None:
    """If the plugin fails to begin a request, the run goes on and no scope stays open."""

    def broken(*_: Any, **__: Any) -> None:
        raise RuntimeError("no trace")

    monkeypatch.setattr("inngest_plugins.sentry.request.join_trace", broken)
    sentry.init()
    scopes: list[Any] = []
    app = async_shop(SentryPlugin())

    async def body(ctx: Any, step: Any) -> str:
        scopes.append(sentry_sdk.get_isolation_scope())
        return "done"

    app.function(body)
    around = sentry_sdk.get_isolation_scope()
    response = await post(app.asgi(), body_of("run-1"))
    assert response.json() == "done"
    assert scopes == [around]


async def test_breadcrumbs_of_the_worker(
    sentry: Sentry, async_shop: MakeShop, post: Post, body_of: Any
) -> None:
    """What a worker's one scope has collected from other requests is not on a run's event."""
    sentry.init()
    sentry_sdk.set_tag("region", "eu")
    sentry_sdk.add_breadcrumb(message="of another request")
    app = async_shop(SentryPlugin())

    async def body(ctx: Any, step: Any) -> None:
        raise ValueError("boom")

    app.function(body)
    await post(app.asgi(), body_of("run-1"))
    (event,) = sentry.errors
    assert event["breadcrumbs"]["values"] == []
    assert event["tags"]["region"] == "eu"
