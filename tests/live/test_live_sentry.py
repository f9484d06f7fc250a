"""The Sentry plugin in runs of a real server: what is reported, and in which trace."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import inngest
import pytest
import sentry_sdk
from sentry_sdk.envelope import Envelope
from sentry_sdk.transport import Transport

from inngest_plugins.sentry import SentryPlugin

if TYPE_CHECKING:
    from tests.live.conftest import LiveServer


class Received(Transport):
    """What Sentry would have received."""

    def __init__(self) -> None:
        super().__init__()
        self.envelopes: list[Envelope] = []

    def capture_envelope(self, envelope: Envelope) -> None:
        self.envelopes.append(envelope)

    def items(self, kind: str) -> list[dict[str, Any]]:
        return [
            item.payload.json
            for envelope in self.envelopes
            for item in envelope.items
            if item.type == kind and item.payload.json is not None
        ]


@pytest.fixture
def received() -> Iterator[Received]:
    """A Sentry that keeps everything in memory."""
    transport = Received()
    sentry_sdk.init(
        dsn="https://key@sentry.invalid/1",
        transport=transport,
        traces_sample_rate=1.0,
        auto_enabling_integrations=False,
    )
    yield transport
    sentry_sdk.get_client().close()
    sentry_sdk.get_global_scope().set_client(None)


def wait_for(condition: Callable[[], bool], seconds: float = 30) -> None:
    """Wait until the app's last request has told Sentry of itself."""
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert condition()


def test_live_sentry_reports_a_failure_once(live_server: LiveServer, received: Received) -> None:
    """A step that fails on every attempt is one event, and all requests of the run one trace."""
    client = live_server.client("live-sentry", middleware=[SentryPlugin()])

    async def fine() -> str:
        return "fine"

    async def boom() -> None:
        raise ValueError("boom")

    @client.create_function(
        fn_id="fails", retries=1, trigger=inngest.TriggerEvent(event="live-sentry/fails")
    )
    async def fails(ctx: inngest.Context) -> None:
        await ctx.step.run("fine", fine)
        await ctx.step.run("charge", boom)

    live_server.serve(client, [fails])
    run_id = live_server.start(client, inngest.Event(name="live-sentry/fails"))
    assert live_server.ended(run_id)["status"] == "FAILED"
    wait_for(lambda: len(received.items("transaction")) >= 4)

    (error,) = received.items("event")
    assert error["exception"]["values"][-1]["type"] == "ValueError"
    assert error["tags"]["inngest.run.id"] == run_id
    assert error["tags"]["inngest.step.id"] == "charge"
    assert error["tags"]["inngest.attempt"] == "1"
    traces = [transaction["contexts"]["trace"] for transaction in received.items("transaction")]
    assert len({trace["trace_id"] for trace in traces}) == 1
    assert {trace["op"] for trace in traces} == {"queue.process"}


def test_live_sentry_carries_the_trace(live_server: LiveServer, received: Received) -> None:
    """A run started by another run's event is in its trace, and does not see the carrier."""
    client = live_server.client("live-sentry-send", middleware=[SentryPlugin()])
    seen: list[dict[str, Any]] = []

    @client.create_function(
        fn_id="sends", retries=0, trigger=inngest.TriggerEvent(event="live-sentry/sends")
    )
    async def sends(ctx: inngest.Context) -> None:
        await ctx.step.send_event("tell", inngest.Event(name="live-sentry/sent", data={"id": 1}))

    @client.create_function(
        fn_id="receives", retries=0, trigger=inngest.TriggerEvent(event="live-sentry/sent")
    )
    async def receives(ctx: inngest.Context) -> None:
        seen.append(dict(ctx.event.data))

    live_server.serve(client, [sends, receives])
    run_id = live_server.start(client, inngest.Event(name="live-sentry/sends"))
    live_server.ended(run_id)
    wait_for(lambda: len(received.items("transaction")) >= 3)

    assert seen == [{"id": 1}]
    transactions = received.items("transaction")
    assert {t["transaction"] for t in transactions} == {"sends", "receives"}
    assert len({t["contexts"]["trace"]["trace_id"] for t in transactions}) == 1
