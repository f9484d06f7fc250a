"""What the Sentry plugin adds to a request, beside the SDK's experimental Sentry middleware.

Everything in one process and one run: the same FastAPI app is called in process, Sentry's
transport keeps envelopes in memory, and the variants take turns. Times are processor time of the
event loop's thread, which other load on the machine changes little. "core alone" is a plugin with
the same hooks that do nothing. Run it with `python benchmarks/sentry_request.py`.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import hashlib
import json
import logging
import statistics
import time
import warnings
from collections.abc import Callable
from typing import Any

import fastapi
import inngest
import inngest.fast_api
import sentry_sdk
from figures import figure
from inngest.experimental.sentry_middleware import SentryMiddleware
from sentry_sdk.envelope import Envelope
from sentry_sdk.integrations.fastapi import FastApiIntegration
from sentry_sdk.integrations.starlette import StarletteIntegration
from sentry_sdk.transport import Transport

from inngest_plugins.core import Call, Layer, Outcome, Plugin, Step
from inngest_plugins.sentry import SentryPlugin

QUERY = b"fnId=bench-work&stepId=step"
MEMOS = 50


class MemoryTransport(Transport):
    """Takes envelopes and lets them go."""

    count = 0

    def capture_envelope(self, envelope: Envelope) -> None:
        del envelope
        MemoryTransport.count += 1


class Nothing(Plugin):
    """The same hooks, empty."""

    layer = Layer.OBSERVE

    def transform_input(self, call: Call) -> None: ...
    def before_memoization(self, call: Call) -> None: ...
    def after_memoization(self, call: Call) -> None: ...
    def around_step(self, call: Call, step: Step) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext()

    def transform_output(self, call: Call, outcome: Outcome) -> None: ...


def app_with(middleware: list[Any], *, fails: bool) -> Any:
    """Serve a function of 51 steps that succeeds, or one that fails at once."""
    client = inngest.Inngest(
        app_id="bench",
        is_production=False,
        middleware=middleware,
        logger=logging.getLogger("bench"),
    )

    async def one() -> int:
        return 1

    @client.create_function(fn_id="work", trigger=inngest.TriggerEvent(event="bench/work"))
    async def work(ctx: inngest.Context) -> None:
        if fails:
            raise ValueError("boom")
        for n in range(MEMOS + 1):
            await ctx.step.run(f"s{n}", one)

    app = fastapi.FastAPI()
    inngest.fast_api.serve(app, client, [work])
    return app


def request_body(memos: int, max_attempts: int = 1) -> bytes:
    steps = {hashlib.sha1(f"s{n}".encode()).hexdigest(): {"data": n} for n in range(memos)}
    event = {"name": "bench/work", "id": "e1", "data": {"order": 1}, "ts": 1}
    ctx = {
        "attempt": 0,
        "max_attempts": max_attempts,
        "disable_immediate_execution": False,
        "run_id": "01M7Y89F7P1QJPPV3Z3PET4B7E",
        "stack": {"stack": list(steps), "current": len(steps)},
        "use_api": False,
    }
    body = {"ctx": ctx, "event": event, "events": [event], "steps": steps, "use_api": False}
    return json.dumps(body).encode()


async def post(app: Any, body: bytes) -> float:
    """Call the app once; return the seconds of processor time that the event loop's thread took."""
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": "/api/inngest",
        "raw_path": b"/api/inngest",
        "query_string": QUERY,
        "root_path": "",
        "headers": [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode()),
        ],
        "client": ("127.0.0.1", 1),
        "server": ("bench", 80),
    }
    messages = iter(({"type": "http.request", "body": body, "more_body": False},))

    async def receive() -> Any:
        return next(messages, {"type": "http.disconnect"})

    async def send(message: Any) -> None:
        del message

    started = time.thread_time()
    await app(scope, receive, send)
    return time.thread_time() - started


