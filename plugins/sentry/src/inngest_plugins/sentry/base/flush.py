"""Sends what was captured before a serverless platform freezes the process."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import threading
from collections.abc import Callable, Mapping

from sentry_sdk.client import BaseClient

_SERVERLESS_VARIABLES = (
    "AWS_LAMBDA_FUNCTION_NAME",  # AWS Lambda
    "FUNCTIONS_WORKER_RUNTIME",  # Azure Functions
    "FUNCTION_TARGET",  # Google Cloud Functions
    "K_SERVICE",  # Google Cloud Run and other Knative platforms
    "NETLIFY",
    "VERCEL",
)
_logger = logging.getLogger("inngest_plugins.sentry")


def is_serverless(environ: Mapping[str, str] = os.environ) -> bool:
    """Return whether this process may be frozen as soon as it has answered a request."""
    return any(environ.get(name) for name in _SERVERLESS_VARIABLES)


class Flusher:
    """Flushes Sentry's queue in one thread of its own, however many requests wait for it.

    Sentry's flush blocks its thread until the queue is empty or the time is up, and a client's
    flushes run one after the other. So requests do not flush: they wait, each for at most
    `timeout` seconds, for the next flush that starts after they came. A request in an event loop
    waits without a thread, and the loop never blocks.

    Args:
        timeout: how long a request waits at most, in seconds.
    """

    def __init__(self, timeout: float) -> None:
        self._timeout = timeout
        self._lock = threading.Lock()
        self._waiting: list[tuple[BaseClient, Callable[[], object]]] = []
        self._running = False

    async def wait(self, client: BaseClient) -> None:
        """Wait in an event loop until what has been captured is sent, or the time is up."""
        loop = asyncio.get_running_loop()
        sent = asyncio.Event()

        def wake() -> None:
            # The request may have stopped waiting, and its loop may be closed by now.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(sent.set)

        self._join(client, wake)
        # Not anyio's: it loads its backend when it is used first, for 50 ms.
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(sent.wait(), self._timeout)

    def wait_sync(self, client: BaseClient) -> None:
        """Wait in a thread until what has been captured is sent, or the time is up."""
        sent = threading.Event()
        self._join(client, sent.set)
        sent.wait(self._timeout)

    def _join(self, client: BaseClient, wake: Callable[[], object]) -> None:
        with self._lock:
            self._waiting.append((client, wake))
            if self._running:
                return
            thread = threading.Thread(
                target=self._run, name="inngest-plugins-sentry-flush", daemon=True
            )
            thread.start()
            self._running = True

    def _run(self) -> None:
        while True:
            with self._lock:
                waiting, self._waiting = self._waiting, []
                if not waiting:
                    self._running = False
                    return
            for client in {id(client): client for client, _ in waiting}.values():
                self._flush(client)
            for _, wake in waiting:
                wake()

    def _flush(self, client: BaseClient) -> None:
        try:
            client.flush(timeout=self._timeout)
        except Exception:
            _logger.exception("flushing Sentry failed")
