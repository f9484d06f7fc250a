"""Exceptions whose own code is hostile mark spans as failed like all others."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import inngest
import pytest
from tests.hostile_errors import HOSTILE, Odd
from tests.otel.test_otel_traces import body, post

if TYPE_CHECKING:
    from tests.otel.conftest import Telemetry

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("messages", [True, False], ids=["messages", "no messages"])
@pytest.mark.parametrize("where", ["function", "step"])
@pytest.mark.parametrize("hostile", HOSTILE)
async def test_status_and_event_are_set(
    telemetry: Telemetry, hostile: str, where: str, messages: bool
) -> None:
    """The span that failed has status, type and one exception event, and metrics the type."""
    client = telemetry.client(exception_messages=messages)

    async def boom() -> None:
        error = HOSTILE[hostile]()
        raise error

    @client.create_function(fn_id="f", trigger=inngest.TriggerEvent(event="shop/order"))
    async def function(ctx: inngest.Context) -> None:
        await (ctx.step.run("charge", boom) if where == "step" else boom())

    sent: dict[str, Any] = body()
    # The SDK itself asks the exception for its text when it answers, and may break off there.
    with contextlib.suppress(Exception, Odd):
        await post(client, function, {}, sent)

    span = telemetry.one("run shop-f" if where == "function" else "step charge")
    assert span.status == "ERROR"
    kind = str(span.attributes["error.type"])
    assert kind.split(".")[-1] == "Declined"
    (event,) = span.raw.events
    attributes = dict(event.attributes or {})
    assert event.name == "exception"
    assert attributes["exception.type"] == kind
    if messages:
        assert "boom" in str(attributes["exception.stacktrace"])
        assert str(span.raw.status.description).startswith("Declined: ")
    else:
        assert attributes.keys() == {"exception.type"}
    (point,) = telemetry.points("inngest.request.duration")
    assert point.count == 1
