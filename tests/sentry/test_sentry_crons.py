"""Check-ins of functions that run on a schedule."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import inngest
import pytest

from inngest_plugins.local import LocalEngine
from inngest_plugins.sentry import SentryPlugin
from inngest_plugins.sentry.crons import config_of, slug_of

if TYPE_CHECKING:
    from tests.sentry.conftest import MakeShop, Post, Sentry, Shop


async def boom(*_: Any) -> None:
    raise ValueError("boom")


async def fine() -> str:
    return "fine"


async def fire(app: Shop) -> None:
    async with LocalEngine(app.client, app.functions) as engine:
        await engine.run(function="fulfil")
        await engine.settle()


@pytest.mark.anyio
async def test_successful_run(sentry: Sentry, shop: MakeShop) -> None:
    """A run of many requests checks in once, and closes what it opened with its duration."""

    async def body(ctx: Any, step: Any) -> None:
        await step.run("a", fine)
        await step.sleep("nap", 1000)
        await step.run("b", fine)

    sentry.init()
    app = shop(SentryPlugin())
    app.function(body, trigger=inngest.TriggerCron(cron="TZ=Europe/Berlin 0 9 * * *"))
    await fire(app)
    assert sentry.lines() == [
        "check_in shop-fulfil in_progress",
        "check_in shop-fulfil ok",
    ]
    opened, closed = sentry.check_ins
    assert opened["check_in_id"] == closed["check_in_id"]
    assert opened["duration"] is None
    assert closed["duration"] >= 0
    assert opened["monitor_config"] == {
        "schedule": {"type": "crontab", "value": "0 9 * * *"},
        "timezone": "Europe/Berlin",
    }


@pytest.mark.anyio
async def test_attached_stacks(sentry: Sentry, shop: MakeShop) -> None:
    """Where Sentry attaches stacks, a check-in shows no frame of the run, whose variables do."""

    async def body(ctx: Any, step: Any) -> None:
        await step.run("a", fine)

    sentry.init(attach_stacktrace=True)
    app = shop(SentryPlugin())
    app.function(body, trigger=inngest.TriggerCron(cron="0 9 * * *"))
    await fire(app)
    assert [check_in["status"] for check_in in sentry.check_ins] == ["in_progress", "ok"]
    frames = [
        frame["module"]
        for check_in in sentry.check_ins
        for thread in check_in.get("threads", {}).get("values", [])
        for frame in thread["stacktrace"]["frames"]
    ]
    assert not [module for module in frames if module.startswith("inngest.")]


@pytest.mark.anyio
@pytest.mark.parametrize("retries", [0, 1, 3])
@pytest.mark.parametrize("where", ["function", "step"])
async def test_failed_run(sentry: Sentry, shop: MakeShop, retries: int, where: str) -> None:
    """A run that fails checks in as failed once, however often it was tried."""

    async def body(ctx: Any, step: Any) -> None:
        await (step.run("charge", boom) if where == "step" else boom())

    sentry.init()
    app = shop(SentryPlugin())
    app.function(body, retries=retries, trigger=inngest.TriggerCron(cron="0 9 * * *"))
    await fire(app)
    assert [check_in["status"] for check_in in sentry.check_ins] == ["in_progress", "error"]
    assert len(sentry.errors) == 1


@pytest.mark.anyio
async def test_unserialisable_output(sentry: Sentry, shop: MakeShop) -> None:
    """A run whose output cannot be sent has failed."""

    async def body(ctx: Any, step: Any) -> object:
        return {1, 2}

    sentry.init()
    app = shop(SentryPlugin())
    app.function(body, retries=1, trigger=inngest.TriggerCron(cron="0 9 * * *"))
    await fire(app)
    assert [check_in["status"] for check_in in sentry.check_ins] == ["in_progress", "error"]


@pytest.mark.anyio
async def test_other_triggers(sentry: Sentry, shop: MakeShop) -> None:
    """A run that an event has started sends no check-in, even if there is a schedule too."""
    sentry.init()
    app = shop(SentryPlugin())

    async def body(ctx: Any, step: Any) -> None:
        await step.run("a", fine)

    app.function(
        body,
        trigger=[
            inngest.TriggerEvent(event="shop/order.placed"),
            inngest.TriggerCron(cron="0 9 * * *"),
        ],
    )
    await app.run()
    assert sentry.lines() == []


@pytest.mark.anyio
async def test_two_schedules(
    sentry: Sentry, async_shop: MakeShop, post: Post, body_of: Any
) -> None:
    """Each schedule of a function is a monitor of its own."""
    sentry.init()
    app = async_shop(SentryPlugin())

    async def body(ctx: Any, step: Any) -> None:
        await step.run("a", fine)

    app.function(
        body,
        trigger=[inngest.TriggerCron(cron="0 9 * * *"), inngest.TriggerCron(cron="0 18 * * *")],
    )
    served = app.asgi()
    for cron in ("0 9 * * *", "0 18 * * *"):
        event = {"name": "inngest/scheduled.timer", "data": {"cron": cron}}
        await post(served, body_of("01M7Y89F7P1QJPPV3Z3PET4B7E", event=event))
    slugs = [check_in["monitor_slug"] for check_in in sentry.check_ins]
    schedules = [check_in["monitor_config"]["schedule"]["value"] for check_in in sentry.check_ins]
    assert slugs == ["shop-fulfil-0", "shop-fulfil-1"]
    assert schedules == ["0 9 * * *", "0 18 * * *"]


@pytest.mark.anyio
async def test_off(sentry: Sentry, shop: MakeShop) -> None:
    """With crons=False nothing checks in."""
    sentry.init()
    app = shop(SentryPlugin(crons=False))

    async def body(ctx: Any, step: Any) -> None:
        await step.run("a", fine)

    app.function(body, trigger=inngest.TriggerCron(cron="0 9 * * *"))
    await fire(app)
    assert sentry.lines() == []


@pytest.mark.parametrize(
    ("expression", "schedule", "zone"),
    [
        ("*/5 * * * *", {"type": "crontab", "value": "*/5 * * * *"}, "UTC"),
        ("TZ=Asia/Tokyo 0 9 * * 1", {"type": "crontab", "value": "0 9 * * 1"}, "Asia/Tokyo"),
        ("CRON_TZ=Asia/Tokyo @daily", {"type": "crontab", "value": "@daily"}, "Asia/Tokyo"),
        ("@every 1h30m", {"type": "interval", "value": 90, "unit": "minute"}, "UTC"),
        ("@every 2h", {"type": "interval", "value": 120, "unit": "minute"}, "UTC"),
    ],
)
def test_schedules(expression: str, schedule: dict[str, Any], zone: str) -> None:
    """A trigger's schedule and zone become the monitor's."""
    assert config_of(expression) == {"schedule": schedule, "timezone": zone}


@pytest.mark.parametrize("expression", ["@every 30s", "@every 90s", "0 0 9 * * *", "nonsense", ""])
def test_schedules_that_sentry_cannot_hold(expression: str) -> None:
    """A schedule that Sentry has no form for is left out."""
    assert config_of(expression) is None


def test_slugs() -> None:
    """A slug keeps to Sentry's characters and length, and different functions stay different."""
    assert slug_of("shop-fulfil_2") == "shop-fulfil_2"
    assert slug_of("Shop Fülfil") == "shop-f-lfil"
    one, other = slug_of("a" * 80 + "1"), slug_of("a" * 80 + "2")
    assert one != other
    assert len(one) == len(other) == 50
    assert slug_of("äöü")
