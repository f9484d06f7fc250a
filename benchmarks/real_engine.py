"""The shop of `examples/production` on a real server, while workers die and services go away.

    INNGEST_DEV_URL=http://127.0.0.1:8288 INNGEST_EVENT_KEY=... INNGEST_SIGNING_KEY=... \
        python benchmarks/real_engine.py --postgres postgresql://postgres@127.0.0.1:5432/postgres

All plugins and checkpointing, two workers in production mode. One of them is killed at random every
few seconds; the shop's database, Sentry, the OTLP collector and the mirror's database go away for a
while, one after the other. Prints what was lost, doubled, wrong, leaked, the traces a run has, and
the events that a failure is at Sentry: 0, 0, 0, 0, 1, 1. The databases are made, and dropped again.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import datetime as dt
import json
import os
import random
import secrets
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncpg  # type: ignore[import-untyped,unused-ignore]
import httpx
import inngest
import uvicorn

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from examples.production import events, payments, run
from examples.production.register import register
from real.counted import (
    Order,
    Report,
    check_effects,
    check_leaks,
    check_runs,
    check_sentry,
    check_traces,
)
from real.services import Gate, Recorder
from tests.composition.composition_secrets import HEAD, TAIL

from inngest_plugins.encryption import EncryptionPlugin, Key, KeyRing

ROOT = Path(__file__).resolve().parents[1]
IN_FLIGHT = 60
GIVE_UP_AFTER = 420.0
"""Seconds without any order ending: longer than the server's backoff after four kills."""


@dataclass
class World:
    """Everything around the workers.

    Attributes:
        env: the workers' variables.
        gates: what can go away, by name.
        sentry: what Sentry got.
        otlp: what the collector got.
        database: a connection to the shop's database that no gate shuts.
        folder: where the workers log.
        away: when each service was away, from and until.
        kills: when a worker was killed.
    """

    env: dict[str, str]
    gates: dict[str, Gate]
    sentry: Recorder
    otlp: Recorder
    database: Any
    folder: Path
    away: dict[str, tuple[float, float]] = field(default_factory=dict[str, tuple[float, float]])
    kills: list[float] = field(default_factory=list[float])


@contextlib.asynccontextmanager
async def world(postgres: str, keys: Key, port: int) -> AsyncIterator[World]:
    """Open the services, and the gates before them."""
    url = httpx.URL(postgres)
    name = f"real_{secrets.token_hex(4)}"
    admin = await asyncpg.connect(postgres)
    await admin.execute(f"CREATE DATABASE {name}")
    sentry, otlp = Recorder(), Recorder()
    gates = {
        "database": Gate(url.port or 5432),
        "sentry": Gate(sentry.port),
        "otlp": Gate(otlp.port),
        "mirror": Gate(url.port or 5432),
    }
    for gate in gates.values():
        await gate.open()
    provider = uvicorn.Server(
        uvicorn.Config(payments.app, host="127.0.0.1", port=0, log_level="warning")
    )
    serving = asyncio.create_task(provider.serve())
    while not provider.started:
        await asyncio.sleep(0.05)
    own = await asyncpg.connect(str(url.copy_with(path=f"/{name}")))
    user = url.userinfo.decode()
    env = {
        **run.environment(None, port),
        "INNGEST_BASE_URL": os.environ["INNGEST_DEV_URL"],
        "SHOP_KEYS": keys.to_text(),
        "SHOP_OPERATOR_TOKEN": secrets.token_hex(8),
        "SHOP_DATABASE": f"postgresql+asyncpg://{user}@127.0.0.1:{gates['database'].port}/{name}",
        "INNGEST_MIRROR_URL": f"postgresql+asyncpg://{user}@127.0.0.1:{gates['mirror'].port}/{name}",
        "PAYMENTS_URL": f"http://127.0.0.1:{provider.servers[0].sockets[0].getsockname()[1]}",
        "SENTRY_DSN": f"http://key@127.0.0.1:{gates['sentry'].port}/1",
        "SENTRY_TRACES_SAMPLE_RATE": "1.0",
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{gates['otlp'].port}",
    }
    env.pop("INNGEST_DEV", None)
    with tempfile.TemporaryDirectory() as folder:
        try:
            yield World(env, gates, sentry, otlp, own, Path(folder))
        finally:
            provider.should_exit = True
            await serving
            for gate in gates.values():
                await gate.shut()
            sentry.close()
            otlp.close()
            await own.close()
            await admin.execute(f"DROP DATABASE {name} WITH (FORCE)")
            await admin.close()


