"""The same without containers: `python -m examples.production.run --env .env`.

Starts the payment provider and two workers on one port, and the Inngest server if its program is
named by `--inngest`; reconciles the mirror every five minutes. A worker that ends is started again,
so `kill -TERM` of one after the other rolls out what is in the files now. Ctrl-C stops everything;
requests that run end first.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import pathlib
import shutil
import signal
import socket
import sys
from collections.abc import Coroutine, Sequence
from typing import Any

import httpx

from .register import register

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]
PACKAGE = "examples.production"
RESTART_AFTER = 0.5
RECONCILE_EVERY = 300.0
DEFAULTS = {
    "INNGEST_BASE_URL": "http://127.0.0.1:8288",
    "SHOP_DATABASE": "sqlite+aiosqlite:///shop.db",
    "INNGEST_MIRROR_URL": "sqlite:///mirror.db",
    "PAYMENTS_URL": "http://127.0.0.1:8100",
    "OTEL_SERVICE_NAME": "shop",
}


def environment(file: pathlib.Path | None, port: int) -> dict[str, str]:
    """Return the variables of the workers: the defaults, this process's, and the file's."""
    lines = [] if file is None else file.read_text().splitlines()
    pairs = [line.split("=", 1) for line in lines if "=" in line and not line.startswith("#")]
    origin = {"INNGEST_SERVE_ORIGIN": f"http://127.0.0.1:{port}"}
    return {**DEFAULTS, **origin, **os.environ, **dict(pairs)}


def listen(port: int) -> socket.socket:
    """Open the port that the workers share: what waits in it outlives each of them."""
    shared = socket.create_server(("127.0.0.1", port), backlog=1024)
    shared.set_inheritable(True)
    return shared


def worker_command(shared: socket.socket) -> list[str]:
    """Return the command of one worker."""
    fd = str(shared.fileno())
    app = f"{PACKAGE}.app:app"
    graceful = ["--timeout-graceful-shutdown", "30"]
    return [sys.executable, "-m", "uvicorn", app, "--fd", fd, *graceful]


def payments_command(url: str) -> list[str]:
    """Return the command of the payment provider."""
    port = str(httpx.URL(url).port)
    return [sys.executable, "-m", "uvicorn", f"{PACKAGE}.payments:app", "--port", port]


def server_command(program: str, env: dict[str, str], port: int) -> list[str]:
    """Return the command of the Inngest server; PostgreSQL and Redis by INNGEST_..._URI."""
    app = f"http://127.0.0.1:{port}/api/inngest"
    listens = str(httpx.URL(env["INNGEST_BASE_URL"]).port)
    reach = ["--host", "127.0.0.1", "--port", listens]
    return [program, "start", *reach, "--sdk-url", app, "--poll-interval", "60"]


def mirror_command(*words: str) -> list[str]:
    """Return a command of the mirror."""
    return [str(pathlib.Path(sys.executable).with_name("inngest-plugins")), "mirror", *words]


async def keep(
    command: Sequence[str],
    env: dict[str, str],
    fds: Sequence[int] = (),
    *,
    pause: float = RESTART_AFTER,
) -> None:
    """Run a command, again some seconds after it ended, until cancelled; then let it end."""
    while True:
        process = await asyncio.create_subprocess_exec(
            *command, cwd=ROOT, env=env, pass_fds=tuple(fds)
        )
        try:
            await process.wait()
        finally:
            if process.returncode is None:
                process.terminate()
                await process.wait()
        await asyncio.sleep(pause)


async def reconcile(env: dict[str, str]) -> None:
    """Tell the mirror every five minutes what no request can: runs that were cancelled or lost."""
    await asyncio.sleep(RECONCILE_EVERY)
    command = mirror_command("reconcile", f"{PACKAGE}.app:client")
    await keep(command, env, pause=RECONCILE_EVERY)


async def announce(url: str, workers: int) -> None:
    """Register the app, and say where it is."""
    await register(url)
    print(f"{workers} workers at {url}; the mirror's page is {url}/runs/page", flush=True)


async def together(parts: Sequence[Coroutine[Any, Any, None]]) -> None:
    """Run all until cancelled, or until one raises; then wait until each has ended."""
    tasks = [asyncio.create_task(part) for part in parts]
    try:
        # Not `gather`: it is over with the first that ends, and would cancel the others twice.
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def run(env: dict[str, str], *, workers: int, port: int, inngest: str | None) -> None:
    """Run everything until cancelled."""
    for command in ([sys.executable, "-m", f"{PACKAGE}.orders"], mirror_command("upgrade")):
        migration = await asyncio.create_subprocess_exec(*command, cwd=ROOT, env=env)
        if await migration.wait():
            raise SystemExit(f"{' '.join(command)} failed")
    with listen(port) as shared:
        parts = [keep(payments_command(env["PAYMENTS_URL"]), env), reconcile(env)]
        parts += [keep(worker_command(shared), env, [shared.fileno()]) for _ in range(workers)]
        if inngest is not None:
            parts.append(keep(server_command(inngest, env, port), env))
        await together([*parts, announce(f"http://127.0.0.1:{port}", workers)])


async def main() -> None:
    """Read the options, and run until a signal comes."""
    parser = argparse.ArgumentParser(description="The shop, without containers.")
    parser.add_argument("--env", type=pathlib.Path, help="file of secret_env.py")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--inngest", help="program of the Inngest server")
    options = parser.parse_args()
    if options.inngest is not None and shutil.which(options.inngest) is None:
        parser.error(f"--inngest: there is no program {options.inngest}")
    env = environment(options.env, options.port)
    task = asyncio.ensure_future(
        run(env, workers=options.workers, port=options.port, inngest=options.inngest)
    )
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    try:
        await task
    except asyncio.CancelledError:
        print("stopped")


if __name__ == "__main__":
    asyncio.run(main())
