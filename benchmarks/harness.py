"""What the benchmarks share: requests to a function without a web framework, in fair rounds.

Variants are measured in interleaved rounds, so that a slow second of the machine hits all of them,
and compared by the median of their rounds.
"""

from __future__ import annotations

import asyncio
import gc
import hashlib
import json
import statistics
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import inngest
from inngest._internal import comm_lib, server_lib

Middleware = Sequence[Callable[[inngest.Inngest, object], Any]]


@dataclass(frozen=True)
class Variant:
    """One contender: a name and something to call once.

    Attributes:
        name: shown in the table.
        call: runs one request; may return an awaitable.
    """

    name: str
    call: Callable[[], Awaitable[Any]]


def hashed(step_id: str) -> str:
    """Return the engine's id of a step."""
    return hashlib.sha1(step_id.encode()).hexdigest()


def request_body(memos: int, *, data: Mapping[str, Any] | None = None) -> bytes:
    """Return the body of an executor request with so many memoized steps `s0`, `s1`, ..."""
    event = {"name": "bench/event", "data": dict(data or {}), "id": "01", "ts": 1}
    return json.dumps(
        {
            "ctx": {
                "attempt": 0,
                "max_attempts": 4,
                "disable_immediate_execution": False,
                "run_id": "01JDBENCH0000000000000000A",
                "stack": {"stack": []},
            },
            "event": event,
            "events": [event],
            "steps": {hashed(f"s{i}"): {"data": {"n": i}} for i in range(memos)},
            "use_api": False,
        }
    ).encode()


def requester(
    middleware: Middleware,
    memos: int,
    *,
    sync: bool = False,
    body: bytes | None = None,
    step: Callable[[], Awaitable[Any]] | None = None,
) -> Callable[[], Awaitable[Any]]:
    """Return a callable that has a function with `memos` memoized steps run its next step.

    Args:
        middleware: of the client.
        memos: how many steps have a stored result.
        sync: a sync function.
        body: of the request, if not one with the memos that the function gives.
        step: what each step of an async function runs.
    """
    client = inngest.Inngest(app_id="bench", is_production=False, middleware=list(middleware))
    handler = comm_lib.CommHandler(
        client=client,
        enable_unauthed_sync=None,
        framework=server_lib.Framework.FAST_API,
        functions=[_function(client, memos, step or value, sync=sync)],
        streaming=None,
    )
    sent = request_body(memos) if body is None else body

    async def call() -> Any:
        request = _request(sent)
        return handler.post_sync(request) if sync else await handler.post(request)

    return call


async def value() -> dict[str, int]:
    """What a step of a benchmark gives."""
    return {"n": 1}


def _function(
    client: inngest.Inngest, memos: int, step: Callable[[], Awaitable[Any]], *, sync: bool
) -> inngest.Function[None]:
    trigger = inngest.TriggerEvent(event="bench/event")
    if sync:

        @client.create_function(fn_id="fn", trigger=trigger)
        def sync_function(ctx: inngest.ContextSync) -> None:
            for i in range(memos + 1):
                ctx.step.run(f"s{i}", lambda: {"n": 1})

        return sync_function

    @client.create_function(fn_id="fn", trigger=trigger)
    async def function(ctx: inngest.Context) -> None:
        for i in range(memos + 1):
            await ctx.step.run(f"s{i}", step)

    return function


def _request(body: bytes) -> comm_lib.CommRequest:
    return comm_lib.CommRequest(
        body=body,
        headers={},
        public_path=None,
        query_params={"fnId": "bench-fn", "stepId": "step"},
        raw_request=None,
        request_url="http://localhost/api/inngest",
        serve_origin=None,
        serve_path=None,
    )


def measure(variants: Sequence[Variant], *, rounds: int = 40, calls: int = 50) -> dict[str, float]:
    """Return the median seconds of one call of each variant."""

    async def run() -> dict[str, float]:
        times: dict[str, list[float]] = {variant.name: [] for variant in variants}
        for variant in variants:
            for _ in range(calls):
                await variant.call()
        for _ in range(rounds):
            for variant in variants:
                gc.collect()
                gc.disable()
                started = time.perf_counter()
                for _ in range(calls):
                    await variant.call()
                times[variant.name].append((time.perf_counter() - started) / calls)
                gc.enable()
        return {name: statistics.median(seconds) for name, seconds in times.items()}

    return asyncio.run(run())


def table(title: str, medians: Mapping[str, float], *, base: str) -> None:
    """Print medians in microseconds, each as a ratio of `base`."""
    print(f"\n{title}")
    for name, seconds in medians.items():
        print(f"  {name:<44} {seconds * 1e6:>10.1f} us   x{seconds / medians[base]:.3f}")
