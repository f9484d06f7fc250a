"""No payload leaves in Sentry's events, unless it is asked for."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import pytest
import sentry_sdk
from sentry_sdk.integrations.fastapi import FastApiIntegration
from sentry_sdk.integrations.logging import LoggingIntegration
from sentry_sdk.integrations.starlette import StarletteIntegration

from inngest_plugins.core import Layer, Plugin
from inngest_plugins.sentry import SentryPlugin

if TYPE_CHECKING:
    from tests.sentry.conftest import MakeShop, Post, Sentry

pytestmark = [
    pytest.mark.anyio,
    # The way to ask for more data that all supported releases of sentry-sdk know.
    pytest.mark.filterwarnings("ignore:The send_default_pii option:DeprecationWarning"),
]
CARD, MAIL, NAME, AMOUNT, TOKEN = (
    "4242-4242-4242-4242",
    "ada@example.org",
    'O\'Neil "Ada"\nLovelace',
    987654.25,
    "tok-3d9a77",
)
PAYLOAD = {"card": CARD, "nested": [{"mail": MAIL, "name": NAME}], "amount": AMOUNT}
EVENT_KEY = "secret-event-key"
CANARIES = (CARD, MAIL, "Lovelace", str(AMOUNT), TOKEN)


class Secret(Plugin):
    """Stands for encryption: says that the stack keeps payloads secret."""

    layer = Layer.WIRE
    secret_payloads = True


async def fetch_token() -> dict[str, str]:
    return {"token": TOKEN}


async def charge_card(details: dict[str, Any]) -> None:
    everything = dict(details)
    card = details["card"]
    shown = f"<{card}>"
    line = details["nested"][0]
    count = 3
    raise ValueError(f"refused after {count} attempts", len(everything), len(shown), len(line))


async def fails_in_step(ctx: Any, step: Any) -> None:
    await step.run("token", fetch_token)
    await step.run("charge", charge_card, dict(ctx.event.data))


async def fails_itself(ctx: Any, step: Any) -> None:
    token = await step.run("token", fetch_token)
    order = ctx.event.data
    harmless = "kept"
    await charge_card({**order, "token": token, "harmless": harmless})


def leaks(sentry: Sentry) -> list[str]:
    text = sentry.text
    return [canary for canary in CANARIES if canary in text]


def variables(sentry: Sentry, function: str) -> dict[str, Any]:
    for error in sentry.errors:
        for value in error["exception"]["values"]:
            for frame in value["stacktrace"]["frames"]:
                if frame["function"] == function:
                    found: dict[str, Any] = frame.get("vars", {})
                    return found
    raise AssertionError(function)


@pytest.mark.parametrize("body", [fails_in_step, fails_itself])
@pytest.mark.parametrize("others", [(), (Secret(),)])
async def test_payloads_stay(
    sentry: Sentry, shop: MakeShop, body: Any, others: tuple[Plugin, ...]
) -> None:
    """Event data and step results are in no event, whatever the variable is called."""
    sentry.init(traces_sample_rate=1.0, send_default_pii=True)
    app = shop(SentryPlugin(), *others)
    app.function(body, retries=0)
    await app.run(PAYLOAD)
    assert len(sentry.errors) == 1
    assert leaks(sentry) == []


async def test_harmless_variables_stay(sentry: Sentry, async_shop: MakeShop) -> None:
    """Variables that show no payload are kept: they are what makes a report useful."""
    sentry.init()
    app = async_shop(SentryPlugin())
    app.function(fails_itself, retries=0)
    await app.run(PAYLOAD)
    found = variables(sentry, "charge_card")
    assert found["count"] == "3"
    assert {found[name] for name in ("card", "shown", "line", "everything")} == {
        "[Filtered: payload of the run]"
    }
    assert variables(sentry, "fails_itself")["harmless"] == "'kept'"


async def test_big_payloads(sentry: Sentry, async_shop: MakeShop) -> None:
    """When a payload is too big to be searched for, all variables go."""
    sentry.init()
    app = async_shop(SentryPlugin())
    app.function(fails_itself, retries=0)
    await app.run({**PAYLOAD, "rows": [f"row number {n}" for n in range(3000)]})
    assert set(variables(sentry, "charge_card").values()) == {"[Filtered: payload of the run]"}


async def test_structured_logs(sentry: Sentry, shop: MakeShop) -> None:
    """The texts of Sentry's structured logs leave a stack with secrets only when asked for."""
    seen: list[str] = []

    def before_send_log(log: Any, hint: Any) -> Any:
        seen.append(log["body"])
        return log

    async def body(ctx: Any, step: Any) -> None:
        card = ctx.event.data["card"]
        logs: Any = sentry_sdk
        logs.logger.warning("charging {card}", card=card, attributes={"mail": MAIL})

    sentry.init(enable_logs=True, before_send_log=before_send_log)
    for plugins, text in (
        ([SentryPlugin(), Secret()], "[Filtered]"),
        ([SentryPlugin(send_decrypted=["log_messages"]), Secret()], f"charging {CARD}"),
        ([SentryPlugin()], f"charging {CARD}"),
    ):
        app = shop(*plugins)
        app.function(body)
        await app.run(PAYLOAD)
        sentry_sdk.get_client().flush()
        assert seen == [text]
        assert leaks(sentry) == ([] if text == "[Filtered]" else [CARD, MAIL])
        assert "sentry.severity_text" in sentry.text
        seen.clear()
        sentry.clear()


