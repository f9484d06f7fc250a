"""`RealtimeConnection`: publish to the engine's realtime channels, and listen to them."""

from __future__ import annotations

import contextlib
import dataclasses
import json
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Callable,
    Iterable,
    Iterator,
)
from typing import TYPE_CHECKING, Any, Final

import anyio.to_thread
import httpx
import inngest

from inngest_plugins.core.base.errors import EngineApiError
from inngest_plugins.core.base.safe_text import class_name
from inngest_plugins.core.engine.api import EngineApi

from .errors import (
    ConnectionLostError,
    EmbeddedEngineError,
    NoEventStreamError,
    RealtimeError,
)
from .messages import RealtimeEvent, RealtimeMessage, RealtimeTopic, parse_message
from .tokens import RealtimeToken, describe, read_token, token_body

if TYPE_CHECKING:
    from .source import MessageSource
    from .subscription import Connect, OpenConnection, RealtimeTiming
    from .transports import Transport

MAX_MESSAGE_BYTES: Final = 512 * 1024
"""The server cuts longer messages off (`MaxStreamingMessageSizeBytes`)."""

_render: Final = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode


class RealtimeConnection:
    """Publishes to the engine's realtime channels, and listens to them.

    What is sent is what `inngest.experimental.realtime` and the TypeScript SDK send, so either
    end may be theirs.

    Example:
        ```python
        realtime = RealtimeConnection(client)
        await realtime.publish("order:42", "progress", {"done": 3}, run_id=call.run_id)

        topics = [RealtimeTopic("order:42", "progress")]
        async for event in realtime.subscribe(topics, run_id=run_id):
            match event:
                case RealtimeMessage(data=data): ...
                case MissedMessages(): ...  # connected again: read what you need anew
                case RunEnded(status=status): ...  # always the last
        ```

    Args:
        client: whose engine, with whose credentials.
        timeout: seconds that one request may take.
        attempts: how often a publish is tried while the engine cannot be reached or answers 5xx
            or 429. With more than one, a message whose answer was lost may be published twice.
        timing: how subscriptions look after their connections.

    Raises:
        RealtimeError: `client` is no client.
    """

    def __init__(
        self,
        client: inngest.Inngest,
        *,
        timeout: float = 5.0,
        attempts: int = 2,
        timing: RealtimeTiming | None = None,
    ) -> None:
        given: object = client
        if not isinstance(given, inngest.Inngest):
            raise RealtimeError(
                f"realtime channels need an inngest.Inngest client, not {class_name(given)}"
            )
        self._client = client
        self._publishing = EngineApi(client, timeout=timeout, attempts=attempts)
        self._reading = EngineApi(client, timeout=timeout)
        self._timing = timing

    # ------------------------------------------------------------ publishing

    async def publish(
        self, channel: str, topic: str, data: Any, *, run_id: str | None = None
    ) -> None:
        """Publish a message; see `publish_sync`. It never blocks the event loop."""

        def send() -> None:
            self.publish_sync(channel, topic, data, run_id=run_id)

        await anyio.to_thread.run_sync(send, abandon_on_cancel=True)

    def publish_sync(
        self, channel: str, topic: str, data: Any, *, run_id: str | None = None
    ) -> None:
        """Publish a message, and wait until the engine has taken it.

        Args:
            channel: the channel; a run's own is its id.
            topic: the topic.
            data: JSON.
            run_id: the run that publishes, which the server shows when debugging.

        Raises:
            RealtimeError: the data is not JSON or larger than 512 KiB, or the engine refused it or
                could not be reached. The message names the topic and no data.
        """
        what = describe([RealtimeTopic(channel, topic)])
        try:
            body = _render(data).encode()
        except (TypeError, ValueError, RecursionError) as err:
            raise RealtimeError(
                f"a message for {what} is not JSON ({type(err).__name__}); publish str, numbers, "
                "bool, None, lists and dicts"
            ) from None
        if len(body) > MAX_MESSAGE_BYTES:
            raise RealtimeError(
                f"a message of {len(body)} bytes for {what} exceeds the server's "
                f"{MAX_MESSAGE_BYTES}; publish less, or a link to the data"
            )
        params = {"channel": channel, "topic": topic}
        if run_id is not None:
            params["run_id"] = run_id
        with _reached(f"a message for {what} was not published"):
            response = self._publishing.request_sync(
                "POST",
                "/v1/realtime/publish",
                params=params,
                content=body,
                headers={"Content-Type": "application/json"},
            )
        if response.status_code >= httpx.codes.BAD_REQUEST:
            raise RealtimeError(
                f"a message for {what} was not published: the engine answered "
                f"{response.status_code}",
                status=response.status_code,
            )

    # ------------------------------------------------------------ listening

    async def token(self, topics: Iterable[RealtimeTopic]) -> RealtimeToken:
        """Ask for a subscription token, such as for a browser; see `token_sync`."""
        return await anyio.to_thread.run_sync(
            self.token_sync, tuple(topics), abandon_on_cancel=True
        )

    def token_sync(self, topics: Iterable[RealtimeTopic]) -> RealtimeToken:
        """Ask for a subscription token.

        Args:
            topics: what it is for.

        Raises:
            RealtimeError: the engine gave none, or could not be reached.
        """
        wanted = _distinct(topics)
        with _reached(f"no subscription token for {describe(wanted)}"):
            response = self._reading.request_sync(
                "POST", "/v1/realtime/token", json=token_body(wanted)
            )
        return read_token(response, wanted)

    def subscribe(
        self,
        topics: Iterable[RealtimeTopic],
        *,
        run_id: str | None = None,
        source: MessageSource | None = None,
    ) -> AsyncGenerator[RealtimeEvent, None]:
        """Listen to topics, of one channel or of several, over one connection.

        The connection is replaced before its token expires, without a gap, and when it breaks.
        Messages come once, in the order in which they come from the engine.

        Args:
            topics: what to listen to; one that is named twice counts once.
            run_id: the run to end with. A run that has ended already ends the subscription at
                once; one that is cancelled, within `timing.run_poll`.
            source: a `LocalEngine` in this process, in place of a server.

        Yields:
            `RealtimeMessage`s; `MissedMessages` after a broken connection; `RunEnded` as the last,
            if `run_id` was given.

        Raises:
            RealtimeError: the engine refused, or stayed away for longer than `timing.reconnect`;
                or `run_id` or `source` is none.
            EmbeddedEngineError: the client is driven by a `LocalEngine`, which was not passed.
        """
        # Who only publishes has no use for them.
        from .runs import check_run_id, status_at, status_in
        from .subscription import RealtimeTiming, Subscription

        if run_id is not None:
            check_run_id(run_id)
        wanted, timing = _distinct(topics), self._timing or RealtimeTiming()
        if source is None:
            connect, status = _server(self, wanted), status_at(self._reading)
        elif not callable(getattr(source, "subscribe", None)) or isinstance(source, type):
            raise RealtimeError(
                f"a subscription's source is a LocalEngine, not {class_name(source)}"
            )
        else:
            connect, status = _in_process(source, wanted), status_in(source)
            # A question to an engine in process costs next to nothing.
            timing = dataclasses.replace(timing, run_poll=min(timing.run_poll, 0.1))
        return Subscription(wanted, connect, timing, run_id=run_id, status=status).events()

    @property
    def origin(self) -> str:
        """Where the engine's API is."""
        return self._client.api_origin