class Workers:
    """Two workers on one port, one of which is killed now and then, and started again."""

    def __init__(self, around: World, shared: Any, *, every: float) -> None:
        self._world, self._shared, self._every = around, shared, every
        self._workers: list[int] = []
        self._starter: Any = None
        self._killer: asyncio.Task[None] | None = None

    async def _start(self) -> int:
        log = self._world.folder / f"worker-{secrets.token_hex(4)}.log"
        self._starter.stdin.write(f"{log}\n".encode())
        return int(await self._starter.stdout.readline())

    async def start(self, url: str) -> None:
        """Make the tables, start both, and register the app."""
        commands = (
            [sys.executable, "-m", f"{run.PACKAGE}.orders"],
            [str(Path(sys.executable).with_name("inngest-plugins")), "mirror", "upgrade"],
        )
        for command in commands:
            made = await asyncio.create_subprocess_exec(*command, cwd=ROOT, env=self._world.env)
            assert await made.wait() == 0, command
        starter = ROOT / "benchmarks" / "real" / "worker.py"
        fd = self._shared.fileno()
        self._starter = await asyncio.create_subprocess_exec(
            sys.executable,
            str(starter),
            str(fd),
            cwd=ROOT,
            env={**self._world.env, "PYTHONPATH": str(ROOT)},
            pass_fds=[fd],
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        self._workers = [await self._start(), await self._start()]
        await register(url)

    def begin_to_kill(self) -> None:
        """Kill one at random from now on."""
        self._killer = asyncio.create_task(self._kill())

    async def _kill(self) -> None:
        while True:
            await asyncio.sleep(self._every * random.uniform(0.5, 1.5))
            victim = self._workers.pop(random.randrange(2))
            self._world.kills.append(time.time())
            os.kill(victim, signal.SIGKILL)
            self._workers.append(await self._start())

    async def stop(self) -> None:
        """Kill no more, and let both end, with what they still have to send."""
        if self._killer is not None:
            self._killer.cancel()
            await asyncio.gather(self._killer, return_exceptions=True)
        for worker in self._workers:
            os.kill(worker, signal.SIGTERM)
        while any(Path(f"/proc/{worker}").exists() for worker in self._workers):
            await asyncio.sleep(0.1)
        if self._starter is not None:
            self._starter.stdin.close()
            await self._starter.wait()


async def outages(around: World, finished: asyncio.Queue[float], seconds: float) -> None:
    """Shut one gate after the other, as the share of finished orders grows."""
    begins = dict(zip((0.15, 0.35, 0.5, 0.7), around.gates, strict=True))
    while begins:
        share = await finished.get()
        for at in [at for at in begins if share >= at]:
            name = begins.pop(at)
            began = time.time()
            await around.gates[name].shut()
            await asyncio.sleep(seconds)
            await around.gates[name].open()
            around.away[name] = (began, time.time())
            print(f"  {name} was away for {seconds:.0f} s", flush=True)


async def place(
    around: World, client: inngest.Inngest, count: int, seconds: float, patience: float
) -> list[Order]:
    """Place orders, some at a time, and return when all have ended or nothing moves any more."""
    orders: list[Order] = []
    ended, moved = 0, time.monotonic()
    finished: asyncio.Queue[float] = asyncio.Queue()
    away = asyncio.create_task(outages(around, finished, seconds))
    while ended < count and time.monotonic() - moved < patience:
        while len(orders) < count and len(orders) - ended < IN_FLIGHT:
            orders.append(await _place_one(client, len(orders)))
        await asyncio.sleep(0.5)
        now = await around.database.fetchval(
            "SELECT count(DISTINCT order_id) FROM shop_effects WHERE step IN ('mail', 'release')"
        )
        if now > ended:
            moved = time.monotonic()
            if now * 10 // count > ended * 10 // count:
                print(f"  {now} orders ended, {len(around.kills)} workers killed", flush=True)
            finished.put_nowait(now / count)
        ended = now
    finished.put_nowait(1.0)
    await away
    return orders


async def _place_one(client: inngest.Inngest, index: int) -> Order:
    declined = index % 20 == 7
    number, name = f"N{index:05}", f"{HEAD} {index} {TAIL}"
    wanted = events.Order(
        order_id=number,
        branch="north",
        articles={"tea-sencha": 2},
        customer=events.Customer(name=name, email=f"{HEAD}@example.com"),
        payment=events.Payment(card_token="tok_declined" if declined else f"tok_{HEAD}"),
    )
    (event_id,) = await client.send(events.order_placed.new(wanted))
    return Order(number, event_id, name, declined)


_TRACE = """{run(runID:"%s"){status output trace(preview:true){name status metadata{values}
  childrenSpans{name status outputID metadata{values} userlandSpan{spanName}
  childrenSpans{name status outputID metadata{values} userlandSpan{spanName}}}}}}"""


async def asked(orders: list[Order]) -> tuple[dict[str, list[Any]], list[tuple[str, str]]]:
    """Ask the server for every order's event, runs and traces."""
    key = os.environ["INNGEST_SIGNING_KEY"]
    authorization = {"authorization": f"Bearer {key}"}
    runs: dict[str, list[Any]] = {}
    texts: list[tuple[str, str]] = []
    limit = asyncio.Semaphore(4)
    base = os.environ["INNGEST_DEV_URL"]
    async with httpx.AsyncClient(base_url=base, headers=authorization, timeout=60) as http:

        async def ask(order: Order) -> None:
            async with limit:
                answer = await http.get(f"/v1/events/{order.event_id}/runs")
                runs[order.event_id] = answer.raise_for_status().json()["data"]
                event = await http.get(f"/v1/events/{order.event_id}")
                texts.extend([(order.number, answer.text), (order.number, event.text)])
                for each in runs[order.event_id]:
                    query = {"query": _TRACE % each["run_id"]}
                    trace = (await http.post("/v0/gql", json=query)).raise_for_status()
                    texts.append((each["run_id"], json.dumps(trace.json(), ensure_ascii=False)))

        await asyncio.gather(*(ask(order) for order in orders))
    return runs, texts


def mirrored(tables: dict[str, list[Any]]) -> Iterator[tuple[str, str]]:
    """The rows of the mirror's tables, as text."""
    for table, rows in tables.items():
        for row in rows:
            yield table, json.dumps([str(value) for value in row.values()], ensure_ascii=False)


def could_know(around: World, ended: float) -> bool:
    """Whether Sentry was there when a run ended, and the workers lived on for some seconds."""
    began, until = around.away.get("sentry", (0.0, 0.0))
    return not began - 5 < ended < until + 5 and not any(
        -5 < at - ended < 15 for at in around.kills
    )


async def count_all(around: World, orders: list[Order], keys: Key) -> Report:
    """Look at everything that is left."""
    report = Report()
    runs, texts = await asked(orders)
    decrypt = EncryptionPlugin(KeyRing(keys)).decrypt
    check_runs(report, orders, runs, decrypt)
    rows = await around.database.fetch("SELECT * FROM shop_effects")
    check_effects(report, orders, rows, payments.charges)
    bodies = [body for path, body in around.otlp.taken if path.endswith("/traces")]
    ended = [each for found in runs.values() for each in found]
    check_traces(report, bodies, {each["run_id"] for each in ended})
    failed = {
        each["run_id"]: could_know(around, _seconds(each["ended_at"]))
        for each in ended
        if each["status"] == "Failed"
    }
    check_sentry(report, [body for _, body in around.sentry.taken], failed)
    names = ("runs", "run_tags", "steps", "attempts", "logs")
    tables = {name: await around.database.fetch(f"SELECT * FROM inngest_{name}") for name in names}
    # A sale has three runs; one that is declined has two.
    began = sum(2 if order.declined else 3 for order in orders)
    print(f"  the mirror has {len(tables['runs'])} of {began} runs, {len(tables['steps'])} steps")
    check_leaks(report, texts)
    check_leaks(report, mirrored(tables))
    check_leaks(report, around.otlp.taken + around.sentry.taken)
    check_leaks(report, ((log.name, log.read_bytes()) for log in around.folder.glob("*.log")))
    return report


def _seconds(time_text: str | None) -> float:
    if time_text is None:
        return 0.0
    whole, _, _ = time_text.rstrip("Z").partition(".")
    return dt.datetime.fromisoformat(whole).replace(tzinfo=dt.timezone.utc).timestamp()


async def main(count: int, every: float, seconds: float, patience: float, postgres: str) -> int:
    """Run it, and print the report."""
    keys = Key.generate("bench")
    sealing = EncryptionPlugin(KeyRing(keys), event_fields=("customer", "payment"))
    base = os.environ["INNGEST_DEV_URL"]
    client = inngest.Inngest(
        app_id="shop",
        api_base_url=base,
        event_api_base_url=base,
        middleware=[sealing],
    )
    with run.listen(0) as shared:
        port = shared.getsockname()[1]
        async with world(postgres, keys, port) as around:
            workers = Workers(around, shared, every=every)
            try:
                await workers.start(f"http://127.0.0.1:{port}")
                workers.begin_to_kill()
                began = time.monotonic()
                orders = await place(around, client, count, seconds, patience)
                took = time.monotonic() - began
            finally:
                await workers.stop()
            print(f"{count} orders in {took:.0f} s, {len(around.kills)} workers killed")
            report = await count_all(around, orders, keys)
    print(report)
    return not report.is_good


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--orders", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=5, help="between two kills, on average")
    parser.add_argument("--away", type=float, default=10, help="seconds that a service is away")
    parser.add_argument(
        "--patience",
        type=float,
        default=GIVE_UP_AFTER,
        help="seconds without any order ending, after which the rest is lost",
    )
    parser.add_argument("--postgres", default=os.environ.get("BENCH_POSTGRES"))
    options = parser.parse_args()
    if not options.postgres or "INNGEST_DEV_URL" not in os.environ:
        sys.exit("real_engine needs --postgres URL, and the server in INNGEST_DEV_URL")
    sys.exit(
        asyncio.run(
            main(
                options.orders,
                options.seconds,
                options.away,
                options.patience,
                options.postgres,
            )
        )
    )
