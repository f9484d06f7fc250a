"""The SDK's `connect` worker, against a gateway on the loopback that speaks its protocol."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import inngest
import inngest.connect
import pytest
import sentry_sdk
import websockets
from inngest.connect._internal import connect_pb2 as pb

from inngest_plugins.sentry import SentryPlugin

if TYPE_CHECKING:
    from tests.sentry.conftest import MakeShop, Sentry

pytestmark = [
    pytest.mark.anyio,
    # With all of its integrations Sentry imports whatever is installed.
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]
RUNS = 200
KIND = pb.GatewayMessageType


def message(kind: Any, payload: Any = None) -> bytes:
    body = b"" if payload is None else payload.SerializeToString()
    return bytes(pb.ConnectMessage(kind=kind, payload=body).SerializeToString())


class Gateway:
    """Hands requests to a worker, all at once, and collects its replies."""

    def __init__(self, calls: dict[str, dict[str, Any]]) -> None:
        self.calls = calls
        self.replies: dict[str, Any] = {}
        self.done = asyncio.Event()

    async def serve(self, socket: Any) -> None:
        await socket.send(message(KIND.GATEWAY_HELLO))
        await socket.recv()
        ready = pb.GatewayConnectionReadyData(heartbeat_interval="10s", extend_lease_interval="60s")
        await socket.send(message(KIND.GATEWAY_CONNECTION_READY, ready))
        for run_id, call in self.calls.items():
            trace = {"traceparent": f"00-{trace_id(run_id)}-{'b' * 16}-01"}
            request = pb.GatewayExecutorRequestData(
                request_id=f"request-{run_id}",
                app_name="shop",
                function_slug="shop-fulfil",
                step_id="step",
                request_payload=json.dumps(call).encode(),
                system_trace_ctx=json.dumps(trace).encode(),
                run_id=run_id,
            )
            await socket.send(message(KIND.GATEWAY_EXECUTOR_REQUEST, request))
        # A worker may hang up without a good-bye; logged, that would be one more event.
        with contextlib.suppress(websockets.ConnectionClosed):
            async for raw in socket:
                received = pb.ConnectMessage.FromString(raw)
                if received.kind == KIND.WORKER_REPLY:
                    reply = pb.SDKResponse.FromString(received.payload)
                    self.replies[reply.request_id] = reply
                    ack = pb.WorkerReplyAckData(request_id=reply.request_id)
                    await socket.send(message(KIND.WORKER_REPLY_ACK, ack))
                if len(self.replies) == len(self.calls):
                    self.done.set()


def trace_id(run_id: str) -> str:
    return run_id.encode().hex().rjust(32, "1")


@contextlib.contextmanager
def api(gateway_url: str) -> Iterator[str]:
    """Serve the endpoint that tells a worker its gateway."""
    answer = pb.StartResponse(
        connection_id="c1", gateway_endpoint=gateway_url, gateway_group="g", session_token="s"
    ).SerializeToString()

    class Start(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.send_response(200)
            self.send_header("content-length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, format: str, *args: Any) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Start) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


async def work(run_id: str) -> None:
    with sentry_sdk.start_span(op="work", name=run_id):
        sentry_sdk.add_breadcrumb(message=run_id)
        await asyncio.sleep(random.random() / 50)
        sentry_sdk.set_tag("user.run", run_id)
        await asyncio.sleep(random.random() / 50)
    raise ValueError(run_id)


@pytest.mark.parametrize(
    "options",
    [
        {"default_integrations": True, "auto_enabling_integrations": True},
        {"default_integrations": True},
        {"default_integrations": False},
    ],
    ids=["all", "default", "none"],
)
async def test_connect_worker(
    sentry: Sentry, async_shop: MakeShop, body_of: Any, options: dict[str, Any]
) -> None:
    """200 runs at once in a worker without any request scope: each event is on its own run."""

    async def body(ctx: Any, step: Any) -> None:
        await step.run("work", work, ctx.run_id)

    sentry.init(traces_sample_rate=1.0, **options)
    app = async_shop(SentryPlugin(step_errors="immediate"))
    app.function(body)
    gateway = Gateway({f"run-{n}": body_of(f"run-{n}") for n in range(RUNS)})
    protocol = websockets.Subprotocol("v0.connect.inngest.com")
    async with websockets.serve(gateway.serve, "127.0.0.1", 0, subprotocols=[protocol]) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        with api(f"ws://127.0.0.1:{port}") as origin:
            client = inngest.Inngest(
                app_id="shop",
                is_production=False,
                api_base_url=origin,
                middleware=app.client.middleware,
            )
            connection = inngest.connect.connect([(client, app.functions)], shutdown_signals=[])
            running = asyncio.create_task(connection.start())
            await asyncio.wait_for(gateway.done.wait(), 60)
            await connection.close(wait=True)
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)

    errors = [event for event in sentry.errors if event.get("exception")]
    assert len(errors) == RUNS
    for event in errors:
        said = event["exception"]["values"][-1]["value"]
        assert event["tags"]["inngest.run.id"] == event["tags"]["user.run"] == said
        assert event["contexts"]["trace"]["trace_id"] == trace_id(said)
        crumbs = {crumb.get("message") for crumb in event["breadcrumbs"]["values"]}
        assert {c for c in crumbs if c and c.startswith("run-")} == {said}
    ours = [t for t in sentry.transactions if t["transaction"] == "fulfil"]
    assert len(ours) == RUNS
    for transaction in ours:
        run_id = transaction["tags"]["inngest.run.id"]
        assert [s["description"] for s in transaction["spans"] if s["op"] == "work"] == [run_id]