@pytest.mark.parametrize("where", ["function", "step"])
async def test_unserialisable_output_stays(sentry: Sentry, shop: MakeShop, where: str) -> None:
    """The report of an output that is not JSON shows none of it, unless payloads are wanted."""

    async def odd() -> object:
        return {"made here": TOKEN, "odd": {1, 2}}

    async def body(ctx: Any, step: Any) -> Any:
        return await (step.run("charge", odd) if where == "step" else odd())

    sentry.init()
    for wanted in (False, True):
        app = shop(SentryPlugin(send_payloads=wanted))
        app.function(body, retries=0)
        await app.run()
        assert len(sentry.errors) == 1
        assert leaks(sentry) == ([TOKEN] if wanted else [])
        sentry.clear()


async def test_payloads_on_request(sentry: Sentry, shop: MakeShop) -> None:
    """With send_payloads=True the events' data is sent, and variables are left alone."""
    sentry.init()
    app = shop(SentryPlugin(send_payloads=True))
    app.function(fails_itself, retries=0)
    await app.run(PAYLOAD)
    (error,) = sentry.errors
    assert error["contexts"]["inngest.payloads"]["events"] == [PAYLOAD]
    assert variables(sentry, "charge_card")["card"] == f"'{CARD}'"


async def leaky(ctx: Any, step: Any) -> None:
    logging.getLogger("shop").warning("charging %s", CARD)
    card = ctx.event.data["card"]
    raise ValueError(f"bad card {card}")


async def test_secret_stack(sentry: Sentry, shop: MakeShop) -> None:
    """Where payloads are secret, variables, exception values and log texts are left out."""
    sentry.init(integrations=[LoggingIntegration()], attach_stacktrace=True)
    app = shop(Secret(), SentryPlugin(send_payloads=True))

    async def body(ctx: Any, step: Any) -> None:
        card = ctx.event.data["card"]
        logging.getLogger("shop").error(f"cannot charge {card}")
        logging.getLogger("shop").error("cannot charge %s", card, extra={"card": card})
        sentry_sdk.capture_message(f"cannot charge {card}")
        await leaky(ctx, step)

    app.function(body, retries=0)
    await app.run(PAYLOAD)
    assert leaks(sentry) == []
    assert len(sentry.errors) == 4
    error = sentry.errors[-1]
    (exception,) = error["exception"]["values"]
    assert (exception["type"], exception["value"]) == ("ValueError", "[Filtered]")
    assert exception["stacktrace"]["frames"][-1]["function"] == "leaky"
    assert all("vars" not in frame for frame in exception["stacktrace"]["frames"])
    assert "inngest.payloads" not in error["contexts"]


@pytest.mark.parametrize("shows_variables", [True, False])
async def test_attached_stacks(sentry: Sentry, shop: MakeShop, shows_variables: bool) -> None:
    """The stack that Sentry attaches to a message is as clean as the one of an exception."""
    sentry.init(
        attach_stacktrace=True, include_local_variables=shows_variables, traces_sample_rate=1.0
    )
    app = shop(SentryPlugin())

    async def body(ctx: Any, step: Any) -> None:
        card = ctx.event.data["card"]
        harmless = "a local variable"
        sentry_sdk.capture_message("hello")
        del card, harmless

    app.function(body, retries=0)
    await app.run(PAYLOAD)
    (message,) = sentry.errors
    (thread,) = message["threads"]["values"]
    last = thread["stacktrace"]["frames"][-1]
    assert last["function"] == "body"
    assert last.get("vars", {}).get("harmless") == (
        "'a local variable'" if shows_variables else None
    )
    assert leaks(sentry) == []
    assert sentry.transactions
    assert not any(found.get("threads", {}).get("values") for found in sentry.transactions)


