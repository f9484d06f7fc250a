"""An app on the embedded engine, and a look at the metadata requests it makes."""

from __future__ import annotations

import contextlib
import dataclasses
import json
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import httpx
import pytest
import tests.app

from inngest_plugins.core import Call, Layer, Outcome, Plugin, StackEntry
from inngest_plugins.local import LocalEngine
from inngest_plugins.metadata import MetadataPlugin

DEFAULT = "userland.default"
Fault = Callable[[httpx.Request], httpx.Response | None]


@dataclasses.dataclass
class Sent:
    """Metadata of one target that left the app: in a request, or with a step's operation."""

    run_id: str
    target: dict[str, Any]
    entries: list[dict[str, Any]]
    rode: bool = False


@dataclasses.dataclass
class Wire:
    """What the app sends to the engine's REST API."""

    sent: list[Sent] = dataclasses.field(default_factory=list)
    published: list[tuple[str, str, Any]] = dataclasses.field(default_factory=list)
    fault: Fault | None = None
    """Answers in place of the engine when it returns something, or raises."""

    @contextlib.contextmanager
    def tapped(self, engine: LocalEngine) -> Iterator[None]:
        """Listen to an open engine."""
        transport = engine.transport
        handle = transport.handle_request

        def listening(request: httpx.Request) -> httpx.Response:
            body = request.read()
            if self.fault is not None and (answer := self.fault(request)) is not None:
                return answer
            response = handle(request)
            path = request.url.path
            if path.endswith("/metadata"):
                decoded = json.loads(body)
                self.sent.append(Sent(path.split("/")[3], decoded["target"], decoded["metadata"]))
            elif path == "/v1/realtime/publish":
                params = request.url.params
                self.published.append((params["channel"], params["topic"], json.loads(body)))
            return response

        transport.handle_request = listening  # type: ignore[method-assign]
        try:
            yield
        finally:
            del transport.handle_request


class Rides(Plugin):
    """Notes what the steps' operations carry, after all other plugins."""

    layer = Layer.OBSERVE

    def __init__(self, wire: Wire) -> None:
        super().__init__()
        self.wire = wire

    def transform_output(self, call: Call, outcome: Outcome) -> None:
        if outcome.step is not None:
            outcome.before_written(lambda: self.note(call, outcome))

    def note(self, call: Call, outcome: Outcome) -> None:
        assert outcome.step is not None
        targets: dict[str, dict[str, Any]] = {"run": {}, "step": {"step_id": outcome.step.id}}
        targets["step_attempt"] = {**targets["step"], "step_attempt": call.attempt}
        carried: dict[str, list[dict[str, Any]]] = {}
        for entry in outcome.metadata or ():
            kept = {name: entry[name] for name in ("kind", "op", "values")}
            carried.setdefault(entry["scope"], []).append(kept)
        for scope, entries in carried.items():
            self.wire.sent.append(Sent(call.run_id, targets[scope], entries, rode=True))


class App(tests.app.App):
    """An app with the metadata plugin, and what it sends."""

    def __init__(self, *plugins: StackEntry, **options: Any) -> None:
        self.plugin = MetadataPlugin(**options)
        self.wire = Wire()
        super().__init__(self.plugin, *plugins, Rides(self.wire))

    @contextlib.asynccontextmanager
    async def engine(self, **options: Any) -> AsyncIterator[LocalEngine]:
        """Open the engine on all functions, and listen to what the app sends."""
        async with super().engine(**options) as engine:
            with self.wire.tapped(engine):
                yield engine


@pytest.fixture
def app() -> App:
    """An app with a plain metadata plugin."""
    return App()


@pytest.fixture
def make_app() -> type[App]:
    """Apps with other plugins and options."""
    return App
