"""Tells subscribers what changes, while it changes.

A run's realtime channel is its id. Snapshots go out on the topic `metadata`, each with all that the
run has recorded so far, so that a late subscriber needs no history; changes that come faster than
requests are folded into the next snapshot. The chunks of a stream go out on a topic of their own,
in order, none left out.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable
from typing import Final

import inngest

from inngest_plugins.core import EngineApi

from ._json import Json, dumps
from ._limits import DEFAULT_KIND
from ._ops import Document

_logger = logging.getLogger("inngest_plugins.metadata")

SNAPSHOT_TOPIC: Final = "metadata"
_STREAM_TOPIC: Final = "metadata.stream."
MAX_MESSAGE_BYTES: Final = 512 * 1024
"""The server cuts longer messages off (`MaxStreamingMessageSizeBytes`)."""


def stream_topic(name: str) -> str:
    """Return the topic of a stream's chunks."""
    return _STREAM_TOPIC + name


def snapshot_message(run_id: str, views: dict[str, Document], status: str) -> Json:
    """Return the data of a snapshot message.

    Args:
        run_id: the run.
        views: everything it has recorded, by wire kind.
        status: "running", "completed" or "failed".
    """
    kinds = {kind.removeprefix("userland."): view for kind, view in views.items()}
    kinds.setdefault(DEFAULT_KIND, {})
    return {"run_id": run_id, "status": status, "kinds": kinds}


class Publisher:
    """Publishes for one request, from a thread of its own that is only started when needed.

    Args:
        client: whose engine.
        run_id: the run.
        views: returns a copy of everything the run has recorded, by wire kind.
        timeout: seconds that one request may take.
    """

    def __init__(
        self,
        client: inngest.Inngest,
        run_id: str,
        views: Callable[[], dict[str, Document]],
        timeout: float,
    ) -> None:
        self._api = EngineApi(client, timeout=timeout, attempts=2)
        self._run_id = run_id
        self._views = views
        self._condition = threading.Condition()
        self._messages: deque[tuple[str, Json]] = deque()
        self._changed = False
        self._status = "running"
        self._busy = False
        self._closed = False
        self._thread: threading.Thread | None = None
        self._silent = False

    def changed(self) -> None:
        """Publish a snapshot soon. Returns at once."""
        if not self._changed:
            with self._condition:
                self._changed = True
                self._wake()

    def chunk(self, name: str, index: int, chunk: Json, *, last: bool) -> None:
        """Publish a chunk of a stream soon. Returns at once."""
        data: dict[str, Json] = {"stream": name, "index": index}
        data["end" if last else "chunk"] = True if last else chunk
        with self._condition:
            self._messages.append((stream_topic(name), data))
            self._wake()

    def drain(self) -> None:
        """Wait until everything is published."""
        with self._condition:
            while self._changed or self._messages or self._busy:
                self._condition.wait()

    def close(self, status: str) -> None:
        """Publish what is left and let the thread go.

        Args:
            status: "running" when the run goes on, else how it ended, which is published.
        """
        with self._condition:
            self._status = status
            if status != "running":
                self._changed = True
            if self._changed or self._messages:
                self._wake()
            self._closed = True
            self._condition.notify_all()
        if self._thread is not None:
            self._thread.join()

    def abandon(self) -> None:
        """Let the thread go without waiting for it or for what is left."""
        with self._condition:
            self._messages.clear()
            self._changed = False
            self._closed = True
            self._condition.notify_all()

    def _wake(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(
                target=self._work, name=f"metadata-{self._run_id}", daemon=True
            )
            self._thread.start()
        self._condition.notify_all()

    def _work(self) -> None:
        while True:
            with self._condition:
                self._busy = False
                self._condition.notify_all()
                while not (self._changed or self._messages or self._closed):
                    self._condition.wait()
                if not (self._changed or self._messages):
                    return
                messages, snapshot, status = list(self._messages), self._changed, self._status
                self._messages.clear()
                self._changed = False
                self._busy = True
            # The views are read without holding the condition: writers hold the run's lock when
            # they announce a change, and reading takes that lock.
            if snapshot:
                views = self._views()
                messages.append((SNAPSHOT_TOPIC, snapshot_message(self._run_id, views, status)))
            for topic, data in messages:
                self._publish(topic, data)

    def _publish(self, topic: str, data: Json) -> None:
        problem: str | None
        body = dumps(data).encode()
        if len(body) > MAX_MESSAGE_BYTES:
            problem = f"a message of {len(body)} bytes exceeds the server's {MAX_MESSAGE_BYTES}"
        else:
            try:
                response = self._api.request_sync(
                    "POST",
                    "/v1/realtime/publish",
                    params={"channel": self._run_id, "topic": topic, "run_id": self._run_id},
                    content=body,
                    headers={"Content-Type": "application/json"},
                )
                status = response.status_code
                problem = None if status < 400 else f"the engine answered {status}"
            except Exception as err:
                problem = str(err)
        if problem is not None and not self._silent:
            self._silent = True
            _logger.warning(
                "subscribers of run %s missed a message: %s. The run is not affected; further "
                "failures of this request are not logged",
                self._run_id,
                problem,
            )
