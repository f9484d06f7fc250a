"""Exceptions whose own code is hostile are reported like all others."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import pytest
from tests.hostile_errors import HOSTILE, Odd

from inngest_plugins.sentry import SentryPlugin

if TYPE_CHECKING:
    from tests.sentry.conftest import MakeShop, Post, Sentry

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("where", ["function", "step"])
@pytest.mark.parametrize("hostile", HOSTILE)
async def test_one_event_with_the_class(
    sentry: Sentry,
    async_shop: MakeShop,
    post: Post,
    body_of: Any,
    caplog: pytest.LogCaptureFixture,
    hostile: str,
    where: str,
) -> None:
    """One error with the class name, the step and the frames; no hook fails."""

    async def boom() -> None:
        error = HOSTILE[hostile]()
        raise error

    async def body(ctx: Any, step: Any) -> None:
        await (step.run("charge", boom) if where == "step" else boom())

    sentry.init(traces_sample_rate=1.0)
    app = async_shop(SentryPlugin(step_errors="immediate"))
    app.function(body)
    # The SDK itself asks the exception for its text when it answers, and may break off there.
    with contextlib.suppress(Exception, Odd):
        await post(app.asgi(), body_of("run-1"))

    (event,) = sentry.errors
    last = event["exception"]["values"][-1]
    assert last["type"] == "Declined"
    assert last["mechanism"]["handled"] is (where == "step")
    assert last["stacktrace"]["frames"][-1]["function"] == "boom"
    assert event["tags"].get("inngest.step.id") == ("charge" if where == "step" else None)
    (transaction,) = sentry.transactions
    assert transaction["contexts"]["trace"]["status"] == "internal_error"
    assert "which was ignored" not in caplog.text