def _distinct(topics: Iterable[RealtimeTopic]) -> tuple[RealtimeTopic, ...]:
    wanted = tuple(dict.fromkeys(RealtimeTopic(*topic) for topic in topics))
    if not wanted:
        raise RealtimeError("a subscription needs a topic; none was given")
    return wanted


@contextlib.contextmanager
def _reached(failure: str) -> Iterator[None]:
    try:
        yield
    except EngineApiError as err:
        raise RealtimeError(f"{failure}: {err}", status=err.status) from err
    except Exception as err:  # the SDK's HTTP layer raises bare ones
        raise RealtimeError(f"{failure}: {type(err).__name__}") from err


def _server(realtime: RealtimeConnection, topics: tuple[RealtimeTopic, ...]) -> Connect:
    """Return what opens connections to a server, each with a token of its own."""
    from .subscription import OpenConnection
    from .transports import server_sent_events, websocket

    transports: list[Transport] = [server_sent_events, websocket]
    been_open = False

    @contextlib.asynccontextmanager
    async def connect() -> AsyncIterator[OpenConnection]:
        nonlocal been_open
        try:
            token = await realtime.token(topics)
        except RealtimeError as err:
            # Once it worked, an engine that does not answer is one that is being restarted.
            away = err.status is None or err.status >= httpx.codes.INTERNAL_SERVER_ERROR
            if away and been_open:
                raise ConnectionLostError(str(err)) from err
            raise
        if not token.signed:
            raise EmbeddedEngineError(
                f"{describe(topics)}: the client is driven by an engine in this process, which "
                "has no socket to connect to; pass it as source=engine"
            )
        async with contextlib.AsyncExitStack() as stack:
            try:
                texts = await stack.enter_async_context(transports[0](realtime.origin, token))
            except NoEventStreamError:
                del transports[0]
                texts = await stack.enter_async_context(transports[0](realtime.origin, token))
            been_open = True
            yield OpenConnection(_parsed(texts, frozenset(topics)), token.lifetime)

    return connect


async def _parsed(
    texts: AsyncIterator[str], topics: frozenset[RealtimeTopic]
) -> AsyncIterator[tuple[str, RealtimeMessage | str]]:
    async for text in texts:
        message = parse_message(text)
        if isinstance(message, str) or (message is not None and message.topic in topics):
            yield text, message


def _in_process(source: MessageSource, topics: tuple[RealtimeTopic, ...]) -> Connect:
    """Return what listens to an engine in this process."""
    from .subscription import OpenConnection

    by_channel: dict[str, list[str]] = {}
    for channel, name in topics:
        by_channel.setdefault(channel, []).append(name)
    # Collected from now on, not from the first `await`.
    opened = [(channel, source.subscribe(channel, names)) for channel, names in by_channel.items()]

    @contextlib.asynccontextmanager
    async def connect() -> AsyncIterator[OpenConnection]:
        try:
            yield OpenConnection(_merged(opened), only=True)
        finally:
            for _, messages in opened:
                close: Callable[[], object] | None = getattr(messages, "close", None)
                if close is not None:
                    close()

    return connect


async def _merged(
    opened: list[tuple[str, AsyncIterable[Any]]],
) -> AsyncIterator[tuple[str, RealtimeMessage | str]]:
    send, receive = anyio.create_memory_object_stream[RealtimeMessage](float("inf"))

    async def forward(channel: str, messages: AsyncIterable[Any]) -> None:
        async for message in messages:
            topic = RealtimeTopic(channel, message.topic)
            published = getattr(message, "published_at", None)
            send.send_nowait(RealtimeMessage(topic, message.data, published))
        counted[0] -= 1
        if not counted[0]:
            send.close()

    counted = [len(opened)]
    async with send, receive, anyio.create_task_group() as tasks:
        for channel, messages in opened:
            tasks.start_soon(forward, channel, messages)
        async for message in receive:
            yield "", message
