"""What the mirror adds to requests: one after the other, and at a rate of requests.

On SQLite, and on a PostgreSQL server that this starts where one is installed (Debian: apt-get
install postgresql), or on the database that MIRROR_BENCH_URL names.

Run: python benchmarks/mirror.py [--rate 200] [--seconds 5]
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import dataclasses
import os
import pathlib
import pwd
import shutil
import socket
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from typing import Any

import inngest
from figures import figure

from inngest_plugins.core import Call, Plugin
from inngest_plugins.local import LocalEngine
from inngest_plugins.mirror import MirrorPlugin, SQLAlchemyStore

STEPS = 4
"""So that a run is five requests."""
RUNS = 40


async def nothing() -> int:
    return 1


class Timed(MirrorPlugin):
    """A mirror whose own time in each request is noted."""

    def __init__(self, store: SQLAlchemyStore) -> None:
        super().__init__(store, timeout=10.0)
        self.times: list[float] = []

    def before_response(self, call: Call) -> Any:
        """Time what the answer waits for."""
        started = time.perf_counter()
        writing = super().before_response(call)

        async def write() -> None:
            if writing is not None:
                await writing
            self.times.append((time.perf_counter() - started) * 1000)

        return write()


@dataclasses.dataclass(frozen=True)
class Measured:
    """Milliseconds of a request, and requests a second."""

    alone: float
    processor: float
    most: float
    reached: float

    def __str__(self) -> str:
        return (
            f"{self.alone:6.2f} ms a request alone, processor {self.processor:5.2f} ms, at most "
            f"{self.most:5.0f} requests/s"
        )


async def measure(plugin: Timed | None, rate: float, seconds: float) -> Measured:
    """Measure requests one after the other, as many as can be, and at the rate."""
    plugins: list[Plugin] = [] if plugin is None else [plugin]
    client = inngest.Inngest(app_id="bench", is_production=False, middleware=list(plugins))

    @client.create_function(fn_id="run", trigger=inngest.TriggerEvent(event="go"))
    async def run(ctx: inngest.Context) -> None:
        for n in range(STEPS):
            await ctx.step.run(f"step {n}", nothing)

    event = inngest.Event(name="go")
    async with LocalEngine(client, [run], max_requests=64) as engine:
        await engine.run(event)
        alone: list[float] = []
        for _ in range(RUNS):
            started = time.perf_counter()
            await engine.run(event)
            alone.append((time.perf_counter() - started) * 1000 / (STEPS + 1))
        started, processor = time.perf_counter(), time.process_time()
        await engine.send([event for _ in range(RUNS * 3)])
        await engine.settle()
        requests = RUNS * 3 * (STEPS + 1)
        most = requests / (time.perf_counter() - started)
        processor = (time.process_time() - processor) * 1000 / requests
        if plugin is not None:
            plugin.times.clear()
        started = time.perf_counter()
        sent = int(rate * seconds / (STEPS + 1))
        for n in range(sent):
            due = started + n * (STEPS + 1) / rate
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            await engine.send(event)
        await engine.settle()
        reached = sent * (STEPS + 1) / (time.perf_counter() - started)
    return Measured(statistics.median(alone), processor, most, reached)


@contextlib.contextmanager
def postgres() -> Iterator[str | None]:
    """Start a server that forgets; gives the URL of an empty database, or None without one."""
    found = sorted(pathlib.Path("/usr/lib/postgresql").glob("*/bin/pg_ctl"))
    if not found:
        yield None
        return
    binaries = found[-1].parent
    folder = pathlib.Path(tempfile.mkdtemp(prefix="mirror-bench-"))
    options: dict[str, Any] = {"cwd": "/", "stdout": subprocess.DEVNULL, "check": True}
    if os.getuid() == 0:
        # The server refuses to run as root.
        owner = pwd.getpwnam("postgres")
        os.chown(folder, owner.pw_uid, owner.pw_gid)
        options |= {"user": owner.pw_uid, "group": owner.pw_gid, "extra_groups": []}
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    data = str(folder / "data")
    command = [str(binaries / "initdb"), "-D", data, "-U", "mirror", "-A", "trust", "-E", "UTF8"]
    subprocess.run(command, **options)
    control = [str(binaries / "pg_ctl"), "-D", data, "-w", "-l", str(folder / "log")]
    settings = f"-p {port} -k {folder} -c listen_addresses=127.0.0.1"
    subprocess.run([*control, "-o", settings, "start"], **options)
    try:
        yield f"postgresql://mirror@127.0.0.1:{port}/postgres"
    finally:
        subprocess.run([*control, "-m", "immediate", "stop"], **options)
        shutil.rmtree(folder)


def at(times: Sequence[float], share: float) -> float:
    """A percentile."""
    return sorted(times)[int(len(times) * share)]


async def compare(urls: dict[str, str], rate: float, seconds: float) -> None:
    """Measure without a mirror, and with one on each database."""
    print(f"runs of {STEPS} steps, {STEPS + 1} requests; the rate asked for is {rate:.0f}/s")
    print(f"  {'no mirror':<22}{await measure(None, rate, seconds)}")
    for name, url in urls.items():
        store = SQLAlchemyStore(url)
        await store.upgrade()
        plugin = Timed(store)
        measured = await measure(plugin, rate, seconds)
        figure(f"{name}: requests a second", measured.reached, "/s", at_least=rate * 0.95)
        figure(f"{name}: added to a request, median", at(plugin.times, 0.5), "ms")
        print(
            f"  {name:<22}{measured}\n  {'':<22}at {measured.reached:.0f} requests/s added p50 "
            f"{at(plugin.times, 0.5):5.2f} ms, p95 {at(plugin.times, 0.95):5.2f} ms "
            f"({len(plugin.times)} requests)"
        )
        await store.close()


def main() -> None:
    parser = argparse.ArgumentParser(description="What the mirror adds.")
    parser.add_argument("--rate", type=float, default=200, help="requests a second")
    parser.add_argument("--seconds", type=float, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        urls = {"SQLite": f"sqlite:///{pathlib.Path(folder) / 'mirror.db'}"}
        given = os.environ.get("MIRROR_BENCH_URL") or stack.enter_context(postgres())
        if given:
            plain = given.replace("+asyncpg", "").replace("+psycopg", "")
            for driver in ("asyncpg", "psycopg"):
                url = plain.replace("postgresql:", f"postgresql+{driver}:")
                urls[f"PostgreSQL, {driver}"] = url
        asyncio.run(compare(urls, options.rate, options.seconds))


if __name__ == "__main__":
    main()
