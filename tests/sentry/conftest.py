"""A real Sentry SDK whose envelopes stay in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import sentry_sdk
from sentry_sdk import scope as sentry_scope
from sentry_sdk.envelope import Envelope
from sentry_sdk.transport import Transport


class MemoryTransport(Transport):
    """Keeps what would be sent."""

    def __init__(self, options: dict[str, Any] | None = None) -> None:
        super().__init__(options)
        self.envelopes: list[Envelope] = []
        self.lost: list[tuple[str, str | None]] = []

    def capture_envelope(self, envelope: Envelope) -> None:
        self.envelopes.append(envelope)

    def record_lost_event(self, reason: str, *args: Any, **kwargs: Any) -> None:
        self.lost.append((reason, kwargs.get("data_category")))


class Sentry:
    """What Sentry would have received."""

    def __init__(self) -> None:
        self.transport = MemoryTransport()

    def init(self, **options: Any) -> Sentry:
        """Initialise the SDK as an app does, with an in-memory transport."""
        options.setdefault("dsn", "https://key@sentry.invalid/1")
        options.setdefault("default_integrations", False)
        options.setdefault("auto_enabling_integrations", False)
        sentry_sdk.init(transport=self.transport, **options)
        return self

    def _items(self, *kinds: str) -> list[dict[str, Any]]:
        return [
            item.payload.json
            for envelope in self.transport.envelopes
            for item in envelope.items
            if item.type in kinds and item.payload.json is not None
        ]

    @property
    def errors(self) -> list[dict[str, Any]]:
        return self._items("event")

    @property
    def transactions(self) -> list[dict[str, Any]]:
        return self._items("transaction")

    @property
    def check_ins(self) -> list[dict[str, Any]]:
        return self._items("check_in")

    @property
    def text(self) -> str:
        """Everything as it would be on the wire."""
        return "\n".join(
            envelope.serialize().decode("utf-8", "replace") for envelope in self.transport.envelopes
        )

    def lines(self) -> list[str]:
        """One line for each item of each envelope, in order."""
        return [
            describe(item.type, item.payload.json)
            for envelope in self.transport.envelopes
            for item in envelope.items
        ]

    def clear(self) -> None:
        self.transport.envelopes.clear()


def describe(kind: str | None, item: Any) -> str:
    """Render an item of an envelope as one line."""
    if kind == "event":
        tags = item.get("tags", {})
        step = f" step={tags['inngest.step.id']}" if "inngest.step.id" in tags else ""
        values = item.get("exception", {}).get("values", [])
        if not values:
            return f"{item['level']} message {item.get('logentry', item)}"
        last = values[-1]
        handled = "" if last["mechanism"]["handled"] else " unhandled"
        attempt = tags.get("inngest.attempt")
        return f"{item['level']} {last['type']}({last['value']}){step} attempt={attempt}{handled}"
    if kind == "transaction":
        trace = item["contexts"]["trace"]
        spans = ", ".join(f"{span['op']} {span.get('description')}" for span in item["spans"])
        return f"transaction {item['transaction']} {trace['op']} {trace['status']} [{spans}]"
    if kind == "check_in":
        return f"check_in {item['monitor_slug']} {item['status']}"
    return str(kind)


@pytest.fixture
def sentry() -> Iterator[Sentry]:
    """A Sentry that is not initialised yet: call `sentry.init(...)`."""
    processors = list(sentry_scope.global_event_processors)
    _fresh_scopes()
    yield Sentry()
    client = sentry_sdk.get_client()
    client.close()
    _fresh_scopes()
    sentry_scope.global_event_processors[:] = processors


def _fresh_scopes() -> None:
    sentry_scope._global_scope = None
    sentry_scope._isolation_scope.set(None)
    sentry_scope._current_scope.set(None)


@pytest.fixture
def make_error() -> Callable[[], ValueError]:
    """Return a function that makes an error with a cause."""

    def make() -> ValueError:
        try:
            raise KeyError("root")
        except KeyError as root:
            err = ValueError("boom")
            err.__cause__ = root
            return err

    return make
