"""How an object takes its place in `middleware=[...]`."""

from __future__ import annotations

import weakref

import inngest

from ._bridge import INERT, Bridge


class ListEntry:
    """Base of what stands in `middleware=[...]`: the SDK calls it once for each request.

    The first entry of a client's list answers with the middleware that carries the whole stack,
    every other one with an inert one.
    """

    _joined: tuple[weakref.ref[inngest.Inngest], bool] | None = None

    def __call__(self, client: inngest.Inngest, raw_request: object) -> inngest.MiddlewareSync:
        """Join a request; called by the SDK.

        Args:
            client: the client whose request it is.
            raw_request: what the web framework gave, or None for a send.
        """
        joined = self._joined
        if joined is None or joined[0]() is not client:
            from ._composition import leads

            joined = self._joined = (weakref.ref(client), leads(self, client))
        return Bridge(client, raw_request) if joined[1] else INERT

    def forget_client(self) -> None:
        """Find out anew whether this entry leads: the list has changed."""
        self._joined = None