async def compare(title: str, rounds: int, *, memos: int, fails: bool, max_attempts: int) -> None:
    variants: dict[str, Callable[[], list[Any]]] = {
        "no middleware": list,
        "experimental": lambda: [SentryMiddleware],
        "core alone": lambda: [Nothing()],
        "plugin": lambda: [SentryPlugin()],
    }
    apps = {name: app_with(make(), fails=fails) for name, make in variants.items()}
    body = request_body(memos, max_attempts)
    times: dict[str, list[float]] = {name: [] for name in apps}
    sent: dict[str, int] = dict.fromkeys(apps, 0)
    for n in range(rounds + 20):
        order = list(apps.items())
        for name, app in order[n % len(order) :] + order[: n % len(order)]:
            before = MemoryTransport.count
            seconds = await post(app, body)
            if n >= 20:
                times[name].append(seconds)
                sent[name] += MemoryTransport.count - before
    medians = {name: statistics.median(values) * 1e6 for name, values in times.items()}
    base = medians["no middleware"]
    for name, median in medians.items():
        print(
            f"    {name:<14} {median:9.1f} us   x{median / base:5.3f}   +{median - base:7.1f} us"
            f"   {sent[name] / rounds:.0f} envelopes"
        )
    ratio = medians["plugin"] / medians["experimental"]
    print(f"    plugin / experimental: {ratio:.3f}")
    figure(f"{title}: plugin / the official middleware", ratio, at_most=1)


async def longest_pauses(app: Any, body: bytes) -> tuple[float, float]:
    """Let ten requests arrive at the same time; return the loop's longest pause in ms.

    Returns:
        As the clock tells it, which other load on the machine lengthens, and as processor time of
        the loop's thread in one round of the loop.
    """
    work = asyncio.gather(*(post(app, body) for _ in range(10)))
    waited = worked = 0.0
    clock, processor = time.perf_counter(), time.thread_time()
    while not work.done():
        await asyncio.sleep(0)
        now, used = time.perf_counter(), time.thread_time()
        waited, worked = max(waited, now - clock), max(worked, used - processor)
        clock, processor = now, used
    return waited * 1000, worked * 1000


async def slow_endpoint(rounds: int) -> None:
    """Fail ten runs at once while Sentry's endpoint accepts connections and never answers."""
    server = await asyncio.start_server(_never, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    client = sentry_sdk.Client(
        dsn=f"http://key@127.0.0.1:{port}/1", auto_enabling_integrations=False, shutdown_timeout=0
    )
    sentry_sdk.get_global_scope().set_client(client)
    plugin = SentryPlugin(flush=True, flush_timeout=0.3)
    body = request_body(0)
    for name, middleware in (("no middleware", []), ("plugin", [plugin])):
        app = app_with(middleware, fails=True)
        pauses = [await longest_pauses(app, body) for _ in range(rounds + 1)]
        first, *others = pauses
        for what, kind in (("by the clock", 0), ("processor time", 1)):
            values = [pause[kind] for pause in others]
            print(
                f"    {name:<14} {what:<15} first {first[kind]:6.1f} ms, then median"
                f" {statistics.median(values):5.1f} ms, worst {max(values):6.1f} ms"
            )
    server.close()


async def _never(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    del writer
    with contextlib.suppress(asyncio.CancelledError):
        while await reader.read(65536):
            pass


def init(**options: Any) -> None:
    sentry_sdk.init(
        dsn="https://key@sentry.invalid/1",
        transport=MemoryTransport(),
        auto_enabling_integrations=False,
        **options,
    )


async def main(rounds: int) -> None:
    logging.getLogger("urllib3").setLevel(logging.CRITICAL)
    web = [StarletteIntegration(), FastApiIntegration()]
    settings: tuple[tuple[str, dict[str, Any]], ...] = (
        ("Sentry's default integrations", {}),
        ("with the FastAPI integration", {"integrations": web}),
        (
            "with the FastAPI integration and traces_sample_rate=1.0",
            {"integrations": web, "traces_sample_rate": 1.0},
        ),
    )
    for title, options in settings:
        init(**options)
        print(title)
        for what, memos, fails, max_attempts in (
            ("first request, one step", 0, False, 1),
            (f"{MEMOS} memoized steps, one new", MEMOS, False, 1),
            ("function raises, on its last attempt", 0, True, 1),
            ("function raises, and will be tried again", 0, True, 4),
        ):
            print(f"  {what}")
            await compare(
                f"{title}, {what}", rounds, memos=memos, fails=fails, max_attempts=max_attempts
            )
    print("ten runs fail at the same time, endpoint never answers, flush=True: longest pause")
    await slow_endpoint(max(3, rounds // 100))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=1000, help="requests of each variant")
    warnings.simplefilter("ignore", DeprecationWarning)
    asyncio.run(main(parser.parse_args().rounds))
