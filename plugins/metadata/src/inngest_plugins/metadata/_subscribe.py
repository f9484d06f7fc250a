"""Following a run's metadata from outside, while it changes.

Messages come over the server's realtime API: a token from `POST /v1/realtime/token` for the topics
of the run's channel, then a connection (see `_connection`). The embedded engine hands its messages
over in process.
"""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Mapping
from contextlib import aclosing
from typing import Any, NamedTuple, Protocol

import anyio
import httpx
import inngest

from inngest_plugins.core import Call, EngineApi

from ._connection import (
    ConnectionLostError,
    NoEventStreamError,
    server_sent_events,
    websocket_messages,
)
from ._errors import MetadataContextError, MetadataSendError
from ._json import Json
from ._limits import DEFAULT_KIND, check_run_id
from ._live import SNAPSHOT_TOPIC, stream_topic

_logger = logging.getLogger("inngest_plugins.metadata")

_WAITS = (0.1, 0.5, 1.0, 2.0, 5.0)


class Snapshot(dict[str, Any]):
    """Everything a run has recorded up to a moment: the default kind's values, as a dict.

    Attributes:
        run_id: the run.
        status: "running", "completed" or "failed".
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


class Message(Protocol):
    """A realtime message, as `LocalEngine.subscribe` yields them."""

    @property
    def topic(self) -> str:
        """The topic."""
        ...

    @property
    def data(self) -> Any:
        """The decoded JSON."""
        ...


class MessageSource(Protocol):
    """Where messages come from in process: a `LocalEngine`."""

    def subscribe(self, channel: str, topics: Any = None) -> AsyncIterable[Any]:
        """Collect the messages of a channel from now on."""
        ...


class _Received(NamedTuple):
    topic: str
    data: Any


def subscribe(
    run_id: str,
    *,
    client: inngest.Inngest | None = None,
    source: MessageSource | None = None,
) -> AsyncIterator[Snapshot]:
    """Follow a run's metadata.

    The run's function needs `MetadataPlugin(realtime=True)`. There is a snapshot for each change
    from now on (fast changes share one), and each has everything; the last one has `final` set.
    Changes before the subscription are part of the next snapshot, not one of their own. A run that
    has ended already, or is cancelled, publishes no last snapshot: leave the loop yourself.

    Args:
        run_id: the run.
        client: whose engine; None for the client of the current run, or else one that is
            configured by the environment (`INNGEST_DEV`, `INNGEST_SIGNING_KEY`, ...).
        source: a `LocalEngine` in this process, in place of a server.

    Yields:
        Snapshots.

    Raises:
        MetadataContextError: the client is driven by a `LocalEngine`, which was not passed.
        MetadataSendError: the engine refused the subscription, or could not be reached.
    """
    messages = _messages(check_run_id(run_id), SNAPSHOT_TOPIC, client, source)
    return _snapshots(run_id, messages)


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
        MetadataSendError: see `subscribe`.
    """
    messages = _messages(check_run_id(run_id), stream_topic(name), client, source)
    return _chunks(messages)


async def _snapshots(
    run_id: str, messages: AsyncGenerator[Message, None]
) -> AsyncIterator[Snapshot]:
    async with aclosing(messages):
        async for message in messages:
            data = message.data
            if isinstance(data, dict) and isinstance(data.get("kinds"), dict):  # pyright: ignore[reportUnknownMemberType]
                snapshot = Snapshot(run_id, str(data.get("status")), data["kinds"])  # pyright: ignore[reportUnknownMemberType, reportUnknownArgumentType]
                yield snapshot
                if snapshot.final:
                    return


async def _chunks(messages: AsyncGenerator[Message, None]) -> AsyncIterator[Json]:
    async with aclosing(messages):
        async for message in messages:
            data = message.data
            if not isinstance(data, dict):
                continue
            if data.get("end"):  # pyright: ignore[reportUnknownMemberType]
                return
            if "chunk" in data:
                yield data["chunk"]


def _messages(
    run_id: str, topic: str, client: inngest.Inngest | None, source: MessageSource | None
) -> AsyncGenerator[Message, None]:
    if source is not None:
        return _from_source(source.subscribe(run_id, [topic]))
    if client is None:
        call = Call.current()
        client = call.client if call is not None else inngest.Inngest(app_id="metadata-subscriber")
    return _from_server(client, run_id, topic)


async def _from_source(messages: AsyncIterable[Any]) -> AsyncGenerator[Message, None]:
    try:
        async for message in messages:
            yield message
    finally:
        close = getattr(messages, "close", None)
        if close is not None:
            close()


async def _from_server(
    client: inngest.Inngest, run_id: str, topic: str
) -> AsyncGenerator[Message, None]:
    failures = 0
    connect = server_sent_events
    while True:
        token = await _token(client, run_id, topic)
        try:
            async with aclosing(connect(client, token)) as events:
                async for event in events:
                    failures = 0
                    message = _parse(event)
                    if message is not None and message.topic == topic:
                        yield message
        except NoEventStreamError:
            connect = websocket_messages
            continue
        except (httpx.TransportError, ConnectionLostError) as err:
            failures += 1
            if failures > len(_WAITS):
                raise MetadataSendError(
                    f"the subscription to run {run_id} was lost: {type(err).__name__}"
                ) from err
            _logger.info("the subscription to run %s is renewed: %s", run_id, type(err).__name__)
        await anyio.sleep(_WAITS[max(0, failures - 1)])


async def _token(client: inngest.Inngest, run_id: str, topic: str) -> str:
    wanted = [{"kind": "run", "channel": run_id, "name": topic}]
    try:
        response = await EngineApi(client).request("POST", "/v1/realtime/token", json=wanted)
    except Exception as err:  # the SDK's HTTP layer raises bare ones
        raise MetadataSendError(f"run {run_id} cannot be subscribed to: {err}") from err
    try:
        token = response.json()["jwt"] if response.is_success else None
    except (ValueError, KeyError, TypeError):
        token = None
    if token is None:
        raise MetadataSendError(
            f"run {run_id} cannot be subscribed to: the engine answered {response.status_code}"
        )
    if not isinstance(token, str) or token.endswith("."):
        # The embedded engine's tokens are unsigned: it has no socket to connect to.
        raise MetadataContextError(
            f"run {run_id}: the client is driven by a LocalEngine in this process; "
            "pass it: subscribe(run_id, source=engine)"
        )
    return token


def _parse(event: str) -> Message | None:
    try:
        message = json.loads(event)
        return _Received(message["topic"], message["data"])
    except (ValueError, KeyError, TypeError):
        # A kind of message that is none of ours, such as a keepalive.
        return None
