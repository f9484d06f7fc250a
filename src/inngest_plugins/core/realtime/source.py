"""Messages from an engine in this process, which has no socket."""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import AsyncIterable, Iterator
from typing import Any, Final, Protocol

import inngest


class MessageSource(Protocol):
    """Where messages come from in process: a `LocalEngine`."""

    def subscribe(self, channel: str, topics: Any = None) -> AsyncIterable[Any]:
        """Collect the messages of a channel from now on.

        Each has `topic` and `data`. A source whose `transport` answers `GET /v1/runs/{id}` can be
        asked when a run ends.
        """
        ...


_embedded: Final[weakref.WeakKeyDictionary[inngest.Inngest, MessageSource]] = (
    weakref.WeakKeyDictionary()
)


@contextlib.contextmanager
def embed_engine(client: inngest.Inngest, source: MessageSource) -> Iterator[None]:
    """Let subscribers of a client find the engine in this process that drives it.

    Args:
        client: the client.
        source: the engine, for as long as the block is open.
    """
    _embedded[client] = source
    try:
        yield
    finally:
        if _embedded.get(client) is source:
            del _embedded[client]


def embedded_engine(client: inngest.Inngest) -> MessageSource | None:
    """Return the engine in this process that drives a client, or None."""
    return _embedded.get(client)
