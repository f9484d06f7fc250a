"""Starts workers quickly: a process that has imported their libraries, and forks.

A worker imports for some seconds. Where one is killed every few seconds, workers would do little
else. What is forked is the state before the app is imported: no thread, no connection, no loop.
Reads the path of a log from each line of its input, and prints the process id of a worker.
"""

from __future__ import annotations

import importlib
import os
import signal
import sys

import sentry_sdk
import uvicorn

LIBRARIES = (
    "alembic.command",
    "asyncpg",
    "fastapi.routing",
    "inngest.fast_api",
    "opentelemetry.exporter.otlp.proto.http.metric_exporter",
    "opentelemetry.exporter.otlp.proto.http.trace_exporter",
    "pydantic_ai",
    "sqlalchemy.ext.asyncio",
    *(
        f"inngest_plugins.{name}"
        for name in [
            "agents",
            "ai",
            "checkpoint",
            "defer",
            "encryption",
            "fetch",
            "injection",
            "metadata",
            "mirror",
            "otel",
            "realtime",
            "sentry",
            "validation",
        ]
    ),
)


def main(fd: int) -> None:
    """Fork a worker for each line."""
    for name in LIBRARIES:
        importlib.import_module(name)
    # It looks for the libraries that it knows, and imports those: to nowhere, this time.
    sentry_sdk.init(dsn="")
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while log := sys.stdin.readline().strip():
        pid = os.fork()
        if pid == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            with open(log, "ab", buffering=0) as file:  # noqa: PTH123 - its descriptor is meant
                os.dup2(file.fileno(), 1)
                os.dup2(file.fileno(), 2)
            uvicorn.run("examples.production.app:app", fd=fd, timeout_graceful_shutdown=30)
            sys.exit()
        print(pid, flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]))
