"""The OpenTelemetry plugin on a real server: one trace over two processes, and its own view."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import inngest
import pytest
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from inngest_plugins.otel import OpenTelemetryPlugin, replay_safe_provider

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tests.live.conftest import LiveServer

WORKER = """
import os
from pathlib import Path

import fastapi
import inngest
import inngest.fast_api
from opentelemetry.sdk.trace.export import ConsoleSpanExporter, SimpleSpanProcessor
from tests.live.live_client import client_options

from inngest_plugins.otel import OpenTelemetryPlugin, replay_safe_provider

spans = Path(__file__).with_name(f"spans-{os.environ['PORT']}.jsonl").open("w")
provider = replay_safe_provider()
provider.add_span_processor(
    SimpleSpanProcessor(
        ConsoleSpanExporter(out=spans, formatter=lambda span: span.to_json(indent=None) + "\\n")
    )
)
tracer = provider.get_tracer("user")
client = inngest.Inngest(
    app_id="live-otel-workers",
    **client_options(),
    middleware=[OpenTelemetryPlugin(tracer_provider=provider)],
)


async def work() -> int:
    with tracer.start_as_current_span("inside"):
        return os.getpid()


@client.create_function(
    fn_id="moving", trigger=inngest.TriggerEvent(event="live-otel/moving"), retries=0
)
async def moving(ctx: inngest.Context) -> list[int]:
    with tracer.start_as_current_span("whole"):
        with tracer.start_as_current_span("before"):
            pass
        first = await ctx.step.run("first", work)
        await ctx.step.wait_for_event("move", event="live-otel/moved", timeout=60_000)
        second = await ctx.step.run("second", work)
        pids = await ctx.group.parallel(
            (lambda: ctx.step.run("left", work), lambda: ctx.step.run("right", work))
        )
        with tracer.start_as_current_span("after"):
            return [first, second, *pids]


app = fastapi.FastAPI()
port = os.environ["PORT"]
inngest.fast_api.serve(app, client, [moving], serve_origin=f"http://127.0.0.1:{port}")
"""


def test_live_a_run_that_moves_between_workers_is_one_tree(
    live_server: LiveServer, tmp_path: Path
) -> None:
    """Two processes that share nothing export one tree, every span once, in the engine's trace."""
    module = tmp_path / "otel_worker.py"
    module.write_text(WORKER)
    client = live_server.client("live-otel-sender")

    live_server.serve_process(module)
    run_id = live_server.start(client, inngest.Event(name="live-otel/moving"))
    wait_for_step(live_server, run_id, "first")
    time.sleep(1)
    live_server.serve_process(module)
    client.send_sync(inngest.Event(name="live-otel/moved"))
    run = live_server.ended(run_id)

    assert run["status"] == "COMPLETED"
    first, second, *_ = json.loads(run["output"])
    assert first != second
    lines = [line for file in tmp_path.glob("*.jsonl") for line in file.read_text().splitlines()]
    spans = [json.loads(line) for line in lines]
    ids = [span["context"]["span_id"] for span in spans]
    assert len(ids) == len(set(ids))
    assert len({span["context"]["trace_id"] for span in spans}) == 1
    names = {span["context"]["span_id"]: span["name"] for span in spans}
    own = sorted((s["name"], names.get(s["parent_id"], "")) for s in spans if s["name"] in OWN)
    assert own == [
        ("after", "whole"),
        ("before", "whole"),
        ("inside", "step first"),
        ("inside", "step left"),
        ("inside", "step right"),
        ("inside", "step second"),
        ("step first", "whole"),
        ("step left", "whole"),
        ("step right", "whole"),
        ("step second", "whole"),
        ("whole", "run live-otel-workers-moving"),
    ]


OWN = frozenset(
    ["after", "before", "inside", "whole", "step first", "step second", "step left", "step right"]
)


def wait_for_step(server: LiveServer, run_id: str, step: str) -> None:
    """Wait until the server shows a step of a run."""
    deadline = time.monotonic() + 30
    while not any(span["name"] == step for span in below(server.run(run_id)["trace"])):
        assert time.monotonic() < deadline, f"step {step} did not begin"
        time.sleep(0.1)


def below(span: dict[str, Any] | None) -> Iterable[dict[str, Any]]:
    """The spans below one, at any depth."""
    for child in (span or {}).get("childrenSpans") or ():
        yield child
        yield from below(child)


@pytest.mark.parametrize("retried", [False, True])
def test_live_spans_appear_under_their_step_in_the_engines_view(
    live_server: LiveServer, *, retried: bool
) -> None:
    """User spans are under the right step of the right run, nested, with a final status."""
    provider = replay_safe_provider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(InMemorySpanExporter()))
    tracer = provider.get_tracer("user")
    plugin = OpenTelemetryPlugin(tracer_provider=provider, inngest_traces=True)
    name = "live-otel-view-retried" if retried else "live-otel-view"
    client = live_server.client(name, middleware=[plugin])
    tries: list[int] = []

    async def charge() -> str:
        with tracer.start_as_current_span("call bank"), tracer.start_as_current_span("connect"):
            tries.append(1)
            if retried and len(tries) == 1:
                raise ValueError("not yet")
            return "ok"

    @client.create_function(
        fn_id="view", trigger=inngest.TriggerEvent(event=f"{name}/go"), retries=1
    )
    async def view(ctx: inngest.Context) -> str:
        return await ctx.step.run("charge", charge)

    live_server.serve(client, [view])
    run_id = live_server.start(client, inngest.Event(name=f"{name}/go"))
    live_server.ended(run_id)
    expected = 2 if retried else 1
    deadline = time.monotonic() + 30
    while True:
        steps = [
            span
            for span in below(live_server.run(run_id)["trace"])
            if not span["isUserland"]
            and any(child["isUserland"] for child in span.get("childrenSpans") or ())
        ]
        found = [c for step in steps for c in step["childrenSpans"] if c["isUserland"]]
        if len({span["spanID"] for span in found}) >= expected:
            break
        assert time.monotonic() < deadline, f"{len(found)} user spans are shown"
        time.sleep(0.2)

    assert {span["name"] for span in found} == {"call bank"}
    statuses = {span["spanID"]: span["status"] for span in found}
    assert sorted(statuses.values()) == (["COMPLETED", "FAILED"] if retried else ["COMPLETED"])
    nested = {c["name"] for span in found for c in span.get("childrenSpans") or ()}
    assert nested == {"connect"}
