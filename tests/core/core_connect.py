"""The SDK's `connect` worker, with a gateway that is a list of messages."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import inspect
import json
from collections.abc import Awaitable, Callable
from typing import Any

import inngest
from inngest._internal import comm_lib, server_lib
from inngest.connect._internal import connect_pb2
from tests.core.core_protocol import Reply


def _internals(module: str, *names: str) -> list[Any]:
    """Look up what only newer SDKs have under these names."""
    found = importlib.import_module(f"inngest.connect._internal.{module}")
    return [getattr(found, name, None) for name in names]


# Older SDKs have them under other names, without targeted steps: what they call is called here.
(execution_handler,) = _internals("execution_handler", "ExecutionHandler")
connection_state, state_class = _internals("models", "ConnectionState", "State")
(value_watcher,) = _internals("value_watcher", "ValueWatcher")

_STATUS = {
    connect_pb2.SDKResponseStatus.DONE: 200,
    connect_pb2.SDKResponseStatus.NOT_COMPLETED: 206,
    connect_pb2.SDKResponseStatus.ERROR: 500,
}


class _Gateway:
    """The end of the websocket that the worker writes to."""

    def __init__(self) -> None:
        self.replies: dict[str, asyncio.Future[connect_pb2.SDKResponse]] = {}

    async def send(self, message: bytes) -> None:
        parsed = connect_pb2.ConnectMessage.FromString(message)
        if parsed.kind == connect_pb2.GatewayMessageType.WORKER_REPLY:
            reply = connect_pb2.SDKResponse.FromString(parsed.payload)
            self.replies[reply.request_id].set_result(reply)


def connect_sender(
    client: inngest.Inngest, *functions: inngest.Function[Any]
) -> Callable[[dict[str, str], dict[str, str], bytes], Awaitable[Reply]]:
    """Post calls through the worker's execution handler, as the gateway would."""
    options: dict[str, Any] = {
        "client": client,
        "enable_unauthed_sync": None,
        "framework": server_lib.Framework.CONNECT,
        "functions": list(functions),
        "streaming": None,
    }
    known = inspect.signature(comm_lib.CommHandler).parameters
    comm = comm_lib.CommHandler(**{key: options[key] for key in options if key in known})
    if execution_handler is None:
        return _direct_sender(comm)
    workers: dict[asyncio.AbstractEventLoop, tuple[Any, _Gateway]] = {}
    count = 0

    async def send(query: dict[str, str], headers: dict[str, str], content: bytes) -> Reply:
        nonlocal count
        count += 1
        request_id = f"request-{count}"
        loop = asyncio.get_running_loop()
        if loop not in workers:
            workers.clear()
            workers[loop] = _worker(client, comm)
        worker, gateway = workers[loop]
        reply = gateway.replies[request_id] = loop.create_future()
        trace = {key: value for key, value in headers.items() if key.startswith("trace")}
        worker.handle_msg(
            connect_pb2.ConnectMessage(
                kind=connect_pb2.GatewayMessageType.GATEWAY_EXECUTOR_REQUEST,
                payload=connect_pb2.GatewayExecutorRequestData(
                    app_name=client.app_id,
                    function_slug=query["fnId"],
                    request_id=request_id,
                    request_payload=content,
                    step_id=query["stepId"],
                    system_trace_ctx=json.dumps(trace).encode() if trace else b"",
                ).SerializeToString(),
            ),
            connect_pb2.AuthData(),
            "connection",
        )
        answer = await reply
        answered = {"x-inngest-no-retry": "true"} if answer.no_retry else {}
        return Reply(_STATUS[answer.status], json.loads(answer.body), answered)

    return send


def _direct_sender(
    comm: comm_lib.CommHandler,
) -> Callable[[dict[str, str], dict[str, str], bytes], Awaitable[Reply]]:
    async def send(query: dict[str, str], headers: dict[str, str], content: bytes) -> Reply:
        trace = {key: value for key, value in headers.items() if key.startswith("trace")}
        answer = await comm.post(
            comm_lib.CommRequest(
                body=content,
                headers={},
                is_connect=True,
                public_path=None,
                query_params=query,
                raw_request=connect_pb2.GatewayExecutorRequestData(
                    system_trace_ctx=json.dumps(trace).encode() if trace else b""
                ),
                request_url="",
                serve_origin=None,
                serve_path=None,
            )
        )
        body = answer.body_bytes()
        assert isinstance(body, bytes)
        return Reply(answer.status_code, json.loads(body), answer.headers)

    return send


def _worker(client: inngest.Inngest, comm: comm_lib.CommHandler) -> tuple[Any, _Gateway]:
    gateway = _Gateway()
    socket: Any = gateway
    state = state_class(
        conn_id=value_watcher(None),
        conn_init=value_watcher(None),
        conn_state=value_watcher(connection_state.ACTIVE),
        exclude_gateways=value_watcher(list[str]()),
        extend_lease_interval=value_watcher(None),
        fatal_error=value_watcher(None),
        init_handshake_complete=value_watcher(True),
        pending_request_count=value_watcher(0),
        ws=value_watcher(socket),
    )
    worker = execution_handler(
        api_origin=client.api_origin,
        comm_handlers={client.app_id: comm},
        http_client=client._http_client._http_client,
        http_client_sync=client._http_client._http_client_sync,
        logger=client.logger,
        signing_key=None,
        signing_key_fallback=None,
        state=state,
    )
    with contextlib.suppress(AttributeError):
        worker._main_loop = asyncio.get_running_loop()
    return worker, gateway