@pytest.mark.parametrize(
    ("names", "shown"),
    [
        (("frame_variables",), "vars"),
        (("exception_values",), f"bad card {CARD}"),
        (("log_messages",), f"charging {CARD}"),
        (("payloads",), "inngest.payloads"),
    ],
)
async def test_secret_stack_by_name(
    sentry: Sentry, async_shop: MakeShop, names: Any, shown: str
) -> None:
    """What is asked for by name is sent although the stack keeps payloads secret; no more."""
    sentry.init(integrations=[LoggingIntegration()])
    app = async_shop(SentryPlugin(send_payloads=True, send_decrypted=names), Secret())
    app.function(leaky, retries=0)
    await app.run(PAYLOAD)
    every = ('"vars"', f"bad card {CARD}", f"charging {CARD}", "inngest.payloads")
    present = [text for text in every if text in sentry.text]
    assert [text.strip('"') for text in present] == [shown]


async def test_secret_stack_hides_queries(sentry: Sentry, async_shop: MakeShop) -> None:
    """Where payloads are secret, HTTP queries and AI texts of spans and breadcrumbs go."""
    sentry.init(traces_sample_rate=1.0)
    app = async_shop(SentryPlugin(), Secret())

    async def body(ctx: Any, step: Any) -> None:
        sentry_sdk.add_breadcrumb(category="httplib", data={"http.query": CARD, "url": "/x"})
        with sentry_sdk.start_span(op="gen_ai.chat", name="chat") as span:
            span.set_data("gen_ai.request.messages", CARD)
            span.set_data("gen_ai.request.model", "model-1")
        raise ValueError("boom")

    app.function(body, retries=0)
    await app.run(PAYLOAD)
    assert leaks(sentry) == []
    assert "model-1" in sentry.text


@pytest.mark.parametrize("size", [1, 50])
async def test_request_body(
    sentry: Sentry, async_shop: MakeShop, post: Post, body_of: Any, size: int
) -> None:
    """The web framework's copy of the executor's payload is removed from events of a run."""
    sentry.init(
        integrations=[StarletteIntegration(), FastApiIntegration()],
        max_request_body_size="always",
        send_default_pii=True,
        traces_sample_rate=1.0,
    )
    app = async_shop(SentryPlugin())

    async def body(ctx: Any, step: Any) -> None:
        sentry_sdk.capture_message("from the function")
        raise ValueError("boom")

    app.function(body, retries=0)
    await post(app.asgi(), body_of("run-1", event={"data": {**PAYLOAD, "more": ["x"] * size}}))
    assert len(sentry.errors) == 2
    assert len(sentry.transactions) == 1
    for event in (*sentry.errors, *sentry.transactions):
        assert event["request"]["url"].endswith("/api/inngest")
        assert "data" not in event["request"]
    assert leaks(sentry) == []


async def test_event_key(sentry: Sentry, async_shop: MakeShop) -> None:
    """The event key, part of the URL that events are sent to, is in no breadcrumb or span."""
    sentry.init(traces_sample_rate=1.0)
    app = async_shop(SentryPlugin())
    app.client._event_key = EVENT_KEY

    async def body(ctx: Any, step: Any) -> None:
        url = f"https://inn.gs/e/{app.client.event_key}"
        sentry_sdk.add_breadcrumb(category="httplib", data={"url": url}, message=url)
        with sentry_sdk.start_span(op="http.client", name=f"POST {url}") as span:
            span.set_data("url", url)
        raise ValueError("boom")

    app.function(body, retries=0)
    await app.run()
    assert "https://inn.gs/e/[Filtered]" in sentry.text
    assert EVENT_KEY not in sentry.text


async def test_a_broken_filter_drops_the_event(
    sentry: Sentry, async_shop: MakeShop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An event that cannot be cleaned is not sent at all."""

    def broken(*_: Any, **__: Any) -> None:
        raise RuntimeError("filter")

    monkeypatch.setattr("inngest_plugins.sentry.base.privacy.Privacy.clean", broken)
    sentry.init()
    app = async_shop(SentryPlugin())
    app.function(leaky, retries=0)
    run = await app.run(PAYLOAD)
    assert run.status == "Failed"
    assert sentry.lines() == []
