"""Live metadata: a run's requests publish its changes, and subscribers follow them.

A run's realtime channel is its id. The topic `metadata` has snapshots, each with all that the run
has recorded so far, so a late subscriber needs no history. Changes that come faster than snapshots
are sent share one. The chunks of a stream have a topic of their own, in order and complete.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable, Mapping
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, Final, TypeVar

import inngest

import inngest_plugins.core
from inngest_plugins.core import Call

from ._errors import MetadataContextError, MetadataSendError
from ._keys import DEFAULT_KIND, check_run_id, check_stream_name, shown_kind
from ._operations import Document
from ._values import Json, normalize

if TYPE_CHECKING:
    from inngest_plugins.core import MessageSource, RealtimeEvent, RealtimeTiming

ChunkT = TypeVar("ChunkT")

_logger = logging.getLogger("inngest_plugins.metadata")

_SNAPSHOT_TOPIC: Final = "metadata"
_STREAM_TOPIC: Final = "metadata.stream."
_TIMING: RealtimeTiming | None = None


def _snapshot_message(run_id: str, views: dict[str, Document], status: str) -> Json:
    kinds = {shown_kind(kind): view for kind, view in views.items()}
    kinds.setdefault(DEFAULT_KIND, {})
    return {"run_id": run_id, "status": status, "kinds": kinds}


class Publisher:
    """Publishes for one request, from a thread that starts with the first message.

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
        # Realtime is imported on first use: most programs publish nothing, and it would be a third
        # of this package's import time.
        self._realtime = inngest_plugins.core.RealtimeConnection(client, timeout=timeout)
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
            self._messages.append((_STREAM_TOPIC + name, data))
            self._wake()

    def drain(self) -> None:
        """Wait until everything is published."""
        with self._condition:
            while self._changed or self._messages or self._busy:
                self._condition.wait()

    def close(self, status: str) -> None:
        """Publish the rest and end the thread.

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
        """End the thread without publishing the rest."""
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
            # Do not hold the condition while reading the views: that takes the run's lock, and
            # writers announce changes while they hold it.
            if snapshot:
                views = self._views()
                messages.append((_SNAPSHOT_TOPIC, _snapshot_message(self._run_id, views, status)))
            for topic, data in messages:
                self._publish(topic, data)

    def _publish(self, topic: str, data: Json) -> None:
        try:
            self._realtime.publish_sync(self._run_id, topic, data, run_id=self._run_id)
        except inngest_plugins.core.RealtimeError as err:
            if not self._silent:
                self._silent = True
                _logger.warning(
                    "subscribers of run %s missed a message: %s. The run is not affected; further "
                    "failures of this request are not logged",
                    self._run_id,
                    err,
                )


async def forward(
    name: str, chunks: AsyncIterable[ChunkT], publisher: Publisher | None
) -> AsyncIterator[ChunkT]:
    """Pass chunks on, and publish each if there is a publisher."""
    index = 0
    try:
        async for chunk in chunks:
            if publisher is not None:
                publisher.chunk(name, index, normalize(chunk, f"stream {name!r}"), last=False)
                index += 1
            yield chunk
    finally:
        if publisher is not None:
            publisher.chunk(name, index, None, last=True)


class Snapshot(dict[str, Any]):
    """Everything a run has recorded up to a moment: the default kind's values, as a dict.

    Attributes:
        run_id: the run.
        status: "running", "completed", "failed" or "cancelled".
        kinds: the values by kind; the snapshot itself is `kinds["default"]`.
    """

    def __init__(self, run_id: str, status: str, kinds: Mapping[str, dict[str, Json]]) -> None:
        super().__init__(kinds.get(DEFAULT_KIND, {}))
        self.run_id = run_id
        self.status = status
        self.kinds = dict(kinds)

    @property
    def final(self) -> bool:
        """Whether the run has ended, so that no snapshot follows."""
        return self.status != "running"

    def __repr__(self) -> str:
        return f"<Snapshot of run {self.run_id}, {self.status}: {dict.__repr__(self)}>"


def subscribe(
    run_id: str,
    *,
    client: inngest.Inngest | None = None,
    source: MessageSource | None = None,
) -> AsyncIterator[Snapshot]:
    """Follow a run's metadata.

    The run's function needs `MetadataPlugin(realtime=True)`. There is a snapshot for each change
    from now on (fast changes share one), and each has everything. Changes before the subscription
    are part of the next snapshot, not one of their own. The iteration ends with the run: the last
    snapshot has `final` set, also when the run is cancelled. A run that has ended already yields
    none.

    Args:
        run_id: the run.
        client: whose engine; None for the client of the current run, or else one that is
            configured by the environment (`INNGEST_DEV`, `INNGEST_SIGNING_KEY`, ...).
        source: a `LocalEngine` in this process, in place of a server.

    Yields:
        Snapshots.

    Raises:
        MetadataContextError: the client is none, or driven by a `LocalEngine` that was not passed;
            or the source is none.
        MetadataKeyError: `run_id` is not a ULID.
        MetadataSendError: the engine refused the subscription, or could not be reached.
    """
    return _snapshots(run_id, _events(check_run_id(run_id), _SNAPSHOT_TOPIC, client, source))


def subscribe_stream(
    run_id: str,
    name: str,
    *,
    client: inngest.Inngest | None = None,
    source: MessageSource | None = None,
) -> AsyncIterator[Json]:
    """Follow the chunks that a run forwards with `metadata.stream(name, ...)`.

    Ends with the stream. A step that is retried streams again from the start.

    Args:
        run_id: the run.
        name: the stream's name.
        client: see `subscribe`.
        source: see `subscribe`.

    Yields:
        The chunks, in order, from the moment of the subscription on.

    Raises:
        MetadataContextError: see `subscribe`.
        MetadataKeyError: `run_id` is not a ULID, or the name is none.
        MetadataSendError: see `subscribe`.
    """
    topic = _STREAM_TOPIC + check_stream_name(name)
    return _chunks(run_id, _events(check_run_id(run_id), topic, client, source))


async def _snapshots(
    run_id: str, events: AsyncGenerator[RealtimeEvent, None]
) -> AsyncIterator[Snapshot]:
    kinds: Mapping[str, dict[str, Json]] | None = None
    async with aclosing(_translated(run_id, events)) as translated:
        async for event in translated:
            data = event.data if isinstance(event, inngest_plugins.core.RealtimeMessage) else None
            if isinstance(data, dict) and isinstance(data.get("kinds"), dict):  # pyright: ignore[reportUnknownMemberType]
                kinds = data["kinds"]
                snapshot = Snapshot(run_id, str(data.get("status")), data["kinds"])  # pyright: ignore[reportUnknownMemberType, reportUnknownArgumentType]
                yield snapshot
                if snapshot.final:
                    return
            elif isinstance(event, inngest_plugins.core.RunEnded) and kinds is not None:
                # The run has ended without a last snapshot: it was cancelled, or its worker died.
                yield Snapshot(run_id, event.status.lower(), kinds)


async def _chunks(run_id: str, events: AsyncGenerator[RealtimeEvent, None]) -> AsyncIterator[Json]:
    async with aclosing(_translated(run_id, events)) as translated:
        async for event in translated:
            data = event.data if isinstance(event, inngest_plugins.core.RealtimeMessage) else None
            if not isinstance(data, dict):
                continue
            if data.get("end"):  # pyright: ignore[reportUnknownMemberType]
                return
            if "chunk" in data:
                yield data["chunk"]


def _events(
    run_id: str, topic: str, client: inngest.Inngest | None, source: MessageSource | None
) -> AsyncGenerator[RealtimeEvent, None]:
    if client is None:
        call = Call.current()
        client = call.client if call is not None else inngest.Inngest(app_id="metadata-subscriber")
    try:
        return inngest_plugins.core.RealtimeConnection(client, timing=_TIMING).subscribe(
            [inngest_plugins.core.RealtimeTopic(run_id, topic)], run_id=run_id, source=source
        )
    except inngest_plugins.core.RealtimeError as err:
        raise MetadataContextError(f"run {run_id} cannot be subscribed to: {err}") from None


async def _translated(
    run_id: str, events: AsyncGenerator[RealtimeEvent, None]
) -> AsyncGenerator[RealtimeEvent, None]:
    """Yield the events; errors of the connection become this plugin's."""
    try:
        async with aclosing(events):
            async for event in events:
                yield event
    except inngest_plugins.core.EmbeddedEngineError as err:
        raise MetadataContextError(
            f"run {run_id}: the client is driven by a LocalEngine in this process; "
            "pass it: subscribe(run_id, source=engine)"
        ) from err
    except inngest_plugins.core.RealtimeError as err:
        raise MetadataSendError(f"run {run_id} cannot be subscribed to: {err}") from err
