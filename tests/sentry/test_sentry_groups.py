"""Exceptions that are no `Exception`, and groups: one failure of a run is one event."""

from __future__ import annotations

import builtins
import sys
from typing import TYPE_CHECKING, Any

import inngest
import pytest
import sentry_sdk.integrations.logging

from inngest_plugins.sentry import SentryPlugin

if TYPE_CHECKING:
    from tests.sentry.conftest import MakeShop, Sentry

pytestmark = pytest.mark.anyio
needs_groups = pytest.mark.skipif(
    sys.version_info < (3, 11), reason="Python 3.10 has no exception groups"
)


def group_of(*errors: Exception) -> Exception:
    """A group as a task group raises it."""
    group: Any = getattr(builtins, "ExceptionGroup")  # noqa: B009 - see `needs_groups`
    made: Exception = group("both", errors)
    return made


async def failed_steps(step: Any, *names: str) -> list[Exception]:
    """Let a step fail for each of these names, and return what the function received."""

    async def fail(name: str) -> None:
        raise ValueError(name)

    errors: list[Exception] = []
    for name in names:
        try:
            await step.run(name, fail, name)
        except inngest.StepError as err:
            errors.append(err)
    return errors


async def reported(sentry: Sentry, shop: MakeShop, body: Any, **options: Any) -> list[str]:
    """Run a function to its failure and return what Sentry received."""
    sentry.init()
    app = shop(SentryPlugin(**options))
    app.function(body, retries=0)
    assert (await app.run()).status == "Failed"
    return sentry.lines()


@needs_groups
async def test_a_group_of_failed_steps(sentry: Sentry, shop: MakeShop) -> None:
    """Steps whose failures end the run together are in the group's event; another is caught."""

    async def body(ctx: Any, step: Any) -> None:
        first, caught, second = await failed_steps(step, "a", "b", "c")
        del caught
        raise group_of(first, group_of(second, LookupError("new"))) from None

    lines = await reported(sentry, shop, body)
    assert lines == [
        "warning ValueError(b) step=b attempt=0",
        "error ExceptionGroup(both) attempt=0 unhandled",
    ]
    values = sentry.errors[1]["exception"]["values"]
    assert {value["value"] for value in values} >= {"a", "c", "new"}


@needs_groups
async def test_a_group_of_one(sentry: Sentry, shop: MakeShop) -> None:
    """A group around the one step that failed is that step's failure, as a cause is."""

    async def body(ctx: Any, step: Any) -> None:
        (error,) = await failed_steps(step, "a")
        raise RuntimeError from group_of(error)

    lines = await reported(sentry, shop, body)
    assert lines == ["error ValueError(a) step=a attempt=0 unhandled"]


@needs_groups
async def test_a_group_of_steps_reported_at_once(sentry: Sentry, shop: MakeShop) -> None:
    """With `step_errors="immediate"` a group of nothing but failed steps is no new failure."""

    async def body(ctx: Any, step: Any) -> None:
        raise group_of(*await failed_steps(step, "a", "b"))

    lines = await reported(sentry, shop, body, step_errors="immediate")
    assert lines == [f"error ValueError({name}) step={name} attempt=0" for name in "ab"]


@needs_groups
async def test_a_group_that_is_its_own_cause(sentry: Sentry, shop: MakeShop) -> None:
    """A group among the causes of its members is gone through once."""

    async def body(ctx: Any, step: Any) -> None:
        first, second = await failed_steps(step, "a", "b")
        group = group_of(first, second)
        first.__cause__ = group
        raise group

    lines = await reported(sentry, shop, body)
    assert lines == ["error ExceptionGroup(both) attempt=0 unhandled"]


class Odd(BaseException):
    """Not an `Exception`."""


async def test_an_exception_that_is_none(sentry: Sentry, shop: MakeShop) -> None:
    """The embedded engine logs what escaped the app, and that is no event beside the plugin's."""
    sentry.init(integrations=[sentry_sdk.integrations.logging.LoggingIntegration()])
    app = shop(SentryPlugin())

    async def body(ctx: Any, step: Any) -> None:
        raise Odd("boom")

    app.function(body, retries=2)
    assert (await app.run()).status == "Failed"
    assert sentry.lines() == ["error Odd(boom) attempt=2 unhandled"]


@pytest.mark.parametrize("error", [Odd(), SystemExit(3), KeyboardInterrupt()], ids=repr)
async def test_before_capture_that_raises_no_exception(
    sentry: Sentry, caplog: pytest.LogCaptureFixture, error: BaseException, async_shop: MakeShop
) -> None:
    """Such an error of `before_capture` is logged; what ends the process does."""

    def broken(*_: Any) -> Any:
        raise error

    async def body(ctx: Any, step: Any) -> None:
        raise ValueError("boom")

    sentry.init()
    plugin = SentryPlugin(before_capture=broken)
    app = async_shop(plugin, is_async=False)
    app.function(body, retries=0)
    if isinstance(error, Odd):
        run = await app.run()
        assert (run.error or {})["message"] == "boom"
        assert "before_capture raised, the event was dropped" in caplog.messages
    else:
        with pytest.raises(type(error)):
            await app.run()
    assert sentry.lines() == []
