"""Parts of events that skip Sentry's serializer, and the list of packages that it reads."""

from __future__ import annotations

import importlib.metadata
import threading
import uuid
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import pytest
import sentry_sdk
from sentry_sdk import serializer, utils
from sentry_sdk.integrations.modules import ModulesIntegration

from inngest_plugins.core import Layer, Plugin
from inngest_plugins.sentry import SentryPlugin
from inngest_plugins.sentry.events import captures as _captures
from inngest_plugins.sentry.events.one_at_a_time import package_reader
from inngest_plugins.sentry.events.serialized_parts import finish

if TYPE_CHECKING:
    from tests.sentry.conftest import MakeShop, Post, Sentry

pytestmark = pytest.mark.anyio


def init(sentry: Sentry, **options: Any) -> None:
    """Initialise Sentry with its list of packages, which it sets up once in a process."""
    sentry.init(integrations=[ModulesIntegration()], **options)
    if package_reader() is None:
        ModulesIntegration.setup_once()


class Secret(Plugin):
    """Stands for encryption: says that the stack keeps payloads secret."""

    layer = Layer.WIRE
    secret_payloads = True


async def fails(ctx: Any, step: Any) -> None:
    async def charge() -> None:
        sentry_sdk.set_context("runtime", {"name": "CPython"})
        sentry_sdk.set_tag("long", "x" * 300)
        sentry_sdk.set_tag("middling", "y" * 80)
        card = {"number": [1, 2]}
        raise ValueError("refused", len(card))

    await step.run("charge", charge)


VOLATILE = {
    "event_id",
    "messaging.message.receive.latency",
    "parent_span_id",
    "span_id",
    "start_timestamp",
    "timestamp",
    "vars",
}


def lasting(value: Any) -> Any:
    """What of an event is the same each time it is made."""
    if isinstance(value, dict):
        return {key: lasting(item) for key, item in value.items() if key not in VOLATILE}
    return [lasting(item) for item in value] if isinstance(value, list) else value


@pytest.mark.parametrize("secret", [False, True])
@pytest.mark.parametrize("longest", [None, 60])
async def test_events_are_the_same(
    sentry: Sentry,
    async_shop: MakeShop,
    post: Post,
    body_of: Any,
    monkeypatch: pytest.MonkeyPatch,
    secret: bool,
    longest: int | None,
) -> None:
    """What skips the serializer looks on the wire as if it had been serialized."""
    init(sentry, traces_sample_rate=1.0, max_value_length=longest)
    plugin = SentryPlugin(step_errors="immediate")
    app = async_shop(plugin, *([Secret()] if secret else []))
    app.function(fails)
    served = app.asgi()
    made: list[list[Any]] = []
    visits: list[int] = []
    visit = utils.strip_string

    def counting(*args: Any, **kwargs: Any) -> Any:
        visits[-1] += 1
        return visit(*args, **kwargs)

    monkeypatch.setattr(serializer, "strip_string", counting)
    for replaced in (finish, lambda event, longest: None):
        monkeypatch.setattr(_captures, "finish", replaced)
        visits.append(0)
        await post(served, body_of("run-1"))
        made.append([lasting(item) for item in (*sentry.errors, *sentry.transactions)])
        sentry.clear()
    finished, serialized = made
    assert len(finished) == 2
    assert finished == serialized
    assert finished[0]["modules"]
    assert finished[0]["contexts"]["runtime"]
    assert visits[0] < visits[1] / 2


async def test_what_others_add_later(sentry: Sentry, shop: MakeShop) -> None:
    """An event processor that comes later may add anything, and the event is sent all the same."""
    number = uuid.UUID(int=1)
    annotated: Any = vars(utils)["AnnotatedValue"]

    def add(event: Any, hint: Any) -> Any:
        event["tags"]["number"] = number
        event["contexts"]["inngest"]["more"] = {"nan": float("nan"), 1: (number, 2.5)}
        event["modules"]["cut"] = annotated("short", {"len": 300})
        return event

    async def body(ctx: Any, step: Any) -> None:
        sentry_sdk.get_current_scope().add_event_processor(add)
        raise ValueError("boom")

    init(sentry)
    app = shop(SentryPlugin())
    app.function(body, retries=0)
    await app.run()
    (event,) = sentry.errors
    assert event["tags"]["number"] == repr(number)
    assert event["contexts"]["inngest"]["more"] == {"nan": "nan", "1": [repr(number), 2.5]}
    assert event["modules"]["cut"] == "short"


# ---------------------------------------------------------------- the list of packages


@pytest.fixture
def readers(monkeypatch: pytest.MonkeyPatch) -> list[threading.Thread]:
    """The threads in which the metadata of installed packages is read."""
    threads: list[threading.Thread] = []
    read = importlib.metadata.distributions

    def reading() -> Iterable[importlib.metadata.Distribution]:
        threads.append(threading.current_thread())
        return read()

    monkeypatch.setattr(importlib.metadata, "distributions", reading)
    monkeypatch.setattr(utils, "_installed_modules", None)
    return threads


async def test_packages_are_listed_off_the_loop(
    sentry: Sentry, async_shop: MakeShop, readers: list[threading.Thread]
) -> None:
    """The first capture does not hold up the event loop with the list of installed packages."""
    init(sentry)
    app = async_shop(SentryPlugin())
    app.function(fails, retries=0)
    await app.run()
    await app.run()
    assert [thread.name for thread in readers] == ["inngest-plugins-sentry-packages"]
    assert [error["modules"]["sentry-sdk"] for error in sentry.errors] == [sentry_sdk.VERSION] * 2


async def test_packages_that_cannot_be_listed(
    sentry: Sentry, async_shop: MakeShop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A list that cannot be read costs no event."""

    def broken() -> None:
        raise OSError("no disk")

    monkeypatch.setattr(utils, "_get_installed_modules", broken)
    monkeypatch.setattr("sentry_sdk.integrations.modules._get_installed_modules", broken)
    init(sentry)
    app = async_shop(SentryPlugin())
    app.function(fails, retries=0)
    await app.run()
    (event,) = sentry.errors
    assert "modules" not in event


async def test_packages_that_nobody_wants(
    sentry: Sentry, async_shop: MakeShop, readers: list[threading.Thread]
) -> None:
    """Without Sentry's integration for it the list is not read."""
    init(sentry)
    sentry.init()
    app = async_shop(SentryPlugin())
    app.function(fails, retries=0)
    await app.run()
    assert len(sentry.errors) == 1
    assert readers == []


def test_reader_is_found(sentry: Sentry, readers: list[threading.Thread]) -> None:
    """Sentry's integration reads the list in an event processor of its own module."""
    init(sentry)
    read = package_reader()
    assert read is not None
    read()
    assert len(readers) == 1
